"""Refused questions that count against an account, and the suspensions that they led to: tables and repository."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ForeignKey, Index, bindparam, insert, or_, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.models import Strike, Suspension
from storage.rows import Base, Record, table_of


class SuspensionRow(Base):
    """A while in which an account may ask nothing."""

    __tablename__ = "suspensions"

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    began_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    lifted_at: Mapped[datetime | None]
    lifted_by: Mapped[str]

    __table_args__ = (Index(None, "account_id", "ends_at"),)


class StrikeRow(Base):
    """A refused question that counts."""

    __tablename__ = "strikes"

    decision_id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    at: Mapped[datetime]
    is_in_row: Mapped[bool]
    undone_at: Mapped[datetime | None]
    suspension_id: Mapped[str | None] = mapped_column(ForeignKey("suspensions.id", ondelete="CASCADE"), index=True)

    __table_args__ = (Index(None, "account_id", "at", "decision_id"),)


_STRIKE = Record(StrikeRow, Strike)
_SUSPENSION = Record(SuspensionRow, Suspension)
_BREAK = (
    update(table_of(StrikeRow))
    .where(
        StrikeRow.account_id == bindparam("key"),
        StrikeRow.is_in_row,
        StrikeRow.suspension_id.is_(None),
    )
    .values(is_in_row=False)
)
_SUSPENDED = _SUSPENSION.select().where(
    SuspensionRow.account_id.in_(bindparam("keys", expanding=True)),
    SuspensionRow.ends_at > bindparam("at"),
    SuspensionRow.lifted_at.is_(None),
)


class SqlStrikes:
    """`app.domain.ports.Strikes` over a connection."""

    def __init__(self, connection: AsyncConnection) -> None:
        """Work within the connection's transaction."""
        self._connection = connection

    async def add(self, strike: Strike) -> None:
        """Keep a new strike."""
        await self._connection.execute(insert(StrikeRow).values(_STRIKE.values(strike)))

    async def get(self, decision_id: str) -> Strike | None:
        """Return a strike."""
        query = _STRIKE.select().where(StrikeRow.decision_id == decision_id)
        return _STRIKE.first(await self._connection.execute(query))

    async def break_row(self, account_id: str) -> None:
        """A question passed: what counts so far is in a row no more. Used strikes stay as they are."""
        await self._connection.execute(_BREAK, {"key": account_id})

    async def counting(self, account_id: str, *, since: datetime) -> Sequence[Strike]:
        """Those that are neither undone nor used, and are in the row or at or after `since`; oldest first."""
        query = (
            _STRIKE.select()
            .where(
                StrikeRow.account_id == account_id,
                StrikeRow.undone_at.is_(None),
                StrikeRow.suspension_id.is_(None),
                or_(StrikeRow.is_in_row, StrikeRow.at >= since),
            )
            .order_by(StrikeRow.at, StrikeRow.decision_id)
        )
        return _STRIKE.all(await self._connection.execute(query))

    async def undo(self, decision_id: str, at: datetime) -> bool:
        """Let a strike count no more; False where there is none or it was undone."""
        standing = update(StrikeRow).where(StrikeRow.decision_id == decision_id, StrikeRow.undone_at.is_(None))
        return (await self._connection.execute(standing.values(undone_at=at))).rowcount == 1

    async def use(self, decision_ids: Sequence[str], suspension_id: str) -> None:
        """Note what strikes led to."""
        those = update(StrikeRow).where(StrikeRow.decision_id.in_(decision_ids))
        await self._connection.execute(those.values(suspension_id=suspension_id))

    async def of_suspension(self, suspension_id: str) -> Sequence[Strike]:
        """Those that led to it, undone ones too; oldest first."""
        query = _STRIKE.select().where(StrikeRow.suspension_id == suspension_id)
        strikes = _STRIKE.all(await self._connection.execute(query))
        return sorted(strikes, key=lambda strike: (strike.at, strike.decision_id))

    async def release(self, suspension_id: str) -> None:
        """Let the strikes that led to it count again."""
        those = update(StrikeRow).where(StrikeRow.suspension_id == suspension_id)
        await self._connection.execute(those.values(suspension_id=None))

    async def suspend(self, suspension: Suspension) -> None:
        """Keep a new suspension."""
        await self._connection.execute(insert(SuspensionRow).values(_SUSPENSION.values(suspension)))

    async def suspension(self, suspension_id: str) -> Suspension | None:
        """Return a suspension."""
        query = _SUSPENSION.select().where(SuspensionRow.id == suspension_id)
        return _SUSPENSION.first(await self._connection.execute(query))

    async def suspended(self, account_ids: Sequence[str], *, at: datetime) -> Sequence[Suspension]:
        """The suspensions of these accounts that are in force; of several for one account the longest comes last."""
        if not account_ids:
            return []
        found = _SUSPENSION.all(await self._connection.execute(_SUSPENDED, {"keys": list(account_ids), "at": at}))
        return sorted(found, key=lambda one: (one.ends_at, one.id))

    async def lift(self, suspension_id: str, *, by: str, at: datetime) -> bool:
        """End a suspension; False where it was lifted before."""
        standing = update(SuspensionRow).where(SuspensionRow.id == suspension_id, SuspensionRow.lifted_at.is_(None))
        return (await self._connection.execute(standing.values(lifted_at=at, lifted_by=by))).rowcount == 1
