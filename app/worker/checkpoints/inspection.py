"""A model's folder, looked at file by file. Whatever lies there becomes an observation; nothing raises.

Only headers are read, never the weights, except for their checksums where that is asked. No torch, unless there are
`.bin` files.
"""

import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.domain.errors import InvalidInput
from app.worker.checkpoints import architecture, checksums, weight_files
from app.worker.checkpoints.architecture import Architecture, Shape
from app.worker.checkpoints.checksums import Checksum
from app.worker.checkpoints.weight_files import Damaged, Entry, shown

Headers = dict[str, Entry]
"""What weight files hold, by the tensors' names."""
Say = Callable[[str], None]
"""Takes a line about what is done now."""

_LARGEST_JSON = 100_000_000
_PART_OF_SEVERAL = re.compile(r"(.+)-(\d{5})-of-(\d{5})(\.safetensors|\.bin)")
_MOST_PARTS = 1_000
_FEW = 10
_LONGEST_NAME = 255
_HEADS = {"classifier.weight", "classifier.out_proj.weight", "score.weight"}
"""The last layer of most classifiers: a row a label."""
_OLD = ("vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model", "spm.model")
"""What a tokenizer of a classifier is made of where there is no tokenizer.json."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One thing that was looked at."""

    subject: str
    """A file's name, or what the files have in common."""
    words: str
    is_fault: bool = False


class Inspection:
    """A folder, and what was seen in it so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names = {path.name for path in folder.iterdir()}
        self.seen: list[Observation] = []

    def note(self, subject: str, words: str) -> None:
        """Keep what is as it should be."""
        self.seen.append(Observation(subject=shown(subject), words=words))

    def fault(self, subject: str, words: str) -> None:
        """Keep what is wrong."""
        self.seen.append(Observation(subject=shown(subject), words=words, is_fault=True))

    def is_file(self, name: str) -> bool:
        """Whether it is a file that can be looked at; if not, that is a fault."""
        path = self.folder / name
        try:
            if path.is_file():
                return True
        except OSError as error:
            self.fault(name, f"cannot be read: {error.strerror}")
            return False
        if name not in self.names:
            self.fault(name, "is missing")
        elif path.is_symlink():
            self.fault(name, "is a link that leads to no file: the download is not complete")
        else:
            self.fault(name, "is no file")
        return False

    def json(self, name: str, *, is_needed: bool = False) -> dict[str, Any]:
        """Return a JSON object; an empty one where there is none, which is a fault unless the file is not needed."""
        if (not is_needed and name not in self.names) or not self.is_file(name):
            return {}
        try:
            if (self.folder / name).stat().st_size > _LARGEST_JSON:
                raise ValueError  # noqa: TRY301 - one way out for all that is no config
            found = json.loads((self.folder / name).read_bytes())
        except OSError as error:
            self.fault(name, f"cannot be read: {error.strerror}")
            return {}
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            self.fault(name, "holds no JSON object")
            return {}
        return found

    def layers(self, config: dict[str, Any]) -> Architecture | None:
        """Return what the config says about the layers, where it is of a kind that is known."""
        if not config:
            return None
        try:
            known = architecture.read(config)
        except InvalidInput as error:
            self.fault("config.json", error.detail)
            return None
        if known is None:
            kind = shown(str(config.get("model_type") or "unknown"))
            self.note("config.json", f"a model of the kind {kind}, whose tensors are not known here and not compared")
        else:
            self.note("config.json", f"{known.layers} layers of {known.hidden:,}, {known.vocab_size:,} tokens")
        return known

    def weights(self) -> Headers:
        """Return what all weight files hold; nothing where one of them cannot be read."""
        files = [file.name for file in weight_files.find(self.folder)]
        suffix = ".bin" if files and files[0].endswith(".bin") else ".safetensors"
        stem = "pytorch_model" if suffix == ".bin" else "model"
        if not files and "pytorch_model.bin.index.json" in self.names:
            stem, suffix = "pytorch_model", ".bin"
        index = f"{stem}{suffix}.index.json"
        places, total = self._index(index)
        wanted = sorted({*files, *places.values(), *_companions(files)})
        if not wanted:
            self.fault("weights", "there is no model*.safetensors and no pytorch_model*.bin")
            return {}
        held = {name: found for name in self._first(wanted) if (found := self._headers(name)) is not None}
        if len(held) < len(wanted):
            return {}
        entries: Headers = {}
        for found in held.values():
            entries |= found
        size = sum(entry.size_bytes for entry in entries.values())
        lost = sorted(name for name, place in places.items() if name not in held.get(place, {}))
        if lost:
            self.fault(index, f"{shown(lost[0])}{_more(lost)} should be in {shown(places[lost[0]])}, and is not")
        if total is not None and total != size:
            self.fault(index, f"says {total:,} bytes in all, the files hold {size:,}")
        dtypes = ", ".join(dtype for dtype, _ in Counter(entry.dtype for entry in entries.values()).most_common())
        self.note("weights", f"{_plural(len(wanted), 'file')}, {gigabytes(size)}, {len(entries):,} tensors, {dtypes}")
        return entries

    def _index(self, name: str) -> tuple[dict[str, str], int | None]:
        """Return which tensor is in which file, and the size of all, where an index says so."""
        content = self.json(name)
        places, metadata = content.get("weight_map", {}), content.get("metadata")
        if not isinstance(places, dict) or not all(isinstance(place, str) for place in places.values()):
            self.fault(name, "its weight_map is no list of files")
            places = {}
        if strange := sorted({place for place in places.values() if not _is_plain(place)}):
            self.fault(name, f"it names {shown(strange[0])}, which is no file's name")
            places = {}
        total = metadata.get("total_size") if isinstance(metadata, dict) else None
        return places, int(total) if isinstance(total, int | float) and 0 <= total < 1 << 60 else None

    def _first(self, files: list[str]) -> list[str]:
        """Return the files without those that are missing beyond the first few: a damaged index may name thousands."""
        absent = [name for name in files if name not in self.names]
        if len(absent) <= _FEW:
            return files
        self.fault("weights", f"{len(absent) - _FEW:,} more files are missing beside those that follow")
        return [name for name in files if name not in absent[_FEW:]]

    def _headers(self, name: str) -> Headers | None:
        if not self.is_file(name):
            return None
        try:
            return weight_files.read(self.folder / name)
        except Damaged as error:
            self.fault(name, str(error))
        except OSError as error:
            self.fault(name, f"cannot be read: {error.strerror or type(error).__name__}")
        return None

    def compare(self, layers: Architecture, entries: Headers) -> None:
        """See that each tensor is there that the layers need, in its shape."""
        needed = dict(layers.shapes())
        found = {name: _stored(entries, name, shape) for name, shape in needed.items()}
        missing = [name for name, shape in found.items() if shape is None]
        wrong = [name for name, shape in found.items() if shape is not None and shape != needed[name]]
        if missing:
            self.fault("tensors", f"{missing[0]} is missing{_more(missing)}")
        if wrong:
            first = wrong[0]
            words = f"{first} is {list(found[first] or ())}, but config.json asks for {list(needed[first])}"
            self.fault("tensors", f"{words}{_more(wrong)}")
        if not missing and not wrong:
            self.note("tensors", f"all {len(needed):,} that config.json asks for, in their shapes")

    def labels(self, config: dict[str, Any], entries: Headers) -> None:
        """See that a classifier's labels are named, as many as its head has rows, where that is of a known name."""
        named = config.get("id2label")
        if not isinstance(named, dict) or not all(isinstance(label, str) for label in named.values()):
            self.fault("config.json", "it names no labels")
            return
        self.note("labels", f"{_plural(len(named), 'label')}: {shown(', '.join(named.values()))}")
        for name in _HEADS & entries.keys():
            rows = entries[name].shape[0] if entries[name].shape else 0
            if rows != len(named):
                self.fault("labels", f"{name} has {rows:,} rows, but config.json names {_plural(len(named), 'label')}")

    def tokenizer(self, *, is_official: bool, is_classifier: bool = False, vocab_size: int) -> None:
        """See that there is a tokenizer that can be read, and that it fits the model; `vocab_size` 0: not known."""
        names = ("tokenizer.model", "tokenizer.json") if is_official else ("tokenizer.json",)
        if is_classifier and names[0] not in self.names and (old := [one for one in _OLD if one in self.names]):
            self.note(old[0], "a tokenizer is made of it, its content was not looked at")
            return
        name = next((one for one in names if one in self.names), names[0])
        if name == "tokenizer.json":
            if self.json(name, is_needed=True):
                self.note(name, "can be read")
        elif self.is_file(name):
            from prompts.formats import sentencepiece_model  # noqa: PLC0415 - for this kind only

            try:
                count = sentencepiece_model.convert(self.folder / name).get_vocab_size()
            except InvalidInput as error:
                self.fault(name, error.detail)
                return
            if vocab_size and count > vocab_size:
                self.fault(name, f"has {count:,} pieces, but config.json says {vocab_size:,} tokens")
            else:
                self.note(name, f"{count:,} pieces")

    def checksums(self, *, is_deep: bool, say: Say) -> None:
        """See that the files are those that were published, as far as somebody has noted their checksums."""
        listed = checksums.listed(self.folder)
        for name in sorted(listed.keys() - self.names):
            self.fault(name, f"is missing, though {listed[name].source} lists it")
        known = dict(sorted(listed.items()))
        for name in sorted(self.names):
            if name not in known and (noted := checksums.noted(self.folder / name)):
                known[name] = noted
        known = {name: one for name, one in known.items() if os.path.isfile(self.folder / name)}  # noqa: PTH113
        zipped = [file.name for file in weight_files.find(self.folder) if file.suffix == ".bin" and file.is_file()]
        if not is_deep:
            have = f"{_plural(len(known), 'file')} with known ones" if known else "none came with the files"
            self.note("checksums", f"not compared ({have}; --deep reads every byte)")
            return
        compared = sorted({*known, *zipped})
        wrong = 0
        for name in compared:
            say(f"reading {shown(name)}")
            wrong += not self._agrees(name, known.get(name))
        if not wrong:
            words = f"{_plural(len(compared), 'file')} read through, none differs"
            self.note("checksums", words if compared else "nothing to compare with: none came with the files")

    def _agrees(self, name: str, checksum: Checksum | None) -> bool:
        try:
            if checksum is not None:
                if not checksum.is_of(self.folder / name):
                    self.fault(name, f"is not the file that {checksum.source} has the checksum of")
                    return False
            elif part := weight_files.first_fault(self.folder / name):
                self.fault(name, f"its part {shown(part)} contradicts its own checksum")
                return False
        except OSError as error:
            self.fault(name, f"cannot be read: {error.strerror or type(error).__name__}")
            return False
        except Damaged:
            return False  # told already
        return True


def gigabytes(size_bytes: int) -> str:
    """Return a size as people read it."""
    return f"{size_bytes / 1e9:,.1f} GB" if size_bytes >= 10**8 else f"{size_bytes / 1e6:,.1f} MB"


def _companions(files: Iterable[str]) -> Iterator[str]:
    """Yield the names of all parts of a file of several, as one part's name tells them."""
    for name in files:
        if match := _PART_OF_SEVERAL.fullmatch(name):
            stem, _, count, suffix = match.groups()
            if int(count) <= _MOST_PARTS:
                yield from (f"{stem}-{at:05}-of-{count}{suffix}" for at in range(1, int(count) + 1))


def _stored(entries: Headers, name: str, shape: Shape) -> Shape | None:
    """Return the shape of a weight that is stored plainly or packed, or None where it is not there.

    Packed in 4 bits: officially as `NAME.data` beside `NAME.quant_state`, which says the shape, by bitsandbytes of
    today as `NAME` with half as many bytes as numbers.
    """
    state, data, plain = entries.get(f"{name}.quant_state"), entries.get(f"{name}.data"), entries.get(name)
    if state and data:
        return state.shape if state.count == 2 * data.count else data.shape
    if plain is None:
        return None
    is_packed = any(f"{name}.quant_state.bitsandbytes__{kind}" in entries for kind in ("nf4", "fp4"))
    return shape if is_packed and 2 * plain.count == math.prod(shape) else plain.shape


def _is_plain(name: str) -> bool:
    return bool(name) and name not in {".", ".."} and not set(name) & {"/", "\\", "\0"} and len(name) <= _LONGEST_NAME


def _more(names: list[str]) -> str:
    return f" and {len(names) - 1:,} more" if len(names) > 1 else ""


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
