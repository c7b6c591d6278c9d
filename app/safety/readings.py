"""The same text, read in other ways: what a reader sees is not always what is written.

A reading turns written characters into those that are meant, one for one, so that places stay the same: `b0mb` is read
as `bomb`, `海<b></b>纳` as 海, seven characters that count for nothing, and 纳. Phrases are searched in the result.

Most texts have nothing to be read otherwise. So a reading costs one search for the characters that it is about. Only
where one of them stands within the beginning of a phrase, or may begin one itself, does the reading follow the text,
from where the phrase began, until it sees no phrase any more. All this depends on the text alone, not on how it is cut.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final, Protocol

from app.domain.verdicts import Stage
from app.safety.detector import Match
from app.safety.phrases import Lexicon, PhraseScan

SKIP: Final = "\u200b"
"""Read as nothing."""


class Reader(Protocol):
    """One text as it is read in one way."""

    def read(self, char: str, *, is_live: bool) -> str:
        """Take the next character; return what is read so far: in all as many characters as were taken, or fewer yet.

        `is_live` says whether a phrase has begun.
        """
        ...

    def finish(self) -> str:
        """Return the rest."""
        ...

    def reach(self, start: int, end: int) -> tuple[int, int] | None:
        """Widen a span to whole signs, offsets counted from where the reader began; None where nothing is disguised."""
        ...

    def forget(self, upto: int) -> None:
        """Take note that no span will be asked about that begins before this offset."""
        ...


class Reading(Protocol):
    """A way to read."""

    @property
    def name(self) -> str:
        """As findings name it."""
        ...

    @property
    def lexicon(self) -> Lexicon:
        """The phrases that are searched."""
        ...

    @property
    def signs(self) -> str:
        """The characters where the text may be read otherwise."""
        ...

    def begins(self, char: str, *, is_live: bool) -> bool:
        """Whether one of these characters matters here: within a beginning of a phrase, or not."""
        ...

    def open(self) -> Reader:
        """Start to read."""
        ...


class _Track:
    """A reading that follows a text."""

    def __init__(self, reading: Reading, *, plain: PhraseScan, held: str) -> None:
        self.reading = reading
        self._reader = reading.open()
        self._start = plain.safe_upto
        self._scan = PhraseScan(reading.lexicon, offset=self._start, last=plain.before)
        self._fed_upto = self._start
        self.feed(held)

    def feed(self, text: str) -> None:
        scan = self._scan
        for char in text:
            read = self._reader.read(char, is_live=scan.held > 0)
            self._fed_upto += 1
            if read:
                scan.feed(read)

    def finish(self) -> None:
        self._scan.feed(self._reader.finish())
        self._scan.finish()

    @property
    def is_idle(self) -> bool:
        return self._scan.safe_upto == self._fed_upto

    @property
    def safe_upto(self) -> int:
        safe_upto = self._scan.safe_upto
        reach = self._reader.reach(safe_upto - self._start, safe_upto - self._start + 1)
        return min(safe_upto, reach[0] + self._start) if reach and safe_upto < self._fed_upto else safe_upto

    def take(self) -> Sequence[Match]:
        """Return the hits in which something is read otherwise."""
        found = self._scan.take()
        if found:
            found = [again for match in found for again in self._reached(match)]
        self._reader.forget(self._scan.safe_upto - self._start)
        return found

    def _reached(self, match: Match) -> Iterator[Match]:
        reach = self._reader.reach(match.start - self._start, match.end - self._start)
        if reach:
            start, end = reach[0] + self._start, reach[1] + self._start
            yield replace(match, start=start, end=end, detector=self.reading.name)


class _Signs:
    """Where a text may be read otherwise: a pattern finds the place, a set says quickest that there is none."""

    def __init__(self, readings: Iterable[Reading]) -> None:
        self.readings: dict[str, tuple[Reading, ...]] = {}
        """Those that each sign belongs to."""
        for reading in readings:
            for char in reading.signs:
                self.readings[char] = (*self.readings.get(char, ()), reading)
        self.chars = frozenset(self.readings)
        self.pattern = re.compile(f"[{''.join(map(re.escape, self.chars))}]" if self.chars else "(?!)")


class ReadingScan:
    """A text on its way through a lexicon, as it is written and as it may be read."""

    def __init__(self, lexicon: Lexicon, *, signs: _Signs) -> None:
        """`signs` are those of all readings."""
        self._plain = PhraseScan(lexicon)
        self._signs = signs
        self._held = ""
        """The text from where the longest beginning of a phrase starts."""
        self._tracks: dict[str, _Track] = {}
        """By the names of their readings."""
        self._final: list[Match] = []

    @property
    def safe_upto(self) -> int:
        """Where the longest beginning of a phrase starts in any reading."""
        if self._tracks:
            return min(self._plain.safe_upto, *(track.safe_upto for track in self._tracks.values()))
        return self._plain.safe_upto

    def take(self) -> Sequence[Match]:
        """Return the hits that became final."""
        found = self._plain.take()
        if self._final:
            found = [*found, *self._final]
            self._final = []
        return found

    def feed(self, text: str) -> None:
        """Read on."""
        if not self._tracks and self._signs.chars.isdisjoint(text):
            self._read(text)
            return
        place, end = 0, len(text)
        while place < end:
            sign = None if self._tracks else self._signs.pattern.search(text, place)
            upto = place if self._tracks else sign.start() if sign else end
            if place < upto:
                self._read(text[place:upto])
            if upto < end:
                self._follow(text[upto])
            place = upto + 1

    def finish(self) -> None:
        """Settle what waited for more."""
        self._plain.finish()
        for track in self._tracks.values():
            track.finish()
            self._final += track.take()
        self._tracks = {}

    def _read(self, text: str) -> None:
        plain = self._plain
        plain.feed(text)
        held = plain.held
        self._held = (self._held + text)[-held:] if held else ""

    def _follow(self, char: str) -> None:
        """Read a character in each way that it may be read in."""
        for reading in self._signs.readings.get(char, ()):
            if reading.name not in self._tracks and reading.begins(char, is_live=bool(self._held)):
                self._tracks[reading.name] = _Track(reading, plain=self._plain, held=self._held)
        self._read(char)
        for name, track in tuple(self._tracks.items()):
            track.feed(char)
            self._final += track.take()
            if track.is_idle:
                del self._tracks[name]


class ReadingDetector:
    """Finds the phrases of a lexicon, as they are written and as they may be read."""

    name = "phrases"

    def __init__(self, lexicon: Lexicon, readings: Iterable[Reading]) -> None:
        """Readings without a phrase are left out."""
        self._lexicon = lexicon
        self._signs = _Signs(reading for reading in readings if reading.lexicon.mask)

    def open(self, *, stage: Stage) -> ReadingScan:
        """Start a text."""
        del stage
        return ReadingScan(self._lexicon, signs=self._signs)
