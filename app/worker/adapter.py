"""A LoRA adapter: a folder that changes a model's layers, as peft, LLaMA-Factory and the official fine-tune write it.

A layer's weight W [out, in] becomes W + scale·B·A, with A [r, in] and B [out, r]. Merged, that sum is computed once, in
float32; live, peft's layers compute W·x + scale·B·(A·x) beside weights that stay as they are, packed ones too. What was
trained on the official `W_pack` fits query, key and value of a model that was split: B's rows are cut in three, A is
shared, and nothing is computed anew.

The adapter is read here and not by peft, which asks the hub for what a folder lacks, and passes over unknown options.

Sources: https://huggingface.co/docs/peft/package_reference/lora; fine-tune/fine-tune.py of baichuan-inc/Baichuan2.
"""

import hashlib
import json
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file

from app.worker.baichuan.weights import HEAD, split_names
from app.worker.checkpoints import hub, weight_files
from app.worker.checkpoints.weight_files import Damaged, shown
from app.worker.failures import LoadFailed

Mode = Literal["auto", "merged", "live"]

CONFIG = "adapter_config.json"
FILES = ("adapter_model.safetensors", "adapter_model.bin")
_PREFIX = "base_model.model."
_MOST = 1e9
"""No alpha is as large as this; a damaged one may be."""
_NAME = "default"  # of an adapter within peft

_WITHOUT_EFFECT = {
    "auto_mapping", "base_model_name_or_path", "ensure_weight_tying", "exclude_modules", "inference_mode",
    "layers_pattern", "layers_to_transform", "lora_dropout", "megatron_config", "megatron_core", "modules_to_save",
    "peft_version", "qalora_group_size", "revision", "runtime_config", "target_modules", "task_type",
    "corda_config", "eva_config", "loftq_config", "lora_ga_config",
}  # fmt: skip
"""Options that say how an adapter was trained; what came of it is in its weights."""
_READ = {"peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "bias", "init_lora_weights"}
_PLAIN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")
"""Ways to begin a training that leave the model as it is; PiSSA, OLoRA and others change it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LowRank:
    """What one layer is changed by."""

    a: torch.Tensor
    """[r, in]"""
    b: torch.Tensor
    """[out, r]"""
    scale: float

    @property
    def shape(self) -> tuple[int, int]:
        """Of the weight that it changes: [out, in]."""
        return self.b.shape[0], self.a.shape[1]

    def change(self, *, device: torch.device | str = "cpu") -> torch.Tensor:
        """Return what comes to the weight, float32 [out, in]."""
        return self.scale * (self.b.to(device).float() @ self.a.to(device).float())

    def rows(self, parts: int) -> tuple["LowRank", ...]:
        """Return what equal parts of the weight's rows are changed by."""
        return tuple(replace(self, b=b.contiguous()) for b in self.b.chunk(parts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """An adapter's numbers, by the names that the model it was trained on has."""

    name: str
    layers: Mapping[str, LowRank]
    """By layer: `model.layers.0.self_attn.W_pack`."""
    whole: Mapping[str, torch.Tensor]
    """Weights that were trained as a whole (modules_to_save), by name: `lm_head.weight`."""
    is_everywhere: bool
    """Whether it was trained on all layers of the model, or on some."""

    @property
    def is_for_w_pack(self) -> bool:
        """Whether it was trained on the official layout."""
        return any(layer.endswith(".W_pack") for layer in self.layers)

    @property
    def is_for_split(self) -> bool:
        """Whether it was trained on a model whose `W_pack` was split."""
        return any(layer.endswith((".q_proj", ".k_proj", ".v_proj")) for layer in self.layers)

    def split(self) -> "Adapter":
        """Return the adapter for a model with query, key and value in place of `W_pack`. Raises LoadFailed."""
        layers: dict[str, LowRank] = {}
        for layer, one in self.layers.items():
            names = split_names(layer)
            if one.shape[0] % len(names):
                raise self.misfit(f"its {layer} has {one.shape[0]} rows")
            parts = one.rows(len(names)) if len(names) > 1 else (one,)
            layers |= {name.removesuffix(".weight"): part for name, part in zip(names, parts, strict=True)}
        whole: dict[str, torch.Tensor] = {}
        for name, weight in self.whole.items():
            names = split_names(name.removesuffix(".weight"))
            parts_of = weight.chunk(len(names)) if len(names) > 1 else (weight,)
            if len(parts_of) != len(names):
                raise self.misfit(f"its {name} has {len(weight)} rows")
            whole |= dict(zip(names, parts_of, strict=True)) if len(names) > 1 else {name: weight}
        return replace(self, layers=layers, whole=whole)

    def require_fit(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """See that each change has its weight in a model, given by names and shapes, and each weight its change.

        The latter, because the adapter of a smaller model, or one whose file is not whole, may fit what it has.
        Raises LoadFailed.
        """
        changes = {f"{layer}.weight": one.shape for layer, one in self.layers.items()}
        for name, shape in (changes | {name: tuple(one.shape) for name, one in self.whole.items()}).items():
            if name not in shapes:
                raise self.misfit(f"it changes {shown(name)}, which the model does not have")
            if shapes[name] != shape:
                raise self.misfit(f"for it {name} is {list(shape)}, in the model it is {list(shapes[name])}")
        kinds = {_kind(layer) for layer in self.layers} if self.is_everywhere else set()
        layers = (name.removesuffix(".weight") for name in shapes)
        if lacking := sorted(layer for layer in layers if _kind(layer) in kinds and layer not in self.layers):
            raise self.misfit(f"it lacks {lacking[0]} and {len(lacking) - 1} more")

    def with_normalised_head(self) -> "Adapter":
        """Return the adapter for a model whose `lm_head` has rows of length 1 already."""
        if HEAD not in self.whole:
            return self
        head = torch.nn.functional.normalize(self.whole[HEAD].float())
        return replace(self, whole={**self.whole, HEAD: head})

    def merged(self, name: str, weight: torch.Tensor, *, dtype: torch.dtype) -> torch.Tensor:
        """Return a weight of the model with what the adapter does to it, computed in float32 and rounded to `dtype`.

        A weight that it leaves alone comes back as it is. For whoever goes through a model's weights one by one.
        """
        if name in self.whole:
            return self.whole[name].to(device=weight.device, dtype=dtype)
        change = self.layers.get(name.removesuffix(".weight"))
        if change is None:
            return weight
        return (weight.float() + change.change(device=weight.device)).to(dtype)

    def digest(self) -> str:
        """Return the SHA-256 of what the adapter does, in hexadecimal."""
        digest = hashlib.sha256()
        for layer, one in sorted(self.layers.items()):
            digest.update(f"{layer} {one.shape} {one.scale!r}".encode())
            digest.update(_bytes(one.a))
            digest.update(_bytes(one.b))
        for name, weight in sorted(self.whole.items()):
            digest.update(f"{name} {tuple(weight.shape)}".encode())
            digest.update(_bytes(weight))
        return digest.hexdigest()

    def misfit(self, why: str) -> LoadFailed:
        """Return the error that says why the adapter cannot be used with a model."""
        return LoadFailed(f"the adapter {self.name} does not fit the model: {why}")


def _bytes(weight: torch.Tensor) -> memoryview:
    return weight.contiguous().view(torch.uint8).numpy().data


def read(source: str) -> Adapter:
    """Read an adapter from a folder, or a hub id. Raises LoadFailed."""
    folder = hub.folder_of(source, revision=None)
    name = folder.resolve().name if Path(source).expanduser().is_dir() else source
    try:
        return _read(folder, name=name)
    except OSError as error:
        raise LoadFailed(f"the adapter {name} cannot be read: {error.strerror or error}") from error


def is_live(mode: Mode, *, is_packed: bool) -> bool:
    """Whether an adapter stays beside the weights: packed ones cannot be merged with."""
    return mode == "live" or (mode == "auto" and is_packed)


def attach(model: Any, adapter: Adapter, *, dtype: torch.dtype) -> None:
    """Put peft's layers around those that the adapter changes; the weights stay as they are. Raises LoadFailed."""
    adapter.require_fit(shapes_of(model))
    replace_whole(model, adapter, dtype=dtype)
    if not adapter.layers:
        return
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns while peft imports it
    from peft import LoraConfig, inject_adapter_in_model  # noqa: PLC0415 - slow, and few need it

    config = LoraConfig(
        target_modules=list(adapter.layers),
        rank_pattern={layer: one.a.shape[0] for layer, one in adapter.layers.items()},
        alpha_pattern={layer: one.scale * one.a.shape[0] for layer, one in adapter.layers.items()},
    )
    try:
        inject_adapter_in_model(config, model, adapter_name=_NAME)
    except (ValueError, TypeError) as error:
        raise adapter.misfit(f"peft cannot change it: {error}") from error
    for layer, one in adapter.layers.items():
        found = model.get_submodule(layer)
        for mine, its in ((one.a, found.lora_A), (one.b, found.lora_B)):
            its[_NAME].weight = torch.nn.Parameter(mine.to(device=model.device, dtype=dtype), requires_grad=False)


def merge(model: Any, adapter: Adapter, *, dtype: torch.dtype) -> None:
    """Change the weights of a model that is not quantised, in place. Raises LoadFailed."""
    adapter.require_fit(shapes_of(model))
    replace_whole(model, adapter, dtype=dtype)
    for layer in adapter.layers:
        weight = model.get_submodule(layer).weight
        weight.data = adapter.merged(f"{layer}.weight", weight.data, dtype=dtype)


def replace_whole(model: Any, adapter: Adapter, *, dtype: torch.dtype) -> None:
    """Put the weights in place that were trained as a whole. Raises LoadFailed."""
    is_tied = bool(getattr(model.config.get_text_config(), "tie_word_embeddings", False))
    if is_tied and {HEAD.removesuffix(".weight"), HEAD} & {*adapter.layers, *adapter.whole}:
        raise adapter.misfit("it changes lm_head, and there the embeddings are the last layer")
    for name, weight in adapter.whole.items():
        if not model.get_parameter(name).is_floating_point():
            raise adapter.misfit(f"it replaces {name}, which is packed there")
        model.get_parameter(name).data = weight.to(device=model.device, dtype=dtype)


def shapes_of(model: Any) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a model's weights, by name; of packed layers what they unpack to."""
    shapes = {name: tuple(weight.shape) for name, weight in model.named_parameters(remove_duplicate=False)}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            shapes[f"{name}.weight"] = (module.out_features, module.in_features)
    return shapes


def _read(folder: Path, *, name: str) -> Adapter:
    config = _config(folder, name=name)
    layers, whole = _sorted(_weights(folder, name=name), name=name)
    if not layers and not whole:
        raise LoadFailed(f"the adapter {name} holds no weights")
    scaled: dict[str, LowRank] = {}
    for layer, halves in layers.items():
        if halves.keys() != {"A", "B"}:
            raise LoadFailed(f"the adapter {name} holds only a half of {shown(layer)}")
        a, b = halves["A"], halves["B"]
        if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:  # noqa: PLR2004 - matrices
            raise LoadFailed(f"the adapter {name} holds halves of {shown(layer)} that do not fit each other")
        rank, alpha = _strength(config, layer)
        if rank != a.shape[0]:
            raise LoadFailed(f"the adapter {name} has rank {a.shape[0]} at {shown(layer)}, its {CONFIG} says {rank}")
        scaled[layer] = LowRank(a=a, b=b, scale=alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))
    targets = config.get("target_modules")
    is_everywhere = (
        isinstance(targets, list)
        and not any("." in str(one) for one in targets)
        and not config.get("layers_to_transform")
        and not config.get("exclude_modules")
    )
    return Adapter(name=name, layers=scaled, whole=whole, is_everywhere=is_everywhere)


def _config(folder: Path, *, name: str) -> dict[str, Any]:
    """Read the config, and see that nothing in it asks for what is not done here. Raises LoadFailed, OSError."""
    file = folder / CONFIG
    if not file.is_file():
        raise LoadFailed(f"there is no {CONFIG} in {folder}: it is no adapter's folder")
    try:
        config = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise LoadFailed(f"the {CONFIG} of the adapter {name} is damaged") from error
    if not isinstance(config, dict):
        raise LoadFailed(f"the {CONFIG} of the adapter {name} holds no JSON object")
    if config.get("peft_type") != "LORA":
        raise LoadFailed(f"the adapter {name} is of the kind {_told(config.get('peft_type'))}; only LORA can be used")
    if config.get("bias", "none") != "none":
        raise LoadFailed(f"the adapter {name} was trained with biases ({_told(config['bias'])}), which Baichuan lacks")
    if (start := config.get("init_lora_weights")) not in _PLAIN_STARTS:
        raise LoadFailed(
            f"the adapter {name} begins with {_told(start)}, which changes the model too; save it as plain LoRA"
        )
    for option in sorted(config.keys() - _WITHOUT_EFFECT - _READ):
        if config[option]:
            raise LoadFailed(f"the adapter {name} asks for {_told(option)}, which is not supported")
    return config


def _strength(config: dict[str, Any], layer: str) -> tuple[int, float]:
    """Return the rank and alpha of a layer. Raises LoadFailed."""
    rank, alpha = (_of_layer(config, layer, option=option) for option in ("r", "lora_alpha"))
    is_sound = type(rank) is int and rank > 0 and type(alpha) in {int, float} and abs(alpha) < _MOST
    if not is_sound:
        raise LoadFailed(f"the {CONFIG} of the adapter has no sound r and lora_alpha")
    return rank, float(alpha)


def _of_layer(config: dict[str, Any], layer: str, *, option: str) -> Any:
    """Return an option's value, or that of the pattern that a layer's name suits."""
    patterns = config.get({"r": "rank_pattern", "lora_alpha": "alpha_pattern"}[option])
    value = config.get(option, 8)  # peft's default for both
    if not isinstance(patterns, dict) or not patterns:
        return value
    from peft.utils.other import get_pattern_key  # noqa: PLC0415 - slow, and few need it

    try:
        return patterns.get(get_pattern_key(list(patterns), layer), value)
    except re.error as error:
        raise LoadFailed(f"the {CONFIG} of the adapter has a pattern that is none: {error}") from error


def _weights(folder: Path, *, name: str) -> dict[str, torch.Tensor]:
    """Read the weights, without running what a pickle may hold. Raises LoadFailed, OSError."""
    file = next((folder / one for one in FILES if (folder / one).is_file()), None)
    if file is None:
        raise LoadFailed(f"there is no {FILES[0]} and no {FILES[1]} in {folder}")
    try:
        weight_files.read(file)  # says how it is damaged, where it is
    except Damaged as error:
        raise LoadFailed(f"the {file.name} of the adapter {name} {error}") from error
    if file.suffix == ".safetensors":
        return load_file(file)
    found = torch.load(file, map_location="cpu", weights_only=True)
    return {key: value for key, value in found.items() if isinstance(key, str) and isinstance(value, torch.Tensor)}


def _sorted(
    weights: Mapping[str, torch.Tensor], *, name: str
) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """Return the halves of each layer's change, and the weights that were trained as a whole. Raises LoadFailed."""
    layers: dict[str, dict[str, torch.Tensor]] = {}
    whole: dict[str, torch.Tensor] = {}
    for key, weight in weights.items():
        stem = key.removeprefix(_PREFIX).removesuffix(".weight").removesuffix(f".{_NAME}")
        layer, _, half = stem.rpartition(".")
        if key.endswith(".weight") and half in {"lora_A", "lora_B"}:
            layers.setdefault(layer, {})[half[-1]] = weight
        elif not key.startswith(_PREFIX) or not key.endswith(".weight"):
            raise LoadFailed(f"the adapter {name} holds {shown(key)}, which is not supported")
        elif not stem.endswith(".original_module"):
            whole[f"{stem.removesuffix('.modules_to_save')}.weight"] = weight
    return layers, whole


def _kind(layer: str) -> str:
    return layer.rpartition(".")[2]


def _told(value: Any) -> str:
    return shown(str(value))
