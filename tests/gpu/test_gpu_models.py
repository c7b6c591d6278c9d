"""Every layout on the GPU: exact in float32, near in bfloat16 and quantised; and real models, where they are named."""

from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import torch

from app.domain.generation import ChatMessage
from app.domain.models import Role
from app.worker.loading import LoadedModel
from tests.fakes.checkpoints import NAMES, folder_of, golden, greedy, loaded, made_up
from tests.gpu.choice import DEVICE, MODELS, Note

WHOLE = ("tiny-7b-chat", "tiny-13b-chat")
CLOSE = 1e-3
"""float32 on a GPU sums in another order than the CPU that computed the golden numbers."""


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Return [n, V] in float32, on the CPU."""
    with torch.inference_mode():
        found: torch.Tensor = model(ids.to(model.device), use_cache=False).logits[0].float().cpu()
    return found


def likeness(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return [n]: the cosine of both at each position."""
    return torch.cosine_similarity(one, other, dim=-1)


@pytest.mark.parametrize("name", NAMES)
def test_float32_is_the_official_code(name: str, tmp_path: Path, note: Note) -> None:
    model = loaded(folder_of(name, tmp_path)).model
    assert model.device.type == DEVICE
    worst = 0.0
    for one in golden(name).values():
        worst = max(worst, float((logits(model, one.ids)[-len(one.logits) :] - one.logits).abs().max()))
        if one.answer is not None:
            made = greedy(model, one.ids.to(model.device), tokens=len(one.answer))
            assert made.cpu().tolist() == [one.answer]
    note(f"{name}, float32: largest difference to the official logits", f"{worst:.1e}")
    assert worst <= CLOSE


@pytest.mark.parametrize("name", WHOLE)
def test_bfloat16_is_near(name: str, tmp_path: Path, note: Note) -> None:
    model = loaded(folder_of(name, tmp_path), dtype="bfloat16").model
    found = min(
        float(likeness(logits(model, one.ids)[-len(one.logits) :], one.logits).min()) for one in golden(name).values()
    )
    note(f"{name}, bfloat16: least likeness (cosine) to the official logits", f"{found:.5f}")
    assert found > 0.99


@pytest.mark.parametrize("has_alibi", [False, True], ids=["7B", "13B"])
@pytest.mark.parametrize("quantize", ["8bit", "4bit"])
def test_quantised_is_near(quantize: str, has_alibi: bool, tmp_path: Path, note: Note) -> None:  # noqa: FBT001 - pytest's
    pytest.importorskip("bitsandbytes")
    folder = made_up(tmp_path / "made-up", has_alibi=has_alibi)
    ids = torch.arange(200, 240)[None]
    small = logits(loaded(folder, quantize=quantize).model, ids)
    found = float(likeness(small, logits(loaded(folder).model, ids)).mean())
    note(f"{'13B' if has_alibi else '7B'} shapes, {quantize}: mean likeness to float32", f"{found:.4f}")
    assert found > 0.9


def test_a_long_prompt_in_bfloat16_stays_near_float32(tmp_path: Path, note: Note) -> None:
    """4,096 tokens through the class with ALiBi; the official code goes astray there."""
    folder = made_up(tmp_path / "made-up", has_alibi=True)
    ids = torch.randint(200, 600, (1, 4096), generator=torch.Generator().manual_seed(3))
    near = logits(loaded(folder, dtype="bfloat16").model, ids)[-64:]
    found = float(likeness(near, logits(loaded(folder).model, ids)[-64:]).min())
    note("13B shapes, 4,096 tokens in bfloat16: least likeness to float32, the last 64", f"{found:.5f}")
    assert found > 0.99


@pytest.mark.skipif(not MODELS, reason="HAINA_GPU_MODELS names no model")
@pytest.mark.parametrize("quantize", ["none", "8bit", "4bit"])
@pytest.mark.parametrize("path", MODELS or [""])
def test_a_real_model_answers(path: str, quantize: str, note: Note) -> None:
    began = monotonic()
    one = loaded(Path(path), dtype="auto", quantize=quantize)
    name = f"{one.profile.title}, {one.profile.dtype}, {one.profile.quantization}"
    note(f"{name}: loaded", f"{monotonic() - began:.1f} s")
    _note_memory(name, note)
    assert one.prompt_format is not None
    prompt = one.prompt_format.build(
        (ChatMessage(Role.USER, "用一句话介绍长江。"),), context_length=one.profile.context_length, max_tokens=256
    )
    ids = torch.tensor([prompt.ids], device=one.model.device)
    greedy(one.model, ids, tokens=4)  # kernels are chosen at their first use
    began = monotonic()
    made = greedy(one.model, ids, tokens=128)[0].tolist()
    note(f"{name}: greedy, one at a time", f"{len(made) / (monotonic() - began):.1f} tokens/s")
    text = _text(one, made)
    assert any("\u4e00" <= sign <= "\u9fff" for sign in text), text
    if "Chat" in one.profile.title:
        assert set(made) & set(one.profile.stop_token_ids), "it did not come to an end within 128 tokens"


def _text(one: LoadedModel, ids: list[int]) -> str:
    ends = [at for at, token in enumerate(ids) if token in one.profile.stop_token_ids]
    return one.vocabulary.decode(ids[: ends[0]] if ends else ids)


def _note_memory(name: str, note: Note) -> None:
    if DEVICE == "cuda":
        note(f"{name}: memory of the weights", f"{torch.cuda.memory_allocated() / 2**30:.1f} GiB")
