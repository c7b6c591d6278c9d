"""Where an answer is cut into windows for a guard: a function of the text alone, never of how the text arrived.

A window ends with the first clause that ends when it has `least` characters, and with `most` in any case. Both grow
with the place of the window: the first is short, so that an answer begins soon; later ones are long, so that a long
answer does not cost a call a sentence. At place 0 they are 24 and 64 characters, from 640 on 160 and 200.

Other texts than answers are judged as a whole, and very long ones in parts, for a guard has a context too.
"""

from typing import Final

_LEAST: Final = (24, 160)
_SLACK: Final = 40
_GROWTH: Final = 4
_CLAUSE_ENDS: Final = frozenset("。！？；!?;\n")

REACH_ANSWER: Final = 1000
"""Characters of an answer that a guard is shown: the last ones, the window among them."""
REACH_WHOLE: Final = 4000
"""Of any other text."""
_OVERLAP: Final = 500
"""Of one part of a very long text with the next."""


class Windows:
    """The windows of one text."""

    def __init__(self, *, place: int = 0, is_answer: bool = True) -> None:
        """`place` is where in the text the first one begins."""
        self._is_answer = is_answer
        self._upto = place
        self._last = ""
        self._begin()

    def feed(self, text: str) -> list[int]:
        """Take the next piece; return the places where windows end in it."""
        ends: list[int] = []
        if not self._is_answer and self._upto + len(text) - self.begins_at < self._most:
            self._upto += len(text)
            return ends
        for char in text:
            self._upto += 1
            length = self._upto - self.begins_at
            is_end = char in _CLAUSE_ENDS or (char == " " and self._last == ".")
            if length >= self._most or (length >= self._least and is_end and self._is_answer):
                ends.append(self._upto)
                self._begin()
            self._last = char
        return ends

    def feed_whole(self, text: str) -> list[int]:
        """Take a piece within which no window may end."""
        self._upto += len(text)
        self._last = text[-1:]
        if self._upto - self.begins_at < self._most:
            return []
        self._begin()
        return [self._upto]

    def _begin(self) -> None:
        self.begins_at = self._upto
        """Where the window that is open begins."""
        if self._is_answer:
            self._least = min(max(self._upto // _GROWTH, _LEAST[0]), _LEAST[1])
            self._most = self._least + _SLACK
        else:
            self._least = self._most = REACH_WHOLE - _OVERLAP if self._upto else REACH_WHOLE
