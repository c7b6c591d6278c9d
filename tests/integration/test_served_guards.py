"""A served Haina and a guard in a process of its own: asked, killed in mid-answer, and what is told then."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.guards import UNSAFE
from tests.fakes.served import ROOT, Served

SENTENCE = "All the rivers run into the sea, yet the sea is not full. "
LONG = SENTENCE * 12
SCRIPT = f"""
tokens_per_s = 60
[[rules]]
pattern = "harm"
reply = "{SENTENCE}Now {UNSAFE} comes, and so on. {SENTENCE}"
[[rules]]
pattern = ""
reply = "{LONG}"
"""


class GuardProcess:
    """The fake guard server, to be killed."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.guard_server", "--kind", "qwen3guard"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def kill(self) -> None:
        """As `kill -9` does; it may come twice."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def guard() -> Iterator[GuardProcess]:
    one = GuardProcess()
    yield one
    one.kill()


@pytest.fixture
def served(tmp_path: Path, guard: GuardProcess) -> Iterator[Served]:
    script = tmp_path / "script.toml"
    script.write_text(SCRIPT, encoding="utf-8")
    settings = {"HAINA_ENGINE__URL": f"scripted:{script}", "HAINA_SAFETY__GUARD_URL": guard.url}
    one = Served(tmp_path / "data", settings=settings).start()
    yield one
    one.kill()


def answer(served: Served, question: str) -> Iterator[tuple[str, str | None]]:
    """Yield each piece of a streamed answer, and why it ended."""
    body = {"model": "default", "stream": True, "messages": [{"role": "user", "content": question}]}
    request = urllib.request.Request(  # noqa: S310 - our own address
        f"{served.url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as stream:  # noqa: S310 - as above
        for line in stream:
            if line.startswith(b"data: {"):
                (choice,) = json.loads(line[6:])["choices"]
                yield choice["delta"].get("content", ""), choice["finish_reason"]


def test_a_guard_killed_in_the_middle_of_an_answer_cuts_it_and_the_server_says_that_it_is_closed(
    served: Served, guard: GuardProcess
) -> None:
    pieces = list(answer(served, "harm"))
    assert "".join(text for text, _ in pieces) == SENTENCE
    assert pieces[-1][1] == "content_filter"
    (state,) = [one for one in json.loads(served.wait_for("/readyz"))["safety"] if one["name"] == "guard"]
    assert (state["kind"], state["state"], state["failures"]) == ("qwen3guard", "ok", 0)

    shown, reasons = "", []
    for text, reason in answer(served, "rivers"):
        shown += text
        if len(shown) > len(SENTENCE) and guard.process.poll() is None:
            guard.kill()
        reasons.append(reason)
    assert len(shown) > len(SENTENCE)
    assert LONG.startswith(shown)
    assert shown != LONG
    assert reasons[-1] == "content_filter"
    assert json.loads(served.wait_for("/readyz"))["degraded"] is True
    assert json.loads(served.wait_for("/api/status"))["filter"] == "degraded"

    for _ in range(5):
        with pytest.raises(urllib.error.HTTPError) as refused:
            list(answer(served, "rivers"))
        assert (refused.value.code, json.load(refused.value)["error"]["code"]) == (503, "safety_unavailable")
    told = json.loads(served.wait_for("/readyz", status=503))
    assert told["status"] == "closed"
    assert "guard" in told["reason"]
    assert json.loads(served.wait_for("/api/status"))["filter"] == "closed"
    metrics = served.wait_for("/metrics").decode()
    assert 'haina_detector_state{detector="guard"} 2.0' in metrics
    assert 'haina_guard_calls_total{guard="guard",outcome="unreachable"} 5.0' in metrics
    assert 'haina_cuts_total{category="unavailable",stage="output"} 1.0' in metrics
    assert 'stage="output"' in metrics
    log = "".join(served.output)
    assert "guard_failed" in log
    assert "rivers run" not in log
    assert "Traceback" not in log
