"""How many entries there are, of what, and how many GB/T 45654 asks for.

Counted are canonical entries: spellings that the filter takes for the same are one, and so is a pattern, however many
phrases it stands for. What has expired, and what is allowed, does not count.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from app.safety.lexicon.entries import entries_of
from app.safety.policy import PhraseList
from app.safety.taxonomy import CLASSES

MINIMUM: Final = 10_000
MINIMUMS: Final[Mapping[str, int]] = {"A1": 200, "A2": 100}
"""For each class of a group. Source: GB/T 45654-2025, keyword library, as agents who file for others have published."""
NOT_SAID: Final = "(not said)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassCount:
    """Entries of one class."""

    id: str
    entries: int
    minimum: int

    @property
    def missing(self) -> int:
        """How many more are asked for."""
        return max(0, self.minimum - self.entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class Adder:
    """Somebody who added entries."""

    name: str
    entries: int
    first: date | None
    last: date | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """All counts. The mappings have the greatest first."""

    entries: int
    allowed: int
    expired: int
    without_class: int
    categories: Mapping[str, int]
    lists: Mapping[str, int]
    languages: Mapping[str, int]
    classes: tuple[ClassCount, ...]
    adders: tuple[Adder, ...]

    @property
    def missing(self) -> int:
        """How many more the standard asks for in all."""
        return max(0, MINIMUM - self.entries)


def count(lists: Sequence[PhraseList], *, today: date) -> Stats:
    """Count the entries of lists."""
    everything: set[Hashable] = set()
    classed: set[Hashable] = set()
    allowed: set[str] = set()
    categories: dict[str, set[Hashable]] = defaultdict(set)
    by_list: dict[str, set[Hashable]] = defaultdict(set)
    languages: dict[str, set[Hashable]] = defaultdict(set)
    classes: dict[str, set[Hashable]] = defaultdict(set)
    days: dict[str, list[date]] = defaultdict(list)
    adders: dict[str, set[Hashable]] = defaultdict(set)
    expired = 0
    for phrase_list in lists:
        for entry in entries_of(phrase_list, today=today):
            if entry.is_allowed:
                allowed.add(entry.canonical)
                continue
            if entry.record and entry.record.is_expired(today=today):
                expired += 1
                continue
            key: Hashable = (entry.pattern,) if entry.pattern else entry.canonical
            everything.add(key)
            categories[phrase_list.category or ""].add(key)
            by_list[phrase_list.name].add(key)
            languages[phrase_list.language].add(key)
            if entry.safety_class:
                classes[entry.safety_class].add(key)
                classed.add(key)
            adders[entry.record.by if entry.record else NOT_SAID].add(key)
            if entry.record:
                days[entry.record.by].append(entry.record.added)
    return Stats(
        entries=len(everything),
        allowed=len(allowed),
        expired=expired,
        without_class=len(everything - classed),
        categories=_sizes(categories),
        lists=_sizes(by_list),
        languages=_sizes(languages),
        classes=tuple(
            ClassCount(id=one.id, entries=len(classes[one.id]), minimum=MINIMUMS.get(one.group, 0))
            for one in CLASSES.values()
        ),
        adders=tuple(
            Adder(name=name, entries=entries, first=min(days[name], default=None), last=max(days[name], default=None))
            for name, entries in _sizes(adders).items()
        ),
    )


def _sizes(sets: Mapping[str, Iterable[Hashable]]) -> Mapping[str, int]:
    counts = Counter({name: len(set(keys)) for name, keys in sets.items()})
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
