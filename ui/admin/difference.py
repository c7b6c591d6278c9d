"""The difference of two texts, line by line, as the console draws it."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

_CONTEXT_LINES = 3


@dataclass(frozen=True, slots=True)
class DiffLine:
    """A line, and what became of it; a `gap` stands for lines that are the same in both."""

    kind: Literal["same", "added", "removed", "gap"]
    text: str


def difference(before: str, after: str) -> list[DiffLine]:
    """Return the changed lines with three lines around each; nothing where the texts are the same."""
    return list(_lines(before.splitlines(), after.splitlines()))


def _lines(before: list[str], after: list[str]) -> Iterator[DiffLine]:
    groups = difflib.SequenceMatcher(a=before, b=after, autojunk=False).get_grouped_opcodes(_CONTEXT_LINES)
    end = 0
    for group in groups:
        if group[0][1] > end:
            yield DiffLine("gap", "")
        for tag, from_a, to_a, from_b, to_b in group:
            if tag == "equal":
                yield from (DiffLine("same", line) for line in before[from_a:to_a])
                continue
            yield from (DiffLine("removed", line) for line in before[from_a:to_a])
            yield from (DiffLine("added", line) for line in after[from_b:to_b])
        end = group[-1][2]
    if 0 < end < len(before):
        yield DiffLine("gap", "")
