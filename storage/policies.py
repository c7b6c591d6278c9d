"""Layers of the filter policy and their immutable versions: table and repository."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import UniqueConstraint, exists, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.errors import Conflict, NotFound
from app.domain.models import PolicyVersion
from storage.connections import Duplicate
from storage.rows import Base, Record


class PolicyVersionRow(Base):
    """A version of a layer. A layer is there as soon as it has one, and has one that is live."""

    __tablename__ = "policy_versions"

    id: Mapped[str] = mapped_column(primary_key=True)
    layer: Mapped[str]
    number: Mapped[int]
    text: Mapped[str]
    message: Mapped[str]
    author: Mapped[str]
    created_at: Mapped[datetime]
    is_live: Mapped[bool]

    __table_args__ = (UniqueConstraint("layer", "number"),)


_VERSION = Record(PolicyVersionRow, PolicyVersion)


class SqlPolicies:
    """`app.domain.ports.Policies` over a connection."""

    def __init__(self, connection: AsyncConnection) -> None:
        """Work within the connection's transaction."""
        self._connection = connection

    async def live(self) -> Sequence[PolicyVersion]:
        """The version in force of each layer, by name."""
        query = _VERSION.select().where(PolicyVersionRow.is_live)
        return sorted(_VERSION.all(await self._connection.execute(query)), key=lambda version: version.layer)

    async def versions(self, layer: str) -> Sequence[PolicyVersion]:
        """Newest first."""
        query = _VERSION.select().where(PolicyVersionRow.layer == layer).order_by(PolicyVersionRow.number.desc())
        return _VERSION.all(await self._connection.execute(query))

    async def add(self, version: PolicyVersion) -> None:
        """Raises Conflict(kind="version") where somebody else made this number first."""
        if version.is_live:
            await self._retire(version.layer)
        try:
            await self._connection.execute(insert(PolicyVersionRow).values(_VERSION.values(version)))
        except Duplicate as error:
            raise Conflict(kind="version") from error

    async def set_live(self, layer: str, version_id: str) -> None:
        """Raises NotFound where the version is not this layer's."""
        is_it = PolicyVersionRow.id == version_id
        its_own = exists().where(is_it, PolicyVersionRow.layer == layer)
        if not await self._connection.scalar(select(its_own)):
            raise NotFound(kind="policy")
        await self._retire(layer)
        await self._connection.execute(update(PolicyVersionRow).where(is_it).values(is_live=True))

    async def _retire(self, layer: str) -> None:
        await self._connection.execute(
            update(PolicyVersionRow).where(PolicyVersionRow.layer == layer).values(is_live=False)
        )
