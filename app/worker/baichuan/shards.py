"""Weights on their way into safetensors files, one piece in memory at a time.

The format is simple: eight bytes with the length of a header, the header (JSON: dtype, shape and place of each tensor),
then the tensors without a gap. The library's own writer wants all tensors of a file in memory; here only shapes are
known beforehand, and a tensor's bytes are written where the header says.

Source: README of huggingface/safetensors, "Format". Proven by reading the files with that library.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from app.worker.baichuan.stored import DTYPES

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_ALIGNMENT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What one tensor of a source, or one packed layer, becomes."""

    entries: Mapping[str, torch.Tensor]
    """Shapes and dtypes, on `meta`."""
    make: Callable[[], Mapping[str, torch.Tensor]]
    """Reads the source and returns the tensors themselves."""

    @property
    def size_bytes(self) -> int:
        """How much of a file it takes."""
        return sum(map(_size, self.entries.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One file."""

    name: str
    pieces: tuple[Piece, ...]

    @property
    def size_bytes(self) -> int:
        """Without the header."""
        return sum(piece.size_bytes for piece in self.pieces)

    def write(self, path: Path, *, advance: Callable[[int], None]) -> str:
        """Write the file and return its SHA-256; `advance` is told the bytes of each piece that is written.

        Raises LoadFailed, OSError, and RuntimeError where a piece is not what was planned.
        """
        # Wide numbers first, as the library does it: each tensor then begins at a multiple of its own width.
        entries = {name: one for piece in self.pieces for name, one in piece.entries.items()}
        places: dict[str, int] = {}
        end = 0
        for name, entry in sorted(entries.items(), key=lambda item: -item[1].dtype.itemsize):
            places[name] = end
            end += _size(entry)
        header = _header(entries, places)
        with path.open("w+b") as file:
            file.write(header)
            for piece in self.pieces:
                for name, tensor in piece.make().items():
                    planned = entries[name]
                    if (tensor.dtype, tensor.shape) != (planned.dtype, planned.shape):
                        raise RuntimeError(f"{name} came out as {tensor.dtype} {tuple(tensor.shape)}")
                    file.seek(len(header) + places[name])
                    file.write(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
                advance(piece.size_bytes)
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest()


def divide(pieces: Iterable[Piece], *, limit_bytes: int) -> tuple[Shard, ...]:
    """Return the files that the pieces go into, none over the limit unless a single piece is."""
    groups: list[list[Piece]] = [[]]
    size = 0
    for piece in pieces:
        if groups[-1] and size + piece.size_bytes > limit_bytes:
            groups.append([])
            size = 0
        groups[-1].append(piece)
        size += piece.size_bytes
    if len(groups) == 1:
        return (Shard(name="model.safetensors", pieces=tuple(groups[0])),)
    return tuple(
        Shard(name=f"model-{number:05}-of-{len(groups):05}.safetensors", pieces=tuple(group))
        for number, group in enumerate(groups, start=1)
    )


def index(shards: Iterable[Shard]) -> dict[str, object]:
    """Return the content of `model.safetensors.index.json`."""
    shards = tuple(shards)
    names = {name: shard.name for shard in shards for piece in shard.pieces for name in piece.entries}
    return {"metadata": {"total_size": sum(shard.size_bytes for shard in shards)}, "weight_map": names}


def _header(entries: Mapping[str, torch.Tensor], places: Mapping[str, int]) -> bytes:
    described: dict[str, object] = {"__metadata__": {"format": "pt"}}
    for name, begin in places.items():
        entry = entries[name]
        described[name] = {
            "dtype": _NAMES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [begin, begin + _size(entry)],
        }
    text = json.dumps(described, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _size(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.dtype.itemsize
