"""Baichuan2-7B's official layout against logits and tokens that the official code computed in float32."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from app.worker.failures import LoadFailed
from app.worker.loading import LoadedModel, ModelChoice, load

SHARED = Path(__file__).parents[3] / "shared" / "baichuan2"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/baichuan2 (see CONTRIBUTING.md)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint with the tokenizer file that it lacks."""
    folder = tmp_path_factory.mktemp("models") / "tiny-7b-chat"
    shutil.copytree(SHARED / "tiny-7b-chat", folder, copy_function=shutil.copyfile)
    folder.chmod(0o755)
    if not (folder / "tokenizer.model").exists():
        shutil.copyfile(SHARED / "tiny-13b-chat" / "tokenizer.model", folder / "tokenizer.model")
    return folder


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedModel:
    return load(ModelChoice(path=str(folder), dtype="float32", data_dir=folder.parent), report=lambda _, __: None)


def test_logits_and_greedy_tokens_are_those_of_the_official_code(loaded: LoadedModel) -> None:
    golden = np.load(SHARED / "tiny-7b-chat" / "golden.npz")
    lengths = sorted(int(name.removeprefix("ids_")) for name in golden.files if name.startswith("ids_"))
    for length in lengths:
        ids = torch.from_numpy(golden[f"ids_{length}"]).long().reshape(1, -1)
        expected = torch.from_numpy(golden[f"logits_{length}"]).reshape(-1, 600)
        with torch.inference_mode():
            logits = loaded.model(ids).logits[0]
        assert torch.allclose(logits[-len(expected) :], expected, atol=2e-5)
        if f"greedy_{length}" in golden.files:
            answer = golden[f"greedy_{length}"].reshape(-1).tolist()
            made = loaded.model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, repetition_penalty=1.0,
                max_new_tokens=len(answer), eos_token_id=None, temperature=None, top_k=None, top_p=None,
            )[0, length:].tolist()  # fmt: skip
            assert made[: len(answer)] == answer
    assert lengths


def test_the_profile_is_that_of_the_official_files(loaded: LoadedModel) -> None:
    profile = loaded.profile

    assert (profile.prompt_format, profile.context_length) == ("baichuan2", 512)
    assert {2, 195, 196} <= set(profile.stop_token_ids) <= loaded.hidden_ids
    assert (profile.defaults.temperature, profile.defaults.top_k, profile.defaults.top_p) == (0.3, 5, 0.85)
    assert profile.defaults.repetition_penalty == 1.05


def test_quantised_it_is_still_nearly_the_same(folder: Path, loaded: LoadedModel) -> None:
    pytest.importorskip("bitsandbytes")
    choice = ModelChoice(path=str(folder), dtype="float32", quantize="8bit", data_dir=folder.parent)
    small = load(choice, report=lambda _, __: None)
    ids = torch.arange(200, 240)[None]
    with torch.inference_mode():
        likeness = torch.cosine_similarity(small.model(ids).logits, loaded.model(ids).logits, dim=-1)

    assert small.profile.quantization == "8bit"
    assert likeness.min() > 0.9
    assert type(small.model.lm_head) is torch.nn.Linear


def test_a_model_that_a_quantisation_cannot_run_is_refused_while_it_loads(folder: Path) -> None:
    pytest.importorskip("bitsandbytes")
    if torch.cuda.is_available():
        pytest.skip("on a GPU bitsandbytes takes any shape")
    choice = ModelChoice(path=str(folder), dtype="float32", quantize="4bit", data_dir=folder.parent)
    with pytest.raises(LoadFailed, match="cannot run on this device"):
        load(choice, report=lambda _, __: None)


def test_layouts_that_are_not_for_this_version_say_so(tmp_path: Path) -> None:
    for name, words in [("tiny-13b-chat", "13B"), ("tiny-7b-chat-4bits", "4-bit")]:
        with pytest.raises(LoadFailed, match=words):
            load(ModelChoice(path=str(SHARED / name), data_dir=tmp_path), report=lambda _, __: None)
