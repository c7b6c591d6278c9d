"""Several revisions at once: a folder for each, one copy of what is equal, and nothing done twice."""

import os
import shutil
from pathlib import Path

import pytest
import torch

from app.domain.errors import InvalidInput
from app.worker.baichuan import series
from app.worker.checkpoints import hub
from app.worker.failures import LoadFailed
from tests.fakes.checkpoints import folder_of, golden, loaded


class Hub:
    """A stand-in for the hub: every revision has a last layer of its own, and the rest in common."""

    def __init__(self, parent: Path) -> None:
        self._parent = parent
        self.asked: list[str] = []
        self.lacks: set[str] = set()

    def fetch(self, repository: str, *, revision: str, **_: object) -> str:
        assert repository == hub.INTERMEDIATE
        if revision in self.lacks:
            raise OSError(f"{revision} is not on the hub")
        self.asked.append(revision)
        folder = self._parent / revision
        if not folder.is_dir():
            folder_of("tiny-7b-chat", self._parent / f"of-{revision}").rename(folder)
            weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
            weights["lm_head.weight"][0] += len(self.asked)
            torch.save(weights, folder / "pytorch_model.bin")
        return str(folder)


@pytest.fixture
def fake_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    one = Hub(tmp_path / "hub")
    monkeypatch.setattr(hub, "snapshot_download", one.fetch)
    return one


def convert(target: Path, *revisions: str) -> list[str]:
    said: list[str] = []
    series.convert(hub.INTERMEDIATE, target, revisions=revisions, say=said.append)
    return said


def test_all_stands_for_the_eleven_revisions(tmp_path: Path, fake_hub: Hub) -> None:
    convert(tmp_path / "models", "all")
    assert fake_hub.asked == list(hub.STEPS)
    assert len(hub.STEPS) == 11
    assert {one.name for one in (tmp_path / "models").iterdir()} == set(hub.STEPS)


def test_each_revision_has_a_folder_and_equal_files_are_kept_once(tmp_path: Path, fake_hub: Hub) -> None:
    convert(tmp_path / "models", "train_00220B", "train_00440B", "train_00220B")

    assert fake_hub.asked == ["train_00220B", "train_00440B"]
    first, second = (tmp_path / "models" / name for name in ("train_00220B", "train_00440B"))
    assert {file.name for file in first.iterdir()} == {file.name for file in second.iterdir()}
    shared = {file.name for file in first.iterdir() if file.samefile(second / file.name)}
    assert {"tokenizer.json", "tokenizer.model", "config.json", "generation_config.json"} <= shared
    assert shared.isdisjoint({"model.safetensors", "NOTICE", "haina-conversion.json"})
    assert "train_00440B" in (second / "NOTICE").read_text()
    assert not list((tmp_path / "models").glob("*.part"))
    for name, folder in (("train_00220B", first), ("train_00440B", second)):
        ids = golden("tiny-7b-chat")[33].ids
        with torch.inference_mode():
            converted = loaded(folder).model(ids).logits
            official = loaded(tmp_path / "hub" / name).model(ids).logits
        assert (converted - official).abs().max() <= 1e-4


def test_a_run_that_broke_off_goes_on_with_what_is_missing(tmp_path: Path, fake_hub: Hub) -> None:
    fake_hub.lacks = {"train_00440B"}
    with pytest.raises(LoadFailed, match="train_00440B is not on the hub"):
        convert(tmp_path / "models", "train_00220B", "train_00440B")
    assert (tmp_path / "models" / "train_00220B" / "config.json").is_file()

    fake_hub.lacks = set()
    said = convert(tmp_path / "models", "train_00220B", "train_00440B")
    assert any("train_00220B is there already" in line for line in said)
    assert fake_hub.asked == ["train_00220B", "train_00440B"]


def test_where_the_disk_knows_no_links_there_are_copies(
    tmp_path: Path, fake_hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    convert(tmp_path / "models", *hub.STEPS[:2])
    files = [tmp_path / "models" / name / "tokenizer.json" for name in hub.STEPS[:2]]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert not files[0].samefile(files[1])
    assert fake_hub.asked == list(hub.STEPS[:2])


@pytest.mark.parametrize("revision", ["../up", "a/b", ".hidden", "/root"])
def test_a_revision_that_is_no_name_of_a_folder_is_refused(tmp_path: Path, fake_hub: Hub, revision: str) -> None:
    with pytest.raises(InvalidInput):
        convert(tmp_path / "models", "train_00220B", revision)
    assert fake_hub.asked == []
    assert not (tmp_path / "models").exists()


def test_a_folder_has_no_revisions(tmp_path: Path) -> None:
    source = folder_of("tiny-7b-chat", tmp_path)
    with pytest.raises(InvalidInput, match="no revisions"):
        series.convert(str(source), tmp_path / "models", revisions=["a", "b"], say=print)
    shutil.rmtree(source)
