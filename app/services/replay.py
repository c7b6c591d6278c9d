"""The dry run: what another policy would have decided about the texts that are kept, before it is put in force.

Questions and answers that passed are read again by both filters. What was refused then is not kept, so a dry run tells
what a draft would stop, not what it would let through; for that there are question banks (`haina safety replay`).
"""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from app.domain.errors import InvalidInput
from app.domain.models import Account, Role, now
from app.domain.ports import Filter, Filters, Storage
from app.domain.verdicts import Action, Checked, Decision, Finding, ReleasedText, Stage, excerpt
from app.services.accounts import require_admin
from app.services.answering import refusal

MAX_DAYS: Final = 365
MAX_TEXTS: Final = 2000
"""How many of the newest texts the console reads; the command line reads them all."""
SAMPLES: Final = 20
_AROUND: Final = 30
"""Characters of an excerpt on either side of what was found."""
_PAGE: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """A place in a text that was shown before; what is found there is between `before` and `after`."""

    before: ReleasedText
    found: ReleasedText
    after: ReleasedText


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A text about which two policies decide differently."""

    stage: Stage
    category: str
    """Of what the graver decision is about."""
    rule: str
    was: Action
    would_be: Action
    excerpt: Excerpt | None
    """None where the text is not one that was shown."""
    source: str = ""
    """Where a text is from that was not: a bank, and a number in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What came of it."""

    policy: str
    """The id of the policy in force."""
    draft: str
    """The id of the other one."""
    texts: int
    changes: Sequence[tuple[str, Action, Action, int]]
    """`(category, was, would be, how many)`, most first."""
    samples: Sequence[Change]
    """Some of each kind of change, `SAMPLES` at most; newest first."""
    is_partial: bool = False
    """Whether there are older texts that were not read."""

    @property
    def changed(self) -> int:
        """How many decisions would be different."""
        return sum(count for *_, count in self.changes)


@dataclass(slots=True)
class Comparison:
    """Two filters side by side; counts and keeps samples as texts go by."""

    live: Filter
    draft: Filter
    texts: int = 0
    _counts: Counter[tuple[str, Action, Action]] = field(default_factory=Counter)
    _samples: dict[tuple[str, Action, Action], list[Change]] = field(default_factory=dict)

    async def read(self, text: str, *, stage: Stage, shown: ReleasedText | None = None, source: str = "") -> None:
        """Judge a text twice; `shown` is the same text where it may be quoted.

        Raises SafetyUnavailable where one of the filters fails.
        """
        was = await _decided(self.live, text, stage=stage)
        would_be = await _decided(self.draft, text, stage=stage)
        self.texts += 1
        if (was.action, was.category) == (would_be.action, would_be.category):
            return
        graver = max(was, would_be, key=lambda decision: decision.action)
        finding = max(graver.findings, key=lambda one: (one.action, -one.start))
        change = Change(
            stage=stage,
            category=finding.category,
            rule=finding.rule,
            was=was.action,
            would_be=would_be.action,
            excerpt=_excerpt(shown, finding) if shown is not None else None,
            source=source,
        )
        key = change.category, change.was, change.would_be
        self._counts[key] += 1
        kept = self._samples.setdefault(key, [])
        if len(kept) < SAMPLES:
            kept.append(change)

    def result(self, *, is_partial: bool = False) -> Replay:
        """Return what was found so far; the samples taken in turn from each kind of change."""
        ranked = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
        lines = [self._samples[key] for key, _ in ranked]
        in_turn = [line[n] for n in range(SAMPLES) for line in lines if n < len(line)]
        return Replay(
            policy=self.live.policy,
            draft=self.draft.policy,
            texts=self.texts,
            changes=[(*key, count) for key, count in ranked],
            samples=in_turn[:SAMPLES],
            is_partial=is_partial,
        )


class ReplayDesk:
    """Runs dry."""

    def __init__(self, storage: Storage, *, filters: Filters) -> None:
        """Reads only."""
        self._storage = storage
        self._filters = filters

    async def layer(
        self, admin: Account, layer: str, text: str, *, days: int = 30, limit: int | None = MAX_TEXTS
    ) -> Replay:
        """Compare the policy in force with one in which a layer has this text, over the texts of the last days.

        Raises AccessDenied, InvalidInput, InvalidPolicy, SafetyUnavailable, StorageFailure.
        """
        require_admin(admin)
        draft = await self._filters.draft(layer, text)
        return await self.against(admin, draft, days=days, limit=limit)

    async def against(self, admin: Account, draft: Filter, *, days: int = 30, limit: int | None = None) -> Replay:
        """Compare the policy in force with another filter. Raises what `layer` raises."""
        require_admin(admin)
        if not 1 <= days <= MAX_DAYS:
            raise InvalidInput(f"days: 1 to {MAX_DAYS}", param="days", kind="field_range")
        comparison = Comparison(live=self._filters.site, draft=draft)
        async for role, text in self._texts(days):
            if comparison.texts == limit:
                return comparison.result(is_partial=True)
            await comparison.read(text, stage=Stage.INPUT if role is Role.USER else Stage.OUTPUT, shown=text)
        return comparison.result()

    async def _texts(self, days: int) -> AsyncIterator[tuple[Role, ReleasedText]]:
        """Yield the texts since so many days, newest first, a page at a time."""
        since, before = now() - timedelta(days=days), None
        while True:
            async with self._storage.read() as unit:
                page = await unit.messages.recent(since=since, before=before, limit=_PAGE)
            for message in page:
                yield message.role, message.text
            if len(page) < _PAGE:
                return
            before = page[-1].id


async def _decided(content_filter: Filter, text: str, *, stage: Stage) -> Decision:
    checked: Checked = await content_filter.check(text, stage=stage, with_guards=False)
    if checked.decision.is_degraded:
        raise refusal(checked.decision)
    return checked.decision


def _excerpt(text: ReleasedText, finding: Finding) -> Excerpt:
    start, end = finding.start, min(finding.end, finding.start + 2 * _AROUND)
    return Excerpt(
        before=excerpt(text, start - _AROUND, start),
        found=excerpt(text, start, end),
        after=excerpt(text, end, end + _AROUND),
    )
