"""What a list has, an entry at a time, and where in the file it stands."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Final

from app.safety.phrases import squeeze
from app.safety.policy import PhraseList, Record
from app.safety.policy_tables import alternatives, unique

_STRING: Final = re.compile(r'"((?:[^"\\]|\\.)*)"|\'([^\']*)\'')
_ASIDE: Final = re.compile(r"\s*(name|category|language|source|reviewer|by|note|class|short_ok|redundant_ok)\s*=")
"""Keys whose strings are no phrases."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A phrase of a list. A pattern gives one for each phrase that it stands for."""

    text: str
    canonical: str
    """As the automaton has it; entries for which it is the same are one."""
    line: int | None = None
    is_allowed: bool = False
    pattern: str = ""
    """What it was made from."""
    record: Record | None = None
    safety_class: str = ""

    @property
    def name(self) -> str:
        """Where it is, for people."""
        return f"line {self.line}" if self.line else "an earlier entry"


def entries_of(phrase_list: PhraseList, *, today: date, places: "Places | None" = None) -> Iterator[Entry]:
    """Yield what is written in a list, in its order, also what has expired; `places` tell the lines.

    `today` is the day for which the list was read.
    """
    lines = places or Places("", is_toml=True)
    made = list(_made(phrase_list.patterns))
    lasting = sum(not record.is_expired(today=today) for record in phrase_list.records)
    for text in phrase_list.phrases[: len(phrase_list.phrases) - lasting - len(made)]:
        yield _entry(text, line=lines.take(text), safety_class=phrase_list.safety_class)
    for record in phrase_list.records:
        safety_class = record.safety_class or phrase_list.safety_class
        yield replace(_entry(record.text, line=lines.take(record.text), safety_class=safety_class), record=record)
    for text, pattern in made:
        entry = _entry(text, line=lines.line_of(pattern), safety_class=phrase_list.safety_class)
        yield replace(entry, pattern=pattern)
    for text in phrase_list.allowed:
        yield replace(_entry(text, line=lines.take(text)), is_allowed=True)


def _entry(text: str, *, line: int | None, safety_class: str = "") -> Entry:
    return Entry(text=text, canonical=squeeze(text), line=line, safety_class=safety_class)


def _made(patterns: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Return what patterns stand for, as the reader of lists does: the first of those that count as the same."""
    pattern_of: dict[str, str] = {}
    for pattern in patterns:
        for text in alternatives(pattern):
            pattern_of.setdefault(text, pattern)
    return ((text, pattern_of[text]) for text in unique(pattern_of))


class Places:
    """Where in a file each phrase is written. One pass over the file, whatever its size."""

    def __init__(self, text: str, *, is_toml: bool, after: int = 0) -> None:
        """Look from the line after `after` on."""
        self._lines: dict[str, list[int]] = defaultdict(list)
        self._taken: dict[str, int] = defaultdict(int)
        is_aside = False
        for number, line in enumerate(text.split("\n")[after:], after + 1):
            if not is_toml:
                self._lines[line.strip().removeprefix("+").strip()].append(number)
                continue
            is_aside = is_aside or bool(_ASIDE.match(line))
            if not is_aside:
                for phrase in _strings(line):
                    self._lines[phrase].append(number)
            # What is aside is one line, or an array up to its bracket.
            marks = _STRING.sub("", line)
            is_aside = is_aside and "]" not in marks and ("[" in marks or "=" not in marks)

    def take(self, phrase: str) -> int | None:
        """Return the line on which a phrase is written: the first, and the next one each time it is asked for."""
        self._taken[phrase] += 1
        return self.line_of(phrase, occurrence=self._taken[phrase] - 1)

    def line_of(self, phrase: str, *, occurrence: int = 0) -> int | None:
        """Return the line on which a phrase is written for the nth time, from 0."""
        lines = self._lines.get(phrase)
        return lines[min(occurrence, len(lines) - 1)] if lines else None


def _strings(line: str) -> Iterator[str]:
    for found in _STRING.finditer(line):
        basic, literal = found.groups()
        if basic is None or "\\" not in basic:
            yield literal if basic is None else basic
            continue
        try:
            yield json.loads(f'"{basic}"')
        except ValueError:  # TOML knows \U0001F600 and \e, JSON does not
            yield basic
