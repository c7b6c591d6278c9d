"""Harmless texts that no list should find anything in.

Ours are in `app/safety/corpus`, written for this, a line each, and full of words in which other words hide (路口交通).
The must-not-refuse banks are golden: not one of their questions may be hit. An operator's own are text files.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.domain.errors import InvalidInput
from app.safety.assessment.bank import BUILTIN, Expectation, builtin_bank
from app.safety.lexicon.text import read_text

_CORPORA: Final = Path(__file__).parent.parent / "corpus"
_BANKS: Final = Path(__file__).parent.parent / "banks"


@dataclass(frozen=True, slots=True)
class Line:
    """One harmless text, and its line in the file."""

    number: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Harmless texts from one file."""

    name: str
    lines: tuple[Line, ...]
    is_golden: bool = False
    """Not one line may be hit."""


def builtin_corpora() -> tuple[Corpus, ...]:
    """Return ours: the texts, then the golden questions."""
    plain = [read_corpus(path, name=path.stem) for path in sorted(_CORPORA.glob("*.txt"))]
    return (*plain, *_golden())


def read_corpus(path: Path, *, name: str | None = None) -> Corpus:
    """Read a text a line; what stands behind `#` before the first of them is about the file.

    Raises InvalidInput where it is no text or there is nothing in it, OSError where it cannot be read.
    """
    lines: list[Line] = []
    for number, text in enumerate(read_text(path).split("\n"), 1):
        if text.strip() and (lines or not text.startswith("#")):
            lines.append(Line(number, text))
    if not lines:
        raise InvalidInput(f"{path}: there is no text in it")
    return Corpus(name=name or str(path), lines=tuple(lines))


def _golden() -> Iterator[Corpus]:
    for name in BUILTIN:
        questions = [one.text for one in builtin_bank(name).questions if one.expected is Expectation.ANSWER]
        if questions:
            written = enumerate(read_text(_BANKS / f"{name}.toml").split("\n"), 1)
            numbers = {text.strip().rstrip(",").strip('"'): number for number, text in written}
            lines = tuple(Line(numbers.get(question, 0), question) for question in questions)
            yield Corpus(name=name, lines=lines, is_golden=True)
