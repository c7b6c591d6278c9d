"""What the filter stopped or marked, for those who answer for the service. Rules and places, never text."""

from collections.abc import Sequence
from datetime import timedelta

from app.domain.models import Account, Hit, Message, new_id, now
from app.domain.ports import Storage
from app.domain.verdicts import Action, Decision
from app.services.accounts import require_admin


def hits_of(decision: Decision, *, account_id: str, message: Message) -> list[Hit]:
    """Return a hit for each finding that was acted on; one without a place where a part of the filter failed."""
    common = {
        "decision_id": decision.id,
        "created_at": now(),
        "stage": decision.stage,
        "policy": decision.policy,
        "account_id": account_id,
        "conversation_id": message.conversation_id,
        "message_id": message.id,
        "is_degraded": decision.is_degraded or bool(decision.unguarded_by),
    }
    hits = [
        Hit(
            id=new_id(),
            action=finding.action,
            category=finding.category,
            rule=finding.rule,
            detector=finding.detector,
            start=finding.start,
            end=finding.end,
            **common,  # type: ignore[arg-type]
        )
        for finding in decision.findings
        if finding.action > Action.ALLOW
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
            **common,  # type: ignore[arg-type]
        )
        for detector, rule, action in failed
    ]
    return hits


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
