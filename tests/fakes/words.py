"""A dictionary of a few words, for tests that propose phrases."""

from collections.abc import Sequence


class KnownWords:
    """Cuts off the longest word that it knows, and finds known words within it; what it does not know is a letter."""

    def __init__(self, *words: str) -> None:
        """Know these words."""
        self._words = frozenset(words)

    def cut(self, text: str) -> Sequence[tuple[int, int]]:
        """Return where words are."""
        spans: list[tuple[int, int]] = []
        at = 0
        while at < len(text):
            end = next((end for end in range(len(text), at, -1) if text[at:end] in self._words), at + 1)
            spans += (
                (first, last)
                for first in range(at, end)
                for last in range(first + 1, end + 1)
                if (first, last) == (at, end) or text[first:last] in self._words
            )
            at = end
        return spans
