"""Personal data with a form of its own. So far: the number of a Chinese identity card.

An identity number is a run of exactly 18 digits, the last of which may be X. A run is held back while it grows, to 18
characters at most, and checked once when it ends: plain `re` on 18 characters is linear and bounded.
Source of the form and the check digit: GB 11643-1999, which takes ISO 7064 MOD 11-2.
"""

import re
from collections.abc import Sequence
from datetime import date
from typing import Final

from app.domain.verdicts import Action, Stage
from app.safety.detector import Match
from app.safety.normalise import FOLDED, Memo

TEST_NUMBER: Final = "11010519491231002X"
"""Made up; masked by every policy, so that an operator can see the filter work."""

_LENGTH: Final = 18
_FORM: Final = re.compile(r"[1-9][0-9]{5}(?:18|19|20)[0-9]{9}[0-9x]")
_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECK_DIGITS: Final = "10x98765432"
_DIGITS: Final = frozenset("0123456789")
_MAX_SKIPPED: Final = 1000
_HAS_DIGIT: Final[Memo[bool]] = Memo(lambda char: not _DIGITS.isdisjoint(FOLDED[char]))


def is_id_number(text: str) -> bool:
    """Whether this is an identity number: its form, a day that existed, the check digit. Takes folded text."""
    if not _FORM.fullmatch(text):
        return False
    try:
        date(int(text[6:10]), int(text[10:12]), int(text[12:14]))
    except ValueError:
        return False
    total = sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, text, strict=False))
    return text[-1] == _CHECK_DIGITS[total % 11]


class IdNumberScan:
    """A text that is searched for identity numbers."""

    def __init__(self) -> None:
        """Start before the first character."""
        self._offset = 0
        self._run = ""
        """The digits that the text ends with, up to one more than a number has."""
        self._start = 0
        self._end = 0
        self._skipped = 0
        """Invisible characters within the run."""
        self._final: list[Match] = []

    @property
    def safe_upto(self) -> int:
        """Where the run of digits starts, while it may still become a number."""
        return self._start if 0 < len(self._run) <= _LENGTH else self._offset

    def take(self) -> Sequence[Match]:
        """Return the numbers that ended."""
        final, self._final = self._final, []
        return final

    def feed(self, text: str) -> None:
        """Read on."""
        for char in text:
            if self._run or _HAS_DIGIT[char]:
                folded = FOLDED[char]
                for c in folded:
                    self._read(c)
                if not folded:
                    self._skip()
            self._offset += 1

    def finish(self) -> None:
        """Check the run that the text ends with."""
        self._close()

    def _read(self, char: str) -> None:
        is_check_digit = char == "x" and len(self._run) == _LENGTH - 1
        if char not in _DIGITS and not is_check_digit:
            self._close()
            return
        if not self._run:
            self._start = self._offset
        if len(self._run) <= _LENGTH:
            self._run += char
        self._end = self._offset + 1
        self._skipped = 0
        if is_check_digit:
            self._close()

    def _skip(self) -> None:
        self._skipped += 1
        if self._skipped > _MAX_SKIPPED:
            self._close()

    def _close(self) -> None:
        run, self._run, self._skipped = self._run, "", 0
        if is_id_number(run):
            is_test = run == TEST_NUMBER.casefold()
            self._final.append(
                Match(
                    category="personal_data",
                    rule="id-number:test" if is_test else "id-number:cn",
                    start=self._start,
                    end=self._end,
                    action=Action.MASK if is_test else None,
                )
            )


class IdNumberDetector:
    """Finds identity numbers."""

    name = "patterns"

    def open(self, *, stage: Stage) -> IdNumberScan:
        """Start a text."""
        del stage
        return IdNumberScan()
