"""The tiny checkpoints in Baichuan's official layout, with what the official code computed from them in float32.

They lie in `tests/data`, without the tokenizer that they share; random weights, made for tests.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from app.worker.baichuan import conversion
from app.worker.loading import LoadedModel, ModelChoice, load

DATA = Path(__file__).parents[1] / "data"
TOKENIZER = DATA / "tiny-tokenizer.model"
NAMES = ("tiny-7b-chat", "tiny-13b-chat", "tiny-7b-chat-4bits")


@dataclass(frozen=True, slots=True)
class Golden:
    """One prompt and what the official code made of it."""

    ids: torch.Tensor
    """[1, n]"""
    logits: torch.Tensor
    """[m, V]: of the last m positions."""
    answer: list[int] | None
    """The greedy continuation, where there is one."""


def folder_of(name: str, parent: Path) -> Path:
    """Return a copy of a checkpoint, with its tokenizer, that may be changed."""
    folder = parent / name
    shutil.copytree(DATA / name, folder)
    shutil.copyfile(TOKENIZER, folder / "tokenizer.model")
    return folder


def made_up(
    folder: Path, *, has_alibi: bool, vocab_size: int = 600, hidden: int = 256, inner: int = 512, layers: int = 2
) -> Path:
    """Write a random checkpoint in the official layout, whose shapes suit every kernel as the real ones do."""
    torch.manual_seed(11)
    shutil.copytree(DATA / ("tiny-13b-chat" if has_alibi else "tiny-7b-chat"), folder)
    shutil.copyfile(TOKENIZER, folder / "tokenizer.model")
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": 8}
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": vocab_size}))
    shapes = {"model.embed_tokens.weight": (vocab_size, hidden), "lm_head.weight": (vocab_size, hidden)}
    for layer in (f"model.layers.{at}" for at in range(layers)):
        shapes |= {
            f"{layer}.self_attn.W_pack.weight": (3 * hidden, hidden),
            f"{layer}.self_attn.o_proj.weight": (hidden, hidden),
            f"{layer}.mlp.gate_proj.weight": (inner, hidden),
            f"{layer}.mlp.up_proj.weight": (inner, hidden),
            f"{layer}.mlp.down_proj.weight": (hidden, inner),
        }
    weights = {name: torch.randn(shape) * 0.06 for name, shape in shapes.items()}
    norms = ["norm", *(f"layers.{at}.{one}_layernorm" for at in range(layers) for one in ("input", "post_attention"))]
    weights |= {f"model.{norm}.weight": torch.rand(hidden) + 0.5 for norm in norms}
    torch.save(weights, folder / "pytorch_model.bin")
    return folder


def sharded(folder: Path, *, parts: int, as_safetensors: bool = False) -> Path:
    """Divide a checkpoint's weights among files with an index, as the larger official ones are."""
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    (folder / "pytorch_model.bin").unlink()
    names = list(weights)
    places: dict[str, str] = {}
    for part in range(parts):
        stem, ending = ("model", "safetensors") if as_safetensors else ("pytorch_model", "bin")
        file = f"{stem}-{part + 1:05}-of-{parts:05}.{ending}"
        chosen = {name: weights[name] for name in names[len(names) * part // parts : len(names) * (part + 1) // parts]}
        if as_safetensors:
            save_file(chosen, folder / file)
        else:
            torch.save(chosen, folder / file)
        places |= dict.fromkeys(chosen, file)
    (folder / f"{stem}.{ending}.index.json").write_text(json.dumps({"weight_map": places}))
    return folder


def converted(folder: Path, **options: Any) -> Path:
    """Convert a checkpoint into a folder beside it, as `haina models convert` does."""
    target = folder.with_name(f"{folder.name}-converted")
    conversion.write(conversion.plan(folder, name=folder.name, **options), target)
    return target


def as_first_generation(tokenizer: Path) -> Path:
    """Change a `tokenizer.model` to the first generation's kind: its role tokens, a space before every text."""
    data = tokenizer.read_bytes()
    for new, old in ((b"106", b"102"), (b"107", b"103")):
        data = data.replace(b"<reserved_%b>" % new, b"<reserved_NEW>").replace(
            b"<reserved_%b>" % old, b"<reserved_%b>" % new
        )
        data = data.replace(b"<reserved_NEW>", b"<reserved_%b>" % old)
    tokenizer.write_bytes(data.replace(b"identity\x12\x00\x18\x00", b"identity\x12\x00\x18\x01"))
    return tokenizer


def pack(folder: Path) -> dict[str, Any]:
    """Turn a checkpoint into a `-4bits` one, as bitsandbytes of 2023 wrote it; return its entries."""
    from bitsandbytes.functional import quantize_4bit  # noqa: PLC0415 - an extra

    weights: dict[str, Any] = torch.load(folder / "pytorch_model.bin", weights_only=True)
    for name in [name for name in weights if "_proj." in name or "W_pack." in name]:
        data, state = quantize_4bit(weights.pop(name).half(), blocksize=64, compress_statistics=True, quant_type="nf4")
        second = state.state2
        nested = [second.absmax, second.code, second.blocksize, False, torch.float32, None, None]
        weights[f"{name}.data"] = data
        weights[f"{name}.quant_state"] = [
            state.absmax, state.shape, state.dtype, state.blocksize, [state.offset, nested], "nf4", state.code
        ]  # fmt: skip
    torch.save(weights, folder / "pytorch_model.bin")
    return weights


def loaded(folder: Path, **choice: Any) -> LoadedModel:
    """Load a folder as `haina worker` does, in float32 unless told otherwise."""
    choice = {"dtype": "float32"} | choice
    return load(ModelChoice(path=str(folder), data_dir=folder.parent, **choice), report=lambda _, __: None)


def golden(name: str) -> dict[int, Golden]:
    """Return the official results by the prompt's length."""
    arrays = np.load(DATA / name / "golden.npz")
    return {
        length: Golden(
            ids=torch.from_numpy(arrays[f"ids_{length}"]).long()[None],
            logits=torch.from_numpy(arrays[f"logits_{length}"]),
            answer=arrays[f"greedy_{length}"].tolist() if f"greedy_{length}" in arrays.files else None,
        )
        for length in sorted(int(one.removeprefix("ids_")) for one in arrays.files if one.startswith("ids_"))
    }


def greedy(model: Any, ids: torch.Tensor, *, tokens: int, mask: torch.Tensor | None = None, **options: Any) -> Any:
    """Return [B, tokens]: the likeliest continuation, by transformers' own `generate`."""
    made = model.generate(
        ids, attention_mask=torch.ones_like(ids) if mask is None else mask, do_sample=False, max_new_tokens=tokens,
        repetition_penalty=1.0, temperature=None, top_k=None, top_p=None, eos_token_id=None, **options,
    )  # fmt: skip
    return made[:, ids.shape[1] :]
