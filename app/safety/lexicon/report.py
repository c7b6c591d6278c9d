"""What the tools found, as lines for people and as JSON. The same findings always give the same bytes."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from app.safety.lexicon.diff import Difference, Side
from app.safety.lexicon.importing import Import
from app.safety.lexicon.inspection import Inspection, Remark
from app.safety.lexicon.proposals import INSTALL
from app.safety.lexicon.stats import MINIMUM, Stats
from app.safety.taxonomy import CLASSES

Format = Literal["text", "json"]

_WIDTH: Final = 100
"""Characters of a harmless line, or of an entry, that people are shown."""


def inspection_report(inspection: Inspection, *, as_format: Format, can_propose: bool) -> str:
    """Return what the gate says, ending in a line break."""
    if as_format == "json":
        return _json(
            {
                "lists": inspection.lists,
                "entries": inspection.entries,
                "budget_percent": inspection.budget_percent,
                "share_percent": round(inspection.share_percent, 6),
                "proposed_by": "jieba" if can_propose else None,
                "corpora": [
                    {"name": one.name, "lines": one.lines, "hit": one.hit, "golden": one.is_golden}
                    for one in inspection.corpora
                ],
                "faults": [_remark_data(remark) for remark in inspection.remarks if remark.is_fault],
                "notes": [_remark_data(remark) for remark in inspection.remarks if not remark.is_fault],
            }
        )
    lines = [line for remark in inspection.remarks for line in _remark_lines(remark)]
    of = sum(one.lines for one in inspection.corpora)
    golden = sum(one.hit for one in inspection.corpora if one.is_golden)
    lines.append(
        f"{inspection.lists} lists, {inspection.entries:,} phrases, {of:,} harmless lines: {inspection.faults} faults; "
        f"{inspection.share_percent:.2f} % of the lines are hit (budget {inspection.budget_percent:g} %), "
        f"{golden} golden ones (budget 0)"
    )
    if not can_propose and any(remark.hits for remark in inspection.remarks):
        lines.append(f"no allow-phrases are proposed: what cuts Chinese into words is not installed ({INSTALL})")
    return "\n".join([*lines, ""])


def _remark_lines(remark: Remark) -> Iterator[str]:
    place = f"{remark.path}:{remark.line}" if remark.path and remark.line else str(remark.path or "")
    about = [place, _short(remark.entry.text) if remark.entry else "", remark.words]
    mark = "" if remark.is_fault else "within the budget: "
    yield mark + ": ".join(part for part in about if part)
    for example in remark.examples:
        yield f"    {example.corpus}:{example.line}: {_short(example.text)}"
    if remark.proposals:
        proposed = ", ".join(f"{one.text} (excuses {one.excuses})" for one in remark.proposals)
        yield f"    allow-phrases proposed: {proposed}"


def _remark_data(remark: Remark) -> dict[str, object]:
    return {
        "file": str(remark.path) if remark.path else None,
        "line": remark.line,
        "list": remark.phrase_list or None,
        "entry": remark.entry.text if remark.entry else None,
        "pattern": (remark.entry.pattern or None) if remark.entry else None,
        "reason": remark.reason,
        "words": remark.words,
        "hits": remark.hits,
        "examples": [{"corpus": one.corpus, "line": one.line, "text": one.text} for one in remark.examples],
        "proposals": [{"text": one.text, "excuses": one.excuses} for one in remark.proposals],
    }


def import_report(done: Import, *, path: Path, refused_path: Path) -> str:
    """Return one line, and another where something was refused."""
    of = len(done.accepted) + len(done.refused)
    where = f" into {path}" if done.accepted else ", so no list was written"
    lines = [f"read as {done.read_as}: {of:,} words, {len(done.accepted):,} accepted{where}"]
    if done.refused:
        lines.append(f"{len(done.refused):,} refused, with reasons in {refused_path}")
    return "\n".join([*lines, ""])


def stats_report(stats: Stats, *, as_format: Format) -> str:
    """Return the counts, ending in a line break."""
    if as_format == "json":
        return _json(
            {
                "entries": stats.entries,
                "minimum": MINIMUM,
                "missing": stats.missing,
                "allowed": stats.allowed,
                "expired": stats.expired,
                "without_class": stats.without_class,
                "categories": dict(stats.categories),
                "lists": dict(stats.lists),
                "languages": dict(stats.languages),
                "classes": [
                    {
                        "id": one.id,
                        "zh": CLASSES[one.id].zh,
                        "en": CLASSES[one.id].en,
                        "entries": one.entries,
                        "minimum": one.minimum or None,
                        "missing": one.missing,
                    }
                    for one in stats.classes
                ],
                "added_by": [
                    {
                        "name": one.name,
                        "entries": one.entries,
                        "first": str(one.first) if one.first else None,
                        "last": str(one.last) if one.last else None,
                    }
                    for one in stats.adders
                ],
            }
        )
    lines = [
        *_table("category", stats.categories),
        *_table("list", stats.lists),
        *_table("language", stats.languages),
        "added by",
        *(
            f"  {one.entries:>7,}  {one.name}" + (f", {one.first} to {one.last}" if one.first else "")
            for one in stats.adders
        ),
        "",
        "class of GB/T 45654",
    ]
    for one in stats.classes:
        asked = f"of {one.minimum}" if one.minimum else ""
        name = CLASSES[one.id]
        lines.append(f"  {one.entries:>7,} {asked:<7} {one.id} {name.zh} · {name.en}")
    lines += [
        f"  {stats.without_class:>7,}         without a class",
        "",
        f"{stats.entries:,} entries in all; besides, {stats.allowed:,} allow-phrases {stats.expired:,} expired ones",
        *_missing(stats),
    ]
    return "\n".join([*lines, ""])


def _missing(stats: Stats) -> Iterator[str]:
    short = [one for one in stats.classes if one.missing]
    if not stats.missing and not short:
        yield "What GB/T 45654 asks for in number is there."
        return
    if stats.missing:
        yield f"GB/T 45654 asks for {MINIMUM:,} in all: {stats.missing:,} are missing."
    if short:
        names = ", ".join(f"{one.id} {one.missing:,}" for one in short)
        yield f"Missing by class: {names}."


def _table(title: str, counts: Mapping[str, int]) -> Iterator[str]:
    yield title
    yield from (f"  {entries:>7,}  {name or '(none)'}" for name, entries in counts.items())
    yield ""


def diff_report(difference: Difference, *, as_format: Format) -> str:
    """Return what is different, ending in a line break."""
    if as_format == "json":
        return _json(
            {
                "added": [_side_data(side) for side in difference.added],
                "removed": [_side_data(side) for side in difference.removed],
                "changed": [
                    {
                        "old": _side_data(change.old),
                        "new": _side_data(change.new),
                        "fields": list(change.fields),
                    }
                    for change in difference.changed
                ],
            }
        )
    lines = [f"+ {_told(side)}" for side in difference.added]
    lines += [f"- {_told(side)}" for side in difference.removed]
    for change in difference.changed:
        told = ", ".join(
            f"{name} {_values(change.old.fields[name])} → {_values(change.new.fields[name])}" for name in change.fields
        )
        lines.append(f"~ {_short(change.new.entry.text)}: {told}")
    counts = (
        f"{len(difference.added):,} added, {len(difference.removed):,} removed, {len(difference.changed):,} changed"
    )
    return "\n".join([*lines, counts, ""])


def _told(side: Side) -> str:
    parts = ["allowed"] if side.entry.is_allowed else [_values(side.fields["category"])]
    parts += [_values(side.fields["class"])] if any(side.fields["class"]) else []
    parts.append(f"in {', '.join(side.lists)}")
    record = side.entry.record
    if record:
        parts.append(f"added {record.added} by {record.by}" + (f" from {record.source}" if record.source else ""))
        parts += [f"expires {record.expires}"] if record.expires else []
    return f"{_short(side.entry.text)} ({'; '.join(parts)})"


def _side_data(side: Side) -> dict[str, object]:
    record = side.entry.record
    return {
        "text": side.entry.text,
        "allowed": side.entry.is_allowed,
        "lists": list(side.lists),
        **{name: list(values) for name, values in side.fields.items()},
        "added": str(record.added) if record else None,
        "by": record.by if record else None,
        "source": (record.source or None) if record else None,
        "note": (record.note or None) if record else None,
    }


def _values(values: Sequence[str]) -> str:
    return "/".join(value or "none" for value in values) or "none"


def _short(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


def _json(data: Mapping[str, object]) -> str:
    return json.dumps(data, ensure_ascii=False, indent=2) + "\n"
