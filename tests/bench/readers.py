"""200 people read 200 tokens each, 20 a second, through the API and through the page's route; all of it is saved.

In the same run the same number read the same engine through a bare pass-through in aiohttp, which is the floor, and
through the same on uvloop, a lower one: what Haina itself adds to a token.
"""

import asyncio
import itertools
import re
import sqlite3
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import orjson

from app.domain.generation import ChatMessage, Delta, GenerationRequest
from app.domain.models import Role, Sampling
from app.engines.scripted import Script, ScriptedEngine
from tests.bench import load
from tests.bench.haina import Haina
from tests.bench.load import Plan, Reader, Seen
from tests.bench.measurement import Effort, Row, median, percentile
from tests.bench.program import Program

TOKENS_PER_S = 20.0
TOKENS = 200
_STALL_S = 1.0
_BARE, _FAST = "bare pass-through", "pass-through on uvloop"
_TEXT = """\
Rivers carry more than water. They carry sand and stones from the mountains, leaves from the woods, and the news of \
the rain that fell a week ago. Whoever lives beside one learns to read it: its colour in spring, its smell before a \
storm, the sound that it makes under the ice.

**Three things** are worth knowing:

- it is slow where it is deep
- it is clear where it is cold
- it is loud where it is young

所有的江河都流入大海，海却不会满。江河从哪里流来，仍旧归到哪里去。

```
level = read(gauge)
print(level)
```

And so the old people say that no one steps into the same water twice, though they fish at the same place for all of \
their lives, and their children after them, as long as there is a bank to sit on and a rod to hold over the stream. \
The mills are gone now, and the barges, and most of the bridges are new; the water goes on as it always did, a little \
cleaner than a hundred years ago, a little warmer too.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """Readers who begin together."""

    name: str
    ways: Sequence[str]
    """Taken in turn: `chat`, `page`."""
    port: int
    size: int
    spread_s: float
    pid: int
    """Of the process between them and the engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What a crowd saw, and what it cost."""

    crowd: Crowd
    seen: Mapping[str, Seen]
    cpu_s: float
    load_cpu_s: float

    @property
    def cpu_s_per_1000(self) -> float:
        """Processor seconds between engine and readers for a thousand tokens."""
        return self.cpu_s * 1000 / (TOKENS * len(self.seen))


def measure(effort: Effort) -> Sequence[Row]:
    """Return the rows."""
    size = effort.of(full=200, quick=50)
    tokens = reply_tokens()
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.toml"
        write_script(script, tokens)
        with Program("tests.bench.engine", str(script)) as engine:
            address = engine.line()
            with (
                serve(Path(folder) / "data", engine=address) as haina,
                Program("tests.bench.passthrough", address, "asyncio") as bare,
                Program("tests.bench.passthrough", address, "uvloop") as fast,
            ):
                gathered = [gather(crowd) for crowd in _crowds(haina, bare=bare, fast=fast, size=size, effort=effort)]
            began = orjson.loads(engine.ask(""))
        saved = saved_questions(haina.database, reply="".join(tokens))
    floors = {(one.crowd.pid, one.crowd.spread_s): one for one in gathered}
    rows = []
    for one in gathered:
        rows += _seen_rows(one, began=began, tokens=tokens)
        if one.crowd.pid == haina.pid:
            spread_s = one.crowd.spread_s
            rows += _served_rows(one, bare=floors[bare.pid, spread_s], fast=floors[fast.pid, spread_s], saved=saved)
    return rows


def reply_tokens() -> list[str]:
    """Return the answer, token by token, as the scripted engine will cut it."""

    async def read() -> list[str]:
        engine = ScriptedEngine(Script(default=_TEXT))
        question = (ChatMessage(Role.USER, "?"),)
        request = GenerationRequest(
            id="", owner="", prompt_ids=(), messages=question, sampling=Sampling(max_tokens=TOKENS), model=""
        )
        return [item.text async for item in engine.generate(request) if isinstance(item, Delta)]

    tokens = asyncio.run(read())
    if len(tokens) != TOKENS:
        raise ValueError("the text is too short")
    return tokens


def write_script(file: Path, tokens: Sequence[str]) -> None:
    """Write the engine's script. A JSON string is a TOML string too."""
    file.write_text(f"tokens_per_s = {TOKENS_PER_S}\ndefault = {orjson.dumps(''.join(tokens)).decode()}\n")


def serve(data_dir: Path, *, engine: str) -> Haina:
    """Start Haina in front of an engine that takes messages."""
    haina = Haina(data_dir, settings={"HAINA_ENGINE__URL": f"{engine}/v1", "HAINA_ENGINE__KIND": "chat"})
    haina.answered_after_s("/readyz")
    return haina


_numbers = itertools.count()


def gather(crowd: Crowd) -> Gathered:
    """Let a crowd read; every question is asked once in the world, so its answer can be found in the database."""
    readers = {}
    for way in itertools.islice(itertools.cycle(crowd.ways), crowd.size):
        question = f"What do rivers carry, question {next(_numbers)}?"
        body: dict[str, object] = {"text": question}
        if way == "chat":
            body = {"model": "default", "stream": True, "messages": [{"role": "user", "content": question}]}
        readers[question] = Reader(way=way, port=crowd.port, body=body)
    plan = Plan(readers=list(readers.values()), spread_s=crowd.spread_s, watched_pid=crowd.pid)
    outcome = load.run(plan)
    seen = dict(zip(readers, outcome.seen, strict=True))
    return Gathered(crowd=crowd, seen=seen, cpu_s=outcome.watched_cpu_s, load_cpu_s=outcome.own_cpu_s)


def saved_questions(database: Path, *, reply: str) -> set[str]:
    """Return the questions whose whole answer is in the database."""
    query = """
        select question.text from messages as question join messages as answer on answer.parent_id = question.id
        where answer.state = 'complete' and answer.text = ?
    """
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return {text for (text,) in connection.execute(query, (reply,))}


def first_added_ms(gathered: Gathered) -> list[float]:
    """Return how much later than from an idle engine the first text came; what never came counts as a minute."""
    return [
        (one.arrivals[0][0] - one.sent_at - 1 / TOKENS_PER_S) * 1000 if one.arrivals else 60_000.0
        for one in gathered.seen.values()
    ]


def delays_ms(gathered: Gathered, *, began: Mapping[str, float], tokens: Sequence[str]) -> list[float]:
    """Return how long after the engine had to write it each whole token was there; what never came is a minute late."""
    delays = []
    counts = list(itertools.accumulate(len(re.findall(r"[^\W_]", token)) for token in tokens))
    for question, one in gathered.seen.items():
        arrivals = iter(one.arrivals)
        at, count = 0.0, 0
        for n, wanted in enumerate(counts, start=1):
            if wanted == (counts[n - 2] if n > 1 else 0):
                continue  # nothing but signs, which are not counted
            while count < wanted and (arrival := next(arrivals, None)):
                at, count = arrival
            is_there = count >= wanted and question in began
            delays.append((at - began[question] - n / TOKENS_PER_S) * 1000 if is_there else 60_000.0)
    return delays


def _crowds(haina: Haina, *, bare: Program, fast: Program, size: int, effort: Effort) -> list[Crowd]:
    ports = {bare.pid: int(bare.line()), fast.pid: int(fast.line()), haina.pid: haina.port}

    def crowd(name: str, *ways: str, pid: int, spread_s: float = 5.0) -> Crowd:
        return Crowd(name=name, ways=ways, port=ports[pid], size=size, spread_s=spread_s, pid=pid)

    crowds = [
        crowd(_BARE, "chat", pid=bare.pid),
        crowd(_FAST, "chat", pid=fast.pid),
        crowd("API", "chat", pid=haina.pid),
        crowd("page", "page", pid=haina.pid),
        crowd("half API, half page", "chat", "page", pid=haina.pid),
    ]
    at_once = [
        crowd(f"{_BARE}, at once", "chat", pid=bare.pid, spread_s=0.0),
        crowd(f"{_FAST}, at once", "chat", pid=fast.pid, spread_s=0.0),
        crowd("half and half, at once", "chat", "page", pid=haina.pid, spread_s=0.0),
    ]
    return crowds + effort.of(full=at_once, quick=[])


def _seen_rows(gathered: Gathered, *, began: Mapping[str, float], tokens: Sequence[str]) -> list[Row]:
    crowd = gathered.crowd
    name = f"{crowd.size} readers, {crowd.name}"
    is_haina = "pass-through" not in crowd.name
    first = first_added_ms(gathered)
    delays = delays_ms(gathered, began=began, tokens=tokens)
    return [
        Row(what=f"{name}: first token added, p50", value=median(first), unit="ms", at_most=150 if is_haina else None),
        Row(what=f"{name}: first token added, p99", value=percentile(first, 99), unit="ms"),
        Row(what=f"{name}: token delay, p50", value=median(delays), unit="ms"),
        Row(
            what=f"{name}: token delay, p99", value=percentile(delays, 99), unit="ms", at_most=200 if is_haina else None
        ),
        Row(what=f"{name}: CPU for 1,000 tokens", value=gathered.cpu_s_per_1000, unit="s"),
        Row(what=f"{name}: CPU of the load generator", value=gathered.load_cpu_s, unit="s"),
    ]


def _served_rows(gathered: Gathered, *, bare: Gathered, fast: Gathered, saved: set[str]) -> list[Row]:
    name = f"{gathered.crowd.size} readers, {gathered.crowd.name}"
    stalled = sum(_is_stalled(one) for one in gathered.seen.values())
    lost = sum(question not in saved for question in gathered.seen)
    cost = gathered.cpu_s_per_1000
    return [
        Row(what=f"{name}: CPU, {_BARE} = 1", value=cost / bare.cpu_s_per_1000, unit="×", at_most=3),
        Row(what=f"{name}: CPU, {_FAST} = 1", value=cost / fast.cpu_s_per_1000, unit="×"),
        Row(what=f"{name}: stalled for {_STALL_S:.0f} s or cut", value=stalled, at_most=0),
        Row(what=f"{name}: questions or answers not saved", value=lost, at_most=0),
    ]


def _is_stalled(seen: Seen) -> bool:
    times = [at for at, _ in seen.arrivals]
    return not seen.is_complete or any(after - before > _STALL_S for before, after in itertools.pairwise(times))
