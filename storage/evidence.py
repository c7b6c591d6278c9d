"""Encrypted texts behind decisions: table and repository. The key is never in the database, nor in its backups."""

from datetime import datetime

from sqlalchemy import bindparam, delete, insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.models import Evidence
from storage.rows import Base, Record, table_of


class EvidenceRow(Base):
    """A text, as nobody without the key can read it."""

    __tablename__ = "evidence"

    decision_id: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(index=True)
    key_id: Mapped[str]
    start: Mapped[int]
    sealed: Mapped[bytes]


_EVIDENCE = Record(EvidenceRow, Evidence)
_ADD = insert(table_of(EvidenceRow))
_GET = _EVIDENCE.select().where(EvidenceRow.decision_id == bindparam("key"))


class SqlEvidence:
    """`app.domain.ports.EvidenceShelf` over a connection."""

    def __init__(self, connection: AsyncConnection) -> None:
        """Work within the connection's transaction."""
        self._connection = connection

    async def add(self, *evidence: Evidence) -> None:
        """Keep texts."""
        if evidence:
            await self._connection.execute(_ADD, [_EVIDENCE.values(one) for one in evidence])

    async def get(self, decision_id: str) -> Evidence | None:
        """Return the text behind a decision, still sealed."""
        return _EVIDENCE.first(await self._connection.execute(_GET, {"key": decision_id}))

    async def purge(self, *, created_before: datetime) -> int:
        """Remove for good; return how many went."""
        old = delete(EvidenceRow).where(EvidenceRow.created_at < created_before)
        return (await self._connection.execute(old)).rowcount
