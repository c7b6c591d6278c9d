"""The review queue: table and repository. A row outlives the account and whatever it was about."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Index, bindparam, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.errors import Conflict
from app.domain.models import Review, ReviewState
from app.domain.verdicts import NOTHING, ReleasedText
from storage.connections import Duplicate
from storage.rows import Base, Choice, Record, table_of


class ReviewRow(Base):
    """A decision that a person looks at."""

    __tablename__ = "reviews"

    decision_id: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[datetime]
    account_id: Mapped[str]
    account_name: Mapped[str]
    is_handoff: Mapped[bool]
    is_appealed: Mapped[bool]
    comment: Mapped[ReleasedText]
    state: Mapped[ReviewState] = mapped_column(Choice(ReviewState))
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[str]
    note: Mapped[ReleasedText]

    __table_args__ = (
        Index(None, "created_at", "decision_id"),
        Index(None, "state", "created_at", "decision_id"),
        Index(None, "account_id", "state"),
    )


_REVIEW = Record(ReviewRow, Review)
_ADD = insert(table_of(ReviewRow))
_GET = _REVIEW.select().where(ReviewRow.decision_id == bindparam("key"))
_OF = _REVIEW.select().where(ReviewRow.decision_id.in_(bindparam("keys", expanding=True)))


class SqlReviews:
    """`app.domain.ports.Reviews` over a connection."""

    def __init__(self, connection: AsyncConnection) -> None:
        """Work within the connection's transaction."""
        self._connection = connection

    async def add(self, review: Review) -> None:
        """Raises Conflict(kind="review") where this decision has a row."""
        try:
            await self._connection.execute(_ADD, _REVIEW.values(review))
        except Duplicate as error:
            raise Conflict(kind="review") from error

    async def get(self, decision_id: str) -> Review | None:
        """Return a row."""
        return _REVIEW.first(await self._connection.execute(_GET, {"key": decision_id}))

    async def of(self, decision_ids: Sequence[str]) -> Sequence[Review]:
        """Those of these decisions that are there, in no order."""
        if not decision_ids:
            return []
        return _REVIEW.all(await self._connection.execute(_OF, {"keys": list(decision_ids)}))

    async def page(self, *, state: ReviewState | None = None, limit: int = 50, offset: int = 0) -> Sequence[Review]:
        """Newest first."""
        query = _REVIEW.select().order_by(ReviewRow.created_at.desc(), ReviewRow.decision_id.desc())
        if state is not None:
            query = query.where(ReviewRow.state == state)
        return _REVIEW.all(await self._connection.execute(query.limit(limit).offset(offset)))

    async def count_open(self, account_id: str | None = None) -> int:
        """How many are open; with an account, how many of its appeals."""
        query = select(func.count()).where(ReviewRow.state == ReviewState.OPEN)
        if account_id is not None:
            query = query.where(ReviewRow.account_id == account_id, ReviewRow.is_appealed)
        return int((await self._connection.execute(query)).scalar_one())

    async def appeal(self, decision_id: str, *, comment: ReleasedText, at: datetime) -> bool:
        """Add the account's appeal to a row and open it again; False, and no change, where it was appealed before."""
        unappealed = update(ReviewRow).where(ReviewRow.decision_id == decision_id, ReviewRow.is_appealed.is_(False))
        opened = unappealed.values(
            is_appealed=True,
            comment=comment,
            created_at=at,
            state=ReviewState.OPEN,
            decided_at=None,
            decided_by="",
            note=NOTHING,
        )
        return (await self._connection.execute(opened)).rowcount == 1

    async def decide(self, decision_id: str, *, state: ReviewState, by: str, note: ReleasedText, at: datetime) -> bool:
        """Close a row; False, and no change, where it is not open."""
        still_open = update(ReviewRow).where(ReviewRow.decision_id == decision_id, ReviewRow.state == ReviewState.OPEN)
        closed = still_open.values(state=state, decided_at=at, decided_by=by, note=note)
        return (await self._connection.execute(closed)).rowcount == 1
