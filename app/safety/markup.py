"""What a page shows of HTML and Markdown: phrases across entities, tags and links, or written from right to left.

`&#28023;纳`, `海<b></b>纳`, `[海](x)纳` and 纳海 behind a right-to-left override all look like 海纳. Entities and
overrides are read wherever they stand; tags and links only within a phrase that has begun, for elsewhere they hide
nothing. An entity is held back until its semicolon, 12 characters at most; a tag, a link's target and an overridden
stretch to their ends, 200 at most: beyond that they are read as they are written. Invisible characters, tag characters
and variation selectors need no reading: they count for nothing anyway, as do the marks of bold and italic text.

What is not read: styles that hide text, scripts, an entity written with an entity.
Sources: HTML's character references (html.unescape), CommonMark 0.31 (6.3 links, 6.6 raw HTML), UAX #9 (overrides).
"""

import html
import re
from collections import deque
from typing import Final

from app.safety.phrases import Lexicon
from app.safety.readings import SKIP

MAX_HELD: Final = 200
"""Characters of a tag, a link's target or an overridden stretch."""

_OVERRIDE: Final = "\u202e"
_ENDS_OVERRIDE: Final = frozenset("\u202c\u2069\n")
_ENTITY: Final = re.compile(r"&(?:#(?:[0-9]{0,8}|[xX][0-9a-fA-F]{0,7})|[A-Za-z][A-Za-z0-9]{0,9})?")
"""A beginning of one, without its semicolon."""
_NUMERIC: Final = re.compile(r"&#(?:[0-9]+|[xX][0-9a-fA-F]+)")
_TAG: Final = re.compile(r"<(?:[A-Za-z/!?][^<>]*)?")
_AUTOLINK: Final = re.compile(r"<(?:[A-Za-z][A-Za-z0-9+.-]{1,31}:|[^\s<>]+@)[^\s<>]*>")
_BREAK: Final = re.compile(r"</?(?:br|p|div|li|ul|ol|tr|td|th|h[1-6]|hr|pre|blockquote)\b", re.IGNORECASE)
"""Tags that separate words."""
_TARGET: Final = re.compile(r"\([^()<>\[\]\n]*")


class MarkupReader:
    """A text whose markup is read as it is shown."""

    def __init__(self) -> None:
        """Start before the first character."""
        self._offset = 0
        self._pending = ""
        """The beginning of a sign that may still be one."""
        self._is_behind_bracket = False
        self._signs: deque[tuple[int, int, bool]] = deque()
        """Start and end of each, in their order, and whether it counts as a whole."""

    def read(self, char: str, *, is_live: bool) -> str:
        """Return what is shown, once it is known."""
        self._offset += 1
        if not self._pending:
            return self._begin(char, is_live=is_live)
        kind = self._pending[0]
        if kind == "&":
            return self._go_on_entity(char, is_live=is_live)
        if kind == _OVERRIDE:
            return self._go_on_override(char)
        return self._go_on_hidden(char)

    def finish(self) -> str:
        """Return what was held back."""
        pending, self._pending = self._pending, ""
        if pending.startswith(_OVERRIDE):
            return self._turned(pending, end=self._offset)
        if _NUMERIC.fullmatch(pending):
            return self._decoded(pending, end=self._offset)
        return self._again(pending) + self.finish() if pending else ""

    def reach(self, start: int, end: int) -> tuple[int, int] | None:
        """Widen a span to whole signs; None where it has none."""
        touched = [sign for sign in self._signs if sign[0] < end and start < sign[1]]
        if not touched:
            return None
        whole = [sign for sign in touched if sign[2]]
        return min([start, *(sign[0] for sign in whole)]), max([end, *(sign[1] for sign in whole)])

    def forget(self, upto: int) -> None:
        """Drop the signs before this."""
        while self._signs and self._signs[0][1] <= upto:
            self._signs.popleft()

    def _begin(self, char: str, *, is_live: bool) -> str:
        is_behind_bracket, self._is_behind_bracket = self._is_behind_bracket, char == "]"
        if char in {"&", _OVERRIDE} or (is_live and (char == "<" or (char == "(" and is_behind_bracket))):
            self._pending = char
            return ""
        if char in "[]" and is_live:
            self._signs.append((self._offset - 1, self._offset, False))
            return SKIP
        return char

    def _go_on_entity(self, char: str, *, is_live: bool) -> str:
        pending = self._pending + char
        if _ENTITY.fullmatch(pending):
            self._pending = pending
            return ""
        entity, self._pending = self._pending, ""
        if char == ";" and html.unescape(pending) != pending:
            return self._decoded(pending, end=self._offset)
        if _NUMERIC.fullmatch(entity):
            return self._decoded(entity, end=self._offset - 1) + self._begin(char, is_live=is_live)
        return entity + self._begin(char, is_live=is_live)

    def _go_on_override(self, char: str) -> str:
        self._pending += char
        if char in _ENDS_OVERRIDE or len(self._pending) > MAX_HELD:
            pending, self._pending = self._pending, ""
            return self._turned(pending, end=self._offset)
        return ""

    def _go_on_hidden(self, char: str) -> str:
        """Go on within a tag, or the target of a link."""
        pending = self._pending + char
        form, closing = (_TAG, ">") if pending[0] == "<" else (_TARGET, ")")
        if char == closing and pending != "<>" and not _AUTOLINK.fullmatch(pending):
            self._pending = ""
            self._signs.append((self._offset - len(pending), self._offset, False))
            return (" " if _BREAK.match(pending) else SKIP) + SKIP * (len(pending) - 1)
        if form.fullmatch(pending) and len(pending) <= MAX_HELD:
            self._pending = pending
            return ""
        return self._again(pending)

    def _again(self, pending: str) -> str:
        """Read what is no sign after all: its first character as it is written, the rest anew."""
        self._pending = ""
        self._offset -= len(pending) - 1
        return pending[0] + "".join(self.read(char, is_live=True) for char in pending[1:])

    def _decoded(self, entity: str, *, end: int) -> str:
        self._signs.append((end - len(entity), end, True))
        return html.unescape(entity)[: len(entity)].ljust(len(entity), SKIP)

    def _turned(self, stretch: str, *, end: int) -> str:
        self._signs.append((end - len(stretch), end, True))
        return stretch[::-1]


class MarkupReading:
    """Reads markup as it is shown."""

    name = "markup"
    signs = "&<[]" + _OVERRIDE

    def __init__(self, lexicon: Lexicon) -> None:
        """Search the phrases of a lexicon."""
        self.lexicon = lexicon

    def begins(self, char: str, *, is_live: bool) -> bool:
        """Whether an entity or an override begins, or something within a phrase."""
        return is_live or char in {"&", _OVERRIDE}

    def open(self) -> MarkupReader:
        """Start to read."""
        return MarkupReader()
