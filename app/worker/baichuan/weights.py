"""The checkpoint's files → tensors under Llama's names.

Two things differ from Llama's weights. Query, key and value lie in one matrix `W_pack` [3H, H], in this order. And the
rows of Baichuan2's last layer are normalised when the model runs (NormHead); here they are normalised once.

Source: modeling_baichuan.py of baichuan-inc/Baichuan2-{7B,13B}-Chat; for NormHead the technical report, arXiv
2309.10305.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from app.worker.checkpoints import weight_files
from app.worker.failures import LoadFailed

HEAD = "lm_head.weight"
_BUFFERS = ("rotary_emb.", "alibi_mask", "future_mask", ".weight.")
"""Parts of names that stand for what is computed anew, or (the last one) for what `quantized` reads."""
_ROWS = 1024
"""How many rows are normalised at once."""


def files(folder: Path) -> list[Path]:
    """Return the files with the weights. Raises LoadFailed where one is missing, OSError."""
    found = weight_files.find(folder)
    if not found:
        raise LoadFailed(f"there is no pytorch_model.bin in {folder}")
    for index in folder.glob("*.index.json"):
        named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        missing = sorted(name for name in named if not (folder / name).is_file())
        if missing and not named.isdisjoint(file.name for file in found):
            raise LoadFailed(f"there is no {missing[0]} in {folder}: the download is not complete")
    return found


def read(folder: Path) -> dict[str, Any]:
    """Map the checkpoint's files into memory, without running what a pickle may hold. Raises LoadFailed, OSError."""
    weights: dict[str, Any] = {}
    for file in files(folder):
        if file.suffix == ".safetensors":
            weights |= load_file(file)
        else:
            weights |= torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    return weights


def as_llama(official: Mapping[str, Any], *, has_norm_head: bool, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Rename and split what is not packed; `lm_head` [V, H] gets rows of length 1, computed in float32."""
    weights: dict[str, torch.Tensor] = {}
    for name, weight in official.items():
        if name.endswith(".W_pack.weight"):
            weights |= split(name, weight)
        elif name == HEAD and has_norm_head:
            weights[name] = normalised(weight, dtype=dtype)
        elif not is_buffer(name):
            weights[name] = weight
    return weights


def is_buffer(name: str) -> bool:
    """Whether a tensor is no weight: it is computed anew, or belongs to a packed weight."""
    return any(part in name for part in _BUFFERS)


def split(name: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """Cut a `W_pack` [3H, H] into query, key and value, under Llama's names."""
    return dict(zip(split_names(name.removesuffix(".weight")), weight.chunk(3), strict=True))


def normalised(weight: torch.Tensor, *, dtype: torch.dtype) -> torch.Tensor:
    """Return `lm_head` with rows of length 1, computed in float32 and rounded to `dtype`.

    By some rows at a time: the whole in float32 would be the largest thing in memory.
    """
    result = torch.empty_like(weight, dtype=dtype)
    for rows, into in zip(torch.split(weight, _ROWS), torch.split(result, _ROWS), strict=True):
        into.copy_(torch.nn.functional.normalize(rows.float()))
    return result


def split_names(layer: str) -> tuple[str, ...]:
    """Return the names of the weights that one linear layer of Baichuan's becomes: three for `W_pack`."""
    stem = layer.removesuffix("W_pack")
    if stem == layer:
        return (f"{layer}.weight",)
    return tuple(f"{stem}{part}_proj.weight" for part in "qkv")
