"""Baichuan2-7B in its official layout → a Llama model in memory: exact in float32, and no remote code.

Two things differ from Llama. Query, key and value lie in one matrix `W_pack`, in this order. And the rows of the last
layer are normalised when the model runs (NormHead); here they are normalised once. Proven against logits of the
official code: `test_worker_baichuan.py`.

Source: modeling_baichuan.py of baichuan-inc/Baichuan2-7B-Chat; for NormHead the technical report, arXiv 2309.10305.
"""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import BitsAndBytesConfig, GenerationConfig, LlamaConfig, LlamaForCausalLM

from app.domain.errors import InvalidInput
from app.worker.failures import LoadFailed
from prompts.formats import sentencepiece_model

LICENSE_URL = "https://github.com/baichuan-inc/Baichuan2#license"
SOURCE_URL = "https://github.com/baichuan-inc/Baichuan2"

_BAICHUAN_1_VOCAB_SIZE = 64_000


def is_official(source: str) -> bool:
    """Whether this is a folder in the official layout."""
    try:
        config = json.loads((Path(source) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") == "baichuan"


def load(
    folder: Path, *, dtype: torch.dtype, device: str, quantization: BitsAndBytesConfig | None
) -> tuple[Any, Tokenizer]:
    """Return the model and its tokenizer. Raises LoadFailed, OSError."""
    config = _config(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    try:
        tokenizer = sentencepiece_model.convert(folder / "tokenizer.model")
    except InvalidInput as error:
        raise LoadFailed(str(error)) from error
    model = LlamaForCausalLM.from_pretrained(
        None,
        config=config,
        state_dict=_as_llama(_official_weights(folder), dtype=dtype),
        dtype=dtype,
        device_map={"": device} if device != "cpu" else None,
        quantization_config=quantization,
    )
    model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    return model, tokenizer


def _config(official: dict[str, Any]) -> LlamaConfig:
    if "max_position_embeddings" not in official:  # ALiBi has none
        raise LoadFailed("Baichuan2-13B cannot be loaded by this version: take the 7B model")
    if "quantization_config" in official:
        raise LoadFailed("the official 4-bit files cannot be loaded: take the 16-bit ones and --quantize 4bit")
    if official["vocab_size"] == _BAICHUAN_1_VOCAB_SIZE:
        raise LoadFailed("this is a Baichuan 1 model; only Baichuan2 can be loaded")
    kept = (
        *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
        *("rms_norm_eps", "hidden_act", "initializer_range", "pad_token_id", "bos_token_id", "eos_token_id"),
    )
    return LlamaConfig(
        **{name: official[name] for name in kept},
        num_key_value_heads=official["num_attention_heads"],
        max_position_embeddings=official.get("model_max_length", official["max_position_embeddings"]),
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=False,
    )


def _official_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Map the checkpoint's files into memory, without running what a pickle may hold."""
    files = sorted(folder.glob("pytorch_model*.bin"))
    if not files:
        raise LoadFailed(f"there is no pytorch_model.bin in {folder}")
    weights: dict[str, torch.Tensor] = {}
    for file in files:
        weights |= torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    return weights


def _as_llama(official: dict[str, torch.Tensor], *, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Rename and split; `lm_head` [V, H] gets rows of length 1, computed in float32."""
    weights: dict[str, torch.Tensor] = {}
    for name, weight in official.items():
        if name.endswith(".W_pack.weight"):
            stem = name.removesuffix("W_pack.weight")
            query, key, value = weight.chunk(3)
            weights |= {f"{stem}q_proj.weight": query, f"{stem}k_proj.weight": key, f"{stem}v_proj.weight": value}
        elif name == "lm_head.weight":
            weights[name] = torch.nn.functional.normalize(weight.float()).to(dtype)
        elif "rotary_emb" not in name:  # computed anew
            weights[name] = weight
    return weights
