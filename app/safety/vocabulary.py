"""The words of many lists and all that they begin with, each string once.

Whether a text may still become a phrase is a question about the beginnings of phrases: some 350,000 for 100,000
phrases. They are the keys of one dictionary, which needs no nodes and no links. A bit for each list tells whose they
are, so stages and layers that have lists in common look into the same dictionary, each through a mask of its own.

A list that is added later does not disturb who looks: its bit is in no mask yet.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shelved:
    """The words of a list in a vocabulary."""

    bit: int
    """0 where the list has no word there."""
    originals: Mapping[str, Sequence[str]] | None
    """For each word those of the list that are spelled so; None where all are as they were."""

    def words(self, word: str) -> Sequence[str]:
        """Return the words of the list that are spelled so; `word` is one of its words."""
        return (word,) if self.originals is None else self.originals[word]


class Vocabulary:
    """Words by their beginnings. It grows; nothing is taken out of it."""

    def __init__(self, spell: Callable[[str], str] | None = None) -> None:
        """Start empty. `spell` returns what a reading makes of a word: nothing, where it has no use for it."""
        self.begun: dict[str, int] = {}
        """For each beginning of a word, the whole word too, the bits of the lists that have such a word."""
        self.whole: dict[str, int] = {}
        """For each word the bits of the lists that have it."""
        self.spell = spell or str
        self._is_spelled = spell is not None
        self._lists: dict[tuple[str, ...], Shelved] = {}
        self._count = 0
        """Lists that have words."""

    def add(self, words: tuple[str, ...]) -> Shelved:
        """Add the words of a list, if they are not there yet. Raises ValueError where a word is empty."""
        known = self._lists.get(words)
        if known is None:
            if not all(words):
                raise ValueError("a phrase without letters")
            known = self._lists[words] = self._shelve(words)
        return known

    def _shelve(self, words: tuple[str, ...]) -> Shelved:
        originals = self._spelled(words) if self._is_spelled else None
        spelled = words if originals is None else originals
        if not spelled:
            return Shelved(0, {})
        bit = 1 << self._count
        self._count += 1
        for word in spelled:
            self._enter(word, bit=bit)
        return Shelved(bit, originals)

    def _spelled(self, words: tuple[str, ...]) -> Mapping[str, Sequence[str]]:
        originals: dict[str, list[str]] = {}
        for word in words:
            if spelled := self.spell(word):
                originals.setdefault(spelled, []).append(word)
        return originals

    def _enter(self, word: str, *, bit: int) -> None:
        whole, begun = self.whole, self.begun
        # Most strings belong to one list, and the dictionary then holds that one number, not a copy of it.
        others = whole.get(word)
        whole[word] = bit if others is None else others | bit
        for end in range(len(word), 0, -1):
            beginning = word[:end]
            others = begun.get(beginning)
            if others is None:
                begun[beginning] = bit
            elif others & bit:
                return  # and so are all that are shorter
            else:
                begun[beginning] = others | bit
