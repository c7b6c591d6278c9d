"""An answer as its owner reads it: with what they wrote in place of the placeholders that stand for it.

What was masked in a question lives in the memory of its turn, nowhere else. `OwnText` faces the owner's page or
program within that turn. Nothing takes it but what is sent there: storage and the turn's log take `ReleasedText`, which
keeps the placeholders, and so do all who read later (a reload, another turn, the model, an export, a share).
"""

import re
from collections.abc import Mapping
from typing import NewType

from app.domain.verdicts import NO_MASKS, NOTHING, ReleasedText, SealedText, excerpt, joined

OwnText = NewType("OwnText", str)
"""A released text with the owner's own words put back. A plain string at run time, a type of its own to the checker."""


class Masks:
    """What the placeholders of one question stand for. No placeholder begins within another."""

    __slots__ = ("_pattern", "_sealed")

    def __init__(self, sealed: Mapping[str, SealedText] = NO_MASKS) -> None:
        """By placeholder."""
        self._sealed = sealed
        self._pattern = re.compile("|".join(map(re.escape, sealed))) if sealed else None

    def __bool__(self) -> bool:
        return bool(self._sealed)

    def unmask(self, text: ReleasedText) -> OwnText:
        """Return the text with every placeholder replaced; what is put in is not looked at again."""
        if self._pattern is None:
            return OwnText(text)
        return OwnText(self._pattern.sub(lambda found: self._sealed[found.group()].unsealed(), text))

    def begun(self, text: str) -> int:
        """Return how many of the last characters may be the beginning of a placeholder, less than the whole of one."""
        longest = max(map(len, self._sealed), default=1) - 1
        lengths = range(min(longest, len(text)), 0, -1)
        return next((n for n in lengths if any(one.startswith(text[-n:]) for one in self._sealed)), 0)

    def stream(self) -> "Unmasking":
        """Start a text that comes in pieces."""
        return Unmasking(self)


class Unmasking:
    """A text on its way to its owner. Holds back what may be the beginning of a placeholder, and nothing else."""

    def __init__(self, masks: Masks) -> None:
        """Nothing was fed yet."""
        self._masks = masks
        self._held = NOTHING

    def feed(self, text: ReleasedText) -> OwnText:
        """Take a piece; return what is free now. All that is returned makes `unmask` of all that was fed."""
        known = joined((self._held, text))
        free = len(known) - self._masks.begun(known)
        self._held = excerpt(known, free, len(known))
        return self._masks.unmask(excerpt(known, 0, free))

    def finish(self) -> OwnText:
        """Return the rest."""
        rest, self._held = self._held, NOTHING
        return OwnText(rest)
