"""What a checkpoint's weight files hold, by their headers alone: names, shapes, dtypes; and whether they are whole.

A `.safetensors` file begins with a list of its tensors, which says how long the file is to the byte. A `.bin` is a zip
file: its directory is at the end, so that a cut-off file has none, and its pickle names the tensors. torch reads that
pickle with `weights_only=True`, onto the device `meta`: no numbers are loaded.

Sources: https://github.com/huggingface/safetensors#format; torch/serialization.py.
"""

import json
import math
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LONGEST_HEADER = 100_000_000
"""As the library `safetensors` has it."""
_BITS = {
    "F64": ("float64", 64), "F32": ("float32", 32), "F16": ("float16", 16), "BF16": ("bfloat16", 16),
    "I64": ("int64", 64), "I32": ("int32", 32), "I16": ("int16", 16), "I8": ("int8", 8), "U64": ("uint64", 64),
    "U32": ("uint32", 32), "U16": ("uint16", 16), "U8": ("uint8", 8), "BOOL": ("bool", 8),
    "F8_E4M3": ("float8_e4m3fn", 8), "F8_E5M2": ("float8_e5m2", 8), "F8_E8M0": ("float8_e8m0fnu", 8),
    "F4": ("float4_e2m1fn_x2", 4), "C64": ("complex64", 64),
}  # fmt: skip
_PACKED = "nf4"


class Damaged(Exception):
    """The file is not whole, or none of its kind; the message says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A tensor, as a header describes it."""

    shape: tuple[int, ...]
    dtype: str
    """torch's name: `bfloat16`. `nf4`: an entry of an official `-4bits` file that says how another one is packed."""
    size_bytes: int

    @property
    def count(self) -> int:
        """How many numbers there are."""
        return math.prod(self.shape)


def find(folder: Path) -> list[Path]:
    """Return the files that a load would read, in order; none where there are none."""
    return sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))


def read(file: Path) -> dict[str, Entry]:
    """Return what a file holds, by name. Raises Damaged, OSError."""
    if not file.stat().st_size:
        raise Damaged("is empty")
    return _safetensors(file) if file.suffix == ".safetensors" else _pickled(file)


def _safetensors(file: Path) -> dict[str, Entry]:
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        if len(start) < 8:  # noqa: PLR2004 - the length of the header's length
            raise Damaged("is cut off within its header")
        (length,) = struct.unpack("<Q", start)
        if length > _LONGEST_HEADER:
            raise Damaged("is no safetensors file")
        if size < 8 + length:
            raise Damaged("is cut off within its header")
        text = stream.read(length)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Damaged("is no safetensors file: its header is no JSON") from error
    if not isinstance(header, dict):
        raise Damaged("is no safetensors file: its header lists no tensors")
    entries: dict[str, Entry] = {}
    spans = []
    for name, about in header.items():
        if name != "__metadata__":
            entries[name], begin = _entry(name, about)
            spans.append((begin, begin + entries[name].size_bytes))
    spans.sort()
    if any(begin != end for (begin, _), (_, end) in zip(spans, [(0, 0), *spans], strict=False)):
        raise Damaged("has a header whose entries overlap, or leave gaps")
    wanted = 8 + length + (spans[-1][1] if spans else 0)
    if size != wanted:
        kind = "cut off" if size < wanted else "too long"
        raise Damaged(f"is {kind}: {size:,} bytes where its header asks for {wanted:,}")
    return entries


def _entry(name: str, about: Any) -> tuple[Entry, int]:
    """Read what a safetensors header says about a tensor, and where its numbers begin."""
    try:
        dtype, bits = _BITS[about["dtype"]]
        shape, (begin, end) = tuple(about["shape"]), about["data_offsets"]
        is_sound = all(type(one) is int and one >= 0 for one in (*shape, begin, end))
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged(f"has a header whose entry {shown(name)} cannot be read") from error
    if not is_sound or (end - begin) * 8 != math.prod(shape) * bits:
        raise Damaged(f"has a header whose entry {shown(name)} contradicts itself")
    return Entry(shape=shape, dtype=dtype, size_bytes=end - begin), begin


def _pickled(file: Path) -> dict[str, Entry]:
    held = _zipped_bytes(file)
    import torch  # noqa: PLC0415 - a second; a folder of safetensors does without

    try:
        found = torch.load(file, map_location="meta", weights_only=True, mmap=True)
    except Exception as error:  # an unpickler that reads garbage may fail in any way
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise Damaged(f"cannot be read as weights alone: {shown(reason)}") from error
    if not isinstance(found, dict):
        raise Damaged("holds no list of tensors")
    entries = {}
    storages: dict[int, int] = {}
    for name, value in found.items():
        if isinstance(value, torch.Tensor):
            dtype = str(value.dtype).removeprefix("torch.")
            entries[str(name)] = Entry(shape=tuple(value.shape), dtype=dtype, size_bytes=value.nbytes)
            storages[value.untyped_storage()._cdata] = value.untyped_storage().nbytes()  # noqa: SLF001 - its identity
        elif isinstance(value, list) and len(value) > 1 and isinstance(value[1], torch.Size):
            entries[str(name)] = Entry(shape=tuple(value[1]), dtype=_PACKED, size_bytes=0)
    if held < sum(storages.values()):
        raise Damaged(f"holds {held:,} bytes of numbers where its tensors need {sum(storages.values()):,}")
    return entries


def _zipped_bytes(file: Path) -> int:
    """Return how many bytes of numbers the parts of a zip file hold, each of which is seen to begin where it should."""
    try:
        with zipfile.ZipFile(file) as archive:
            held = 0
            for part in archive.infolist():
                with archive.open(part):  # reads the part's own header: a hole in a download leaves none
                    held += part.file_size if "/data/" in part.filename else 0
                if part.header_offset + part.compress_size > archive.start_dir:
                    raise Damaged(f"is damaged: its part {shown(part.filename)} reaches beyond its end")
            return held
    except zipfile.BadZipFile as error:
        raise Damaged("is cut off or damaged: it has no zip directory that can be read") from error
    except (EOFError, NotImplementedError, RuntimeError, ValueError, struct.error, UnicodeError) as error:
        raise Damaged(f"is damaged: {shown(str(error))}") from error


def first_fault(file: Path) -> str:
    """Read a zip file through; return the name of its first part that its own checksum contradicts, or nothing.

    Raises Damaged, OSError.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() or ""
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise Damaged(f"is damaged: {shown(str(error))}") from error


def shown(text: str) -> str:
    """Return what a file says about itself so that a terminal can show it: one line, of bearable length."""
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= 200 else f"{text[:200]}…"  # noqa: PLR2004 - about two lines of a terminal
