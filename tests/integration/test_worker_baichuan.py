"""Baichuan's official layouts against logits and tokens that the official code computed in float32."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from app.worker.failures import LoadFailed
from app.worker.loading import LoadedModel
from prompts.formats import sentencepiece_model
from tests.fakes.checkpoints import NAMES, folder_of, golden, greedy, loaded, made_up

Load = Callable[[str], LoadedModel]
CLOSE = {"tiny-7b-chat": 1e-4, "tiny-13b-chat": 1e-4, "tiny-7b-chat-4bits": 1e-3}
WHOLE = ("tiny-7b-chat", "tiny-13b-chat")


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """Load a tiny checkpoint, once."""
    known: dict[str, LoadedModel] = {}

    def load(name: str) -> LoadedModel:
        if name not in known:
            known[name] = loaded(folder_of(name, tmp_path_factory.mktemp("models")))
        return known[name]

    return load


def in_chunks(model: Any, ids: torch.Tensor, *, size: int) -> torch.Tensor:
    """Return [n, V]: the logits of a prompt that is taken in pieces, through a cache."""
    cache = DynamicCache(config=model.config)
    with torch.inference_mode():
        parts = [model(part, past_key_values=cache, use_cache=True).logits[0] for part in torch.split(ids, size, dim=1)]
    return torch.cat(parts)


@pytest.mark.parametrize("name", NAMES)
def test_logits_and_greedy_tokens_are_those_of_the_official_code(name: str, load: Load) -> None:
    model = load(name).model
    for one in golden(name).values():
        with torch.inference_mode():
            logits = model(one.ids, use_cache=False).logits[0]
        worst = (logits[-len(one.logits) :] - one.logits).abs().max().item()
        print(f"{name}, {one.ids.shape[1]} tokens: largest difference {worst:.1e}")  # noqa: T201 - a figure to keep
        assert worst <= CLOSE[name]
        if one.answer is not None:
            assert greedy(model, one.ids, tokens=len(one.answer)).tolist() == [one.answer]
            assert greedy(model, one.ids, tokens=len(one.answer), use_cache=False).tolist() == [one.answer]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_prompt_may_be_taken_in_pieces_of_any_length(name: str, size: int, load: Load) -> None:
    for one in golden(name).values():
        logits = in_chunks(load(name).model, one.ids, size=size)
        assert (logits[-len(one.logits) :] - one.logits).abs().max() <= CLOSE[name]


@pytest.mark.parametrize("name", NAMES)
def test_rows_that_are_padded_to_the_left_come_out_as_they_do_alone(name: str, load: Load) -> None:
    model = load(name).model
    ones = list(golden(name).values())
    width = max(one.ids.shape[1] for one in ones)
    ids = torch.zeros(len(ones), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, one in enumerate(ones):
        ids[row, width - one.ids.shape[1] :] = one.ids[0]
        mask[row, width - one.ids.shape[1] :] = 1
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.inference_mode():
        logits = model(ids, attention_mask=mask, position_ids=positions).logits

    for row, one in enumerate(ones):
        assert (logits[row, -len(one.logits) :] - one.logits).abs().max() <= CLOSE[name]
    for use_cache in (True, False):
        answers = greedy(model, ids, tokens=24, mask=mask, use_cache=use_cache).tolist()
        for one, answer in zip(ones, answers, strict=True):
            assert one.answer is None or one.answer == answer


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1, 7, 64])
def test_an_answer_goes_on_from_a_prompt_that_was_taken_in_pieces(name: str, size: int, load: Load) -> None:
    model = load(name).model
    for one in golden(name).values():
        if one.answer is None:
            continue
        cache = DynamicCache(config=model.config)
        made: list[int] = []
        pieces = [*torch.split(one.ids, size, dim=1)]
        with torch.inference_mode():
            while len(made) < len(one.answer):
                for piece in pieces:
                    logits = model(piece, past_key_values=cache, use_cache=True).logits[0, -1]
                made.append(int(logits.argmax()))
                pieces = [torch.tensor([made[-1:]])]
        assert made == one.answer


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_a_mask_that_an_engine_has_made_itself_is_taken(name: str, dtype: torch.dtype, load: Load) -> None:
    long, short = golden(name)[33], golden(name)[7]
    ids = torch.cat([long.ids, torch.nn.functional.pad(short.ids, (0, 26))])
    seen = torch.ones(33, 33, dtype=torch.bool).tril().expand(2, 1, 33, 33)
    mask = seen if dtype == torch.bool else torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(dtype).min)
    with torch.inference_mode():
        logits = load(name).model(ids, attention_mask=mask, position_ids=torch.arange(33).expand(2, 33)).logits
    assert (logits[0] - long.logits).abs().max() <= CLOSE[name]
    assert (logits[1, :7] - short.logits).abs().max() <= CLOSE[name]


@pytest.mark.parametrize("name", WHOLE)
def test_a_cache_of_fixed_size_gives_the_same_tokens(name: str, load: Load) -> None:
    one = golden(name)[33]
    answer = one.answer or []
    made = greedy(load(name).model, one.ids, tokens=len(answer), cache_implementation="static", disable_compile=True)
    assert made.tolist() == [answer]


@pytest.mark.parametrize("name", WHOLE)
def test_only_the_logits_that_are_asked_for_are_computed(name: str, load: Load) -> None:
    one = golden(name)[33]
    with torch.inference_mode():
        logits = load(name).model(one.ids, logits_to_keep=2).logits[0]
    assert logits.shape == (2, 600)
    assert (logits - one.logits[-2:]).abs().max() <= CLOSE[name]


@pytest.mark.parametrize("name", NAMES)
def test_the_profile_is_that_of_the_official_files(name: str, load: Load) -> None:
    found = load(name)
    profile = found.profile

    assert (profile.title, profile.prompt_format, profile.context_length) == (name, "baichuan2", 512)
    assert {2, 195, 196} <= set(profile.stop_token_ids) <= found.hidden_ids
    assert (profile.defaults.temperature, profile.defaults.top_k, profile.defaults.top_p) == (0.3, 5, 0.85)
    assert profile.defaults.repetition_penalty == 1.05
    assert profile.defaults.max_tokens == 256  # of the 2,048 that half the context leaves
    assert profile.source_url == "https://github.com/baichuan-inc/Baichuan2"
    assert profile.license_url.startswith(profile.source_url)


@pytest.mark.parametrize("name", WHOLE)
def test_quantised_it_is_still_nearly_the_same(name: str, load: Load, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    small = loaded(folder_of(name, tmp_path), quantize="8bit")
    ids = torch.arange(200, 240)[None]
    with torch.inference_mode():
        likeness = torch.cosine_similarity(small.model(ids).logits, load(name).model(ids).logits, dim=-1)

    assert small.profile.quantization == "8bit"
    assert likeness.min() > 0.9
    assert type(small.model.lm_head) is torch.nn.Linear
    assert torch.equal(small.model.lm_head.weight.float(), load(name).model.lm_head.weight)  # normalised before


@pytest.mark.parametrize("has_alibi", [False, True])
def test_shapes_like_the_real_ones_run_in_4_bits(has_alibi: bool, tmp_path: Path) -> None:  # noqa: FBT001 - pytest's
    pytest.importorskip("bitsandbytes")
    folder = made_up(tmp_path / "made-up", has_alibi=has_alibi)
    whole, small = loaded(folder), loaded(folder, quantize="4bit")
    ids = torch.arange(200, 240)[None]
    with torch.inference_mode():
        likeness = torch.cosine_similarity(small.model(ids).logits, whole.model(ids).logits, dim=-1)

    assert small.profile.quantization == "4bit"
    assert type(small.model.model.layers[0].self_attn.q_proj).__name__ == "Linear4bit"
    assert likeness.mean() > 0.9


def as_llama(folder: Path, destination: Path, **changed: Any) -> Path:
    """Write a checkpoint as one that transformers knows by itself: the official one, or a random one of other sizes."""
    model = loaded(folder).model
    if changed:
        model = LlamaForCausalLM(LlamaConfig(**model.config.to_dict() | changed))
    model.save_pretrained(destination)
    fast: Any = PreTrainedTokenizerFast
    fast(tokenizer_object=sentencepiece_model.convert(folder / "tokenizer.model")).save_pretrained(destination)
    return destination


@pytest.mark.skipif(torch.cuda.is_available(), reason="only on a CPU bitsandbytes unpacks such rows wrongly")
@pytest.mark.parametrize("is_standard", [False, True])
def test_rows_that_4_bit_blocks_do_not_fill_are_refused_with_the_layers_name(
    is_standard: bool,  # noqa: FBT001 - pytest's
    tmp_path: Path,
) -> None:
    pytest.importorskip("bitsandbytes")
    folder = folder_of("tiny-7b-chat", tmp_path)
    if is_standard:
        folder = as_llama(folder, tmp_path / "llama")
    with pytest.raises(
        LoadFailed, match=r"model\.layers\.0\.mlp\.down_proj has rows of 176 numbers.* no multiple of 64"
    ):
        loaded(folder, quantize="4bit")
    assert loaded(folder, quantize="8bit").profile.quantization == "8bit"


def test_a_shape_that_the_4_bit_kernel_does_not_take_is_refused_while_the_model_loads(tmp_path: Path) -> None:
    functional = pytest.importorskip("bitsandbytes.functional")
    if torch.cuda.is_available() or not functional.has_avx512bf16():
        pytest.skip("only bitsandbytes' kernel for avx512_bf16 is particular about shapes")
    sizes = {"num_key_value_heads": 1, "intermediate_size": 128, "head_dim": 16}
    folder = as_llama(folder_of("tiny-7b-chat", tmp_path), tmp_path / "llama", **sizes)
    with pytest.raises(LoadFailed, match="cannot run on this device"):
        loaded(folder, quantize="4bit")


def test_a_folder_without_a_tokenizer_says_what_it_lacks(tmp_path: Path) -> None:
    folder = folder_of("tiny-7b-chat", tmp_path)
    (folder / "tokenizer.model").unlink()
    with pytest.raises(LoadFailed, match=r"no tokenizer\.model in .*tiny-7b-chat"):
        loaded(folder)


def test_a_download_that_lacks_a_part_is_refused_rather_than_filled_with_chance(tmp_path: Path) -> None:
    folder = folder_of("tiny-7b-chat", tmp_path)
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    gone = "model.layers.2.mlp.up_proj.weight"
    torch.save({name: one for name, one in weights.items() if name != gone}, folder / "pytorch_model.bin")
    with pytest.raises(LoadFailed, match=gone):
        loaded(folder)

    (folder / "pytorch_model.bin").rename(folder / "pytorch_model-00001-of-00002.bin")
    files = {"lm_head.weight": "pytorch_model-00001-of-00002.bin", gone: "pytorch_model-00002-of-00002.bin"}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": files}))
    with pytest.raises(LoadFailed, match="no pytorch_model-00002-of-00002"):
        loaded(folder)
