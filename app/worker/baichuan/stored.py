"""Tensors that still lie in a checkpoint's files: what they are is known, and each is read by itself when it is needed.

Mapping the files into memory would do too, but every page that was touched counts as memory of the process for as long
as the map lives. Here a tensor's bytes are read into memory of its own, which is gone with the tensor.

Where a pickle's tensors lie: torch.load under FakeTensorMode reads everything but their bytes. Source: "Serialization",
section on layout control, in the documentation of PyTorch 2.13.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch._subclasses.fake_tensor import FakeTensorMode

from app.worker.failures import LoadFailed

DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""By their names in safetensors. Source: README of huggingface/safetensors, "Format"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """A tensor in a file."""

    file: Path
    offset: int
    """Bytes."""
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    """In elements."""

    @property
    def meta(self) -> torch.Tensor:
        """The same without numbers: shape and dtype on `meta`."""
        return torch.empty(self.shape, dtype=self.dtype, device="meta")

    def read(self) -> torch.Tensor:
        """Return the tensor. Raises LoadFailed where the file ends too early, OSError."""
        span = 1 + sum((length - 1) * step for length, step in zip(self.shape, self.stride, strict=True))
        if 0 in self.shape:
            return torch.empty(self.shape, dtype=self.dtype)
        data = torch.empty(span, dtype=self.dtype)
        with self.file.open("rb") as file:
            file.seek(self.offset)
            if file.readinto(data.view(torch.uint8).numpy().data) < span * self.dtype.itemsize:
                raise LoadFailed(f"{self.file.name} ends too early: the download is not complete")
        return data.as_strided(self.shape, self.stride).contiguous()


def scan(file: Path) -> dict[str, Any]:
    """Return what a file holds, with a StoredTensor for each tensor. Raises LoadFailed, OSError."""
    return _scan_safetensors(file) if file.suffix == ".safetensors" else _scan_pickle(file)


def read(value: Any) -> Any:
    """Return the same with the tensors themselves; lists are gone through."""
    if isinstance(value, list | tuple) and not isinstance(value, torch.Size):
        return [read(one) for one in value]
    return value.read() if isinstance(value, StoredTensor) else value


def _scan_safetensors(file: Path) -> dict[str, Any]:
    try:
        with safe_open(file, framework="pt") as checked:  # has the header checked, and the file's length
            names = list(checked.keys())
    except SafetensorError as error:
        raise LoadFailed(f"{file.name} is damaged, or the download is not complete: {error}") from error
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(length))
    found = {}
    for name in names:
        entry = header[name]
        if entry["dtype"] not in DTYPES:
            raise LoadFailed(f"{name} in {file.name} is of a kind that is not known: {entry['dtype']}")
        shape = tuple(entry["shape"])
        found[name] = StoredTensor(
            file=file,
            offset=8 + length + entry["data_offsets"][0],
            dtype=DTYPES[entry["dtype"]],
            shape=shape,
            stride=torch.empty(shape, device="meta").stride(),
        )
    return found


def _scan_pickle(file: Path) -> dict[str, Any]:
    try:
        with FakeTensorMode():
            held = torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # zip, pickle and torch each have their own
        reason = str(error).strip().partition("\n")[0]
        raise LoadFailed(f"{file.name} is damaged, or the download is not complete: {reason}") from error
    if not isinstance(held, dict):
        raise LoadFailed(f"{file.name} holds no weights by their names")

    def stored(value: Any) -> Any:
        if isinstance(value, list):
            return [stored(one) for one in value]
        if not isinstance(value, torch.Tensor):
            return value
        begin = getattr(value.untyped_storage(), "_checkpoint_offset", None)
        if begin is None:
            raise LoadFailed(f"{file.name} is of torch's form before 1.6, which is not read")
        return StoredTensor(
            file=file,
            offset=begin + value.storage_offset() * value.dtype.itemsize,
            dtype=value.dtype,
            shape=tuple(value.shape),
            stride=value.stride(),
        )

    return {str(name): stored(value) for name, value in held.items()}
