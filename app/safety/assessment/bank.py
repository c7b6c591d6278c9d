"""Banks of questions, each with what should become of it, and the kinds that GB/T 45654 asks for.

Our own banks are TOML files beside the phrase lists; `app.safety.assessment.importers` reads what others have made.
"""

import hashlib
import random
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date as Date  # noqa: N812 — a key is called date
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.domain.errors import InvalidInput
from app.safety.taxonomy import CLASSES, GROUPS

_BUILTIN_BANKS: Final = Path(__file__).parent.parent / "banks"
BUILTIN: Final = tuple(sorted(path.stem for path in _BUILTIN_BANKS.glob("*.toml")))
"""The names of the banks that come with the program."""

REFUSE_KINDS: Final[Mapping[str, str]] = {
    one.id: f"{one.zh} · {one.en}" for one in CLASSES.values() if GROUPS[one.group].refuse_questions
}
"""The classes of groups A.1 and A.2: a should-refuse bank covers them all."""
ANSWER_KINDS: Final[Mapping[str, str]] = {
    "system": "制度 · the country's system",
    "belief": "信仰 · belief",
    "image": "形象 · the country's image",
    "culture": "文化 · culture",
    "custom": "习俗 · custom",
    "ethnicity": "民族 · ethnicity",
    "geography": "地理 · geography",
    "history": "历史 · history",
    "heroes": "英烈 · heroes and martyrs",
    "gender": "性别 · gender",
    "age": "年龄 · age",
    "occupation": "职业 · occupation",
    "health": "健康 · health",
}
"""What a must-not-refuse bank covers."""


class Expectation(StrEnum):
    """What should become of a question."""

    ANSWER = "answer"
    REFUSE = "refuse"
    UNKNOWN = "unknown"
    """Nobody has said; only how often it is refused can be told."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question, or whatever a person might send."""

    text: str
    kind: str
    expected: Expectation


@dataclass(frozen=True, slots=True, kw_only=True)
class Bank:
    """Questions that belong together."""

    name: str
    questions: tuple[Question, ...]
    source: str = ""
    is_made: bool = False
    """Made from the phrase lists, so it says how well these hold and nothing about how much they know."""

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that change with any question, kind or expectation."""
        whole = hashlib.sha256()
        for question in self.questions:
            whole.update(f"{question.expected}\0{question.kind}\0{question.text}\0".encode(errors="surrogatepass"))
        return whole.hexdigest()[:12]

    def drawn(self, count: int) -> "Bank":
        """Return a bank of at most so many of the questions, in their order: of one bank always the same."""
        places: Sequence[int] = range(len(self.questions))
        if count < len(places):
            places = sorted(random.Random(self.digest).sample(places, count))  # noqa: S311 — no secret hangs on it
        return replace(self, questions=tuple(self.questions[place] for place in places))


def builtin_bank(name: str) -> Bank:
    """Return one of `BUILTIN`."""
    return read_own_bank(_BUILTIN_BANKS / f"{name}.toml")


class _BankFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
    expect: Literal["answer", "refuse", "unknown"]
    language: Literal["en", "zh", "any"]
    source: Annotated[str, Field(min_length=1)]
    date: Date
    licence: Annotated[str, Field(min_length=1)]
    reviewer: Annotated[str, Field(min_length=1)]
    questions: Annotated[dict[str, list[Annotated[str, Field(min_length=1)]]], Field(min_length=1)]


def read_own_bank(path: Path) -> Bank:
    """Read a bank as ours are written.

    Raises InvalidInput with file and line where it is not one, or a question is in it twice.
    """
    text = read_text(path)
    try:
        document = _BankFile.model_validate(tomllib.loads(text))
    except ValidationError as error:
        raise InvalidInput(_first_fault(error, text=text, path=path)) from None
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits
        raise InvalidInput(f"{path}: {error}") from None
    expected = Expectation(document.expect)
    questions: dict[str, Question] = {}
    for kind, texts in document.questions.items():
        for question in texts:
            if question in questions:
                raise InvalidInput(f"{_place(path, _line_of_repeat(text, question))}: this question is there twice")
            questions[question] = Question(question, kind, expected)
    if not questions:
        raise InvalidInput(f"{path}: there is no question in it")
    return Bank(name=document.name, questions=tuple(questions.values()), source=document.source)


def read_text(path: Path) -> str:
    """Return a bank's text. Raises InvalidInput where it is not UTF-8, OSError where it cannot be read."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InvalidInput(f"{_place(path, line)}: not UTF-8") from None


def _first_fault(error: ValidationError, *, text: str, path: Path) -> str:
    """Return the first that stands in a line: a misspelled key before the one that is missing for it."""
    faults = []
    for fault in error.errors(include_url=False):
        keys = [part for part in fault["loc"] if isinstance(part, str)]
        line = None if fault["type"] == "missing" else _line_of_key(text, keys)
        where = ".".join(f"{part + 1}" if isinstance(part, int) else part for part in fault["loc"])
        words = {"extra_forbidden": "there is no such key", "missing": "is required"}.get(fault["type"], fault["msg"])
        faults.append((line, f"{_place(path, line)}: {where}: {words}"))
    return min(faults, key=lambda fault: fault[0] or 1 << 30)[1]


def _line_of_key(text: str, keys: list[str]) -> int | None:
    """Return the line that sets the last of the keys which the file has."""
    lines = [line.split("=")[0].strip().strip("[]\"' ") for line in text.splitlines()]
    return next((lines.index(key) + 1 for key in reversed(keys) if key in lines), None)


def _line_of_repeat(text: str, question: str) -> int | None:
    lines = [number for number, line in enumerate(text.splitlines(), 1) if question in line]
    return lines[-1] if lines else None


def _place(path: Path, line: int | None) -> str:
    return f"{path}:{line}" if line else str(path)
