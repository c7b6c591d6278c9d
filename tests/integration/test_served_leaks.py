"""The proof that nothing leaks: an engine plants what is refused and what is masked, cuts it anywhere, and every way
out is read to the last byte – pages, programs, links, files, rows and the log."""

import html
import json
import logging
import random
import re
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from app import bootstrap
from app.domain.generation import ChatMessage, Delta, Finish, FinishReason, GenerationRequest
from app.domain.models import Role
from app.safety.normalise import MASK, fold
from app.safety.personal_data import TEST_NUMBER
from app.settings import EngineSettings, SafetySettings, Settings
from tests.fakes.chopping import ChoppingEngine, Reply
from tests.fakes.guard_server import FakeGuardServer
from tests.fakes.guards import UNSAFE
from tests.fakes.invariants import EXAMPLES

CUTS = EXAMPLES if EXAMPLES > 2000 else 300
MARK = "§§"
"""Stands before what is planted, and nowhere else: nothing but a mask may follow it."""
REFUSED = ("haina-blocked-test-phrase", "海纳测试禁语")
DISGUISES = (
    str,
    str.upper,
    "\u200b".join,
    "\ufe0f".join,
    lambda phrase: f"{phrase[:3]}**{phrase[3:]}**",
    lambda phrase: "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in phrase),
)
PROSE = ("海水很蓝，", "rivers run. ", "**bold** text ", "\n\n- a list\n", "`code` ", "and so on; ", "\n\n", "还有，")
_FRAGMENTS = re.compile(
    "|".join(
        re.escape(secret[at : at + size])
        for secret, size, first in ((REFUSED[0], 9, 8), (REFUSED[1], 3, 0), (TEST_NUMBER.lower(), 9, 0))
        for at in range(first, len(secret) - size + 1)
    )
)
"""Pieces of what is planted that nothing else holds, folded: `blocked` and `test phrase` are words of ours, too, and a
time has six digits."""


@dataclass(frozen=True, kw_only=True)
class Case:
    question: str
    reply: Reply
    planted: str
    expected: str
    """What may be shown at most, mask and all."""

    def shown_of_planted(self) -> str:
        """What was shown before anybody could know: the part of it before a seam."""
        if self.reply.seam is None:
            return ""
        return self.planted[: max(0, self.reply.seam - self.reply.text.index(MARK) - len(MARK))]


def make_case(number: int, draw: random.Random, *, has_seam: bool) -> Case:
    before, after = ("".join(draw.choices(PROSE, k=draw.randint(0, 5))) for _ in range(2))
    is_masked = draw.random() < 0.4
    planted = TEST_NUMBER if is_masked else draw.choice(DISGUISES)(draw.choice(REFUSED))
    text = f"{before}{MARK}{planted} {after}end."
    expected = f"{before}{MARK}{MASK} {after}end." if is_masked else f"{before}{MARK}"
    seam = draw.randint(1, len(text) - 2) if has_seam else None
    name = "".join(chr(ord("a") + int(digit)) for digit in str(number))
    return Case(question=f"What of {name}?", reply=Reply(text=text, seam=seam), planted=planted, expected=expected)


def letters(text: str) -> str:
    return "".join(map(fold, text))


def bare(text: str) -> str:
    return letters(re.sub(r"[\s*]", "", text))


def require_clean(text: str, case: Case, *, where: str) -> None:
    """See that after the mark stands nothing of what was planted, and that no piece of it stands anywhere."""
    shown = case.shown_of_planted()
    for rest in text.split(MARK)[1:]:
        if shown:
            pairs = zip(bare(case.planted), bare(rest), strict=False)
            found_of_it = list(takewhile(lambda pair: pair[0] == pair[1], pairs))
            assert len(found_of_it) <= len(bare(shown)), (
                f"{where}: {rest[:30]!r}, {shown!r} of {case.planted!r} was out"
            )
        else:
            follows = rest.lstrip("*")[:1]
            assert follows in {"", "\n", "<", '"', "█", " "}, f"{where}: {rest[:30]!r} after {case.planted!r}"
            assert not (follows == "\n" and re.match(r"\W*\d{2}", rest)), f"{where}: {rest[:30]!r}"
    if not shown:
        found = _FRAGMENTS.search(letters(text))
        assert found is None, f"{where}: {found and found[0]!r} of {case.planted!r}"


def plain(markup: str) -> str:
    """Return what a reader of HTML sees, and what stands in attributes beside it."""
    attributes = " ".join(re.findall(r'="([^"]*)"', markup))
    return html.unescape(re.sub(r"<[^>]*>", "", markup)) + "\n" + html.unescape(attributes)


def events_of(body: str) -> Iterator[tuple[str, Any]]:
    for block in body.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if fields.get("data", "").startswith("{"):
            yield fields.get("event", ""), json.loads(fields["data"])


@dataclass
class Place:
    """A running Haina in this process, and a guest before it."""

    client: httpx.AsyncClient
    engine: ChoppingEngine
    data_dir: Path

    async def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        return await self.client.request(method, path, **more)

    async def page(self, turn: dict[str, Any], case: Case) -> str:
        """Read a turn as the page does; return its last state."""
        body = (await self.ask("GET", f"/turns/{turn['turn_id']}/events")).text
        blocks: dict[int, str] = {}
        state = ""
        for name, data in events_of(body):
            if name == "text":
                blocks[data["index"]] = blocks.get(data["index"], "") + data["text"]
            elif name == "block":
                blocks[data["index"]] = plain(data["html"])
            elif name == "end":
                state = data["message"]["state"]
                require_clean(plain(json.dumps(data, ensure_ascii=False)), case, where="end")
                continue
            require_clean("\n".join(blocks[key] for key in sorted(blocks)), case, where="page")
        assert state, body
        return state

    async def program(self, case: Case, *, is_stream: bool) -> None:
        body = {"stream": is_stream, "messages": [{"role": "user", "content": case.question}]}
        answer = await self.ask("POST", "/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        if is_stream:
            chunks = [data["choices"][0] for _, data in events_of(answer.text) if data.get("choices")]
            said = "".join(chunk["delta"].get("content") or "" for chunk in chunks)
            reason = chunks[-1]["finish_reason"]
        else:
            (choice,) = answer.json()["choices"]
            said, reason = choice["message"]["content"], choice["finish_reason"]
            require_clean(json.dumps(answer.json(), ensure_ascii=False), case, where="api")
        assert case.expected.startswith(said)
        require_clean(said, case, where="api")
        if MASK in case.expected:
            assert (said, reason) == (case.expected, "stop")
        else:
            assert reason == "content_filter"
            assert said in {case.expected, ""}

    async def conversation(self, case: Case, *, title: str | None = None) -> dict[str, Any]:
        answer = await self.ask("POST", "/api/turns", json={"text": title or case.question})
        assert answer.status_code == 201, answer.text
        turn: dict[str, Any] = answer.json()
        return turn

    async def leave(self, conversation_id: str, case: Case) -> None:
        """Read it as its owner, by a link, and as a file of each kind."""
        stored = await self.ask("GET", f"/api/conversations/{conversation_id}")
        require_clean(plain(json.dumps(stored.json(), ensure_ascii=False)), case, where="stored")
        listed = await self.ask("GET", "/api/conversations")
        require_clean(json.dumps(listed.json(), ensure_ascii=False), case, where="list")
        made = await self.ask("POST", "/api/shares", json={"conversation_id": conversation_id})
        assert made.status_code == 201, made.text
        require_clean(plain((await self.ask("GET", made.json()["path"])).text), case, where="share")
        await self.ask("DELETE", f"/api/shares/{made.json()['share']['id']}")  # an account has 100 at most
        for kind in ("markdown", "json", "text"):
            file = await self.ask("GET", f"/api/conversations/{conversation_id}/export?format={kind}")
            assert file.status_code == 200
            text = json.dumps(file.json(), ensure_ascii=False) if kind == "json" else file.text.replace("\\", "")
            require_clean(text, case, where=kind)

    def rows(self) -> list[str]:
        with sqlite3.connect(f"file:{self.data_dir / 'haina.db'}?mode=ro", uri=True) as database:
            tables = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
            wanted = [name for name in tables if not name.startswith(("sqlite", "template", "alembic"))]
            assert {"messages", "conversations", "shares"} <= set(wanted)
            return [
                str(value)
                for name in wanted
                for row in database.execute(f"select * from {name}")  # noqa: S608 - our own tables' names
                for value in row
                if value is not None
            ]


@asynccontextmanager
async def running(folder: Path, monkeypatch: pytest.MonkeyPatch, **safety: Any) -> AsyncIterator[Place]:
    engine = ChoppingEngine(seed=7)
    monkeypatch.setattr(bootstrap, "engine_of", lambda *_, **__: engine)
    settings = Settings(data_dir=folder, engine=EngineSettings(url="scripted:"), safety=SafetySettings(**safety))
    async with bootstrap.build(settings) as haina, haina.app.router.lifespan_context(haina.app):
        transport = httpx.ASGITransport(haina.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver", timeout=120) as client:
            await client.get("/api/me")
            yield Place(client, engine, folder)


WAYS = ("page", "stream", "whole", "again", "continue", "title")


async def take(place: Place, way: str, case: Case, draw: random.Random) -> str:
    """Send a case through; return the conversation to be read again, if there is one."""
    place.engine.replies[case.question] = case.reply
    if way in {"stream", "whole"}:
        await place.program(case, is_stream=way == "stream")
        return ""
    title = None
    if way == "title":
        title = f"{case.question} {MARK}{case.planted}"
        place.engine.replies[title] = case.reply
    turn = await place.conversation(case, title=title)
    require_clean(json.dumps(turn, ensure_ascii=False), case, where="asked")
    await place.page(turn, case)
    if way in {"again", "continue"}:
        answer = await place.ask("POST", f"/api/turns/{turn['turn_id']}/{way}")
        # What was refused before its seam cannot be continued.
        assert answer.status_code in ({201} if way == "again" else {201, 409}), answer.text
        if answer.status_code == 201:
            await place.page(answer.json(), case)
    is_left = draw.random() < 0.3
    del place.engine.replies[case.question]
    return str(turn["conversation"]["id"]) if is_left and turn["conversation"] else ""


@pytest.mark.invariant
@pytest.mark.timeout(0 if CUTS > 300 else 300)
async def test_nothing_of_what_is_refused_or_masked_leaves_by_any_way_under_any_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    draw = random.Random(20)
    caplog.set_level(logging.INFO)
    ways = dict.fromkeys(WAYS, 0)
    seams = 0
    with capture_logs() as logs:
        async with running(tmp_path / "data", monkeypatch) as place:
            for number in range(CUTS):
                way = WAYS[number % len(WAYS)]
                case = make_case(number, draw, has_seam=way == "continue")
                if conversation := await take(place, way, case, draw):
                    await place.leave(conversation, case)
                ways[way] += 1
                seams += bool(case.shown_of_planted())
            rows = place.rows()
    assert min(ways.values()) >= CUTS // len(WAYS)
    said = [json.dumps(logs, ensure_ascii=False, default=str), caplog.text]
    for text in said:
        assert MARK not in text
        assert not _FRAGMENTS.search(letters(text))
    shown = [text for text in rows if MARK in text]
    assert len(shown) > CUTS // 10
    assert sum(bool(_FRAGMENTS.search(letters(text))) for text in rows) <= seams


async def reply_of(place: Place, question: str) -> tuple[str, str]:
    """Return what a program is told, and why it ended."""
    body = {"stream": True, "messages": [{"role": "user", "content": question}]}
    answer = await place.ask("POST", "/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    chunks = [data["choices"][0] for _, data in events_of(answer.text) if data.get("choices")]
    return "".join(chunk["delta"].get("content") or "" for chunk in chunks), str(chunks[-1]["finish_reason"])


async def test_where_the_guard_is_killed_in_the_middle_no_more_comes_out_than_it_let_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(21)
    guard, port = FakeGuardServer("qwen3guard"), 0
    shorter = 0
    guards = AsyncExitStack()
    url = await guards.enter_async_context(guard.serve())
    port = int(url.removesuffix("/v1").rsplit(":", 1)[1])
    async with running(tmp_path / "data", monkeypatch, guard_url=url) as place:
        with capture_logs() as logs:
            for number in range(max(20, CUTS // 15)):
                texts = draw.choices(
                    ("The sea is not full. ", "海水很蓝，天也很蓝。", "All rivers run into it. "), k=30
                )
                if is_unsafe := draw.random() < 0.5:
                    texts[draw.randrange(20, 30)] = f"{MARK}{UNSAFE}. "
                text = "".join(texts)
                name = "".join(chr(ord("a") + int(digit)) for digit in str(number))
                place.engine.replies[f"Healthy {name}?"] = Reply(text=text)
                place.engine.replies[f"Killed {name}?"] = Reply(text=text, halfway=guards.aclose)
                healthy, reason = await reply_of(place, f"Healthy {name}?")
                assert reason == ("content_filter" if is_unsafe else "stop")
                assert text.startswith(healthy)
                assert UNSAFE not in healthy
                guard.requests.clear()
                killed, reason = await reply_of(place, f"Killed {name}?")
                assert reason == "content_filter"
                assert healthy.startswith(killed)
                assert UNSAFE not in killed
                judged = "".join(str(body["messages"][-1]["content"]) for body in guard.requests)
                assert not killed or killed[-20:] in judged
                shorter += len(killed) < len(healthy)
                guards = AsyncExitStack()
                await guards.enter_async_context(guard.serve(port=port))
    await guards.aclose()
    assert shorter > 5
    said = json.dumps(logs, ensure_ascii=False, default=str)
    assert "guard_failed" in said
    assert "rivers" not in said
    assert "海水" not in said


async def test_a_chopped_reply_is_the_reply_and_ends_once() -> None:
    engine = ChoppingEngine(seed=1)
    engine.replies["x"] = Reply(text="海纳百川, and so on.", seam=7)
    question = ChatMessage(Role.USER, "x")
    for messages, expected, reason in (
        ((question,), "海纳百川, a", FinishReason.LENGTH),
        ((question, ChatMessage(Role.ASSISTANT, "海纳百川, a")), "nd so on.", FinishReason.STOP),
    ):
        for _ in range(20):
            request = GenerationRequest(id="r", owner="ann", messages=messages)
            *deltas, finish = [item async for item in engine.generate(request)]
            assert "".join(item.text for item in deltas if isinstance(item, Delta)) == expected
            assert isinstance(finish, Finish)
            assert finish.reason is reason
