"""Latin phrases in disguise: digits and signs for letters (b0mb), dots between letters (b.o.m.b), look-alikes (bоmb).

Only phrases of lists with `fold = true` are read so, and only what is disguised counts: a hit must hold a sign that
stands for a letter beside a letter, or a dot between two. They stay whole words, so `$695` and `3.14` are no letters of
one. The digit 1 is i or l, so the two letters are read as one.

Letters with blanks between them (b o m b) and doubled ones are not found: too many harmless texts have them.

Source of the look-alikes: Unicode's confusables.txt (UTS #39), as far as it gives Latin letters for letters that
keyboards have or that generators of "fancy text" use.
"""

import re
from collections.abc import Callable, Iterable
from typing import Final

from app.safety.phrases import Entries, Lexicon, Phrase, gathered, squeeze
from app.safety.vocabulary import Vocabulary

_LEET: Final = dict(zip("01345789@$€¢£|", "oieastbgasecli", strict=True))
_LOOK_ALIKE: Final = (
    # Cyrillic
    ("аАвВсСԁеЕёЁһНіІїЇјЈкКԚԛмМоОрРѕЅтТуУԜԝхХѵѴӏӀзЗгГьЬпП", "aabbccdeeeehhiiiijjkkqqmmooppssttyywwxxvvllzzrrbbnn"),
    # Greek
    ("αΑβΒεΕηΗιΙκΚΜνΝοΟρΡτΤυΥχΧωγΖ", "aabbeenhiikkmvnooppttuyxxwyz"),
    # Armenian, Cherokee, Latin letters of other alphabets, small capitals
    ("օսոհցᎪᏴᏟᎠᎬᏀᎻᏆᎫᏦᏞᎷᏢᎡᏚᎢᏙᎳᏃ", "ounhgabcdeghijklmprstvwz"),
    ("ıɩɑɡɢøðđłħŧƒæœɓɗɨʟʙᴀᴄᴅᴇꜰʜɪᴊᴋᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢ", "iiaggoddlhtfaebdilbacdefhijkmnoprstuvwyz"),
)
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_BLOCKS: Final = (0x1F150, 0x1F170, 0x1F1E6)
"""Circled, squared and flag letters, which NFKD leaves as they are; each block has 26."""
_DOTS: Final = ".-·•‧・'’,/\\:"


def _table() -> dict[int, str]:
    table = {ord(char): letter for char, letter in _LEET.items()}
    for written, read in _LOOK_ALIKE:
        table |= {ord(char): letter for char, letter in zip(written, read, strict=True)}
    for first in _BLOCKS:
        table |= {first + n: letter for n, letter in enumerate(_LETTERS)}
    return table


_TABLE: Final = _table()
_READ_AS: Final = str.maketrans(
    {code: letter.replace("l", "i") for code, letter in _TABLE.items()}
    | {ord(char): "i" for char in "lL"}
    | {ord(dot): "~" for dot in _DOTS}
)
"""A tilde is among the marks that are skipped within words."""
_SIGN: Final = "".join(re.escape(chr(code)) for code in sorted(_TABLE))
_ODD: Final = "".join(chr(code) for code in sorted(_TABLE) if code > 0x7F)  # noqa: PLR2004 - ASCII
_DISGUISED: Final = re.compile(
    rf"[a-zA-Z][{re.escape(_DOTS)}]{{1,3}}[a-zA-Z{_SIGN}]|[a-zA-Z][{_SIGN}]|[{_SIGN}][a-zA-Z]"
    rf"|[{_SIGN}][{re.escape(_DOTS)}]{{1,3}}[a-zA-Z]|[{_ODD}]"
)
_MOST_KEPT: Final = 1000
"""Characters that are of no use any more."""
FOLDING: Final = sorted(_READ_AS.items())
"""What decides, for a policy's id."""


class FoldedReader:
    """A text whose signs are read as letters."""

    def __init__(self, is_plain: Callable[[str], bool]) -> None:
        """`is_plain` says whether a squeezed text is one of the phrases, written without disguise."""
        self._is_plain = is_plain
        self._text = ""
        self._text_from = 0

    def read(self, char: str, *, is_live: bool) -> str:
        """Return the letter that a character stands for."""
        del is_live
        self._text += char
        return char.translate(_READ_AS)

    def finish(self) -> str:
        """Nothing is left."""
        return ""

    def reach(self, start: int, end: int) -> tuple[int, int] | None:
        """Return the span, if something in it is disguised."""
        written = self._text[start - self._text_from : end - self._text_from]
        return (start, end) if _DISGUISED.search(written) and not self._is_plain(squeeze(written)) else None

    def forget(self, upto: int) -> None:
        """Drop the text before this, now and then."""
        if upto - self._text_from > _MOST_KEPT:
            self._text, self._text_from = self._text[upto - self._text_from :], upto


class FoldedReading:
    """Reads signs as letters."""

    name = "folded"
    signs = "".join(map(chr, _TABLE)) + _DOTS

    def __init__(self, phrases: Iterable[Phrase | Entries], *, vocabulary: Vocabulary | None = None) -> None:
        """Take the phrases with `is_folded` that have Latin letters only. A `vocabulary` is one of `folded_words`."""
        folded = (entries for entries in gathered(phrases) if entries.kind.is_folded)
        self.lexicon = Lexicon(folded, vocabulary=folded_words() if vocabulary is None else vocabulary)

    def begins(self, char: str, *, is_live: bool) -> bool:
        """Whether a sign is within the beginning of a phrase, or may begin one."""
        return is_live or (char not in _DOTS and self.lexicon.quiet[char.translate(_READ_AS)] is None)

    def open(self) -> FoldedReader:
        """Start to read."""
        return FoldedReader(self.lexicon.has_word)


def folded_words() -> Vocabulary:
    """Return a vocabulary of Latin phrases with their signs read as letters."""
    return Vocabulary(_read_as)


def _read_as(word: str) -> str:
    is_latin = word.isascii() and any(char.isalpha() for char in word)
    return squeeze(word.translate(_READ_AS)) if is_latin else ""
