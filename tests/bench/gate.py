"""What the gate costs and how long it holds text back, with the shipped lists and with very long ones.

The text is that of the built-in templates and of the questions that must not be refused, fed like tokens.
"""

import asyncio
import json
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import process_time
from typing import Final

from app.domain.verdicts import Cut, Stage
from app.domain.words import Language
from app.safety.assessment.bank import builtin_bank
from app.safety.filter import ContentFilter
from app.safety.policy_file import BUILTIN_POLICY, load_policy
from prompts import library
from tests.bench.measurement import Effort, Row, percentile
from tests.bench.phrase_lists import write_policy
from tests.bench.program import Program

_CHINESE = range(0x4E00, 0x9FFF + 1)
_LANGUAGES: Final[Mapping[Language, str]] = {"zh": "Chinese", "en": "English"}
_READING_SPEED: Final = 80
"""Characters a second of one stream."""


def measure(effort: Effort) -> Sequence[Row]:
    """Return the rows."""
    content_filter = ContentFilter(load_policy())
    rows: list[Row] = []
    for language, name in _LANGUAGES.items():
        rows += _stream(content_filter, _text(language), name=f"gate, {name}", effort=effort)
        rows += [
            Row(what=f"gate, {name}: {detector}, ns a character", value=nanoseconds)
            for detector, nanoseconds in _detectors(
                content_filter, _text(language), repeats=effort.of(full=10, quick=3)
            )
        ]
    for count in (10_000, 100_000):
        rows += _with_phrases(count, effort=effort)
    return rows


def _with_phrases(count: int, *, effort: Effort) -> Sequence[Row]:
    """Return the rows for so many phrases more than the shipped ones."""
    name = f"{count:,} phrases"
    with tempfile.TemporaryDirectory() as folder:
        # A policy that would stop its own replies is refused.
        texts = {language: f"{_text(language)}\n{_wording(language)}" for language in _LANGUAGES}
        path = write_policy(Path(folder), count=count, chinese=texts["zh"], english=texts["en"])
        running = Path(folder) / "policy.toml"
        running.write_text(BUILTIN_POLICY.read_text(encoding="utf-8"), encoding="utf-8")
        with Program("tests.bench.swap", str(running), str(path)) as program:
            swapped = json.loads(program.ask(""))
        content_filter = ContentFilter(load_policy(path))
    rows = [
        Row(what=f"{name}: reading and building, CPU", value=swapped["build_s"], unit="s", at_most=3.0),
        Row(what=f"{name}: longest pause of the loop", value=swapped["pause_s"] * 1000, unit="ms", at_most=100.0),
        Row(what=f"{name}: memory", value=swapped["memory_mib"], unit="MiB", at_most=200.0),
    ]
    for language, spoken in _LANGUAGES.items():
        rows += _stream(content_filter, _text(language), name=f"{name}, {spoken}", effort=effort, has_bounds=True)
    return rows


def _stream(
    content_filter: ContentFilter, text: str, *, name: str, effort: Effort, has_bounds: bool = False
) -> Iterator[Row]:
    """Yield what one stream costs, the quickest of some runs, and how much of it waits."""
    held: list[int] = []
    seconds = []
    for seed in range(effort.of(full=10, quick=3)):
        pieces = list(_pieces(text, seed=seed))
        began = process_time()
        held += asyncio.run(_held_back(content_filter, pieces))
        seconds.append(process_time() - began)
    speed = len(text) / min(seconds)
    most_held = 4.0 if has_bounds and name.endswith("Chinese") else None
    yield Row(what=f"{name}: characters held back, mean", value=sum(held) / len(held))
    yield Row(what=f"{name}: characters held back, p99", value=percentile(held, 99), at_most=most_held)
    yield Row(what=f"{name}: characters a second, one core", value=speed, at_least=150_000.0 if has_bounds else None)
    if has_bounds:
        share = 100 * _READING_SPEED / speed
        yield Row(what=f"{name}: of a core for a stream of {_READING_SPEED}/s", value=share, unit="%", at_most=3.0)


def _text(language: str) -> str:
    templates = [file.content.system for file in library.built_in() if file.language == language]
    questions = [question.text for question in builtin_bank(f"must-not-refuse-{language}").questions]
    return "\n".join([*templates, *questions])


def _wording(language: Language) -> str:
    policy = load_policy()
    return "\n".join([*(one.text(language) for one in policy.replies), *(one.text(language) for one in policy.answers)])


def _detectors(content_filter: ContentFilter, text: str, *, repeats: int) -> Iterator[tuple[str, float]]:
    """Yield each detector's name and what it costs alone, the quickest of some runs."""
    for detector in content_filter.detectors(stage=Stage.OUTPUT):
        seconds = []
        for seed in range(repeats):
            pieces = list(_pieces(text, seed=seed))
            scan = detector.open(stage=Stage.OUTPUT)
            began = process_time()
            for piece in pieces:
                scan.feed(piece)
                scan.take()
                _ = scan.safe_upto
            seconds.append(process_time() - began)
        yield detector.name, min(seconds) * 1e9 / len(text)


def _pieces(text: str, *, seed: int) -> Iterator[str]:
    """Yield pieces of 1 to 3 Chinese or 2 to 6 other characters."""
    chance = random.Random(seed)
    start = 0
    while start < len(text):
        size = chance.randint(1, 3) if ord(text[start]) in _CHINESE else chance.randint(2, 6)
        yield text[start : start + size]
        start += size


async def _held_back(content_filter: ContentFilter, pieces: Sequence[str]) -> list[int]:
    """Return, after each piece, how many characters were held back."""
    gate = content_filter.open(stage=Stage.OUTPUT)
    fed = released = 0
    held = []
    for piece in pieces:
        fed += len(piece)
        for event in await gate.feed(piece):
            if isinstance(event, Cut):
                raise RuntimeError("a harmless text is refused")  # noqa: TRY004 - not a matter of types
            released += len(event.text)
        held.append(fed - released)
    return held
