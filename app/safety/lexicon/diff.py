"""What is different between two lists, or two policies: by what the filter takes for the same, not by spelling."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from app.safety.lexicon.entries import Entry, entries_of
from app.safety.policy import PhraseList

FIELDS: Final = ("category", "class", "score", "action", "firm", "expires")
"""What a change is told of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """An entry as one side has it, in whichever of its lists."""

    entry: Entry
    lists: tuple[str, ...]
    fields: Mapping[str, tuple[str, ...]]
    """The values of `FIELDS`, several where it stands in several lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An entry that both sides have, and what is different."""

    old: Side
    new: Side
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """All that is different, in the order of the files."""

    added: tuple[Side, ...]
    removed: tuple[Side, ...]
    changed: tuple[Change, ...]


def compare(old: Sequence[PhraseList], new: Sequence[PhraseList], *, today: date) -> Difference:
    """Return what became of the entries of `old`."""
    before, after = _sides(old, today=today), _sides(new, today=today)
    changed: list[Change] = []
    for key, side in before.items():
        if key in after:
            fields = tuple(name for name in FIELDS if side.fields[name] != after[key].fields[name])
            if fields:
                changed.append(Change(old=side, new=after[key], fields=fields))
    return Difference(
        added=tuple(side for key, side in after.items() if key not in before),
        removed=tuple(side for key, side in before.items() if key not in after),
        changed=tuple(changed),
    )


def _sides(lists: Sequence[PhraseList], *, today: date) -> dict[tuple[str, bool], Side]:
    found: dict[tuple[str, bool], list[tuple[PhraseList, Entry]]] = {}
    for phrase_list in lists:
        for entry in entries_of(phrase_list, today=today):
            found.setdefault((entry.canonical, entry.is_allowed), []).append((phrase_list, entry))
    return {key: _side(places) for key, places in found.items()}


def _side(places: Sequence[tuple[PhraseList, Entry]]) -> Side:
    values: dict[str, set[str]] = {name: set() for name in FIELDS}
    for phrase_list, entry in places:
        if entry.is_allowed:
            continue
        values["category"].add(phrase_list.category or "")
        values["class"].add(entry.safety_class)
        values["score"].add(f"{phrase_list.score:g}")
        values["action"].add(phrase_list.action.name.lower() if phrase_list.action is not None else "")
        values["firm"].add("yes" if phrase_list.is_firm else "")
        expires = entry.record.expires if entry.record else None
        values["expires"].add(str(expires) if expires else "")
    return Side(
        entry=places[0][1],
        lists=tuple(dict.fromkeys(phrase_list.name for phrase_list, _ in places)),
        fields={name: tuple(sorted(one)) for name, one in values.items()},
    )
