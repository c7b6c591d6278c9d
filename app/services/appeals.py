"""Appeals: whose text was refused may ask a person to look at it, once a decision."""

from collections.abc import Sequence

from app.domain.errors import Conflict, ContentBlocked, InvalidInput, NotFound, QuotaExceeded, SafetyUnavailable
from app.domain.models import Account, AuditAction, AuditEntry, Hit, Review, now
from app.domain.ports import Filters, Storage, Unit
from app.domain.verdicts import NOTHING, Action, ReleasedText, Stage
from app.services.hits import Recorder

MAX_COMMENT = 1000
MAX_OPEN = 20
"""Appeals of one account that wait at a time."""
_AGAIN_S = 3600.0


class AppealDesk:
    """Takes appeals, and tells what became of them."""

    def __init__(self, storage: Storage, *, filters: Filters, recorder: Recorder) -> None:
        """What people write to an appeal goes through the filter like a question."""
        self._storage = storage
        self._filters = filters
        self._recorder = recorder

    async def appeal(self, account: Account, decision_id: str, *, comment: str = "") -> Review:
        """Put a decision about one's own text into the review queue.

        Raises NotFound for a decision that is unknown or about somebody else's text; Conflict where it refused nothing,
        was a failure of the filter, or was appealed before; InvalidInput, ContentBlocked and SafetyUnavailable for the
        comment; QuotaExceeded with too many open ones.
        """
        async with self._storage.read() as unit:
            _require_refusal(await own_hits(unit, account, decision_id))
            _require_unappealed(await unit.reviews.get(decision_id))
        said = await self._cleared(account, comment)
        async with self._storage.write() as unit:
            await unit.accounts.hold(account.id)
            if await unit.reviews.count_open(account.id) >= MAX_OPEN:
                raise QuotaExceeded(kind="appeals", limit=MAX_OPEN, retry_after_s=_AGAIN_S)
            review = await self._queue(unit, account, decision_id, comment=said)
            await unit.audit.add(AuditEntry.of(account, AuditAction.REVIEW_APPEALED, decision_id))
            await unit.commit()
        return review

    async def get(self, account: Account, decision_id: str) -> Review:
        """Return how far one's own appeal is.

        Raises NotFound where there is none, or it is somebody else's.
        """
        async with self._storage.read() as unit:
            review = await unit.reviews.get(decision_id)
        if review is None or review.account_id != account.id or not review.is_appealed:
            raise NotFound(kind="appeal")
        return review

    async def _queue(self, unit: Unit, account: Account, decision_id: str, *, comment: ReleasedText) -> Review:
        """Add a row, or the appeal to the row of a decision that the filter handed over."""
        before = await unit.reviews.get(decision_id)
        _require_unappealed(before)
        at = now()
        if before is None:
            review = Review(
                decision_id=decision_id,
                created_at=at,
                account_id=account.id,
                account_name=account.name,
                is_appealed=True,
                comment=comment,
            )
            await unit.reviews.add(review)
            return review
        await unit.reviews.appeal(decision_id, comment=comment, at=at)
        return await unit.reviews.get(decision_id) or before

    async def _cleared(self, account: Account, comment: str) -> ReleasedText:
        """Return the comment as the filter lets it pass: masked where it has to be."""
        comment = comment.replace("\r\n", "\n").strip()
        if len(comment) > MAX_COMMENT:
            detail = f"a comment has at most {MAX_COMMENT} characters"
            raise InvalidInput(detail, param="comment", kind="comment_long", limit=MAX_COMMENT)
        if not comment:
            return NOTHING
        content_filter = await self._filters.over(account.policy_layers)
        # No guard: who quotes what one was wrong about would be refused by it again.
        checked = await content_filter.check(comment, stage=Stage.INPUT, with_guards=False)
        decision = checked.decision
        if decision.is_degraded:
            raise SafetyUnavailable(decision_id=decision.id)
        async with self._storage.write() as unit:
            # A strike it is not: who says why something was no offence may well repeat it.
            await self._recorder.write(unit, self._recorder.note(checked.case, account_id=account.id))
            await unit.commit()
        if checked.text is None:
            raise ContentBlocked(
                kind="comment", category=decision.category or "", stage=str(decision.stage), decision_id=decision.id
            )
        return checked.text


async def own_hits(unit: Unit, account: Account, decision_id: str) -> Sequence[Hit]:
    """Return the hits of a decision about this account's text, those of rules on trial left out.

    Raises NotFound where there are none: unknown and somebody else's are not told apart.
    """
    hits = [hit for hit in await unit.hits.of_decision(decision_id) if not hit.is_shadow]
    if not hits or any(hit.account_id != account.id for hit in hits):
        raise NotFound(kind="decision")
    return hits


def _require_refusal(hits: Sequence[Hit]) -> None:
    if any(hit.is_degraded and hit.action >= Action.REFUSE for hit in hits):
        raise Conflict(kind="not_judged")
    if max(hit.action for hit in hits) < Action.REFUSE:
        raise Conflict(kind="not_refused")


def _require_unappealed(review: Review | None) -> None:
    if review is not None and review.is_appealed:
        raise Conflict(kind="appealed")
