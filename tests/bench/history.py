"""100,000 messages in the database change nothing: the same visitor asks the same of two servers that run side by side.

The other server's database holds a page of conversations. Each request goes to the one and then to the other, the next
one the other way round.
"""

import asyncio
import shutil
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote

import orjson

from tests.bench import archive, load
from tests.bench.archive import LONG_MESSAGES, MESSAGES, RARE_WORD, Archive, Size
from tests.bench.haina import Haina
from tests.bench.load import Plan, Reader
from tests.bench.measurement import Effort, Row, median
from tests.bench.recording import record

_SIZES = (Size(visitors=50), Size(visitors=500, others=4490, owners=499))
_PAGE = 50
_SCRIPT = 'default = "Sand, mostly."'
"""So short that it is over before it is read: the tenth of a second for which the page gathers text hides nothing."""
_AT_MOST = 1.5
"""What an action may take in the large database, where it takes 1 in the small one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """A data folder, and what lies in its database."""

    data_dir: Path
    messages: int
    archive: Archive


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """The visitor at a server."""

    shelf: Shelf
    port: int
    cookie: str


Times = Sequence[Sequence[float]]
"""In milliseconds, shelf by shelf."""


def measure(effort: Effort) -> Sequence[Row]:
    """Return the rows. Raises RuntimeError where an answer is not the one that was to be measured."""
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "empty"
        empty.mkdir()
        (empty / "script.toml").write_text(_SCRIPT)
        cookie = _become_known(empty)
        shelves = [_fill(empty, Path(folder) / str(size.messages), size=size) for size in _SIZES]
        times: dict[str, Times] = {}
        with ExitStack() as stack:
            visits = [
                Visit(shelf=shelf, port=stack.enter_context(_serve(shelf.data_dir)).port, cookie=cookie)
                for shelf in shelves
            ]
            for what, act in _ACTS.items():
                times[what] = asyncio.run(_act(act, visits, times=effort.of(full=50, quick=20)))
            for what, body in _questions(visits).items():
                times[what] = _ask(body, visits, times=effort.of(full=25, quick=8))
        times["server start until /healthz"] = _start(shelves, times=effort.of(full=5, quick=2))
    return [row for what, each in times.items() for row in _rows(what, each, shelves=shelves)]


# Databases


def _begin(data_dir: Path) -> Haina:
    return Haina(data_dir, settings={"HAINA_ENGINE__URL": f"scripted:{data_dir / 'script.toml'}"})


def _serve(data_dir: Path) -> Haina:
    haina = _begin(data_dir)
    haina.answered_after_s("/healthz")
    return haina


def _become_known(data_dir: Path) -> str:
    """Let a new guest ask one question, so that there is an account, and return the cookie that it goes by."""
    with _serve(data_dir) as haina:
        cookie = asyncio.run(_cookie(haina.port))
        reader = Reader(way="page", port=haina.port, body={"text": "Who am I?"}, headers={"Cookie": cookie})
        if not load.run(Plan(readers=[reader])).seen[0].is_complete:
            raise RuntimeError("the first question was not answered")
    return cookie


async def _cookie(port: int) -> str:
    answer = (await record(port, "GET", "/api/me", headers={})).read()
    return answer.headers["set-cookie"].partition(";")[0]


def _fill(empty: Path, data_dir: Path, *, size: Size) -> Shelf:
    """Copy a data folder, with the key that signs cookies, and write an archive into its database."""
    shutil.copytree(empty, data_dir)
    database = data_dir / "haina.db"
    with closing(sqlite3.connect(database)) as connection:
        ((visitor_id,),) = connection.execute("select id from accounts")
        written = asyncio.run(archive.write(f"sqlite+aiosqlite:///{database}", visitor_id=visitor_id, size=size))
        ((messages,),) = connection.execute("select count(*) from messages")
    return Shelf(data_dir=data_dir, messages=messages, archive=written)


# Requests


async def _list(visit: Visit, _: int) -> float:
    took_ms, body = await _get(visit, "/api/conversations")
    _require(len(body["conversations"]) == _PAGE and body["more"], "not a whole page of conversations")
    return took_ms


async def _search(visit: Visit, _: int) -> float:
    took_ms, body = await _get(visit, f"/api/conversations?query={quote(RARE_WORD.upper())}")
    _require(len(body["conversations"]) == 1, "not the conversation that was searched")
    return took_ms


async def _open(visit: Visit, n: int) -> float:
    """Open one that was not opened yet: no part of it is kept anywhere."""
    short = visit.shelf.archive.short
    took_ms, body = await _get(visit, f"/api/conversations/{short[n * len(short) // _PAGE]}")
    _require(len(body["messages"]) == MESSAGES, "not all messages")
    return took_ms


async def _open_long(visit: Visit, _: int) -> float:
    took_ms, body = await _get(visit, f"/api/conversations/{visit.shelf.archive.long}")
    _require(len(body["messages"]) == LONG_MESSAGES, "not all messages")
    return took_ms


Act = Callable[[Visit, int], Awaitable[float]]
"""Takes how often it was done already, returns milliseconds."""

_ACTS: Mapping[str, Act] = {
    "list of conversations": _list,
    "search by title": _search,
    f"open a conversation of {MESSAGES} messages": _open,
    f"open again one of {LONG_MESSAGES} messages": _open_long,
}


async def _act(act: Act, visits: Sequence[Visit], *, times: int) -> Times:
    took_ms: list[list[float]] = [[] for _ in visits]
    for n in range(times):
        for side in _sides(n):
            took_ms[side].append(await act(visits[side], n))
    return [each[1:] for each in took_ms]  # the first time is another matter: nothing is warm yet


async def _get(visit: Visit, path: str) -> tuple[float, Any]:
    began = monotonic()
    answer = (await record(visit.port, "GET", path, headers={"Cookie": visit.cookie})).read()
    _require(answer.status == 200, f"{path}: status {answer.status}")
    return (answer.pieces[-1][0] - began) * 1000, orjson.loads(answer.body)


def _questions(visits: Sequence[Visit]) -> Mapping[str, Sequence[Mapping[str, str]]]:
    """Return what is asked, server by server."""
    text = "What do rivers carry?"
    return {
        "ask, a new conversation": [{"text": text} for _ in visits],
        f"ask in one of {LONG_MESSAGES} messages": [
            {"text": text, "conversation_id": visit.shelf.archive.long} for visit in visits
        ],
    }


def _ask(bodies: Sequence[Mapping[str, str]], visits: Sequence[Visit], *, times: int) -> Times:
    """Ask as the page does, and read the answer to its end."""
    sides = [side for n in range(times) for side in _sides(n)]
    readers = [
        Reader(way="page", port=visits[side].port, body=bodies[side], headers={"Cookie": visits[side].cookie})
        for side in sides
    ]
    seen = [outcome.seen[0] for outcome in load.run_all([Plan(readers=[reader]) for reader in readers])]
    _require(all(one.is_complete for one in seen), "an answer was cut")
    _require(len({(one.tokens, one.arrivals[-1][1]) for one in seen}) == 1, "answers differ")
    took_ms: list[list[float]] = [[] for _ in visits]
    for side, one in zip(sides, seen, strict=True):
        took_ms[side].append((one.ended_at - one.sent_at) * 1000)
    return [each[1:] for each in took_ms]


def _start(shelves: Sequence[Shelf], *, times: int) -> Times:
    took_ms: list[list[float]] = [[] for _ in shelves]
    for n in range(times):
        for side in _sides(n):
            with _begin(shelves[side].data_dir) as haina:
                took_ms[side].append(haina.answered_after_s("/healthz") * 1000)
    return took_ms


def _sides(n: int) -> Sequence[int]:
    return (0, 1) if n % 2 == 0 else (1, 0)


def _require(condition: object, otherwise: str) -> None:
    """Raise RuntimeError unless a round is what it was meant to be."""
    if not condition:
        raise RuntimeError(otherwise)


# Rows


def _rows(what: str, times: Times, *, shelves: Sequence[Shelf]) -> list[Row]:
    small, large = map(median, times)
    return [
        *(
            Row(what=f"{what}: {shelf.messages:,} messages", value=value, unit="ms")
            for shelf, value in zip(shelves, (small, large), strict=True)
        ),
        Row(what=f"{what}: {shelves[0].messages:,} messages = 1", value=large / small, unit="×", at_most=_AT_MOST),
    ]
