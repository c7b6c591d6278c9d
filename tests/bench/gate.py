"""What the gate costs and how long it holds text back: the built-in templates' own text, fed like tokens."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from time import process_time

from app.domain.verdicts import Cut, Stage
from app.safety.filter import ContentFilter
from app.safety.policy_file import load_policy
from prompts import library
from tests.bench.measurement import Effort, Row, percentile

_CHINESE = range(0x4E00, 0x9FFF + 1)


def measure(effort: Effort) -> Sequence[Row]:
    """Return the rows."""
    content_filter = ContentFilter(load_policy())
    rows = []
    for language in ("zh", "en"):
        text = "\n".join(file.content.system for file in library.built_in() if file.language == language)
        held: list[int] = []
        repeats = effort.of(full=10, quick=2)
        began = process_time()
        for seed in range(repeats):
            held += asyncio.run(_held_back(content_filter, text, seed=seed))
        seconds = process_time() - began
        name = f"gate, {'Chinese' if language == 'zh' else 'English'}"
        rows += [
            Row(what=f"{name}: characters held back, mean", value=sum(held) / len(held)),
            Row(what=f"{name}: characters held back, p99", value=percentile(held, 99)),
            Row(what=f"{name}: characters a second, one core", value=repeats * len(text) / seconds),
        ]
        rows += [
            Row(what=f"{name}: {detector}, ns a character", value=nanoseconds)
            for detector, nanoseconds in _detectors(content_filter, text, repeats=repeats)
        ]
    return rows


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


async def _held_back(content_filter: ContentFilter, text: str, *, seed: int) -> list[int]:
    """Return, after each piece, how many characters were held back."""
    gate = content_filter.open(stage=Stage.OUTPUT)
    fed = released = 0
    held = []
    for piece in _pieces(text, seed=seed):
        fed += len(piece)
        for event in await gate.feed(piece):
            if isinstance(event, Cut):
                raise RuntimeError("a built-in template is refused")  # noqa: TRY004 - not a matter of types
            released += len(event.text)
        held.append(fed - released)
    return held
