"""Allow-phrases for false hits: the words of the sentence in which the hit does not end where a word ends.

口交 in 路口交通 lies across 路口 and 交通, so 路口交通 is proposed. Where a hit is a word of its own (黄片 in 三黄片,
as the dictionary has it) its neighbours are. Words are cut by jieba, off line; only a person can say whether a proposal
is a good one.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, Protocol

from app.safety.normalise import KINDS, Kind
from app.safety.phrases import squeeze
from app.safety.policy_file import MAX_PHRASE_LENGTH

INSTALL: Final = "pip install 'haina[lexicon]'"
"""Brings what cuts Chinese into words."""
MAX_PROPOSALS: Final = 5
_AROUND: Final = 100
"""Characters on each side of a hit that are cut into words: a line may be a whole book."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A place in a harmless text, as offsets of its characters."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Proposal:
    """A phrase that, allowed, would excuse so many of the hits."""

    text: str
    excuses: int


class Words(Protocol):
    """Cuts texts into words."""

    def cut(self, text: str) -> Sequence[tuple[int, int]]:
        """Return where words are, also those within longer ones; together they cover the text."""
        ...


class JiebaWords:
    """The dictionary and method of jieba, in the maintained implementation `rjieba`; loading takes 0.1 s."""

    def __init__(self) -> None:
        """Load the dictionary. Raises ModuleNotFoundError where it is not installed."""
        self._jieba: Any = import_module("rjieba")

    def cut(self, text: str) -> Sequence[tuple[int, int]]:
        """Return where words are."""
        return [(start, end) for _, start, end in self._jieba.tokenize(text, mode="search")]


def installed_words() -> Words | None:
    """Return what cuts texts into words, None where it is not installed."""
    return JiebaWords() if find_spec("rjieba") else None


def propose(hits: Sequence[Hit], *, words: Words) -> tuple[Proposal, ...]:
    """Return the fewest phrases that excuse all hits of one entry, at most `MAX_PROPOSALS`, the most useful first."""
    candidates: Counter[str] = Counter()
    for hit in hits:
        candidates.update(dict.fromkeys(_candidates(_near(hit), words), 1))
    left = list(hits)
    proposals: list[Proposal] = []
    # Of those that are equally useful the shortest; the order does not hang on that of the hits.
    ranked = sorted(candidates, key=lambda text: (-candidates[text], len(text), text))
    while left and len(proposals) < MAX_PROPOSALS:
        best = max(ranked, key=lambda text: sum(_covers(text, hit) for hit in left), default=None)
        remaining = [hit for hit in left if best is not None and not _covers(best, hit)]
        if best is None or len(remaining) == len(left):
            break
        proposals.append(Proposal(best, sum(_covers(best, hit) for hit in hits)))
        left = remaining
    return tuple(proposals)


def _near(hit: Hit) -> Hit:
    first = max(0, hit.start - _AROUND)
    return Hit(hit.text[first : hit.end + _AROUND], hit.start - first, hit.end - first)


def _candidates(hit: Hit, words: Words) -> Iterator[str]:
    """Yield what reaches over the hit: from the shortest words on its edges, or else from its neighbours."""
    spans = sorted(words.cut(hit.text), key=lambda span: span[1] - span[0])
    left = next((start for start, end in spans if start < hit.start < end), hit.start)
    right = next((end for start, end in spans if start < hit.end < end), hit.end)
    if (left, right) != (hit.start, hit.end):
        found = [(left, right)]
    else:
        before = next((start for start, end in spans if end == hit.start), hit.start)
        after = next((end for start, end in spans if start == hit.end), hit.end)
        if before and hit.text[before : hit.start].isspace():  # of letters the word before the blank
            before = next((start for start, end in spans if end == before), before)
        if hit.text[hit.end : after].isspace():
            after = next((end for start, end in spans if start == after), after)
        found = [(before, hit.end), (hit.start, after)]
    entry = squeeze(hit.text[hit.start : hit.end])
    for start, end in found:
        text = hit.text[start:end].strip()
        if _is_phrase(text) and squeeze(text) != entry:
            yield text


def _is_phrase(text: str) -> bool:
    """Whether it is words alone, with nothing but blanks between them."""
    return len(squeeze(text)) <= MAX_PHRASE_LENGTH and all(
        KINDS[char.lower()] in {Kind.WORD, Kind.CJK, Kind.SPACE} for char in text
    )


def _covers(phrase: str, hit: Hit) -> bool:
    return 0 <= hit.text.find(phrase, max(0, hit.end - len(phrase))) <= hit.start
