"""A dry run as text or JSON, for the command line."""

import json
from dataclasses import asdict
from typing import Literal

from app.services.replay import Replay


def render(replay: Replay, *, as_format: Literal["text", "json"]) -> str:
    """Return the report, with a line break at its end."""
    if as_format == "json":
        return json.dumps(_as_json(replay), ensure_ascii=False, indent=2) + "\n"
    lines = [
        f"{replay.policy} → {replay.draft}: {replay.changed:,} of {replay.texts:,} texts would be judged differently"
    ]
    for category, was, would_be, count in replay.changes:
        lines.append(f"{count:>8,}  {category}: {was.name.lower()} → {would_be.name.lower()}")
    for one in replay.samples:
        where = one.source
        if one.excerpt is not None:
            where = " ".join(f"{one.excerpt.before}[{one.excerpt.found}]{one.excerpt.after}".split())
        lines.append(f"  {one.stage} {one.rule}: {where}")
    return "\n".join(lines) + "\n"


def _as_json(replay: Replay) -> dict[str, object]:
    return {
        "policy": replay.policy,
        "draft": replay.draft,
        "texts": replay.texts,
        "changed": replay.changed,
        "changes": [
            {"category": category, "was": was.name.lower(), "would_be": would_be.name.lower(), "texts": count}
            for category, was, would_be, count in replay.changes
        ],
        "samples": [
            {
                "stage": one.stage.value,
                "category": one.category,
                "rule": one.rule,
                "was": one.was.name.lower(),
                "would_be": one.would_be.name.lower(),
                "source": one.source or None,
                "excerpt": asdict(one.excerpt) if one.excerpt else None,
            }
            for one in replay.samples
        ],
    }
