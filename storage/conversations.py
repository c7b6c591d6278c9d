"""Conversations: table and repository."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import ForeignKey, Index, bindparam, delete, insert, text, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.models import Conversation
from app.domain.verdicts import ReleasedText
from storage.rows import Base, Json, Record, table_of


class ConversationRow(Base):
    """A thread of messages of one owner."""

    __tablename__ = "conversations"

    id: Mapped[str] = mapped_column(primary_key=True)
    owner_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    title: Mapped[ReleasedText]
    title_key: Mapped[str]
    """The title without regard to case, for the search: SQLite's own folding knows ASCII only."""
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    leaf_id: Mapped[str | None]
    """No foreign key: messages refer to conversations, and two tables that refer to each other help nobody."""
    template_version_id: Mapped[str | None] = mapped_column(ForeignKey("template_versions.id"))
    variables: Mapped[Mapping[str, str]] = mapped_column(Json(dict[str, str]))
    is_titled_by_owner: Mapped[bool]
    source: Mapped[str]
    deleted_at: Mapped[datetime | None]

    __table_args__ = (
        Index(None, "owner_id", "source", "updated_at", "id"),
        Index(
            None,
            "deleted_at",
            sqlite_where=text("deleted_at IS NOT NULL"),
            postgresql_where=text("deleted_at IS NOT NULL"),
        ),
    )


_CONVERSATION = Record(ConversationRow, Conversation)
_ADD = insert(table_of(ConversationRow))
_GET_ANY = _CONVERSATION.select().where(ConversationRow.id == bindparam("key"))
_GET = _GET_ANY.where(ConversationRow.deleted_at.is_(None))
_SET_LEAF = update(table_of(ConversationRow)).where(ConversationRow.id == bindparam("key"))


class SqlConversations:
    """`app.domain.ports.Conversations` over a connection."""

    def __init__(self, connection: AsyncConnection) -> None:
        """Work within the connection's transaction."""
        self._connection = connection

    async def add(self, conversation: Conversation) -> None:
        """Keep a new conversation."""
        row = {**_CONVERSATION.values(conversation), "title_key": conversation.title.casefold()}
        await self._connection.execute(_ADD, row)

    async def get(self, conversation_id: str, *, with_deleted: bool = False) -> Conversation | None:
        """Return a conversation; a deleted one only where that is wanted."""
        query = _GET_ANY if with_deleted else _GET
        return _CONVERSATION.first(await self._connection.execute(query, {"key": conversation_id}))

    async def page(
        self, owner_id: str, *, query: str = "", before: datetime | None = None, limit: int = 50
    ) -> Sequence[Conversation]:
        """Those of the page, latest change first; `query` is part of a title, whatever its case."""
        statement = (
            _CONVERSATION.select()
            .where(
                ConversationRow.owner_id == owner_id,
                ConversationRow.source == "page",
                ConversationRow.deleted_at.is_(None),
            )
            .order_by(ConversationRow.updated_at.desc(), ConversationRow.id.desc())
            .limit(limit)
        )
        if query:
            statement = statement.where(ConversationRow.title_key.contains(query.casefold(), autoescape=True))
        if before is not None:
            statement = statement.where(ConversationRow.updated_at < before)
        return _CONVERSATION.all(await self._connection.execute(statement))

    async def set_title(self, conversation_id: str, title: ReleasedText, *, is_by_owner: bool) -> None:
        """Give a title."""
        await self._set(conversation_id, title=title, title_key=title.casefold(), is_titled_by_owner=is_by_owner)

    async def set_leaf(self, conversation_id: str, leaf_id: str, at: datetime) -> None:
        """Show the branch that ends here; the conversation changed at `at`."""
        await self._connection.execute(_SET_LEAF, {"key": conversation_id, "leaf_id": leaf_id, "updated_at": at})

    async def delete(self, conversation_id: str, at: datetime) -> None:
        """Take it off every list."""
        await self._set(conversation_id, deleted_at=at)

    async def restore(self, conversation_id: str) -> None:
        """Bring it back."""
        await self._set(conversation_id, deleted_at=None)

    async def purge(self, *, deleted_before: datetime) -> int:
        """Remove for good; the messages and their parts go with it."""
        result = await self._connection.execute(
            delete(ConversationRow).where(ConversationRow.deleted_at < deleted_before)
        )
        return result.rowcount

    async def _set(self, conversation_id: str, **values: object) -> None:
        await self._connection.execute(
            update(ConversationRow).where(ConversationRow.id == conversation_id).values(values)
        )
