"""A hub id is fetched as files, never as code, and then loaded like a folder."""

from pathlib import Path

import pytest

from app.worker import hub
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


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise OSError("no route to it\nand more")

    monkeypatch.setattr(hub, "snapshot_download", fail)
    with pytest.raises(LoadFailed) as caught:
        hub.folder_of("someone/model", revision=None)
    assert str(caught.value).endswith("cannot be fetched from the hub: no route to it")
