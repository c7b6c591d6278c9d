"""A folder in the official layout → a model of transformers, and its tokenizer.

7B becomes a Llama model, 13B our own class of Llama's parts (`modeling`). Proven against logits of the official code:
`test_worker_baichuan.py`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import torch
from huggingface_hub.errors import StrictDataclassError
from tokenizers import Tokenizer
from transformers import BitsAndBytesConfig, GenerationConfig, LlamaConfig, LlamaForCausalLM

from app.domain.errors import InvalidInput
from app.worker import adapter as adapters
from app.worker.adapter import Adapter, Mode
from app.worker.baichuan import quantized, variants, weights
from app.worker.baichuan.configuration import BaichuanAlibiConfig
from app.worker.baichuan.modeling import BaichuanAlibiForCausalLM
from app.worker.failures import LoadFailed
from prompts.formats import sentencepiece_model

_log = structlog.get_logger()
CONVERTED = "haina"
"""In the config.json of a folder that `haina models convert` has written: rows of `lm_head` are normalised there."""
_SHAPE = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")


@dataclass(frozen=True, slots=True, kw_only=True)
class Official:
    """What was loaded."""

    model: Any
    tokenizer: Tokenizer
    variant: variants.Variant
    is_kept_packed: bool
    """Whether the model runs on the 4-bit weights that the folder holds."""


def is_official(folder: Path) -> bool:
    """Whether this is a folder in the official layout, or a converted one that transformers cannot be left alone with.

    The latter are 13B, whose class it lacks, and packed weights: it does not see where bitsandbytes cannot run them.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if not isinstance(config, dict):
        return False
    return config.get("model_type") == "baichuan" or (CONVERTED in config and "quantization_config" in config)


def load(
    folder: Path,
    *,
    dtype: torch.dtype,
    device: str,
    quantization: BitsAndBytesConfig | None,
    adapter: Adapter | None = None,
    mode: Mode = "auto",
) -> Official:
    """Load the model, changed by an adapter if there is one. Raises LoadFailed, OSError."""
    tokenizer = tokenizer_of(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    official = weights.read(folder)
    if "model.embed_tokens.weight" not in official:
        raise LoadFailed(f"there is no model.embed_tokens.weight in the weights of {folder}: not an official layout")
    vocab_size = official["model.embed_tokens.weight"].shape[0]
    variant = variants.detect(config, official, vocab_size=vocab_size)
    has_norm_head = variant.has_norm_head and CONVERTED not in config
    state = weights.as_llama(quantized.without_packed(official), has_norm_head=has_norm_head, dtype=dtype)
    is_live = adapters.is_live(mode, is_packed=variant.is_packed)
    if adapter is not None:
        adapter = fitting(adapter, variant, is_live=is_live)
        if not is_live:
            adapter.require_fit({name: tuple(weight.shape) for name, weight in state.items()})
            state = {name: adapter.merged(name, weight, dtype=dtype) for name, weight in state.items()}
    config = llama_config(config, variant, vocab_size=vocab_size)
    is_kept_packed = False
    if variant.is_packed:
        if quantization is not None and not quantization.load_in_4bit:
            raise LoadFailed("these weights are 4-bit ones already: leave --quantize 8bit out")
        quantization = None
        packed, is_kept_packed = _packed(official, dtype=dtype, device=device)
        # Beside packed weights transformers leaves everything in the dtype that it comes in.
        state = {name: weight.to(dtype) for name, weight in state.items()} | packed
        if is_kept_packed:
            config.quantization_config = packed_config(dtype)
    model = _model(config, state, dtype=dtype, device=device, quantization=quantization)
    if adapter is not None and is_live:
        adapters.attach(model, adapter, dtype=dtype)
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    return Official(model=model, tokenizer=tokenizer, variant=variant, is_kept_packed=is_kept_packed)


def fitting(adapter: Adapter, variant: variants.Variant, *, is_live: bool) -> Adapter:
    """Return the adapter as a model with Llama's names and a normalised head wants it. Raises LoadFailed."""
    if variant.is_packed and not is_live:
        raise adapter.misfit("its weights are packed in 4 bits, and cannot be merged with: --adapter-mode live")
    if not variant.has_norm_head:
        return adapter.split()
    if adapter.is_for_split and weights.HEAD in adapter.whole:
        raise adapter.misfit("its lm_head was trained on a converted model: convert this one first")
    return adapter.split().with_normalised_head()


def _packed(official: Mapping[str, Any], *, dtype: torch.dtype, device: str) -> tuple[dict[str, torch.Tensor], bool]:
    """Return the packed weights as bitsandbytes of today has them, or unpacked where it cannot run them; and which."""
    found = quantized.read(official)
    if hindrance := quantized.hindrance(found.values(), device=device):
        _log.warning("packed_weights_unpacked", reason=hindrance, dtype=str(dtype).removeprefix("torch."))
        return {name: one.dequantised().to(dtype) for name, one in found.items()}, False
    state: dict[str, torch.Tensor] = {}
    for name, one in found.items():
        state |= one.serialised(name)
    return state, True


def packed_config(dtype: torch.dtype) -> dict[str, Any]:
    """Return what a config says about weights that are packed already."""
    config = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=["lm_head"],
    )
    return dict(config.to_dict())


def _model(
    config: LlamaConfig,
    state: Mapping[str, torch.Tensor],
    *,
    dtype: torch.dtype,
    device: str,
    quantization: BitsAndBytesConfig | None,
) -> Any:
    kind: Any = BaichuanAlibiForCausalLM if isinstance(config, BaichuanAlibiConfig) else LlamaForCausalLM
    model, report = kind.from_pretrained(
        None,
        config=config,
        state_dict=dict(state),
        dtype=dtype,
        device_map={"": device} if device != "cpu" else None,
        quantization_config=quantization,
        output_loading_info=True,
    )
    if missing := sorted(report["missing_keys"]):  # transformers would go on with random numbers in their place
        raise LoadFailed(f"the weights lack {missing[0]} and {len(missing) - 1} more: the download is not complete")
    return model


def llama_config(official: dict[str, Any], variant: variants.Variant, *, vocab_size: int) -> LlamaConfig:
    """Return what transformers has to know of a model, out of its official config. Raises LoadFailed."""
    if lacking := [name for name in _SHAPE if name not in official]:
        raise LoadFailed(f"the config.json lacks {', '.join(lacking)}")
    optional = ("rms_norm_eps", "hidden_act", "initializer_range", "pad_token_id", "bos_token_id", "eos_token_id")
    kind = BaichuanAlibiConfig if variant.has_alibi else LlamaConfig
    rotation = official.get("rope_parameters") or official  # as transformers 5 writes it, or as it was
    try:
        return kind(
            vocab_size=vocab_size,
            **{name: official[name] for name in (*_SHAPE, *optional) if name in official},
            num_key_value_heads=official["num_attention_heads"],
            max_position_embeddings=official.get("model_max_length") or official.get("max_position_embeddings", 4096),
            rope_parameters={"rope_type": "default", "rope_theta": float(rotation.get("rope_theta", 10000.0))},
            tie_word_embeddings=False,
        )
    except (AttributeError, TypeError, ValueError, ZeroDivisionError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise LoadFailed(f"the config.json holds what it should not: {reason}") from error


def tokenizer_of(folder: Path) -> Tokenizer:
    """Read the official `tokenizer.model`, or a `tokenizer.json` where somebody has put one in its place.

    Raises LoadFailed.
    """
    if not (folder / "tokenizer.model").is_file():
        ready = folder / "tokenizer.json"
        if not ready.is_file():
            raise LoadFailed(f"there is no tokenizer.model in {folder}: it belongs beside the weights")
        return Tokenizer.from_file(str(ready))
    try:
        return sentencepiece_model.convert(folder / "tokenizer.model")
    except InvalidInput as error:
        raise LoadFailed(str(error)) from error
