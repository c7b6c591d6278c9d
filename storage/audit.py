"""Who did what: table and repository. Entries refer to nothing, are added, and are never changed."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Index, insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.models import AuditAction, AuditEntry
from storage.rows import Base, Choice, Record


class AuditRow(Base):
    """Something that somebody did."""

    __tablename__ = "audit"

    id: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    actor_id: Mapped[str]
    actor_name: Mapped[str]
    action: Mapped[AuditAction] = mapped_column(Choice(AuditAction))
    subject: Mapped[str]
    reason: Mapped[str]

    __table_args__ = (Index(None, "at", "id"), Index(None, "subject", "at", "id"))


_ENTRY = Record(AuditRow, AuditEntry)


class SqlAudit:
    """`app.domain.ports.AuditTrail` over a connection."""

    def __init__(self, connection: AsyncConnection) -> None:
        """Work within the connection's transaction."""
        self._connection = connection

    async def add(self, entry: AuditEntry) -> None:
        """Keep an entry."""
        await self._connection.execute(insert(AuditRow).values(_ENTRY.values(entry)))

    async def page(self, *, subject: str = "", limit: int = 50, offset: int = 0) -> Sequence[AuditEntry]:
        """Newest first; an empty subject does not restrict."""
        query = _ENTRY.select().order_by(AuditRow.at.desc(), AuditRow.id.desc()).limit(limit).offset(offset)
        if subject:
            query = query.where(AuditRow.subject == subject)
        return _ENTRY.all(await self._connection.execute(query))
