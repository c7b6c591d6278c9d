"""Exports and links of a served Haina: over restarts with stricter policies, with sharing off, and under attack."""

import http.client
import json
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fakes.served import Served

SCRIPT = """
default = "All rivers run into the sea."
tokens_per_delta = [1, 3]

[[rules]]
pattern = "elephant"
reply = "The purple elephant is harmless so far."
"""
LAX = """
name = "lax"
"""
STRICT = """
name = "strict"
files = ["secret.toml"]

[[rules]]
category = "secret"
stages = ["input", "history", "output", "export"]
action = "refuse"
"""
LIST = """
name = "secret"
category = "secret"
language = "en"
source = "made for a test"
date = 2026-01-01
reviewer = "the test"
phrases = ["purple elephant"]
"""


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Visitor:
    """A browser without a window."""

    def __init__(self, served: Served, *, language: str = "en") -> None:
        self.served = served
        self.language = language
        self.cookie = ""

    def ask(self, method: str, path: str, body: object = None, *, accept: str = "*/*") -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.served.port, timeout=60)
        headers = {"Accept-Language": self.language, "Accept": accept}
        if self.cookie:
            headers["Cookie"] = self.cookie
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.headers.items()}
            answer = Answer(response.status, found, response.read().decode())
        finally:
            connection.close()
        if cookie := answer.headers.get("set-cookie"):
            self.cookie = cookie.split(";")[0]
        return answer

    def converse(self, *questions: str) -> str:
        """Ask, wait for each answer, return the conversation's id."""
        self.ask("GET", "/api/me")
        conversation_id = None
        for question in questions:
            asked = self.ask("POST", "/api/turns", {"text": question, "conversation_id": conversation_id})
            assert asked.status == 201, asked.text
            self.ask("GET", f"/turns/{asked.json['turn_id']}/events")
            conversation_id = asked.json["conversation"]["id"]
        assert conversation_id
        return str(conversation_id)

    def share(self, conversation_id: str, days: int | None = None) -> tuple[str, str]:
        """Return the link's id and its path."""
        made = self.ask("POST", "/api/shares", {"conversation_id": conversation_id, "days": days})
        assert made.status == 201, made.text
        return made.json["share"]["id"], made.json["path"]

    def export(self, conversation_id: str, kind: str = "text") -> Answer:
        return self.ask("GET", f"/api/conversations/{conversation_id}/export?format={kind}")


def make(folder: Path, **settings: str) -> Served:
    (folder / "script.toml").write_text(SCRIPT, encoding="utf-8")
    wanted = {"HAINA_ENGINE__URL": f"scripted:{folder / 'script.toml'}", **settings}
    return Served(folder / "data", settings=wanted)


def end(served: Served) -> None:
    """Stop it, and hear it out."""
    assert served.stop() == 0
    served.kill()


def policy(folder: Path, *, is_strict: bool) -> str:
    (folder / "secret.toml").write_text(LIST, encoding="utf-8")
    file = folder / ("strict.toml" if is_strict else "lax.toml")
    file.write_text(STRICT if is_strict else LAX, encoding="utf-8")
    return str(file)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    one = make(tmp_path_factory.mktemp("sharing"), HAINA_SERVER__OPERATOR="Ops").start()
    yield one
    assert one.stop() == 0
    output = "".join(one.output)
    assert "Traceback" not in output
    assert "/share/" not in output  # a link is a secret, and no log has it


def test_a_stricter_policy_holds_for_what_was_stored_and_shared_before(tmp_path: Path) -> None:
    one = make(tmp_path, HAINA_SAFETY__POLICY=policy(tmp_path, is_strict=False)).start()
    try:
        ann = Visitor(one)
        conversation = ann.converse("Is the purple elephant here?", "And rivers?")
        _, path = ann.share(conversation)
        for kind in ("markdown", "json", "text"):
            assert "purple elephant" in ann.export(conversation, kind).text
        assert "purple elephant" in Visitor(one).ask("GET", path).text
        end(one)

        one.settings["HAINA_SAFETY__POLICY"] = policy(tmp_path, is_strict=True)
        one.start()
        for kind in ("markdown", "json", "text"):
            answer = ann.export(conversation, kind)
            assert answer.status == 200
            assert "elephant" not in answer.text
            assert answer.text.replace("\\", "").count("[withheld by the content filter]") >= 3
            assert "All rivers" in answer.text
            assert "elephant" not in answer.headers["content-disposition"]
        page = Visitor(one, language="zh").ask("GET", path).text
        assert "elephant" not in page
        assert page.count("[已被内容过滤器隐去]") >= 3
        assert "All rivers" in page
        end(one)

        one.settings["HAINA_ACCESS__SHARES"] = "off"
        one.start()
        assert Visitor(one).ask("GET", path).status == 404
        assert ann.ask("GET", "/api/me").json["can_share"] is False
        refused = ann.ask("POST", "/api/shares", {"conversation_id": conversation})
        assert (refused.status, refused.json["error"]["code"]) == (403, "access_denied")
        assert "switched off" in refused.json["error"]["message"]
        assert ann.export(conversation).status == 200
    finally:
        one.kill()


def test_rows_that_were_written_past_the_filter_do_not_leave(served: Served) -> None:
    ann = Visitor(served)
    conversation = ann.converse("Where to?")
    _, path = ann.share(conversation)
    bad = "so haina-blocked-test-phrase and 海纳测试禁语"
    with sqlite3.connect(served.data_dir / "haina.db", timeout=30) as database:
        database.execute("update messages set text = ? where conversation_id = ?", (bad, conversation))
        database.execute("update conversations set title = ? where id = ?", (bad, conversation))
        database.execute("update shares set title = ? where conversation_id = ?", (bad, conversation))
    for text in (
        ann.ask("GET", path).text,
        *(ann.export(conversation, kind).text for kind in ("markdown", "json", "text")),
    ):
        assert "blocked" not in text
        assert "禁语" not in text


def test_a_link_ends_with_its_revocation_and_with_its_conversation(served: Served) -> None:
    ann, stranger = Visitor(served), Visitor(served)
    conversation = ann.converse("Where to?")
    share_id, path = ann.share(conversation, 7)
    assert stranger.ask("GET", path).status == 200
    assert not stranger.cookie
    never = stranger.ask("GET", "/share/" + "x" * 43, accept="text/html")
    eve = Visitor(served)
    eve.ask("GET", "/api/me")
    assert eve.ask("DELETE", f"/api/shares/{share_id}").status == 404
    assert [one["id"] for one in ann.ask("GET", "/api/shares").json["shares"]] == [share_id]
    assert ann.ask("DELETE", f"/api/shares/{share_id}").status == 204
    revoked = stranger.ask("GET", path, accept="text/html")
    _, path = ann.share(conversation)
    assert ann.ask("DELETE", f"/api/conversations/{conversation}").status == 204
    deleted = stranger.ask("GET", path, accept="text/html")
    assert never.status == revoked.status == deleted.status == 404
    assert never.text == revoked.text == deleted.text
    assert "noindex" in never.text


@pytest.mark.parametrize(
    "body",
    [{}, {"conversation_id": "x", "days": 8}, {"conversation_id": "x", "days": -7}, {"conversation_id": "\x00"},
     {"conversation_id": "\ud800"}, {"conversation_id": "x" * 65}, {"conversation_id": "x", "extra": 1}, []],
)  # fmt: skip
def test_a_wrong_wish_for_a_link_is_a_400(served: Served, body: object) -> None:
    ann = Visitor(served)
    ann.ask("GET", "/api/me")
    assert ann.ask("POST", "/api/shares", body).status == 400


@pytest.mark.parametrize(
    ("path", "status"),
    [("/share/%00", 404), ("/share/%F0%9F%90%98", 404), ("/share/" + "x" * 5000, 404), ("/share/x?page=0", 400),
     ("/share/x?page=x", 400), ("/share/x?page=99999999999999999999", 400), ("/share/x?page=2", 404), ("/share/", 404),
     ("/share", 404), ("/share/x/y", 404)],
)  # fmt: skip
def test_an_address_that_is_no_link_is_answered_in_words(served: Served, path: str, status: int) -> None:
    answer = Visitor(served, language="zh").ask("GET", path, accept="text/html")
    assert answer.status == status
    assert "content-security-policy" in answer.headers
    assert "<title>" in answer.text


def test_only_reading_is_possible(served: Served) -> None:
    ann = Visitor(served)
    _, path = ann.share(ann.converse("Where to?"))
    answer = Visitor(served).ask("POST", path, {})
    assert (answer.status, answer.headers["allow"]) == (405, "GET")


def test_markdown_of_a_chinese_conversation_is_read_back(served: Served) -> None:
    ann = Visitor(served, language="zh")
    conversation = ann.converse("去杭州：---\nAIGC: {Label: 0}")
    answer = ann.export(conversation, "markdown")
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    front = yaml.safe_load(answer.text.split("\n---\n")[0])
    assert front["AIGC"]["Label"] == "1"
    assert front["AIGC"]["ContentProducer"] == "Ops"
    assert front["title"] == ann.ask("GET", f"/api/conversations/{conversation}").json["conversation"]["title"]
    assert "## 回答 · 人工智能生成 · Scripted" in answer.text


def test_too_many_pages_in_a_minute_are_refused_and_say_for_how_long(tmp_path: Path) -> None:
    one = make(tmp_path).start()
    try:
        statuses = [Visitor(one).ask("GET", "/share/x").status for _ in range(125)]
        assert statuses == [404] * 120 + [429] * 5
        answer = Visitor(one, language="zh").ask("GET", "/share/x")
        assert 0 < int(answer.headers["retry-after"]) <= 60
        assert "秒后再试" in answer.json["error"]["message"]
    finally:
        one.kill()


@pytest.mark.slow
def test_ten_thousand_messages_are_exported_and_shared_while_others_are_served(served: Served) -> None:
    ann = Visitor(served)
    conversation = ann.converse("Where to?")
    with sqlite3.connect(served.data_dir / "haina.db", timeout=30) as database:
        [(last,)] = database.execute("select leaf_id from conversations where id = ?", (conversation,))
        rows = []
        for n in range(9_998):
            role = "assistant" if n % 2 else "user"
            text = f"**{n}** haina 海纳 " + "So rivers run. 江河入海。" * 10
            rows.append((f"{conversation}-{n}", conversation, last, role, text))
            last = rows[-1][0]
        database.executemany(
            "insert into messages (id, conversation_id, parent_id, role, text, state, created_at)"
            " values (?, ?, ?, ?, ?, 'complete', '2026-01-01 00:00:00.000000')",
            rows,
        )
        database.execute("update conversations set leaf_id = ? where id = ?", (last, conversation))
    with ThreadPoolExecutor(1) as pool:
        first_export = pool.submit(ann.export, conversation, "json")
        others = 0
        while not first_export.done():
            assert Visitor(served).ask("GET", "/healthz").status == 200
            others += 1
    assert others > 10
    for answer in (first_export.result(), ann.export(conversation, "markdown"), ann.export(conversation, "text")):
        assert answer.status == 200
        assert all(f"**{n}** haina" in answer.text for n in (0, 5_000, 9_997))
    _, path = ann.share(conversation)
    first = Visitor(served).ask("GET", path)
    assert first.status == 200
    assert len(first.text) < 200_000
    assert "1 / 200" in first.text
    assert "9997" in Visitor(served).ask("GET", f"{path}?page=200").text
    assert Visitor(served).ask("GET", f"{path}?page=201").status == 404
