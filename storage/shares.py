"""Links to conversations: table and repository."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ForeignKey, Index, bindparam, delete, insert, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.models import Share
from app.domain.verdicts import ReleasedText
from storage.rows import Base, Record, table_of

_EXPIRES = text("expires_at IS NOT NULL")


class ShareRow(Base):
    """A link to a conversation. It goes with the conversation, and with the account."""

    __tablename__ = "shares"

    id: Mapped[str] = mapped_column(primary_key=True)
    token_hash: Mapped[str] = mapped_column(unique=True)
    owner_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"), index=True)
    leaf_id: Mapped[str]
    """No foreign key, as a conversation's own: messages go with their conversation only."""
    title: Mapped[ReleasedText]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]

    __table_args__ = (
        Index(None, "owner_id", "created_at", "id"),
        Index(None, "expires_at", sqlite_where=_EXPIRES, postgresql_where=_EXPIRES),
    )


_SHARE = Record(ShareRow, Share)
_ADD = insert(table_of(ShareRow))
_GET = _SHARE.select().where(ShareRow.id == bindparam("key"))
_BY_TOKEN = _SHARE.select().where(ShareRow.token_hash == bindparam("key"))


class SqlShares:
    """`app.domain.ports.Shares` over a connection."""

    def __init__(self, connection: AsyncConnection) -> None:
        """Work within the connection's transaction."""
        self._connection = connection

    async def add(self, share: Share) -> None:
        """Keep a new link."""
        await self._connection.execute(_ADD, _SHARE.values(share))

    async def by_token(self, token_hash: str) -> Share | None:
        """Return the link of this token, expired or not."""
        return _SHARE.first(await self._connection.execute(_BY_TOKEN, {"key": token_hash}))

    async def get(self, share_id: str) -> Share | None:
        """Return a link."""
        return _SHARE.first(await self._connection.execute(_GET, {"key": share_id}))

    async def of_owner(self, owner_id: str) -> Sequence[Share]:
        """Return somebody's links, newest first, expired or not."""
        query = _SHARE.select().where(ShareRow.owner_id == owner_id)
        query = query.order_by(ShareRow.created_at.desc(), ShareRow.id.desc())
        return _SHARE.all(await self._connection.execute(query))

    async def remove(self, share_id: str) -> None:
        """Forget a link; one that is gone already is fine."""
        await self._connection.execute(delete(ShareRow).where(ShareRow.id == share_id))

    async def purge(self, *, expired_before: datetime) -> int:
        """Forget those that have expired; return how many."""
        expired = delete(ShareRow).where(ShareRow.expires_at < expired_before)
        return (await self._connection.execute(expired)).rowcount
