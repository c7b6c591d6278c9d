"""The readers, all in one process: takes plans on standard input, gives what each reader saw on standard output.

    python -m tests.bench.load < plans.json

Three ways to an answer: `tokens` is `/v1/completions`, `chat` is `/v1/chat/completions`, `page` is what the page does.
"""

import asyncio
import html
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from time import monotonic, process_time
from typing import Any

import orjson
import uvloop

from tests.bench.program import Program, cpu_s
from tests.bench.recording import Answer, Recording, record

_TAG = re.compile(r"<[^>]*>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """One who asks once and reads the answer."""

    way: str
    port: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Who asks, and within which time all of them begin."""

    readers: list[Reader]
    spread_s: float = 0.0
    watched_pid: int = 0
    """Whose processor time is taken, from the first question to the last answer's end."""


@dataclass(slots=True, kw_only=True)
class Seen:
    """What a reader saw. Times are CLOCK_MONOTONIC, which is the same for all processes."""

    sent_at: float = 0.0
    ended_at: float = 0.0
    status: int = 0
    is_complete: bool = False
    prompt_tokens: int = 0
    tokens: int = 0
    """Both as the server counted them."""
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    """When something came, and how many letters and digits there were then: the same in Markdown and in HTML."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a plan gave."""

    seen: list[Seen]
    own_cpu_s: float
    watched_cpu_s: float


def run(plan: Plan) -> Outcome:
    """Carry a plan out in a process of its own."""
    return run_all([plan])[0]


def run_all(plans: Sequence[Plan]) -> list[Outcome]:
    """Carry plans out one after the other, all in one process."""
    with Program("tests.bench.load") as program:
        said = orjson.loads(program.ask(orjson.dumps([asdict(plan) for plan in plans]).decode()))
    return [_outcome(one) for one in said]


def _outcome(said: dict[str, Any]) -> Outcome:
    seen = [Seen(**{**one, "arrivals": [(at, count) for at, count in one["arrivals"]]}) for one in said.pop("seen")]
    return Outcome(seen=seen, **said)


# In the process


async def _carry_out(plan: Plan) -> Outcome:
    cookies = [await _cookie(reader) if reader.way == "page" else "" for reader in plan.readers]
    pause_s = plan.spread_s / len(plan.readers)
    own, watched = process_time(), _watched(plan)
    began = asyncio.get_running_loop().time()
    tasks = []
    for n, (reader, cookie) in enumerate(zip(plan.readers, cookies, strict=True)):
        await asyncio.sleep(max(0.0, began + n * pause_s - asyncio.get_running_loop().time()))
        tasks.append(asyncio.create_task(_read(reader, cookie)))
    read = await asyncio.gather(*tasks)
    own, watched = process_time() - own, _watched(plan) - watched
    return Outcome(seen=[_seen(*one) for one in read], own_cpu_s=own, watched_cpu_s=watched)


def _watched(plan: Plan) -> float:
    return cpu_s(plan.watched_pid) if plan.watched_pid else 0.0


async def _cookie(reader: Reader) -> str:
    """Be a guest of one's own, as every browser is."""
    if cookie := reader.headers.get("Cookie"):
        return cookie
    answer = (await record(reader.port, "GET", "/api/me", headers={})).read()
    return answer.headers["set-cookie"].partition(";")[0]


async def _read(reader: Reader, cookie: str) -> tuple[Reader, float, Recording]:
    sent_at = monotonic()
    body = orjson.dumps(reader.body)
    if reader.way != "page":
        path = "/v1/completions" if reader.way == "tokens" else "/v1/chat/completions"
        return reader, sent_at, await record(reader.port, "POST", path, headers=reader.headers, body=body)
    headers = {"Cookie": cookie, **reader.headers}
    asked = await record(reader.port, "POST", "/api/turns", headers=headers, body=body)
    answer = asked.read()
    if answer.status != 201:
        return reader, sent_at, asked
    turn_id = orjson.loads(answer.body)["turn_id"]
    return reader, sent_at, await record(reader.port, "GET", f"/turns/{turn_id}/events", headers=headers)


def _seen(reader: Reader, sent_at: float, recording: Recording) -> Seen:
    answer = recording.read()
    ended_at = answer.pieces[-1][0] if answer.pieces else sent_at
    seen = Seen(sent_at=sent_at, ended_at=ended_at, status=answer.status)
    if answer.status == 200:
        (_page if reader.way == "page" else _program)(answer, seen)
    return seen


def _program(answer: Answer, seen: Seen) -> None:
    count = 0
    for at, _, data in _events(answer):
        if data == b"[DONE]":
            seen.is_complete = True
            return
        event = orjson.loads(data)
        usage = event.get("usage") or {}
        seen.prompt_tokens = usage.get("prompt_tokens", seen.prompt_tokens)
        seen.tokens = usage.get("completion_tokens", seen.tokens)
        for choice in event.get("choices", ()):
            added = _letters(choice.get("text") or choice.get("delta", {}).get("content") or "")
            count += added
            if added:
                seen.arrivals.append((at, count))


def _page(answer: Answer, seen: Seen) -> None:
    blocks: dict[int, int] = {}
    for at, name, data in _events(answer):
        event = orjson.loads(data)
        if name == b"block":
            blocks[event["index"]] = _letters(html.unescape(_TAG.sub("", event["html"])))
        elif name == b"text":
            blocks[event["index"]] += _letters(event["text"])
        elif name == b"end":
            seen.is_complete = event["message"]["state"] == "complete"
            receipt = event["message"]["receipt"] or {}
            seen.prompt_tokens, seen.tokens = receipt.get("prompt_tokens", 0), receipt.get("completion_tokens", 0)
        if name in {b"block", b"text"}:
            seen.arrivals.append((at, sum(blocks.values())))


def _events(answer: Answer) -> Iterator[tuple[float, bytes, bytes]]:
    rest = b""
    for at, piece in answer.pieces:
        *events, rest = (rest + piece).split(b"\n\n")
        for event in events:
            fields = dict(line.split(b": ", 1) for line in event.split(b"\n") if not line.startswith(b":"))
            if data := fields.get(b"data"):
                yield at, fields.get(b"event", b""), data


def _letters(text: str) -> int:
    return sum(map(str.isalnum, text))


async def _carry_out_all(plans: Sequence[Plan]) -> list[Outcome]:
    return [await _carry_out(plan) for plan in plans]


def main() -> int:
    """Carry out the plans on standard input."""
    said = orjson.loads(sys.stdin.buffer.read())
    plans = [Plan(**{**one, "readers": [Reader(**reader) for reader in one["readers"]]}) for one in said]
    outcomes = uvloop.run(_carry_out_all(plans))
    sys.stdout.buffer.write(orjson.dumps([asdict(outcome) for outcome in outcomes]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
