"""Lists of words that others have made, read where they lie; nothing of them is in this repository.

- *plain*: a word a line. A comma at the end is dropped, and so is a count behind each word, where all lines have one.
- *csv*: a header with a column `text`, `word`, `phrase`, `keyword`, 词, 词语, 敏感词 or 关键词; `class` and `note` are
  read as well.
- *konsheng* (github.com/konsheng/Sensitive-lexicon): a word a line, `a+b` for words that must all be there; or JSON.
- *houbb* (github.com/houbb/sensitive-word): a word a line, in files of tags with a blank and `tag,tag` behind it.
- *fwwdn* (github.com/fwwdn/sensitive-stop-words): words separated by commas, line breaks, and `|`.
- *ldnoobw* (github.com/LDNOOBW): a word or several a line; or JSON.

Some such files are kept unreadable, each line in base64: where all lines are, they are decoded first.
"""

import base64
import binascii
import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, get_args

from app.domain.errors import InvalidInput
from app.safety.lexicon.text import read_text
from app.safety.normalise import KINDS, Kind

Format = Literal["auto", "plain", "csv", "konsheng", "houbb", "fwwdn", "ldnoobw"]
FORMATS: Final = get_args(Format)

_COLUMNS: Final = ("text", "word", "phrase", "keyword", "词", "词语", "敏感词", "关键词")
_COUNTED: Final = re.compile(r"(.+?)[ \t,，]+\d+")
_TAGGED: Final = re.compile(r"(\S+) (\S+)")
_JOINED: Final = re.compile(r"[^+\s]\+[^+\s]")
_UNREADABLE: Final = re.compile(r"[A-Za-z0-9+/]+={0,2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """A word as the file has it."""

    text: str
    line: int
    safety_class: str = ""
    note: str = ""
    refusal: str = ""
    """Why our lists cannot have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """What was in a file, and as what it was read."""

    read_as: str
    words: tuple[Word, ...]


def read_foreign(path: Path, *, as_format: Format = "auto") -> Foreign:
    """Read a list of words.

    Raises InvalidInput where it is not such a file or empty, OSError where it cannot be read.
    """
    text = read_text(path)
    if not text.strip():
        raise InvalidInput(f"{path}: the file is empty")
    read_as: str = as_format
    if text.lstrip()[0] in "[{" and as_format in {"auto", "konsheng", "ldnoobw"} and path.suffix in {"", ".json"}:
        read_as = "json" if as_format == "auto" else f"{as_format}, json"
        words = list(_json_words(text, path=path))
    elif as_format == "csv" or (as_format == "auto" and path.suffix.lower() == ".csv"):
        read_as = "csv"
        words = list(_csv_words(text, path=path))
    else:
        lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        decoded = _decoded(lines)
        lines = decoded or lines
        line_format = _guess([line for _, line in lines]) if as_format == "auto" else as_format
        read_as = line_format + (", base64" if decoded else "")
        words = [word for word in _line_words(lines, line_format) if word.text]
    if not words:
        raise InvalidInput(f"{path}: there is no word in it")
    return Foreign(read_as=read_as, words=tuple(map(_cleaned, words)))


def _cleaned(word: Word) -> Word:
    """Drop what nobody sees; a list is for people."""
    text = "".join(char for char in word.text if char.isprintable()).strip()
    return replace(word, text=text, refusal=word.refusal or ("" if text else "nothing of it can be seen"))


def _guess(lines: Sequence[str]) -> str:
    """Return the format of lines that nobody has named."""
    if len(lines) > 1 and 2 * sum(line.endswith((",", "，")) for line in lines) > len(lines):
        return "fwwdn"
    if (len(lines) == 1 and re.search("[,，]", lines[0])) or any("|" in line and _has_cjk(line) for line in lines):
        return "fwwdn"
    tagged = [_TAGGED.fullmatch(line) for line in lines]
    if all(tagged) and any(found and re.search("[,，]", found[2]) for found in tagged) and any(map(_has_cjk, lines)):
        return "houbb"
    if any(_JOINED.search(line) and _has_cjk(line) for line in lines):
        return "konsheng"
    return "plain"


def _has_cjk(text: str) -> bool:
    return any(KINDS[char] is Kind.CJK for char in text)


def _line_words(lines: Sequence[tuple[int, str]], as_format: str) -> Iterator[Word]:
    counted = [_COUNTED.fullmatch(line) for _, line in lines]
    has_counts = len(lines) > 1 and all(counted)
    has_tags = as_format == "houbb" and all(_TAGGED.fullmatch(line) for _, line in lines)
    for (number, line), count in zip(lines, counted, strict=True):
        text = count[1].strip() if has_counts and count else line
        if as_format == "fwwdn":
            yield from (Word(text=part.strip(), line=number) for part in re.split("[,，|]", text))
        elif has_tags and (tagged := _TAGGED.fullmatch(text)):
            yield Word(text=tagged[1], line=number, note=f"tags: {tagged[2]}")
        elif as_format == "konsheng" and _JOINED.search(text):
            yield Word(text=text, line=number, refusal="several words that must all be there; a list has one phrase")
        else:
            yield Word(text=text.rstrip(",，").strip(), line=number)


def _decoded(lines: Sequence[tuple[int, str]]) -> list[tuple[int, str]] | None:
    """Return what the lines say, if all of them are base64 of text and some of it is not English."""
    decoded: list[tuple[int, str]] = []
    for number, line in lines:
        written = line.rstrip(",")
        if len(written) % 4 or not _UNREADABLE.fullmatch(written):
            return None
        try:
            text = base64.b64decode(written, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None
        if not text.strip().isprintable():
            return None
        decoded.append((number, text.strip()))
    return None if all(text.isascii() for _, text in decoded) else decoded


def _csv_words(text: str, *, path: Path) -> Iterator[Word]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = header
        column = next((name for name in _COLUMNS if name in header), None)
        if column is None:
            raise InvalidInput(f"{path}:1: no column is named {', '.join(_COLUMNS)}; there are: {', '.join(header)}")
        line = reader.line_num + 1
        for row in reader:
            if None in row:
                raise InvalidInput(f"{path}:{line}: more fields than the header has")
            if word := (row[column] or "").strip():
                safety_class, note = ((row.get(name) or "").strip() for name in ("class", "note"))
                yield Word(text=word, line=line, safety_class=safety_class, note=note)
            line = reader.line_num + 1
    except csv.Error as error:
        raise InvalidInput(f"{path}:{reader.line_num}: not CSV: {error}") from None


def _json_words(text: str, *, path: Path) -> Iterator[Word]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits
        raise InvalidInput(f"{path}: not JSON: {error}") from None
    words = document.get("words") if isinstance(document, dict) else document
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise InvalidInput(f"{path}: neither a JSON list of words nor an object with one named words")
    place, line = 0, 1
    for word in words:
        found = text.find(json.dumps(word, ensure_ascii=False), place)
        if found > place:
            line += text.count("\n", place, found)
            place = found
        yield Word(text=word.strip(), line=line)
