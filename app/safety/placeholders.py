"""Numbered masks for a question, where the policy says that its owner may be shown again what they stand for.

    call ⟦█1⟧ or ⟦█2⟧, best ⟦█1⟧

The brackets mean nothing in Markdown or HTML and part a number from the text around it; the block is of the mask, which
counts as a letter, so that no phrase begins within. A number that stands so in the question already, or beside it, is
not given out: what somebody typed is never taken for a placeholder.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from app.domain.verdicts import SealedText

MAX_NUMBER: Final = 999
"""How many there are; what is left over gets the plain mask."""
_FORM: Final = re.compile(f"⟦█([1-9][0-9]{{0,{len(str(MAX_NUMBER)) - 1}}})⟧")


class Placeholders:
    """Those of one question."""

    def __init__(self, *, taken: Iterable[str]) -> None:
        """`taken` are the question and the texts beside it."""
        gone = {int(number) for text in taken for number in _FORM.findall(text)}
        self._free: Iterator[int] = (number for number in range(1, MAX_NUMBER + 1) if number not in gone)
        self._by_original: dict[str, str] = {}
        self._sealed: dict[str, SealedText] = {}

    def of(self, original: str, *, start: int) -> str | None:
        """Return the placeholder of a span, the same for the same text; None where none is left."""
        if original not in self._by_original:
            number = next(self._free, None)
            if number is None:
                return None
            placeholder = f"⟦█{number}⟧"
            self._by_original[original] = placeholder
            self._sealed[placeholder] = SealedText(original, start=start)
        return self._by_original[original]

    @property
    def sealed(self) -> Mapping[str, SealedText]:
        """What they stand for."""
        return MappingProxyType(dict(self._sealed))
