"""A served Haina after a hit: appeals on `/v1`, a pause that outlives a restart, evidence and its key."""

import asyncio
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import openai
import pytest

from app.bootstrap import evidence_box_of
from app.domain.errors import EvidenceSealed
from app.domain.words import describe
from app.services.accounts import operator
from app.services.evidence import EvidenceDesk
from app.settings import load_settings
from storage.database import open_storage
from tests.fakes.served import ROOT, Served

REFUSED = "forbidden toffee"
SCRIPT = f"""
default = "All rivers run into the sea."
tokens_per_delta = [1, 3]

[[rules]]
pattern = "leak"
reply = "Before it: {REFUSED} and after it."
"""
POLICY = f"""
name = "sweets"

[[rules]]
category = "sweets"
stages = ["input", "history", "output", "export"]
action = "refuse"

[[lists]]
name = "sweets"
category = "sweets"
language = "en"
phrases = ["{REFUSED}"]
"""
Reply = tuple[int, dict[str, object], dict[str, str]]


def make(folder: Path, **settings: str) -> Served:
    (folder / "script.toml").write_text(SCRIPT, encoding="utf-8")
    (folder / "policy.toml").write_text(POLICY, encoding="utf-8")
    fixed = {
        "HAINA_ENGINE__URL": f"scripted:{folder / 'script.toml'}",
        "HAINA_SAFETY__POLICY": str(folder / "policy.toml"),
    }
    return Served(folder / "data", settings=fixed | settings)


def haina(served: Served, *arguments: str) -> str:
    """Run a command on the server's data."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HAINA_")}
    environment |= {"HAINA_DATA_DIR": str(served.data_dir), "HAINA_PASSWORD": "correct horse battery"} | served.settings
    done = subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    return done.stdout.strip().splitlines()[-1]


def ask(served: Served, path: str, body: object = None, **headers: str) -> Reply:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(  # noqa: S310 - our own address
        f"{served.url}{path}", data=data, headers={"Content-Type": "application/json", **headers}
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310 - as above
            return response.status, json.load(response), _lower(response.headers)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error), _lower(error.headers)


def _lower(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def question(text: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text}]}


def error_of(reply: Reply) -> dict[str, object]:
    error = reply[1]["error"]
    assert isinstance(error, dict)
    return error


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    one = make(tmp_path_factory.mktemp("reviews"))
    for name in ("ann", "bob"):
        add_account(one, name)
    one.start()
    yield one
    assert one.stop() == 0


def add_account(served: Served, name: str) -> None:
    """Make an account with a key, before the server starts."""
    haina(served, "admin", "create", name, "--role", "user")
    served.settings[f"KEY_{name.upper()}"] = haina(served, "admin", "make-key", name)


def of(served: Served, name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {served.settings[f'KEY_{name.upper()}']}"}


def test_a_refused_question_names_its_decision_which_its_key_may_appeal_once(served: Served) -> None:
    refused = ask(served, "/v1/chat/completions", question(f"I want {REFUSED}"), **of(served, "ann"))
    assert (refused[0], error_of(refused)["code"]) == (400, "content_filter")
    body = {"decision_id": error_of(refused)["decision_id"], "comment": "It is a sweet."}
    status, card, _ = ask(served, "/v1/safety/appeals", body, **of(served, "ann"))
    assert (status, card["object"], card["state"]) == (201, "safety.appeal", "open")
    assert (card["comment"], card["note"], card["decided"]) == ("It is a sweet.", None, None)
    assert ask(served, f"/v1/safety/appeals/{body['decision_id']}", **of(served, "ann"))[1] == card
    again = ask(served, "/v1/safety/appeals", body, **of(served, "ann"))
    assert (again[0], error_of(again)["code"]) == (409, "conflict")


def test_another_key_may_not_appeal_nor_look(served: Served) -> None:
    refused = ask(served, "/v1/chat/completions", question(f"I want {REFUSED}"), **of(served, "ann"))
    decision = str(error_of(refused)["decision_id"])
    assert ask(served, "/v1/safety/appeals", {"decision_id": decision}, **of(served, "ann"))[0] == 201
    for reply in (
        ask(served, "/v1/safety/appeals", {"decision_id": decision}, **of(served, "bob")),
        ask(served, f"/v1/safety/appeals/{decision}", **of(served, "bob")),
        ask(served, "/v1/safety/appeals", {"decision_id": "unknown"}, **of(served, "bob")),
    ):
        assert (reply[0], error_of(reply)["code"]) == (404, "not_found")
    wrong_key = ask(served, "/v1/safety/appeals", {"decision_id": decision}, Authorization="Bearer hn-none")
    assert wrong_key[0] == 401


def test_a_refused_answer_names_its_decision_whole_and_streamed(served: Served) -> None:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key=served.settings["KEY_ANN"], max_retries=0) as client:
        whole = client.chat.completions.create(model="default", messages=[{"role": "user", "content": "leak"}])
        chunks = list(
            client.chat.completions.create(model="default", messages=[{"role": "user", "content": "leak"}], stream=True)
        )
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model="default", messages=[{"role": "user", "content": REFUSED}])
    assert whole.choices[0].finish_reason == chunks[-1].choices[0].finish_reason == "content_filter"
    told = [one.model_dump()["haina"]["decision_id"] for one in (whole, chunks[-1])]
    assert isinstance(caught.value.body, dict)
    for decision in (*told, caught.value.body["decision_id"]):
        assert ask(served, "/v1/safety/appeals", {"decision_id": decision}, **of(served, "ann"))[0] == 201
    assert "haina" not in chunks[0].model_dump()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid_request"),
        ({"decision_id": "x" * 65}, "invalid_request"),
        ({"decision_id": "a\ud800"}, "invalid_request"),
        ({"decision_id": "d", "comment": 7}, "invalid_request"),
        ({"decision_id": "d", "more": 1}, "invalid_request"),
        ({"decision_id": "d", "comment": "a\0b"}, "invalid_request"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/safety/appeals", "/api/appeals"])
def test_a_wrong_appeal_is_a_clear_400(served: Served, path: str, body: dict[str, object], code: str) -> None:
    reply = ask(served, path, body, **of(served, "ann"))
    assert (reply[0], error_of(reply)["code"]) == (400, code)


def test_nobody_is_paused_on_a_machine_of_ones_own(served: Served) -> None:
    for _ in range(7):
        assert ask(served, "/v1/chat/completions", question(REFUSED), **of(served, "bob"))[0] == 400
    assert ask(served, "/v1/chat/completions", question("hello"), **of(served, "bob"))[0] == 200


def test_a_pause_says_until_when_and_outlives_a_restart(tmp_path: Path) -> None:
    served = make(tmp_path, HAINA_SAFETY__STRIKES_IN_ROW="2", HAINA_SAFETY__SUSPENSION_H="1")
    add_account(served, "ann")
    served.start()
    try:
        for _ in range(2):
            assert ask(served, "/v1/chat/completions", question(REFUSED), **of(served, "ann"))[0] == 400
        served.kill()
        served.start()
        status, body, headers = ask(served, "/v1/chat/completions", question("hello"), **of(served, "ann"))
        assert (status, body["error"]["code"], body["error"]["type"]) == (403, "suspended", "permission_error")  # type: ignore[index]
        assert 3000 < int(headers["retry-after"]) <= 3600
        assert ask(served, "/v1/models", **of(served, "ann"))[0] == 200
        assert ask(served, "/v1/chat/completions", question("hello"))[0] == 200  # another program on this machine
    finally:
        served.stop()


def test_the_evidence_key_is_its_owners_and_neither_database_backup_nor_log_hold_the_text(tmp_path: Path) -> None:
    served = make(tmp_path, HAINA_SAFETY__EVIDENCE="refused", HAINA_LOG__LEVEL="debug").start()
    try:
        assert ask(served, "/v1/chat/completions", question(f"a text about {REFUSED}"))[0] == 400
        assert ask(served, "/v1/chat/completions", question("leak"))[0] == 200
        haina(served, "db", "backup", str(tmp_path / "backup.db"))
    finally:
        served.stop()
    key = served.data_dir / "evidence_key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    with sqlite3.connect(tmp_path / "backup.db") as database:
        assert len(list(database.execute("select * from evidence"))) == 2
    secret = key.read_bytes().strip()
    for file in (tmp_path / "backup.db", *served.data_dir.glob("haina.db*")):
        content = file.read_bytes()
        assert REFUSED.encode() not in content
        assert secret not in content
    assert REFUSED not in "".join(served.output)


def test_a_backup_without_its_key_starts_and_says_what_is_missing(tmp_path: Path) -> None:
    first = make(tmp_path, HAINA_SAFETY__EVIDENCE="refused").start()
    try:
        assert ask(first, "/v1/chat/completions", question(REFUSED))[0] == 400
        haina(first, "db", "backup", str(tmp_path / "backup.db"))
    finally:
        first.stop()
    for mode, kind in (("off", "key_missing"), ("refused", "key_other")):
        folder = tmp_path / mode
        (folder / "data").mkdir(parents=True)
        second = make(folder, HAINA_SAFETY__EVIDENCE=mode)
        haina(second, "db", "restore", str(tmp_path / "backup.db"))
        second.start()
        try:
            assert ask(second, "/v1/chat/completions", question("hello"))[0] == 200
        finally:
            assert second.stop() == 0
        with pytest.raises(EvidenceSealed) as caught:
            asyncio.run(open_the_oldest(second.data_dir, mode))
        assert caught.value.data["kind"] == kind
        assert "evidence_key" in describe(caught.value, "en")
    shutil.copy(first.data_dir / "evidence_key", tmp_path / "off" / "data" / "evidence_key")
    assert asyncio.run(open_the_oldest(tmp_path / "off" / "data", "off")) == REFUSED


async def open_the_oldest(data_dir: Path, mode: str) -> str:
    """Return the text that was kept first, as the console would get it."""
    settings = load_settings({}, data_dir=data_dir, safety={"evidence": mode})
    storage = await open_storage(settings.storage_url)
    try:
        desk = EvidenceDesk(storage, box=evidence_box_of(settings))
        async with storage.read() as unit:
            hits = await unit.hits.page()
        sealed = await desk.open(operator(), hits[-1].decision_id, reason="a test")
        return sealed.unsealed()
    finally:
        await storage.close()


@pytest.mark.parametrize(("key", "said"), [("short", "HAINA_SAFETY__EVIDENCE_KEY: an evidence key is 32 random bytes")])
def test_an_impossible_key_is_one_clear_line_that_does_not_quote_it(tmp_path: Path, key: str, said: str) -> None:
    served = make(tmp_path, HAINA_SAFETY__EVIDENCE="refused", HAINA_SAFETY__EVIDENCE_KEY=key)
    with pytest.raises(AssertionError) as caught:
        served.start()
    assert said in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert key not in str(caught.value).replace(said, "")


def test_a_damaged_key_file_is_one_clear_line(tmp_path: Path) -> None:
    served = make(tmp_path, HAINA_SAFETY__EVIDENCE="refused")
    served.data_dir.mkdir()
    (served.data_dir / "evidence_key").write_text("half a k")
    with pytest.raises(AssertionError) as caught:
        served.start()
    assert "evidence_key is damaged: put the right one back" in str(caught.value)
    assert "Traceback" not in str(caught.value)
