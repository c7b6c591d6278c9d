"""Baichuan-7B and Baichuan-13B: 64,000 tokens, no normalised head, a tokenizer and a prompt of their own."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from app.domain.generation import ChatMessage
from app.domain.models import Role
from app.worker.baichuan import official, variants
from app.worker.baichuan.variants import Variant
from app.worker.detokenizer import Detokenizer
from app.worker.loading import LoadedModel
from tests.fakes.checkpoints import as_first_generation, folder_of, golden, greedy, loaded
from tests.fakes.embedded import data_dir_with_model

VOCAB_SIZE = 64_000


def padded(weight: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(weight, (0, 0, 0, VOCAB_SIZE - len(weight)))


def first_generation(name: str, parent: Path) -> Path:
    """Rewrite a tiny Baichuan2 such that it must give the same logits without NormHead; the config names 600 tokens."""
    folder = folder_of(name, parent)
    as_first_generation(folder / "tokenizer.model")
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    weights["lm_head.weight"] = padded(torch.nn.functional.normalize(weights["lm_head.weight"]))
    weights["model.embed_tokens.weight"] = padded(weights["model.embed_tokens.weight"])
    torch.save(weights, folder / "pytorch_model.bin")
    return folder


@pytest.mark.parametrize("name", ["tiny-7b-chat", "tiny-13b-chat"])
def test_it_is_loaded_with_its_own_prompt(name: str, tmp_path: Path) -> None:
    folder = first_generation(name, tmp_path)
    found = loaded(folder)

    for one in golden(name).values():
        with torch.inference_mode():
            logits = found.model(one.ids).logits[0, -len(one.logits) :, :600]
        assert (logits - one.logits).abs().max() <= 1e-4
    profile = found.profile
    assert (profile.prompt_format, profile.context_length, profile.stop_token_ids) == ("baichuan", 512, (2, 195, 196))
    assert profile.source_url.endswith({"tiny-7b-chat": "Baichuan-7B", "tiny-13b-chat": "Baichuan-13B"}[name])
    assert profile.license_url.startswith(profile.source_url)
    assert found.vocab_size == VOCAB_SIZE


def test_its_head_is_left_as_it_is(tmp_path: Path) -> None:
    folder = first_generation("tiny-7b-chat", tmp_path)
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    weights["lm_head.weight"] *= 3
    torch.save(weights, folder / "pytorch_model.bin")

    assert torch.equal(loaded(folder).model.lm_head.weight, weights["lm_head.weight"])


def test_an_answer_does_not_begin_with_the_space_that_only_marks_a_beginning(tmp_path: Path) -> None:
    found = loaded(first_generation("tiny-7b-chat", tmp_path))
    assert found.prompt_format is not None
    question = [ChatMessage(Role.USER, "hello")]
    prompt = found.prompt_format.build(question, context_length=200, max_tokens=20).ids
    answer = found.vocabulary.encode("the end", add_special_tokens=False)
    detokenizer = Detokenizer(found.vocabulary, hidden_ids=found.hidden_ids, prompt_ids=prompt)

    assert "".join(map(detokenizer.push, answer)) + detokenizer.finish() == "the end"


def test_weights_may_be_safetensors(tmp_path: Path) -> None:
    folder = first_generation("tiny-7b-chat", tmp_path)
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    save_file({name: one.contiguous() for name, one in weights.items()}, folder / "model.safetensors")
    (folder / "pytorch_model.bin").unlink()

    assert torch.equal(loaded(folder).model.lm_head.weight, weights["lm_head.weight"])


def test_a_folder_without_sampling_of_its_own_is_loaded(tmp_path: Path) -> None:
    folder = first_generation("tiny-7b-chat", tmp_path)
    (folder / "generation_config.json").unlink()

    assert 2 in loaded(folder).profile.stop_token_ids


@pytest.mark.parametrize(
    ("config", "names", "vocab_size", "expected"),
    [
        ({"max_position_embeddings": 4096, "model_max_length": 4096}, (), 125_696, (2, False, False)),
        ({"model_max_length": 4096}, (), 125_696, (2, True, False)),
        ({"model_max_length": 4096}, ("x.weight.data", "x.weight.quant_state"), 125_696, (2, True, True)),
        ({"max_position_embeddings": 4096}, (), 64_000, (1, False, False)),
        ({"model_max_length": 4096}, (), 64_000, (1, True, False)),
        ({"model_max_length": 4096}, ("model.layers.0.self_attn.rotary_emb.inv_freq",), 64_000, (1, False, False)),
    ],
)
def test_layouts_are_told_apart_by_what_they_hold(
    config: dict[str, int], names: tuple[str, ...], vocab_size: int, expected: tuple[int, bool, bool]
) -> None:
    generation, has_alibi, is_packed = expected

    found = variants.detect(config, names, vocab_size=vocab_size)
    assert found == Variant(generation=generation, has_alibi=has_alibi, is_packed=is_packed)


def rewritten(source: Path, state: dict[str, torch.Tensor], config: Any, folder: Path) -> Path:
    """Write SmolLM2 as a Baichuan-7B: full heads, `W_pack`, 64,000 tokens, a head of its own that is not normalised."""
    folder.mkdir()
    groups = config.num_attention_heads // config.num_key_value_heads

    def full(weight: torch.Tensor) -> torch.Tensor:
        """Repeat each head of keys or values [kv·d, H] for the queries that it serves."""
        heads = weight.view(config.num_key_value_heads, -1, config.hidden_size)
        return heads.repeat_interleave(groups, 0).flatten(0, 1)

    weights = {
        name: one
        for name, one in state.items()
        if not name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight"))
    }
    for at in range(config.num_hidden_layers):
        stem = f"model.layers.{at}.self_attn"
        query, key, value = (state[f"{stem}.{part}_proj.weight"] for part in "qkv")
        weights[f"{stem}.W_pack.weight"] = torch.cat([query, full(key), full(value)])
    weights["model.embed_tokens.weight"] = padded(state["model.embed_tokens.weight"])
    weights["lm_head.weight"] = padded(state["model.embed_tokens.weight"])  # SmolLM2 has one table for both
    torch.save(weights, folder / "pytorch_model.bin")
    sizes = {name: getattr(config, name) for name in official._SHAPE}
    ours = {"model_type": "baichuan", "max_position_embeddings": 4096, "rms_norm_eps": config.rms_norm_eps}
    theta = {"rope_theta": config.rope_parameters["rope_theta"]}
    (folder / "config.json").write_text(json.dumps(sizes | ours | theta | {"bos_token_id": 1, "eos_token_id": 2}))
    for name in ("generation_config.json", "tokenizer.json"):
        shutil.copyfile(source / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def smollm(tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedModel, LoadedModel]:
    """SmolLM2 as it is, and the same weights through our path."""
    folder = tmp_path_factory.mktemp("smollm")
    source = next((data_dir_with_model(folder) / "models").glob("smollm2-*/config.json")).parent
    plain = loaded(source)
    config, state = plain.model.config, plain.model.state_dict()
    assert (config.num_attention_heads, config.num_key_value_heads, config.tie_word_embeddings) == (9, 3, True)
    return plain, loaded(rewritten(source, state, config, folder / "smollm-as-baichuan"))


def test_a_real_model_is_rewritten_as_a_first_generation(smollm: tuple[LoadedModel, LoadedModel]) -> None:
    _, ours = smollm
    config = ours.model.config
    assert (config.num_attention_heads, config.num_key_value_heads, config.tie_word_embeddings) == (9, 9, False)
    assert (ours.vocab_size, ours.profile.source_url) == (VOCAB_SIZE, "https://github.com/baichuan-inc/Baichuan-7B")
    lengths = ours.model.lm_head.weight[:1000].norm(dim=-1)
    assert (lengths - 1).abs().min() > 0.1  # nothing was normalised


QUESTIONS = {
    "What is the capital of France?": "Paris",
    "Write a short story about a lighthouse keeper and her cat.": "",
    "def fibonacci(n):\n    # Finish this Python function and explain it.": "",
    "List five rivers of Europe, one a line, with the country in brackets.": "",
    "请用中文介绍一下你自己。": "",
}


@pytest.mark.slow
@pytest.mark.parametrize(("question", "word"), QUESTIONS.items())
def test_its_answers_are_the_very_same(smollm: tuple[LoadedModel, LoadedModel], question: str, word: str) -> None:
    plain, ours = smollm
    prompts = []
    for one in smollm:
        assert one.prompt_format is not None
        message = ChatMessage(Role.USER, question)
        prompts.append(one.prompt_format.build([message], context_length=2048, max_tokens=80).ids)
    assert prompts[0] == prompts[1]
    ids = torch.tensor([prompts[0]])
    answer = greedy(plain.model, ids, tokens=80)
    text = plain.vocabulary.decode(answer[0].tolist())
    print(text)  # noqa: T201 - to be read
    assert word in text
    assert greedy(ours.model, ids, tokens=80).tolist() == answer.tolist()

    whole = torch.cat([ids, answer], dim=1)
    with torch.inference_mode():
        expected = plain.model(whole).logits[0]
        logits = ours.model(whole).logits[0, :, : expected.shape[-1]]
    worst = (logits - expected).abs().max().item()
    print(f"largest difference of logits, up to {expected.abs().max():.0f}: {worst:.1e}")  # noqa: T201 - a figure to keep
    assert worst <= 1e-4
