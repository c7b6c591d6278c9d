"""What lies beside the weights of a converted model: configuration, sampling, tokenizer, licence and notice."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import LlamaConfig

from app.domain.errors import InvalidInput
from app.worker.baichuan.chat_template import TEMPLATES
from app.worker.baichuan.official import CONVERTED, packed_config
from app.worker.baichuan.variants import Variant
from prompts.formats import sentencepiece_model
from prompts.formats.registry import load_format
from prompts.formats.tokenizer import Tokenizer as PromptTokenizer

_OF_REMOTE_CODE = ("auto_map", "tokenizer_class", "transformers_version", "quantization_config")
"""What a config says for the official code alone."""
_LICENCE = ("license", "licence", "许可")
_COMMUNITY_LICENCE = "Community License for Baichuan2 Model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A model that is converted, without its weights."""

    name: str
    """What it was called: a hub id, or a folder's name; never a path."""
    revision: str | None
    variant: Variant
    official: dict[str, Any]
    """The official config.json."""
    config: LlamaConfig
    tokenizer: Tokenizer
    dtype: torch.dtype
    adapter: str | None
    """The name of what was merged into the weights."""


def write(described: Described, folder: Path, *, source: Path) -> None:
    """Write everything but the weights and `config.json`, which a folder gets last. Raises OSError."""
    described.tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(described))
    for name in ("tokenizer.model", "generation_config.json"):
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    licences = licences_in(source)
    for file in licences:
        shutil.copyfile(file, folder / file.name)
    (folder / "NOTICE").write_text(notice(described, licences=[file.name for file in licences]), encoding="utf-8")


def write_config(described: Described, folder: Path) -> None:
    """Write `config.json`. Raises OSError."""
    official, config = described.official, described.config
    dtype = str(described.dtype).removeprefix("torch.")
    packed = {"quantization_config": _packed_config(official)} if described.variant.is_packed else {}
    if not described.variant.has_alibi:
        config.architectures = ["LlamaForCausalLM"]
        config.dtype = dtype
        config.update({CONVERTED: {"converted": 1}} | packed)
        config.save_pretrained(folder)
        return
    kept = {name: value for name, value in official.items() if name not in _OF_REMOTE_CODE}
    ours = {
        "architectures": ["BaichuanForCausalLM"],
        "vocab_size": config.vocab_size,
        "torch_dtype": dtype,
        # Nothing rotates here; but vLLM 0.23 asks every config of this architecture for it.
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        CONVERTED: {"converted": 1},
    }
    _write_json(folder / "config.json", kept | ours | packed)


def licences_in(folder: Path) -> list[Path]:
    """Return the files of a model's folder that look like its licence, by name."""
    return [
        file
        for file in sorted(folder.iterdir())
        if file.is_file() and (file.suffix.lower() == ".pdf" or any(one in file.name.lower() for one in _LICENCE))
    ]


def notice(described: Described, *, licences: list[str]) -> str:
    """Return the notice that the licence asks for: source, licence, what was modified."""
    variant = described.variant
    at = f", revision {described.revision}" if described.revision else ""
    licence = f"the {_COMMUNITY_LICENCE}" if variant.has_norm_head else "the licence that its publisher names there"
    text = ", ".join(licences) or "no copy of its text lay beside the source; get it there before you pass this on"
    changes = ["The files are safetensors now; weights that the official code computes anew were left out."]
    if not variant.has_alibi:
        changes.append("W_pack was cut into query, key and value, and the tensors are named as in a Llama model.")
    if variant.has_norm_head:
        changes.append("The rows of lm_head were normalised, as the official code does when it runs.")
    if described.adapter:
        changes.append(f"The LoRA adapter {described.adapter} was merged into the weights.")
    if variant.is_packed:
        changes.append("The 4-bit weights were written in bitsandbytes' form of today; no weight was changed.")
    changes.append(f"Weights that are not packed are {described.dtype}.".replace("torch.", ""))
    changes.append(
        "The configuration was rewritten and names no remote code; tokenizer.json is the official tokenizer."
    )
    listed = "\n".join(f"- {change}" for change in changes)
    return f"""\
Baichuan Inside

This is a modified copy of {described.name}{at}.
Source: {variant.source_url}
Licence of the weights: {licence}: {variant.license_url}
Its text in this folder: {text}.

Modified by `haina models convert`:
{listed}

The chat template in tokenizer_config.json writes the official prompt. It does not keep a message from containing the
model's own signs, such as that of the assistant: a program that takes text from strangers has to see to that itself.
"""


def _packed_config(official: dict[str, Any]) -> dict[str, Any]:
    stated = (official.get("quantization_config") or {}).get("bnb_4bit_compute_dtype", "bfloat16")
    return packed_config(getattr(torch, str(stated), torch.bfloat16))


def _tokenizer_config(described: Described) -> dict[str, Any]:
    config, tokenizer = described.config, described.tokenizer
    text = str(tokenizer.to_str())
    has_prefix = bool(sentencepiece_model.take_prefix(Tokenizer.from_str(text)))

    def token(token_id: Any) -> str | None:
        return tokenizer.id_to_token(token_id) if isinstance(token_id, int) else None

    tokens = {
        "bos_token": token(config.bos_token_id),
        "eos_token": token(config.eos_token_id),
        "pad_token": token(config.pad_token_id),
        "unk_token": token(0),
    }
    written = {
        "add_bos_token": False,
        "add_eos_token": False,
        "add_prefix_space": has_prefix,  # llama.cpp reads it
        "clean_up_tokenization_spaces": False,
        "model_max_length": config.max_position_embeddings,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    try:
        prompt_format = load_format(None, PromptTokenizer.from_json(text)).name
    except InvalidInput:
        prompt_format = ""
    template = {"chat_template": TEMPLATES[prompt_format]} if prompt_format in TEMPLATES else {}
    return written | {name: one for name, one in tokens.items() if one is not None} | template


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
