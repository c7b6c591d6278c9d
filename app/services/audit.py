"""The audit trail, as the console shows it: who did what, when, on what. A table, not a log; it outlives accounts."""

from collections.abc import Sequence

from app.domain.models import Account, AuditEntry
from app.domain.ports import Storage
from app.services.accounts import require_admin


class AuditDesk:
    """The console's view of the trail."""

    def __init__(self, storage: Storage) -> None:
        """Reads only."""
        self._storage = storage

    async def page(
        self, admin: Account, *, subject: str = "", limit: int = 50, offset: int = 0
    ) -> Sequence[AuditEntry]:
        """Newest first; an empty subject does not restrict.

        Raises AccessDenied for anybody but an admin.
        """
        require_admin(admin)
        async with self._storage.read() as unit:
            return await unit.audit.page(subject=subject, limit=limit, offset=offset)
