"""What web adds to a token – filter, log, storage, server-sent events – for 1 and for 8 readers of the embedded model.

Every round asks the same questions of the same worker three ways: directly, through the API, and as the page does. The
next round takes the ways backwards, so others' work meets all of them alike; a ratio is taken within its round.
"""

import itertools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import orjson

from prompts.formats.chatml import SMOLLM_SYSTEM
from tests.bench import load
from tests.bench.haina import Haina
from tests.bench.load import Plan, Reader, Seen
from tests.bench.measurement import Effort, Row, median
from tests.bench.program import Program
from tests.bench.worker import TOKEN, Worker
from tests.fakes.embedded import data_dir_with_model

_DIRECT = "tokens"
_WEB = {"chat": "API", "page": "page"}
_WAYS = (_DIRECT, *_WEB)
_MOST_USERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """Readers who ask at once, again and again."""

    users: int
    tokens: int
    """Of each answer."""
    lasts_s: float
    """As many rounds are run as fit in this time, and one in any case."""

    @property
    def name(self) -> str:
        """How it is called in the table."""
        return f"{self.users} user{'s' if self.users > 1 else ''}"

    @property
    def template(self) -> str:
        """The prompt template by which the page asks for what programs ask for in fields."""
        return f"greedy-{self.tokens}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """The same questions, asked all ways; figures by way."""

    tokens_per_s: Mapping[str, float]
    first_ms: Mapping[str, float]
    """The middle one of all users."""
    web_cpu_s: Mapping[str, float]


def measure(effort: Effort) -> Sequence[Row]:
    """Return the rows. Raises RuntimeError where answers are not whole, or not the same all ways."""
    crowds = effort.of(
        full=[Crowd(users=1, tokens=64, lasts_s=40.0), Crowd(users=_MOST_USERS, tokens=12, lasts_s=52.0)],
        quick=[Crowd(users=1, tokens=32, lasts_s=8.0), Crowd(users=_MOST_USERS, tokens=8, lasts_s=10.0)],
    )
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        data_dir = data_dir_with_model(Path(folder))
        warm_up = Crowd(users=_MOST_USERS, tokens=4, lasts_s=0.0)  # so that all connections are open
        _import_templates(data_dir, [_write_template(Path(folder), crowd) for crowd in (warm_up, *crowds)])
        with Worker(data_dir, slots=_MOST_USERS) as worker:
            settings = {"HAINA_ENGINE__URL": f"http://127.0.0.1:{worker.port}/v1", "HAINA_ENGINE__API_KEY": TOKEN}
            with Haina(data_dir, settings=settings) as haina:
                haina.answered_after_s("/readyz")
                _ask(warm_up, _WAYS, worker=worker, haina=haina)
                for crowd in crowds:
                    rows += _rows(crowd, list(_rounds(crowd, worker=worker, haina=haina)))
    return rows


# Questions

_numbers = itertools.count(100)


def _questions(count: int) -> list[str]:
    """Return questions that nobody has asked yet, all of one length: no way finds its prompt in a cache of another."""
    return [f"Story {next(_numbers)}: write a long story about a river." for _ in range(count)]


def _write_template(folder: Path, crowd: Crowd) -> Path:
    """Write a template's file. Its system message is the model's own, so the prompt is the same as without it."""
    file = folder / f"{crowd.template}.toml"
    file.write_text(
        f"""
        title = {{en = "Greedy"}}
        description = {{en = "For the benchmark."}}
        language = "en"
        system = {orjson.dumps(SMOLLM_SYSTEM).decode()}
        [sampling]
        temperature = 0.0
        max_tokens = {crowd.tokens}
        """
    )
    return file


def _import_templates(data_dir: Path, files: Sequence[Path]) -> None:
    environment = {"HAINA_DATA_DIR": str(data_dir), "HAINA_LOG__LEVEL": "error"}
    with Program("app", "prompts", "import", *map(str, files), environment=environment) as program:
        program.ask("")


def _reader(question: str, *, way: str, crowd: Crowd, worker: Worker, haina: Haina) -> Reader:
    if way == "page":
        page_body = {"text": question, "template": {"name": crowd.template}}
        return Reader(way=way, port=haina.port, body=page_body)
    body = {"model": "default", "stream": True, "temperature": 0.0, "max_tokens": crowd.tokens}
    if way == "chat":
        messages = [{"role": "user", "content": question}]
        chat_body = {**body, "messages": messages, "stream_options": {"include_usage": True}}
        return Reader(way=way, port=haina.port, body=chat_body)
    # As web asks the worker, so that it has the same to do.
    direct_body = {
        **body,
        "prompt": worker.prompt(question, max_tokens=crowd.tokens).ids,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "cache_salt": question,
    }
    return Reader(way=way, port=worker.port, body=direct_body, headers={"Authorization": f"Bearer {TOKEN}"})


# Rounds


def _rounds(crowd: Crowd, *, worker: Worker, haina: Haina) -> Iterator[Round]:
    began = started = monotonic()
    took_s = 0.0
    for n in itertools.count():
        if n and started - began + took_s > crowd.lasts_s:
            return
        yield _ask(crowd, _WAYS[:: 1 if n % 2 == 0 else -1], worker=worker, haina=haina)
        took_s, started = monotonic() - started, monotonic()


def _ask(crowd: Crowd, ways: Sequence[str], *, worker: Worker, haina: Haina) -> Round:
    questions = _questions(crowd.users)
    plans = [
        Plan(
            readers=[_reader(question, way=way, crowd=crowd, worker=worker, haina=haina) for question in questions],
            watched_pid=haina.pid,
        )
        for way in ways
    ]
    outcomes = dict(zip(ways, load.run_all(plans), strict=True))
    lengths = [worker.prompt(question, max_tokens=crowd.tokens).tokens for question in questions]
    for way in ways:
        _require_whole(outcomes[way].seen, way=way, crowd=crowd, prompt_tokens=lengths)
        if _texts(outcomes[way].seen) != _texts(outcomes[_DIRECT].seen):
            raise RuntimeError(f"{crowd.name}, {way}: not the text that the worker gave directly")
    return Round(
        tokens_per_s={way: _tokens_per_s(outcome.seen) for way, outcome in outcomes.items()},
        first_ms={way: _first_ms(outcome.seen) for way, outcome in outcomes.items()},
        web_cpu_s={way: outcome.watched_cpu_s for way, outcome in outcomes.items()},
    )


def _require_whole(seen: Sequence[Seen], *, way: str, crowd: Crowd, prompt_tokens: Sequence[int]) -> None:
    """Raise RuntimeError unless every prompt and every answer is as long as it was meant to be."""
    for one, length in zip(seen, prompt_tokens, strict=True):
        is_whole = one.is_complete and one.tokens == crowd.tokens and one.arrivals
        if not is_whole or one.prompt_tokens != length:
            raise RuntimeError(
                f"{crowd.name}, {way}: status {one.status}, {one.tokens} of {crowd.tokens} tokens, a prompt of "
                f"{one.prompt_tokens} in place of {length}, complete: {one.is_complete}"
            )


def _texts(seen: Sequence[Seen]) -> list[int]:
    """Return what was said, as far as letters can be counted."""
    return [one.arrivals[-1][1] for one in seen]


def _tokens_per_s(seen: Sequence[Seen]) -> float:
    """Return the tokens of all together, from the first question to the last answer's end."""
    took_s = max(one.ended_at for one in seen) - min(one.sent_at for one in seen)
    return sum(one.tokens for one in seen) / took_s


def _first_ms(seen: Sequence[Seen]) -> float:
    return median([(one.arrivals[0][0] - one.sent_at) * 1000 for one in seen])


# Rows


def _rows(crowd: Crowd, rounds: Sequence[Round]) -> list[Row]:
    direct = f"{crowd.name}, directly"
    rates = [one.tokens_per_s[_DIRECT] for one in rounds]
    rows = [
        Row(what=f"{direct}: throughput", value=median(rates), unit="tokens/s"),
        Row(what=f"{direct}: best of {len(rounds)} rounds, worst = 1", value=max(rates) / min(rates), unit="×"),
        Row(what=f"{direct}: first token", value=median([one.first_ms[_DIRECT] for one in rounds]), unit="ms"),
    ]
    for way in _WEB:
        rows += _web_rows(crowd, rounds, way=way)
    return rows


def _web_rows(crowd: Crowd, rounds: Sequence[Round], *, way: str) -> list[Row]:
    name = f"{crowd.name}, {_WEB[way]}"
    ratios = [one.tokens_per_s[way] / one.tokens_per_s[_DIRECT] for one in rounds]
    added = [one.first_ms[way] - one.first_ms[_DIRECT] for one in rounds]
    cpu_ms = sum(one.web_cpu_s[way] for one in rounds) * 1000 / (crowd.users * len(rounds))
    return [
        Row(what=f"{name}: throughput", value=median([one.tokens_per_s[way] for one in rounds]), unit="tokens/s"),
        Row(what=f"{name}: throughput, directly = 1", value=median(ratios), unit="×", at_least=0.9),
        Row(what=f"{name}: first token", value=median([one.first_ms[way] for one in rounds]), unit="ms"),
        Row(what=f"{name}: first token, added", value=median(added), unit="ms", at_most=50),
        Row(what=f"{name}: CPU of web for an answer of {crowd.tokens} tokens", value=cpu_ms, unit="ms"),
    ]
