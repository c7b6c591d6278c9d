"""What the gate costs and how long it holds text back: the built-in templates' own text, fed like tokens."""

import asyncio
import random
from collections.abc import Sequence
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
    return rows


async def _held_back(content_filter: ContentFilter, text: str, *, seed: int) -> list[int]:
    """Return, after each piece of 1 to 3 Chinese or 2 to 6 other characters, how many were held back."""
    chance = random.Random(seed)
    gate = content_filter.open(stage=Stage.OUTPUT)
    fed = released = 0
    held = []
    while fed < len(text):
        is_chinese = ord(text[fed]) in _CHINESE
        size = chance.randint(1, 3) if is_chinese else chance.randint(2, 6)
        piece = text[fed : fed + size]
        fed += len(piece)
        for event in await gate.feed(piece):
            if isinstance(event, Cut):
                raise RuntimeError("a built-in template is refused")  # noqa: TRY004 - not a matter of types
            released += len(event.text)
        held.append(fed - released)
    return held
