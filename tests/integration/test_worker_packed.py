"""The official `-4bits` files: unpacked or run as they are, their weights are the same to the last bit."""

from pathlib import Path
from typing import Any

import pytest
import torch

from app.worker.baichuan import official as layout
from app.worker.baichuan import quantized
from app.worker.baichuan.quantized import PackedWeight
from app.worker.failures import LoadFailed
from tests.fakes.checkpoints import DATA, folder_of, greedy, loaded, made_up, pack

functional = pytest.importorskip("bitsandbytes.functional")


def official() -> dict[str, Any]:
    weights: dict[str, Any] = torch.load(DATA / "tiny-7b-chat-4bits" / "pytorch_model.bin", weights_only=True)
    return weights


def by_bitsandbytes(data: torch.Tensor, old: Any) -> torch.Tensor:
    """Unpack with a QuantState that is put together from the old list by hand.

    Blocks run on over the ends of rows; bitsandbytes 0.50.2 forgets it on a CPU. So it gets rows of one block each.
    """
    second = functional.QuantState(absmax=old[4][1][0], code=old[4][1][1], blocksize=256, dtype=torch.float32)
    state = functional.QuantState(
        absmax=old[0], shape=torch.Size([old[1].numel() // 64, 64]), dtype=old[2], blocksize=old[3],
        offset=old[4][0], state2=second, quant_type="nf4", code=old[6],
    )  # fmt: skip
    weight: torch.Tensor = functional.dequantize_4bit(data, state)
    return weight.view(old[1])


def whole(weights: dict[str, Any]) -> dict[str, torch.Tensor]:
    """What bitsandbytes makes of a checkpoint's packed weights, under the official names."""
    layers = [name.removesuffix(".quant_state") for name in weights if name.endswith(".quant_state")]
    return {name: by_bitsandbytes(weights[f"{name}.data"], weights[f"{name}.quant_state"]) for name in layers}


def as_official(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Put query, key and value together again."""
    joined = {}
    for name, weight in weights.items():
        if name.endswith(".q_proj.weight"):
            parts = [weights[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            joined[name.replace("q_proj", "W_pack")] = torch.cat(parts)
        elif not name.endswith((".k_proj.weight", ".v_proj.weight")):
            joined[name] = weight
    return joined


def test_unpacked_weights_are_those_of_bitsandbytes_bit_for_bit() -> None:
    weights = official()
    ours = as_official({name: one.dequantised() for name, one in quantized.read(weights).items()})
    theirs = whole(weights)

    assert ours.keys() == theirs.keys()
    assert len(ours) == 15
    for name, weight in ours.items():
        assert weight.dtype == torch.float16
        assert torch.equal(weight, theirs[name])


@pytest.mark.parametrize("has_alibi", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_where_bitsandbytes_can_run_them_the_very_weights_of_the_file_are_run(
    has_alibi: bool,  # noqa: FBT001 - pytest's
    dtype: str,
    tmp_path: Path,
) -> None:
    folder = made_up(tmp_path / "made-up", has_alibi=has_alibi)
    theirs = whole(pack(folder))
    # Before the first forward pass, in which bitsandbytes may repack them for this processor.
    packed = quantized.read(torch.load(folder / "pytorch_model.bin", weights_only=True))
    assert all(one.nested for one in packed.values())  # 256·256 weights: the parts of W_pack keep both levels
    entries = packed["model.layers.0.self_attn.k_proj.weight"].serialised("weight")
    state = functional.QuantState.from_dict(
        {name: one for name, one in entries.items() if name != "weight"}, device=torch.device("cpu")
    )
    middle = functional.dequantize_4bit(entries["weight"], state)
    assert torch.equal(middle, theirs["model.layers.0.self_attn.W_pack.weight"][256:512])

    found = loaded(folder, dtype=dtype)
    assert found.profile.quantization == "4bit"
    layer = found.model.model.layers[1].mlp.down_proj
    assert type(layer).__name__ == "Linear4bit"
    with torch.inference_mode():
        ours = layer(torch.eye(512, dtype=found.model.dtype)).float().T
    # bitsandbytes' kernel for avx512_bf16 rounds to bfloat16; elsewhere nothing is rounded.
    assert torch.allclose(ours, theirs["model.layers.1.mlp.down_proj.weight"].float(), rtol=1e-2, atol=1e-3)
    ids = torch.arange(200, 240)[None]
    with torch.inference_mode():
        packed_logits = found.model(ids).logits.float()
    assert packed_logits.isfinite().all()


@pytest.mark.parametrize("has_alibi", [False, True])
def test_run_packed_in_float32_their_logits_are_those_of_the_unpacked_weights(
    has_alibi: bool,  # noqa: FBT001 - pytest's
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without bitsandbytes' kernel for avx512_bf16, which computes in bfloat16 whatever it is told.

    bitsandbytes of today unpacks to float32 at once; by way of float16, as in 2023, the weights are rounded once more.
    """
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: False)
    folder = made_up(tmp_path / "made-up", has_alibi=has_alibi)
    weights = pack(folder)
    packed = loaded(folder)
    assert type(packed.model.model.layers[0].self_attn.q_proj).__name__ == "Linear4bit"
    monkeypatch.setattr(quantized, "hindrance", lambda *_, **__: "for comparison")
    rounded = loaded(folder)
    for name in weights:
        if name.endswith(".quant_state"):
            weights[name][2] = torch.float32
    torch.save(weights, folder / "pytorch_model.bin")
    unrounded = loaded(folder)
    assert type(unrounded.model.model.layers[0].self_attn.q_proj) is torch.nn.Linear

    ids = torch.arange(200, 264)[None]
    with torch.inference_mode():
        logits, expected, by_float16 = (one.model(ids).logits for one in (packed, unrounded, rounded))
    worst, rounding = ((logits - other).abs().max().item() for other in (expected, by_float16))
    print(f"largest difference of logits up to {logits.abs().max():.1f}: {worst:.1e}; by float16: {rounding:.1e}")  # noqa: T201 - figures to keep
    assert worst <= 1e-3
    assert rounding <= 1e-2
    assert greedy(packed.model, ids, tokens=24).tolist() == greedy(unrounded.model, ids, tokens=24).tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_no_bit_of_them_is_lost_on_the_way_into_the_model(dtype: torch.dtype, tmp_path: Path) -> None:
    folder = made_up(tmp_path / "made-up", has_alibi=True)
    theirs = whole(pack(folder))
    # Not through `loaded`: its first forward pass lets bitsandbytes repack the weights for this processor.
    model = layout.load(folder, dtype=dtype, device="cpu", quantization=None).model
    layers = {name: one for name, one in model.named_parameters() if hasattr(one, "quant_state")}
    ours = as_official({name: functional.dequantize_4bit(one.data, one.quant_state) for name, one in layers.items()})

    assert ours.keys() == theirs.keys()
    assert len(ours) == 10
    for name, weight in ours.items():
        assert torch.equal(weight, theirs[name])


def test_where_it_cannot_they_are_unpacked_and_the_log_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: PackedWeight, __: str) -> None:
        raise AssertionError("N must be divisible by block_n")

    monkeypatch.setattr(PackedWeight, "run", refuse)
    found = loaded(folder_of("tiny-7b-chat-4bits", tmp_path))

    assert found.profile.quantization == "none"
    assert type(found.model.model.layers[0].mlp.up_proj) is torch.nn.Linear
    said = [line for line in capsys.readouterr().out.splitlines() if "packed_weights_unpacked" in line]
    assert len(said) == 1
    assert "divisible by block_n" in said[0]


def test_a_device_on_which_bitsandbytes_errs_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU where rows are no whole blocks; it would not complain by itself."""
    weights = official()
    packed = quantized.read(weights)["model.layers.0.mlp.up_proj.weight"]
    monkeypatch.setattr(functional, "dequantize_4bit", lambda *_: torch.zeros(176, 64))

    assert "other weights" in quantized.hindrance([packed], device="cpu")


def test_they_cannot_be_made_8_bit_ones(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="4-bit ones already"):
        loaded(folder_of("tiny-7b-chat-4bits", tmp_path), quantize="8bit")


def test_a_list_of_another_form_is_refused() -> None:
    weights = official()
    weights["model.layers.0.mlp.up_proj.weight.quant_state"] = [1, 2, 3]
    with pytest.raises(LoadFailed, match="no form that is known"):
        quantized.read(weights)
