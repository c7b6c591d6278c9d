"""A hub id is fetched as files, never as code, and then loaded like a folder."""

from pathlib import Path

import httpx2
import pytest
from huggingface_hub.errors import RevisionNotFoundError

from app.worker.checkpoints import hub
from app.worker.failures import LoadFailed
from app.worker.loading import ModelChoice, load
from tests.fakes.checkpoints import folder_of


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    assert hub.folder_of(str(tmp_path), revision=None) == tmp_path
    with pytest.raises(LoadFailed, match="no folder"):
        hub.folder_of(f"{tmp_path}/nowhere", revision=None)


def test_an_official_model_is_fetched_without_its_code_and_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: dict[str, object] = {}

    def fetch(repository: str, **options: object) -> str:
        asked.update(options, repository=repository)
        return str(folder_of("tiny-13b-chat", tmp_path))

    monkeypatch.setattr(hub, "snapshot_download", fetch)
    choice = ModelChoice(path="baichuan-inc/Baichuan2-13B-Chat", revision="v2.0", dtype="float32", data_dir=tmp_path)
    profile = load(choice, report=lambda _, __: None).profile
    assert (asked["repository"], asked["revision"]) == ("baichuan-inc/Baichuan2-13B-Chat", "v2.0")
    patterns = asked["allow_patterns"]
    assert isinstance(patterns, list)
    assert not any(pattern.endswith(".py") or pattern == "*" for pattern in patterns)
    assert (profile.title, profile.prompt_format) == ("Baichuan2-13B-Chat", "baichuan2")


def test_an_intermediate_checkpoint_has_to_be_one_of_the_eleven(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    assert (len(hub.STEPS), hub.STEPS[0], hub.STEPS[-1]) == (11, "train_00220B", "train_02420B")
    for revision in (*hub.STEPS, "a" * 40):
        assert hub.folder_of(hub.INTERMEDIATE, revision=revision) == tmp_path
        assert hub.cached_folder_of(hub.INTERMEDIATE, revision=revision) == tmp_path
    for wrong in (None, "main", "train_00330B"):
        for find in (hub.folder_of, hub.cached_folder_of):
            with pytest.raises(LoadFailed, match=r"no weights at .*train_00220B, .*train_02420B"):
                find(hub.INTERMEDIATE, revision=wrong)


def test_a_revision_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        answer = httpx2.Response(404, request=httpx2.Request("GET", "https://hub.example"))
        raise RevisionNotFoundError("404\nRevision Not Found", response=answer)

    monkeypatch.setattr(hub, "snapshot_download", fail)
    with pytest.raises(LoadFailed) as caught:
        hub.folder_of("someone/model", revision="v9")
    assert str(caught.value) == "someone/model has no revision v9"


def test_revisions_share_the_files_that_are_equal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The cache as the hub's client lays it out; two revisions that differ in nothing but their weights."""
    cache = tmp_path / f"models--{hub.INTERMEDIATE.replace('/', '--')}"
    (cache / "blobs").mkdir(parents=True)
    (cache / "refs").mkdir()
    for at, step in enumerate(hub.STEPS[:2]):
        snapshot = cache / "snapshots" / (str(at) * 40)
        snapshot.mkdir(parents=True)
        (cache / "refs" / step).write_text(str(at) * 40)
        for file in folder_of("tiny-7b-chat", tmp_path / step).iterdir():
            name = f"{file.name}-{at}" if file.suffix == ".bin" else file.name
            file.replace(cache / "blobs" / name)
            (snapshot / file.name).symlink_to(f"../../blobs/{name}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    first, second = (hub.cached_folder_of(hub.INTERMEDIATE, revision=step) for step in hub.STEPS[:2])
    assert (first / "tokenizer.model").samefile(second / "tokenizer.model")
    assert not (first / "pytorch_model.bin").samefile(second / "pytorch_model.bin")
    choice = ModelChoice(path=hub.INTERMEDIATE, revision=hub.STEPS[1], dtype="float32", data_dir=tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert load(choice, report=lambda _, __: None).profile.revision == hub.STEPS[1]


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise OSError("no route to it\nand more")

    monkeypatch.setattr(hub, "snapshot_download", fail)
    with pytest.raises(LoadFailed) as caught:
        hub.folder_of("someone/model", revision=None)
    assert str(caught.value).endswith("cannot be fetched from the hub: no route to it")
