"""`kill -9` of either process, at ten random moments: no message lost or doubled, and a way on."""

import json
import os
import random
import re
import signal
import sqlite3
import threading
import time
import urllib.request
from collections.abc import Callable
from http.cookiejar import CookieJar
from pathlib import Path

import pytest

from tests.fakes.embedded import data_dir_with_model
from tests.fakes.served import Served

REPLY = " ".join(f"word{n}" for n in range(400))
KILLS = 10


class Visitor:
    """A guest with a cookie."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        self.get("/api/me")

    def get(self, path: str) -> dict[str, object]:
        with self._opener.open(self.served.url + path, timeout=20) as response:
            return dict(json.load(response))

    def ask(self, text: str) -> dict[str, object]:
        request = urllib.request.Request(  # noqa: S310 - our own address
            f"{self.served.url}/api/turns",
            data=json.dumps({"text": text}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with self._opener.open(request, timeout=20) as response:
            return dict(json.load(response))

    def watch(self, turn_id: str, shown: list[str]) -> threading.Thread:
        """Collect the plain text of a turn until the line breaks."""

        def read() -> None:
            try:
                with self._opener.open(f"{self.served.url}/turns/{turn_id}/events", timeout=60) as stream:
                    for line in stream:
                        if line.startswith(b"data: "):
                            data = json.loads(line[6:])
                            shown.append(data.get("text") or re.sub("<[^>]+>", "", data.get("html") or ""))
            except (OSError, ValueError):
                pass  # the server was killed: what was shown until then is what counts

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        return thread


def rows(served: Served, sql: str) -> list[tuple[str, ...]]:
    with sqlite3.connect(f"file:{served.data_dir / 'haina.db'}?mode=ro", uri=True) as database:
        return list(database.execute(sql))


def test_a_killed_web_loses_and_doubles_no_message(tmp_path: Path) -> None:
    script = tmp_path / "script.toml"
    script.write_text(f'default = "{REPLY}"\ntokens_per_s = 200\n', encoding="utf-8")
    served = Served(tmp_path / "data", settings={"HAINA_ENGINE__URL": f"scripted:{script}"})
    chance = random.Random(7)
    accepted: dict[str, str] = {}
    shown: dict[str, list[str]] = {}
    for round_number in range(KILLS):
        served.start()
        visitor = Visitor(served)
        for number in range(4):
            text = f"question {round_number}.{number}"
            turn_id = str(visitor.ask(text)["turn_id"])
            accepted[turn_id] = text
            visitor.watch(turn_id, shown.setdefault(turn_id, []))
        time.sleep(chance.uniform(0.0, 2.0))  # the random moment
        served.kill()
    served.start()
    assert served.stop() == 0

    questions = rows(served, "select text from messages where role = 'user'")
    assert sorted(text for (text,) in questions) == sorted(accepted.values())
    answers = {row[0]: row[1:] for row in rows(served, "select id, state, text from messages where role = 'assistant'")}
    assert set(answers) == set(accepted)
    assert {state for state, _ in answers.values()} <= {"complete", "interrupted"}
    for turn_id, (state, text) in answers.items():
        assert text == REPLY if state == "complete" else REPLY.startswith(text)
        seen = sum(map(len, shown[turn_id]))
        assert seen - len(text) < 800, "more than a moment's text was shown and not saved"
    assert any(text for state, text in answers.values() if state == "interrupted"), "no kill came in mid-answer"


@pytest.mark.slow
def test_a_killed_worker_is_one_clear_error_and_comes_back(tmp_path: Path) -> None:
    served = Served(data_dir_with_model(tmp_path)).start()
    chance = random.Random(11)
    try:
        served.wait_for("/readyz", timeout_s=120)
        visitor = Visitor(served)
        turns = []
        for number in range(KILLS):
            asked = visitor.ask(f"Tell me a long story about the sea, part {number}.")
            turns.append(str(asked["turn_id"]))
            shown: list[str] = []
            watching = visitor.watch(turns[-1], shown)
            time.sleep(chance.uniform(0.0, 1.5))  # the random moment
            os.kill(worker_pids(served)[number], signal.SIGKILL)
            watching.join(120)
            assert not watching.is_alive(), "the answer never ended"
            _until(lambda count=number + 2: len(worker_pids(served)) == count)  # type: ignore[misc]
            _until(lambda count=number + 2: ready(served) == count)  # type: ignore[misc]
        last = visitor.ask("Say hello.")
        watching = visitor.watch(str(last["turn_id"]), [])
        watching.join(120)
    finally:
        assert served.stop() == 0
    answers: dict[str, str] = {
        row[0]: row[1]
        for row in rows(
            served, "select id, state || ' ' || coalesce(error_code, '') from messages where role = 'assistant'"
        )
    }
    assert set(answers) == {*turns, str(last["turn_id"])}
    assert {answers[turn] for turn in turns} <= {"failed engine_died", "failed engine_unavailable", "complete "}
    assert "failed engine_died" in answers.values()
    assert answers[str(last["turn_id"])] == "complete "


@pytest.mark.slow
def test_ctrl_c_in_mid_answer_closes_it_as_interrupted_and_leaves_nothing_running(tmp_path: Path) -> None:
    served = Served(data_dir_with_model(tmp_path), is_in_shell=True).start()
    served.wait_for("/readyz", timeout_s=120)
    shown: list[str] = []
    visitor = Visitor(served)
    watching = visitor.watch(str(visitor.ask("Tell me a long story about the sea.")["turn_id"]), shown)
    _until(lambda: sum(map(len, shown)) > 20)
    assert served.stop() == 0
    watching.join(10)

    [(state, code, text)] = rows(
        served, "select state, coalesce(error_code, ''), text from messages where role = 'assistant'"
    )
    assert (state, code) == ("interrupted", "")
    assert text
    assert not any(Path(f"/proc/{pid}").exists() for pid in worker_pids(served))


def worker_pids(served: Served) -> list[int]:
    return [int(re.findall(r"pid\D+(\d+)", line)[0]) for line in served.output if "worker_started" in line]


def ready(served: Served) -> int:
    return sum("worker_ready" in line for line in served.output)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
