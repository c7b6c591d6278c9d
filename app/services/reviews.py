"""The review queue, for those who answer for the service: appeals, and what the filter handed over."""

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.errors import Conflict, ContentBlocked, InvalidInput, NotFound, SafetyUnavailable
from app.domain.models import (
    Account,
    AuditAction,
    AuditEntry,
    Hit,
    Review,
    ReviewState,
    Strike,
    Suspension,
    now,
)
from app.domain.ports import Filters, Storage
from app.domain.verdicts import NOTHING, Action, ReleasedText, Stage
from app.services.accounts import require_admin
from app.services.strikes import Strikes

MAX_NOTE = 1000
_CHARACTERS_AROUND = 2
"""How much of a Chinese text an allow-phrase takes in on each side of what was found; of others it is one word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dossier:
    """A decision with everything that is known about it, but for its text."""

    decision_id: str
    hits: Sequence[Hit]
    review: Review | None
    """None where nobody asked for one."""
    has_evidence: bool
    strike: Strike | None
    suspension: Suspension | None
    """What the strike led to."""
    trail: Sequence[AuditEntry]
    """What was done about it, newest first."""


class ReviewDesk:
    """Lists, opens, decides."""

    def __init__(self, storage: Storage, *, filters: Filters, strikes: Strikes) -> None:
        """What a reviewer writes to the person goes through the filter like an answer."""
        self._storage = storage
        self._filters = filters
        self._strikes = strikes

    async def page(
        self, admin: Account, *, state: ReviewState | None = None, limit: int = 50, offset: int = 0
    ) -> Sequence[Review]:
        """Newest first.

        Raises AccessDenied for anybody but an admin.
        """
        require_admin(admin)
        async with self._storage.read() as unit:
            return await unit.reviews.page(state=state, limit=limit, offset=offset)

    async def hits_of(self, admin: Account, reviews: Sequence[Review]) -> dict[str, Sequence[Hit]]:
        """Return the hits of these rows, by decision.

        Raises AccessDenied for anybody but an admin.
        """
        require_admin(admin)
        async with self._storage.read() as unit:
            return {one.decision_id: await unit.hits.of_decision(one.decision_id) for one in reviews}

    async def open(self, admin: Account, decision_id: str) -> Dossier:
        """Return all about a decision but its text.

        Raises AccessDenied for anybody but an admin, NotFound.
        """
        require_admin(admin)
        async with self._storage.read() as unit:
            hits = await unit.hits.of_decision(decision_id)
            if not hits:
                raise NotFound(kind="decision")
            strike = await unit.strikes.get(decision_id)
            suspension_id = strike.suspension_id if strike else None
            return Dossier(
                decision_id=decision_id,
                hits=hits,
                review=await unit.reviews.get(decision_id),
                has_evidence=await unit.evidence.get(decision_id) is not None,
                strike=strike,
                suspension=await unit.strikes.suspension(suspension_id) if suspension_id else None,
                trail=await unit.audit.page(subject=decision_id),
            )

    async def decide(self, admin: Account, decision_id: str, *, is_overturned: bool, note: str = "") -> Review:
        """Uphold or overturn. Overturning takes back the strike and what it led to.

        Raises AccessDenied for anybody but an admin; NotFound; Conflict where somebody else has decided; InvalidInput,
        ContentBlocked and SafetyUnavailable for the note.
        """
        require_admin(admin)
        said = await self._cleared(note)
        state = ReviewState.OVERTURNED if is_overturned else ReviewState.UPHELD
        action = AuditAction.REVIEW_OVERTURNED if is_overturned else AuditAction.REVIEW_UPHELD
        async with self._storage.write() as unit:
            if await unit.reviews.get(decision_id) is None:
                raise NotFound(kind="decision")
            if not await unit.reviews.decide(decision_id, state=state, by=admin.name, note=said, at=now()):
                raise Conflict(kind="decided")
            await unit.audit.add(AuditEntry.of(admin, action, decision_id))
            if is_overturned:
                await self._strikes.undo(unit, decision_id, reviewer=admin)
            review = await unit.reviews.get(decision_id)
            await unit.commit()
        if review is None:
            raise NotFound(kind="decision")
        return review

    async def _cleared(self, note: str) -> ReleasedText:
        note = note.replace("\r\n", "\n").strip()
        if len(note) > MAX_NOTE:
            detail = f"a note has at most {MAX_NOTE} characters"
            raise InvalidInput(detail, param="note", kind="note_long", limit=MAX_NOTE)
        if not note:
            return NOTHING
        checked = await self._filters.site.check(note, stage=Stage.OUTPUT, with_guards=False)
        if checked.decision.is_degraded:
            raise SafetyUnavailable(decision_id=checked.decision.id)
        if checked.text is None:
            raise ContentBlocked(kind="note", category=checked.decision.category or "")
        return checked.text


def allow_line(text: str, hits: Sequence[Hit], *, start: int = 0) -> str:
    """Return a line for a list's file that would let this text pass; nothing where a list cannot.

    Each phrase is what was found with a little of what stands around it, so that it is allowed in this use alone.
    `start` is where `text` begins in the whole that the hits' offsets count in.
    """
    phrases = []
    for hit in hits:
        if hit.action < Action.REFUSE or hit.is_shadow:
            continue
        phrase = _around(text, hit.start - start, hit.end - start)
        if phrase and phrase not in phrases:
            phrases.append(phrase)
    return f"allow = {json.dumps(phrases, ensure_ascii=False)}" if phrases else ""


def _around(text: str, start: int, end: int) -> str:
    """Return a span with its neighbours; nothing where it has none, for then the phrase itself would be allowed."""
    if not 0 <= start < end <= len(text):
        return ""
    left = text[:start]
    right = text[end:]
    before = _last(left)
    after = _last(right[::-1])[::-1]
    phrase = " ".join(f"{before}{text[start:end]}{after}".split())
    return phrase if any(char.isalnum() for char in before + after) else ""


def _last(text: str) -> str:
    """Return the last characters of a Chinese text, or the last word of another, blanks between included."""
    kept = text.rstrip(" ")
    if not kept or not kept[-1].isalnum():
        return ""
    if _is_chinese(kept[-1]):
        n = 0
        while n < min(_CHARACTERS_AROUND, len(kept)) and _is_chinese(kept[-1 - n]):
            n += 1
        return text[len(kept) - n :]
    n = 0
    while n < len(kept) and kept[-1 - n].isalnum() and not _is_chinese(kept[-1 - n]):
        n += 1
    return text[len(kept) - n :]


def _is_chinese(char: str) -> bool:
    return unicodedata.name(char, "").startswith("CJK ")
