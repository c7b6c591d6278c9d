"""LoRA adapters with random numbers, as peft writes them."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

Weights = dict[str, torch.Tensor]


def weights_of(folder: Path) -> Weights:
    found: Weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    return found


def written(
    folder: Path,
    base: Weights,
    *,
    targets: tuple[str, ...],
    rank: int = 1,
    whole: Weights | None = None,
    strength: float = 0.02,
    **options: Any,
) -> Path:
    """Write an adapter with random numbers, in peft's form: A [r, in], B [out, r] for each target of the base."""
    torch.manual_seed(5)
    folder.mkdir()
    kinds = [target.rpartition(".")[2] for target in targets]
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 32, "target_modules": kinds}
    (folder / "adapter_config.json").write_text(json.dumps(config | {"bias": "none"} | options))
    weights = {f"base_model.model.{name}": one for name, one in (whole or {}).items()}
    for name, weight in base.items():
        if name.removesuffix(".weight").endswith(targets):
            rows, columns = weight.shape
            stem = f"base_model.model.{name.removesuffix('.weight')}"
            weights[f"{stem}.lora_A.weight"] = torch.randn(rank, columns) * strength
            weights[f"{stem}.lora_B.weight"] = torch.randn(rows, rank) * strength
    save_file(weights, folder / "adapter_model.safetensors")
    return folder
