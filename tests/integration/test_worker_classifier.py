"""Folders with a sequence-classification model: what they answer, what is refused, and the worker process with one."""

import asyncio
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    pipeline,
)

from app import bootstrap
from app.domain.generation import ChatMessage
from app.domain.models import Role
from app.domain.verdicts import Stage
from app.safety.guards.post import Posts
from app.safety.guards.spec import GuardSpec
from app.safety.guards.verdict import GuardFailure
from app.settings import EngineSettings, ModelSettings, Settings
from app.worker.checkpoints import checkup
from app.worker.classifier.loading import LoadedClassifier, load_classifier
from app.worker.failures import LoadFailed
from tests.fakes.classifiers import LABELS, VOCABULARY, WINDOW, classifier_folder, config_of
from tests.integration.test_worker_process import Worker, ended, free_port, get, wait_until

TEXTS = ["海纳", "的", "我们在中国测试 abc", "大 a 海" * 4, "不了解", "abcdefghij的一是不了人"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classifier_folder(tmp_path_factory.mktemp("classifiers") / "tiny-cold")


def loaded(folder: Path) -> LoadedClassifier:
    return load_classifier(str(folder), report=lambda _, __: None)


def together(classifier: LoadedClassifier, texts: list[str]) -> list[tuple[float, ...]]:
    """Score texts that are one window each in one batch, padded."""
    windows = [window for text in texts for window in classifier.reader.read(text)]
    assert len(windows) == len(texts)
    return classifier.model.score(windows)


def by_transformers(folder: Path, texts: list[str]) -> list[tuple[float, ...]]:
    """Return what the pipeline answers, a text at a time."""
    found: Any = pipeline("text-classification", model=str(folder), tokenizer=str(folder), top_k=None)
    labels = list(found.model.config.id2label.values())
    rows = [{one["label"]: one["score"] for one in found([text])[0]} for text in texts]
    return [tuple(row[label] for label in labels) for row in rows]


def same(rows: list[tuple[float, ...]], wanted: list[tuple[float, ...]]) -> bool:
    return len(rows) == len(wanted) and all(
        row == pytest.approx(one, abs=1e-5) for row, one in zip(rows, wanted, strict=True)
    )


def as_bin(folder: Path) -> Path:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def with_vocabulary_file(folder: Path) -> Path:
    """Leave the tokenizer as older folders have it."""
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    return folder


def as_roberta(folder: Path) -> Path:
    """Positions of RoBERTa begin behind the padding's: 34 of them are a window of 32."""
    torch.manual_seed(6)
    config = RobertaConfig(**config_of().to_diff_dict() | {"max_position_embeddings": 34, "pad_token_id": 1})
    config.architectures = None
    RobertaForSequenceClassification(config).save_pretrained(folder)
    about = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(about | {"model_max_length": 10**30}))
    return folder


def as_decoder(folder: Path, *, pad_token_id: int | None = 0) -> Path:
    torch.manual_seed(7)
    written: Any = LlamaForSequenceClassification
    config = llama(num_labels=3, pad_token_id=pad_token_id, initializer_range=0.3)
    written(config).save_pretrained(folder)
    return folder


def llama(**options: Any) -> LlamaConfig:
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "vocab_size": len(VOCABULARY), "max_position_embeddings": WINDOW}
    return LlamaConfig(**sizes | options)


def multi_label(folder: Path) -> Path:
    return classifier_folder(folder, problem_type="multi_label_classification")


def one_label(folder: Path) -> Path:
    return classifier_folder(folder, labels=["toxic"])


def as_it_is(folder: Path) -> Path:
    return folder


@pytest.mark.parametrize(
    "made", [as_it_is, as_bin, with_vocabulary_file, as_roberta, as_decoder, multi_label, one_label]
)
def test_probabilities_are_those_of_transformers_padded_or_not(tmp_path: Path, made: Callable[[Path], Path]) -> None:
    folder = made(classifier_folder(tmp_path / "a"))
    classifier = loaded(folder)
    wanted = by_transformers(folder, TEXTS)

    assert classifier.model.can_batch
    assert same(together(classifier, TEXTS), wanted)
    assert same([row for text in TEXTS for row in together(classifier, [text])], wanted)
    assert len({round(row[0], 3) for row in wanted}) > 3  # they do differ


def test_a_decoder_that_knows_no_padding_runs_a_text_at_a_time(tmp_path: Path) -> None:
    classifier = loaded(as_decoder(classifier_folder(tmp_path / "a"), pad_token_id=None))

    assert not classifier.model.can_batch
    assert sum(together(classifier, ["海纳"])[0]) == pytest.approx(1)


def test_a_multi_label_heads_probabilities_are_independent(tmp_path: Path) -> None:
    classifier = loaded(multi_label(tmp_path / "a"))
    sums = [sum(row) for row in together(classifier, TEXTS)]

    assert classifier.is_independent
    assert any(abs(total - 1) > 0.05 for total in sums)


def test_labels_are_in_the_order_of_the_probabilities(folder: Path) -> None:
    classifier = loaded(folder)

    assert (classifier.labels, classifier.is_independent, classifier.name) == (LABELS, False, "tiny-cold")
    assert classifier.reader.length == WINDOW


def altered(folder: Path, **config: Any) -> Path:
    """Change the config; None removes a key."""
    told = json.loads((folder / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps({key: value for key, value in told.items() if value is not None}))
    return folder


def without(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).unlink()
    return folder


def losing(folder: Path, part: str) -> Path:
    """Remove the weights whose names hold a part."""
    weights = load_file(folder / "model.safetensors")
    left = {name: weight for name, weight in weights.items() if part not in name}
    assert len(left) < len(weights)
    save_file(left, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


class Evil:
    """What would run if a pickle were read as one."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch pickle-was-run",)


def evil(folder: Path) -> Path:
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"classifier.weight": Evil()}, protocol=2))
    return without(folder, "model.safetensors")


def masked(folder: Path) -> Path:
    BertForMaskedLM(config_of()).save_pretrained(folder)
    return folder


def causal(folder: Path) -> Path:
    LlamaForCausalLM(llama(max_position_embeddings=1024)).save_pretrained(folder)
    return folder


def remote(folder: Path) -> Path:
    (folder / "evil.py").write_text("open('code-was-run', 'w')")
    return altered(folder, model_type="nobody-knows", auto_map={"AutoConfig": "evil.Config"})


def cut(folder: Path) -> Path:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:900])
    return folder


def few_words(folder: Path) -> Path:
    with_vocabulary_file(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY[:12]) + "\n", encoding="utf-8")
    return folder


FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "gone": (shutil.rmtree, "there is no folder"),
    "no config": (lambda folder: without(folder, "config.json"), "there is no config.json"),
    "config is a list": (lambda folder: (folder / "config.json").write_text("[]"), "holds no JSON object"),
    "config is cut": (lambda folder: (folder / "config.json").write_text('{"a"'), "holds no JSON object"),
    "no weights": (lambda folder: without(folder, "model.safetensors"), "cannot be loaded"),
    "weights are cut": (cut, "damaged"),
    "head is missing": (lambda folder: losing(folder, "classifier.weight"), "classifier.weight is missing"),
    "layer is missing": (lambda folder: losing(folder, "layer.1."), "and 15 more are missing"),
    "more labels than the head has": (lambda folder: altered(folder, id2label=dict.fromkeys("0123", "a")), "same name"),
    "fewer labels than the head has": (lambda folder: altered(folder, id2label={"0": "a", "1": "b"}), "cannot be load"),
    "labels with gaps": (lambda folder: altered(folder, id2label={"0": "a", "1": "b", "7": "c"}), "numbered from 0"),
    "labels that are equal": (lambda folder: altered(folder, id2label={"0": "a", "1": "a", "2": "c"}), "same name"),
    "labels are a list": (lambda folder: altered(folder, id2label=["a", "b", "c"]), "cannot be loaded"),
    "labels are words": (lambda folder: altered(folder, id2label={"a": "0"}), "cannot be loaded"),
    "sizes are words": (lambda folder: altered(folder, hidden_size="many"), "cannot be loaded"),
    "sizes do not fit": (lambda folder: altered(folder, hidden_size=64), "cannot be loaded"),
    "heads do not fit": (lambda folder: altered(folder, num_attention_heads=7), "cannot be loaded"),
    "activation is unknown": (lambda folder: altered(folder, hidden_act="whatever"), "cannot be loaded"),
    "no kind": (lambda folder: altered(folder, model_type=None), "cannot be loaded"),
    "regression": (lambda folder: altered(folder, problem_type="regression"), "gives a number"),
    "no architecture": (lambda folder: altered(folder, architectures=None), "no sequence-classification model"),
    "architectures are a number": (lambda folder: altered(folder, architectures=3), "no sequence-classification model"),
    "a masked model": (masked, "no sequence-classification model: its config.json says 'BertForMaskedLM'"),
    "a language model": (causal, "no sequence-classification model: its config.json says 'LlamaForCausalLM'"),
    "no tokenizer": (
        lambda folder: without(folder, "tokenizer.json", "tokenizer_config.json"), "there is no tokenizer",
    ),
    "a broken tokenizer": (lambda folder: (folder / "tokenizer.json").write_text("{}"), "cannot be loaded"),
    "a tokenizer with few words": (few_words, "the tokenizer in"),
    "a window without room": (lambda folder: altered(folder, max_position_embeddings=4), "cannot be loaded"),
    "remote code": (remote, "cannot be loaded"),
    "a pickle": (evil, "no file of weights alone"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_that_is_not_right_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], fault: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = classifier_folder(tmp_path / "a")
    spoil, words = FAULTS[fault]
    spoil(folder)
    capfd.readouterr()
    with pytest.raises(LoadFailed, match=words) as caught:
        loaded(folder)

    assert len(str(caught.value).splitlines()) == 1
    assert str(folder) in str(caught.value)
    assert capfd.readouterr().err == ""
    assert not {"pickle-was-run", "code-was-run"} & {path.name for path in tmp_path.iterdir()}


# The process.


def spawned(*arguments: str, port: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "app", "worker", "--port", str(port), *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.fixture(scope="module")
def worker(folder: Path) -> Iterator[Worker]:
    port = free_port()
    process = spawned("--model", "none", "--classifier", str(folder), port=port)
    worker = Worker(process, port=port)
    worker.wait_ready()
    yield worker
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 0


def test_a_worker_with_a_classifier_alone(worker: Worker, folder: Path) -> None:
    assert worker.get("/health")[1] == {
        "state": "ready", "classifier": {"model": "tiny-cold", "requests": 0, "windows": 0}
    }  # fmt: skip
    (card,) = worker.get("/v1/models")[1]["data"]
    status, answer = worker.get("/classify", input=TEXTS)

    assert (card["labels"], card["task"]) == (list(LABELS), "classify")
    assert status == 200
    assert same([tuple(one["probs"]) for one in answer["data"]], by_transformers(folder, TEXTS))
    assert worker.get("/v1/completions", prompt="a")[0] == 404


def test_many_clients_at_once_get_each_their_own(worker: Worker, folder: Path) -> None:
    texts = [letter + text for letter in "abcdefgh" for text in TEXTS]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda text: worker.get("/classify", input=text), texts))

    assert [status for status, _ in answers] == [200] * len(texts)
    assert same([tuple(answer["data"][0]["probs"]) for _, answer in answers], by_transformers(folder, texts))


def test_a_text_of_many_windows_is_read_to_its_end(worker: Worker, folder: Path) -> None:
    classifier = loaded(folder)
    text = "的一是不了" * 400 + "海纳测试禁语" + "人我在有他" * 400
    windows = classifier.reader.read(text)
    rows = [classifier.model.score([window])[0] for window in windows]
    answer = worker.get("/classify", input=text)[1]

    assert len(windows) > 100
    assert answer["data"][0]["probs"] == pytest.approx([max(column) for column in zip(*rows, strict=True)], abs=1e-5)
    assert answer["usage"]["prompt_tokens"] == sum(map(len, windows))


async def test_the_filter_asks_it_as_a_guard(worker: Worker, folder: Path) -> None:
    labels = (("safe", ""), ("offensive", "hate"), ("other", "unsafe"))
    spec = GuardSpec(
        name="cold", kind="classify", url=f"http://127.0.0.1:{worker.port}", categories=labels, input_budget_s=30
    )
    posts = Posts()
    found = await posts.of(spec).ask([ChatMessage(Role.USER, TEXTS[0])], stage=Stage.INPUT)
    (row,) = by_transformers(folder, TEXTS[:1])
    assert {(one.category, one.rule) for one in found} == {("hate", "cold:offensive"), ("unsafe", "cold:other")}
    assert [one.score for one in found] == pytest.approx(row[1:], abs=1e-4)
    unmapped = replace(spec, name="half", categories=labels[:2])
    with pytest.raises(GuardFailure, match="label"):
        await posts.of(unmapped).ask([ChatMessage(Role.USER, TEXTS[0])], stage=Stage.INPUT)
    await posts.close()


def test_a_worker_with_both_answers_for_both(tmp_path: Path, folder: Path) -> None:
    chat = causal(classifier_folder(tmp_path / "tiny-llama"))
    port = free_port()
    process = spawned("--model", str(chat), "--classifier", str(folder), "--dtype", "float32", port=port)
    worker = Worker(process, port=port)
    try:
        worker.wait_ready()
        health, cards = worker.get("/health")[1], worker.get("/v1/models")[1]["data"]
        with ThreadPoolExecutor(2) as pool:
            told = pool.submit(worker.get, "/v1/completions", prompt="的", max_tokens=200, ignore_eos=True)
            classified = [worker.get("/classify", input="海")[0] for _ in range(20)]
        assert told.result()[0] == 200
    finally:
        process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 0

    assert classified == [200] * 20
    assert (health["model"], health["classifier"]["model"]) == ("tiny-llama", "tiny-cold")
    assert [(card["id"], card["task"]) for card in cards] == [("tiny-llama", "generate"), ("tiny-cold", "classify")]


def test_a_classifier_that_cannot_be_loaded_is_one_line_and_exit_code_3(tmp_path: Path) -> None:
    nowhere = spawned("--model", "none", "--classifier", str(tmp_path / "nowhere"), port=free_port())
    _, errors = nowhere.communicate(timeout=60)
    alone, usage = ended(spawned("--model", "none", port=free_port()))

    said = [line for line in errors.decode().splitlines() if not line.startswith("{")]  # what is no log
    assert nowhere.returncode == 3
    assert said == [f"haina worker: there is no folder {tmp_path / 'nowhere'} with a classifier"]
    assert (alone, usage) == (2, "haina: --model none leaves nothing to serve: name a folder with --classifier")


async def test_a_server_has_a_classifier_beside_another_engine(tmp_path: Path, folder: Path) -> None:
    settings = Settings(
        model=ModelSettings(classifier=str(folder)), engine=EngineSettings(url="scripted:"), data_dir=tmp_path
    )
    supervisor = bootstrap._supervisor(settings)
    port = int(supervisor.url.split(":")[2].split("/")[0])
    await supervisor.start()
    try:
        await asyncio.to_thread(wait_until, lambda: get(port, "/health")[0] == 200)
        status, answer = await asyncio.to_thread(lambda: get(port, "/classify", token=supervisor.token, input="海"))
        refused, _ = await asyncio.to_thread(lambda: get(port, "/classify", input="海"))
    finally:
        await supervisor.stop()

    assert (status, answer["model"]) == (200, "tiny-cold")
    assert refused == 401


def test_models_check_knows_a_classifier(tmp_path: Path) -> None:
    found = checkup.examine(classifier_folder(tmp_path / "a"))
    old = checkup.examine(with_vocabulary_file(classifier_folder(tmp_path / "b")))
    spoilt = checkup.examine(altered(classifier_folder(tmp_path / "c"), id2label={"0": "a", "1": "b"}))
    empty = checkup.examine(without(classifier_folder(tmp_path / "d"), "tokenizer.json"))

    assert "BertForSequenceClassification" in found.title
    assert [one.subject for one in (*found.faults, *old.faults)] == []
    assert "3 labels: safe, offensive, other" in "\n".join(checkup.lines(found))
    assert [one.words for one in spoilt.faults] == ["classifier.weight has 3 rows, but config.json names 2 labels"]
    assert [one.subject for one in empty.faults] == ["tokenizer.json"]
