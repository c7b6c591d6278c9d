"""The bias for distance: the official slopes, the same at any place in a cache, exact enough in bfloat16."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache

from app.worker.baichuan.configuration import BaichuanAlibiConfig
from app.worker.baichuan.modeling import BaichuanAlibiForCausalLM, register, slopes

POSITIONS = 4096


def tiny(**options: int) -> Any:
    torch.manual_seed(5)
    sizes: Any = {"hidden_size": 160, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 40}
    config = BaichuanAlibiConfig(vocab_size=90, max_position_embeddings=POSITIONS, **sizes | options)
    model = BaichuanAlibiForCausalLM(config)
    model.train(mode=False)
    return model


def test_slopes_for_40_heads_are_those_of_the_release() -> None:
    found = slopes(40)

    assert len(found) == 40
    for head, slope in enumerate(found[:32]):
        assert math.isclose(slope, 2 ** (-0.25 * (head + 1)), rel_tol=1e-12)
    for head, slope in enumerate(found[32:]):
        assert math.isclose(slope, 2 ** (-0.125 * (2 * head + 1)), rel_tol=1e-12)
    assert math.isclose(max(found), 0.917004, abs_tol=1e-6)
    assert math.isclose(min(found), 0.003906, abs_tol=1e-6)


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 5, 6, 12, 32, 64, 100])
def test_any_number_of_heads_has_slopes(heads: int) -> None:
    found = slopes(heads)

    assert len(found) == len(set(found)) == heads
    assert all(0 < slope < 1 for slope in found)


def test_the_bias_is_the_slope_times_the_distance_and_hides_what_is_to_come() -> None:
    model = tiny(hidden_size=16, num_attention_heads=4).model
    bias = model._bias(torch.zeros(1, 3, 16), mask=None, position_ids=None, cache=None)

    least = torch.finfo(torch.float32).min
    assert bias.shape == (1, 4, 3, 3)
    assert bias[0, 0].tolist() == [[0, least, least], [-0.25, 0, least], [-0.5, -0.25, 0]]


def test_a_saved_model_is_found_again_by_its_own_name(tmp_path: Path) -> None:
    model = tiny()
    model.save_pretrained(tmp_path)
    register()
    again: Any = AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=False)

    assert type(again) is BaichuanAlibiForCausalLM
    ids = torch.arange(20)[None]
    with torch.inference_mode():
        assert torch.equal(again(ids).logits, model(ids).logits)


def test_no_buffer_is_kept() -> None:
    assert not list(tiny().buffers())


def test_the_last_chunk_of_a_long_prompt_is_that_of_the_whole() -> None:
    model = tiny()
    ids = torch.randint(90, (1, POSITIONS), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        cache = DynamicCache(config=model.config)
        for part in torch.split(ids, 512, dim=1):
            last = model(part, past_key_values=cache, logits_to_keep=1).logits
        whole = model(ids, logits_to_keep=1).logits
    assert (last - whole).abs().max() < 1e-5


def test_in_bfloat16_4096_positions_cost_no_more_than_bfloat16_does() -> None:
    """Attention of 40 heads over 4,096 keys; the error is against float64 with the exact bias."""
    torch.manual_seed(0)
    heads, size, queries = 40, 128, 64
    query, key, value = (torch.randn(1, heads, n, size) for n in (queries, POSITIONS, POSITIONS))
    model = tiny().model
    model.config._attn_implementation = "sdpa"
    slope = torch.tensor(slopes(heads), dtype=torch.float64)[:, None, None]
    keys, places = torch.arange(POSITIONS), torch.arange(POSITIONS - queries, POSITIONS)[:, None]

    def attend(inputs: list[torch.Tensor], bias: torch.Tensor) -> torch.Tensor:
        query, key, value = inputs
        return torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)

    def official(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Slope·j, rounded; scores and softmax in bfloat16."""
        least = torch.finfo(torch.bfloat16).min
        bias = (slope.float() * keys).bfloat16().masked_fill(keys > places, least)
        scores = query @ key.transpose(2, 3) / math.sqrt(size) + bias
        return scores.clamp(min=least).softmax(dim=-1) @ value

    class Cache:
        """A cache in which all keys but the last 64 are."""

        def get_seq_length(self) -> int:
            return POSITIONS - queries

        def get_mask_sizes(self, _: int, __: int) -> tuple[int, int]:
            return POSITIONS, 0

    def bias(dtype: torch.dtype) -> torch.Tensor:
        hidden = torch.zeros(1, queries, 1, dtype=dtype)
        found: torch.Tensor = model._bias(hidden, mask=None, position_ids=None, cache=Cache())
        return found

    exact = (slope * (keys - places)).masked_fill(keys > places, -torch.inf)
    truth = attend([query.double(), key.double(), value.double()], exact[None])
    rounded = [one.bfloat16() for one in (query, key, value)]
    results = {
        "ours, float32": attend([query, key, value], bias(torch.float32)),
        "inputs in bfloat16, all else float32": attend([one.float() for one in rounded], bias(torch.float32)),
        "ours, bfloat16": attend(rounded, bias(torch.bfloat16)),
        "official, bfloat16": official(*rounded),
    }
    errors = {name: (result.double() - truth).abs() for name, result in results.items()}
    for name, error in errors.items():
        print(f"{name}: largest {error.max():.5f}, mean {error.mean():.6f}")  # noqa: T201 - figures to keep

    assert errors["ours, float32"].max() < 1e-4
    # Rounding the inputs alone costs this much: the bias may add half of it, and no more.
    assert errors["ours, bfloat16"].mean() < 1.5 * errors["inputs in bfloat16, all else float32"].mean()
    assert errors["official, bfloat16"].mean() > 50 * errors["ours, bfloat16"].mean()
