"""What two spellings of a text have in common: full width, case, accents and invisible characters do not count.

Every code point is folded by itself, so the result never depends on how a stream was cut, and everything that is found
in the folded text has an exact place in the original. NFKD and not NFKC for that reason: composing looks at neighbours.
A traditional character counts as the simplified one that OpenCC has for it alone, whatever stands beside it.
"""

import hashlib
import unicodedata
from collections.abc import Callable, Mapping
from enum import IntEnum
from functools import cache
from typing import TypeVar

from opencc import OpenCC

Value = TypeVar("Value")

_INVISIBLE = frozenset({"Mn", "Me", "Cf", "Cc", "Cs", "Co"})
_IGNORABLE = frozenset(
    chr(code)
    for first, last in (
        (0x115F, 0x1160),  # Hangul fillers; NFKD turns U+3164 and U+FFA0 into one of them
        (0x3164, 0x3164),
        (0xFFA0, 0xFFA0),
        (0x2065, 0x2065),
        (0xFFF0, 0xFFF8),
        (0xE0000, 0xE0FFF),  # tags, variation selectors, and what is kept free between them
    )
    for code in range(first, last + 1)
)
"""Unicode's Default_Ignorable_Code_Point where the category does not tell it: letters and unassigned ones."""
_CJK = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x3FFFF),
    (0x3007, 0x3007),  # 〇
    (0x2E80, 0x2FDF),  # radicals
    (0x3041, 0x312F),  # kana and bopomofo
    (0x1100, 0x11FF),  # hangul, as NFKD leaves it
)
_SENTENCE_ENDS = frozenset("。!?")
MASK = "███"
"""Stands for a masked span whatever its length. Unlike `***` it means nothing in Markdown and nothing in HTML."""


class Memo(dict[str, Value]):
    """A function of a short text, remembered. It grows on use and stops at `limit`, so no text can fill the memory."""

    def __init__(self, function: Callable[[str], Value], *, limit: int = 1 << 16) -> None:
        """Start empty."""
        super().__init__()
        self._function = function
        self._limit = limit

    def __missing__(self, text: str) -> Value:
        value = self._function(text)
        if len(self) < self._limit:
            self[text] = value
        return value


def fold(char: str) -> str:
    """Return what a code point counts as: nothing, one character, or several. Folding twice changes nothing."""
    return _spell(char, case=lambda text: text.casefold().translate(_simplified()))


def plain(char: str) -> str:
    """Return the same with its case kept: in keys and tokens it counts."""
    return _spell(char, case=str)


def _spell(char: str, *, case: Callable[[str], str]) -> str:
    if char.isspace():
        return " "
    text = char
    while True:
        spelled = unicodedata.normalize("NFKD", case(unicodedata.normalize("NFKD", text)))
        folded = "".join(c for c in spelled if not _is_invisible(c))
        if folded == text:
            return folded
        text = folded


@cache
def _simplified() -> Mapping[int, str]:
    """Return the simplified character of each traditional one, by code point, in the common block and extension A."""
    to_simplified = OpenCC("t2s").convert
    chars = (chr(code) for first, last in ((0x3400, 0x4DBF), (0x4E00, 0x9FFF)) for code in range(first, last + 1))
    return {ord(char): simple for char in chars if len(simple := to_simplified(char)) == 1 and simple != char}


@cache
def fingerprint() -> str:
    """Return a hash of that table, for a policy's id."""
    return hashlib.sha256(repr(sorted(_simplified().items())).encode()).hexdigest()


def _is_invisible(char: str) -> bool:
    return unicodedata.category(char) in _INVISIBLE or char in _IGNORABLE


class Kind(IntEnum):
    """What a folded character is to the matching of phrases."""

    OTHER = 0
    WORD = 1
    """A letter or digit of a script that separates its words; also a mask, so that masking makes no new words."""
    CJK = 2
    """Chinese, Japanese, Korean: words touch each other."""
    SEPARATOR = 3
    SPACE = 4
    MARKUP = 5
    """Marks that Markdown swallows: `bo**mb**` is shown as one word."""


def classify(char: str) -> Kind:
    """Return the kind of one folded character."""
    if char == " ":
        return Kind.SPACE
    if char in "*_~`":
        return Kind.MARKUP
    if _is_cjk(ord(char)):
        return Kind.CJK
    if char.isalnum() or char in MASK:
        return Kind.WORD
    # Separators are skipped, but no phrase reaches over the end of a sentence.
    if char in _SENTENCE_ENDS:
        return Kind.OTHER
    return Kind.SEPARATOR if unicodedata.category(char)[0] in "PSZ" else Kind.OTHER


def letter(char: str) -> str:
    """Return what a code point counts as, where that is one character and not one that is skipped; else nothing."""
    folded = FOLDED[char]
    return folded if len(folded) == 1 and KINDS[folded] < Kind.SEPARATOR else ""


def _is_cjk(code: int) -> bool:
    return any(first <= code <= last for first, last in _CJK)


FOLDED: Memo[str] = Memo(fold)
"""`fold`, remembered. Keys are any code point."""
PLAIN: Memo[str] = Memo(plain)
"""`plain`, remembered. Keys are any code point."""
KINDS: Memo[Kind] = Memo(classify)
"""`classify`, remembered. Keys are folded characters."""
LETTERS: Memo[str] = Memo(letter)
"""`letter`, remembered. Keys are any code point."""
