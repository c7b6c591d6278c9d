"""What the filter stopped or marked, for those who answer for the service. Rules and places, never text."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from app.domain.models import Account, Evidence, Hit, Review, TextTrace, new_id, now
from app.domain.ports import Storage, Tracer, Unit
from app.domain.verdicts import Action, Case, Decision
from app.services.accounts import require_admin
from app.services.evidence import EvidenceDesk


def hits_of(
    decision: Decision,
    *,
    account_id: str,
    trace: TextTrace,
    at: datetime,
    conversation_id: str | None = None,
    message_id: str | None = None,
) -> list[Hit]:
    """Return a hit for each finding that was acted on, and for what rules on trial would have done.

    One without a rule where a part of the filter failed.
    """
    common = {
        "decision_id": decision.id,
        "created_at": at,
        "stage": decision.stage,
        "policy": decision.policy,
        "account_id": account_id,
        "conversation_id": conversation_id,
        "message_id": message_id,
        "is_degraded": decision.is_degraded,
        "digest": trace.digest,
        "text_length": trace.length,
        "language": trace.language,
    }
    hits = [
        Hit(
            id=new_id(),
            action=action,
            category=finding.category,
            rule=finding.rule,
            detector=finding.detector,
            start=finding.start,
            end=finding.end,
            score=finding.score,
            is_shadow=is_shadow,
            **common,  # type: ignore[arg-type]
        )
        for finding in decision.findings
        for action, is_shadow in ((finding.action, False), (finding.shadow, True))
        if action > Action.ALLOW
    ]
    failed = [(name, f"unavailable:{name}", Action.FLAG) for name in decision.unguarded_by]
    if decision.is_degraded and not hits:
        failed.append(("gate", "filter:failure", decision.action))
    hits += [
        Hit(
            id=new_id(),
            action=action,
            category="unavailable",
            rule=rule,
            detector=detector,
            start=0,
            end=0,
            **{**common, "is_degraded": True},  # type: ignore[arg-type]
        )
        for detector, rule, action in failed
    ]
    return hits


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """What is to be written about a decision. Made once, so that it can be written later where the database refuses."""

    hits: Sequence[Hit] = ()
    evidence: Evidence | None = None
    handoff: Review | None = None
    """For the queue; the name is filled in when it is written."""


class Recorder:
    """Writes down what the filter did: hits, the text where it is to be kept, and what a person has to look at."""

    def __init__(self, *, tracer: Tracer, evidence: EvidenceDesk) -> None:
        """`tracer` makes fingerprints, `evidence` decides what is kept."""
        self._tracer = tracer
        self._evidence = evidence

    def note(
        self, case: Case, *, account_id: str, conversation_id: str | None = None, message_id: str | None = None
    ) -> Noted:
        """Return what is to be written about a decision; nothing where the text simply passed."""
        decision, at = case.decision, now()
        if not (decision.findings or decision.is_degraded or decision.unguarded_by):
            return Noted()
        hits = hits_of(
            decision,
            account_id=account_id,
            trace=self._tracer.trace(case.heard, at=at),
            at=at,
            conversation_id=conversation_id,
            message_id=message_id,
        )
        is_handoff = decision.action is Action.HANDOFF and not decision.is_degraded
        return Noted(
            hits=hits,
            evidence=self._evidence.sealed(case, at=at) if hits else None,
            handoff=Review(
                decision_id=decision.id, created_at=at, account_id=account_id, account_name="", is_handoff=True
            )
            if is_handoff
            else None,
        )

    async def write(self, unit: Unit, *noted: Noted) -> None:
        """Write it, within the caller's transaction."""
        for one in noted:
            await unit.hits.add(*one.hits)
            if one.evidence is not None:
                await unit.evidence.add(one.evidence)
            if one.handoff is not None:
                account = await unit.accounts.get(one.handoff.account_id)
                await unit.reviews.add(replace(one.handoff, account_name=account.name if account else ""))


class HitsDesk:
    """The console's view of the hits."""

    def __init__(self, storage: Storage) -> None:
        """Reads only."""
        self._storage = storage

    async def page(
        self, admin: Account, *, category: str = "", rule: str = "", limit: int = 100, offset: int = 0
    ) -> Sequence[Hit]:
        """Newest first.

        Raises AccessDenied for anybody but an admin.
        """
        require_admin(admin)
        async with self._storage.read() as unit:
            return await unit.hits.page(category=category, rule=rule, limit=limit, offset=offset)

    async def by_rule(self, admin: Account, *, days: int = 7) -> Sequence[tuple[str, str, int]]:
        """`(category, rule, count)` of the last days, most first.

        Raises AccessDenied for anybody but an admin.
        """
        require_admin(admin)
        async with self._storage.read() as unit:
            return await unit.hits.counts_by_rule(since=now() - timedelta(days=days))
