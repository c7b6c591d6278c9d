"""A text that is read as a policy or a list, and where in it things stand: faults are told with their lines."""

import re
import tomllib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from app.domain.errors import InvalidPolicy

_PERMISSIONS: Final = frozenset({"short_ok", "redundant_ok"})
_Model = TypeVar("_Model", bound=BaseModel)


class Source:
    """A file that is being read, and where in it things stand."""

    def __init__(self, name: str, text: str, *, path: Path | None = None) -> None:
        self.path = path
        self.name = name
        self.text = text
        self.lines = self.text.splitlines()

    @classmethod
    def of_file(cls, path: Path) -> "Source":
        """Read a file. Raises InvalidPolicy."""
        try:
            return cls(path.name, path.read_text(encoding="utf-8-sig"), path=path)
        except FileNotFoundError:
            raise InvalidPolicy(f"{path}: there is no such file") from None
        except UnicodeDecodeError:
            raise InvalidPolicy(f"{path}: not UTF-8") from None
        except OSError as error:
            raise InvalidPolicy(f"{path}: {error.strerror}") from error

    def at(self, reason: str, *, line: int | None = None) -> str:
        """Return a fault, with its line where one is known."""
        return f"{self.name}:{line}: {reason}" if line else f"{self.name}: {reason}"

    def line_of_table(self, name: str, *, number: int, after: int = 0) -> int:
        """Return the line of the `number`th `[[name]]` after a line, from 0; 0 where it is not written so."""
        headers = [n for n, header in self._headers if n > after and header == f"[[{name}]]"]
        return headers[number] if number < len(headers) else 0

    def place_of(self, table: str, *, number: int) -> str:
        """Return where a table stands, as a fault begins."""
        line = self.line_of_table(table, number=number)
        return f"{self.name}:{line}" if line else self.name

    @cached_property
    def _headers(self) -> Sequence[tuple[int, str]]:
        """Return the lines on which tables begin, and how."""
        headers = ((n, line.split("#")[0].strip()) for n, line in enumerate(self.lines, 1) if "[[" in line)
        return [(n, header) for n, header in headers if header.startswith("[[")]

    def line_of_key(self, key: str, *, after: int = 0) -> int | None:
        """Return the first line after another that sets a key."""
        for n, line in enumerate(self.lines[after:], after + 1):
            if line.replace("#", "").split("=")[0].split(":")[0].strip().strip('"') == key:
                return n
        return None

    def line_of_phrase(self, phrase: str, *, occurrence: int, after: int = 0) -> int | None:
        """Return the line on which a phrase is written for the nth time, from 0."""
        lines = self._lines_of.get(phrase, [])
        found = lines[bisect_right(lines, after) :]
        return found[min(occurrence, len(found) - 1)] if found else None

    @cached_property
    def _lines_of(self) -> Mapping[str, Sequence[int]]:
        """Return the lines on which each string, or line without a sign before it, is written."""
        lines: dict[str, list[int]] = {}
        for number, line in enumerate(self.lines, 1):
            for text in (*re.findall(r'"([^"]*)"', line), line.strip().removeprefix("+").strip()):
                lines.setdefault(text, []).append(number)
        return lines

    def toml(self) -> dict[str, object]:
        """Parse."""
        try:
            return tomllib.loads(self.text)
        except (ValueError, RecursionError) as error:  # also a number of thousands of digits
            raise InvalidPolicy(self.at(str(error))) from None

    def list_text(self) -> dict[str, object]:
        """Parse a `.txt`: `# key: value` lines, then phrases, `+` before the allowed ones."""
        table: dict[str, str | list[str]] = {}
        phrases: list[str] = []
        allowed: list[str] = []
        for line in (line.strip() for line in self.lines):
            if line.startswith("#") and ":" in line and not phrases and not allowed:
                key, _, value = line[1:].partition(":")
                words = [word.strip() for word in value.split(",")]
                table[key.strip()] = words if key.strip() in _PERMISSIONS else value.strip()
            elif line.startswith("+"):
                allowed.append(line[1:].strip())
            elif line and not line.startswith("#"):
                phrases.append(line)
        return {**table, "phrases": phrases, "allow": allowed}

    def read(self, model: type[_Model], table: Mapping[str, object]) -> _Model:
        """Return the typed content. Raises InvalidPolicy with every fault."""
        try:
            return model.model_validate(table)
        except ValidationError as error:
            raise InvalidPolicy(
                *(self._describe(fault["loc"], fault["type"], fault["msg"]) for fault in error.errors())
            ) from None

    def _describe(self, place: tuple[int | str, ...], kind: str, message: str) -> str:
        """Turn pydantic's path to a value (`rules`, 2, `action`) into a line and words. The value is not repeated."""
        words = {"extra_forbidden": "there is no such key", "missing": "is required"}.get(kind)
        reason = words or message.removeprefix("Value error, ")
        numbered = [(name, index) for name, index in pairwise(place) if isinstance(index, int)]
        keys = [part for part in place if isinstance(part, str)]
        after = 0
        if numbered and numbered[0][0] in {"rules", "lists", "entries", "replies", "answers", "guards"}:
            after = self.line_of_table(str(numbered[0][0]), number=numbered[0][1])
        for name, number in numbered[1:]:
            after = self.line_of_table(f"lists.{name}", number=number, after=after) or after
        line = self.line_of_key(keys[-1], after=after) if keys and kind != "missing" else None
        where = ".".join(f"{part + 1}" if isinstance(part, int) else part for part in place)
        return self.at(f"{where}: {reason}" if where else reason, line=line or after or None)
