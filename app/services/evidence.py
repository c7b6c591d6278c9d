"""The texts behind decisions: kept only where the operator wants it, encrypted, for a while, and opened on the record.

Without the text a reviewer sees rules, places and the person's comment; that is the default. The law asks for both:
records of what was stopped, and no more of them than is needed.
"""

from datetime import datetime, timedelta
from typing import Literal

import structlog

from app.domain.errors import InvalidInput, NotFound
from app.domain.models import Account, AuditAction, AuditEntry, Evidence, now
from app.domain.ports import EvidenceBox, Storage
from app.domain.verdicts import Action, Case, SealedText
from app.services.accounts import require_admin

log = structlog.get_logger()

EvidenceMode = Literal["off", "refused", "all_hits"]
MAX_REASON = 200


class EvidenceDesk:
    """Seals, opens, forgets."""

    def __init__(self, storage: Storage, *, box: EvidenceBox, mode: EvidenceMode = "off", days: int = 30) -> None:
        """`mode` says which texts are kept, `days` for how long; the `box` has a key wherever one is."""
        self._storage = storage
        self._box = box
        self._mode = mode
        self._keep = timedelta(days=days)

    @property
    def mode(self) -> EvidenceMode:
        """Which texts are kept."""
        return self._mode

    def sealed(self, case: Case, *, at: datetime) -> Evidence | None:
        """Return the text of a decision as it is kept; None where it is not. A filter that failed judged nothing."""
        decision = case.decision
        wanted = decision.is_refusal if self._mode == "refused" else decision.action > Action.ALLOW
        if self._mode == "off" or decision.is_degraded or not wanted:
            return None
        return self._box.seal(case.heard, decision_id=decision.id, at=at)

    async def open(self, admin: Account, decision_id: str, *, reason: str) -> SealedText:
        """Return the text behind a decision. Who, when and why is written down first, also where it does not open.

        Raises AccessDenied for anybody but an admin, InvalidInput without a reason, NotFound where nothing is kept or
        it is over, EvidenceSealed.
        """
        require_admin(admin)
        reason = " ".join(reason.split())
        if not 1 <= len(reason) <= MAX_REASON:
            raise InvalidInput(
                f"say why, in 1 to {MAX_REASON} characters", param="reason", kind="reason", limit=MAX_REASON
            )
        async with self._storage.write() as unit:
            evidence = await unit.evidence.get(decision_id)
            if evidence is None or evidence.created_at < now() - self._keep:
                raise NotFound(kind="evidence")
            await unit.audit.add(AuditEntry.of(admin, AuditAction.EVIDENCE_OPENED, decision_id, reason=reason))
            await unit.commit()
        log.info("evidence_opened", decision_id=decision_id, by=admin.id)
        return self._box.open(evidence)

    async def purge(self) -> int:
        """Remove for good what was kept long enough; return how many texts."""
        async with self._storage.write() as unit:
            count = await unit.evidence.purge(created_before=now() - self._keep)
            await unit.commit()
        return count
