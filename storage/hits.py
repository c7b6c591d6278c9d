"""What the filter stopped or marked: table and repository. A hit outlives what it was about and refers to nothing."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Dialect, Double, Index, Integer, bindparam, false, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from app.domain.models import Hit
from app.domain.verdicts import Action, Stage
from storage.rows import Base, Choice, Record, table_of


class _ActionNumber(TypeDecorator[Action]):
    """An action as its number."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: Action | None, dialect: Dialect) -> int | None:  # noqa: ARG002 - SQLAlchemy's
        return None if value is None else int(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Action | None:  # noqa: ARG002
        return None if value is None else Action(value)


class HitRow(Base):
    """A finding that was acted on."""

    __tablename__ = "hits"

    id: Mapped[str] = mapped_column(primary_key=True)
    decision_id: Mapped[str]
    created_at: Mapped[datetime]
    stage: Mapped[Stage] = mapped_column(Choice(Stage))
    action: Mapped[Action] = mapped_column(_ActionNumber())
    category: Mapped[str]
    rule: Mapped[str]
    detector: Mapped[str]
    policy: Mapped[str]
    start: Mapped[int]
    end: Mapped[int]
    account_id: Mapped[str | None]
    conversation_id: Mapped[str | None]
    message_id: Mapped[str | None]
    is_degraded: Mapped[bool]
    score: Mapped[float] = mapped_column(Double, server_default=text("1.0"))
    digest: Mapped[str] = mapped_column(server_default=text("''"))
    text_length: Mapped[int] = mapped_column(server_default=text("0"))
    language: Mapped[str] = mapped_column(server_default=text("''"))
    is_shadow: Mapped[bool] = mapped_column(server_default=false())

    __table_args__ = (Index(None, "created_at", "id"), Index(None, "decision_id"))


_HIT = Record(HitRow, Hit)
_ADD = insert(table_of(HitRow))
_OF_DECISION = _HIT.select().where(HitRow.decision_id == bindparam("key"))


class SqlHits:
    """`app.domain.ports.Hits` over a connection."""

    def __init__(self, connection: AsyncConnection) -> None:
        """Work within the connection's transaction."""
        self._connection = connection

    async def add(self, *hits: Hit) -> None:
        """Keep hits."""
        if hits:
            await self._connection.execute(_ADD, [_HIT.values(hit) for hit in hits])

    async def page(self, *, category: str = "", rule: str = "", limit: int = 100, offset: int = 0) -> Sequence[Hit]:
        """Newest first; an empty string does not restrict."""
        query = _HIT.select().order_by(HitRow.created_at.desc(), HitRow.id.desc()).limit(limit).offset(offset)
        if category:
            query = query.where(HitRow.category == category)
        if rule:
            query = query.where(HitRow.rule == rule)
        return _HIT.all(await self._connection.execute(query))

    async def of_decision(self, decision_id: str) -> Sequence[Hit]:
        """All hits of one decision, in the order of the text."""
        hits = _HIT.all(await self._connection.execute(_OF_DECISION, {"key": decision_id}))
        return sorted(hits, key=lambda hit: (hit.start, -hit.action, hit.id))

    async def counts_by_rule(self, *, since: datetime) -> Sequence[tuple[str, str, int]]:
        """`(category, rule, count)`, most first, then by name; rules on trial are left out."""
        count = func.count()
        query = (
            select(HitRow.category, HitRow.rule, count)
            .where(HitRow.created_at >= since, HitRow.is_shadow.is_(False))
            .group_by(HitRow.category, HitRow.rule)
            .order_by(count.desc(), HitRow.category, HitRow.rule)
        )
        return [(category, rule, number) for category, rule, number in await self._connection.execute(query)]
