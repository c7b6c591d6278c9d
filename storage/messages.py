"""Messages and the parts of running answers: tables and repository.

A message is appended. While its answer runs its text lies in parts, one row for each flush; closing it writes the text
into the message and drops the parts. So a killed process loses nothing that was saved, and no row grows by rewriting.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Index,
    Integer,
    bindparam,
    delete,
    func,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapped, aliased, mapped_column

from app.domain.models import ErrorData, Message, MessageState, Receipt, Role
from app.domain.ports import AnswerPart
from app.domain.verdicts import ReleasedText, joined
from storage.rows import Base, Choice, Json, Record, table_of

_WHILE_RUNNING = text("state = 'running'")
_NOTHING = text("'{}'")


class MessageRow(Base):
    """One row of a conversation."""

    __tablename__ = "messages"

    n: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)
    """Counts all messages as they come: the order of a thread, also where two were made in the same moment."""
    id: Mapped[str] = mapped_column(unique=True)
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"))
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("messages.id"), index=True)
    role: Mapped[Role] = mapped_column(Choice(Role))
    text: Mapped[ReleasedText]
    state: Mapped[MessageState] = mapped_column(Choice(MessageState))
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    category: Mapped[str | None]
    error_code: Mapped[str | None]
    error_data: Mapped[ErrorData] = mapped_column(Json(ErrorData), server_default=_NOTHING)
    continues_id: Mapped[str | None]
    receipt: Mapped[Receipt | None] = mapped_column(Json(Receipt))

    __table_args__ = (
        Index(None, "conversation_id", "n"),
        Index(None, "role", "created_at", "state"),
        Index("ix_messages_running", "id", sqlite_where=_WHILE_RUNNING, postgresql_where=_WHILE_RUNNING),
    )


class MessagePartRow(Base):
    """A piece of a running answer."""

    __tablename__ = "message_parts"

    message_id: Mapped[str] = mapped_column(ForeignKey("messages.id", ondelete="CASCADE"), primary_key=True)
    n: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[ReleasedText]

    __table_args__ = ({"sqlite_with_rowid": False},)


_RUNNING = literal(MessageState.RUNNING, Choice(MessageState), literal_execute=True)
"""Written out in the SQL: a plan made before the value is known cannot use the partial index."""
_MESSAGE = Record(MessageRow, Message)
_ADD = insert(table_of(MessageRow))
_GET = _MESSAGE.select().where(MessageRow.id == bindparam("key"))
_THREAD = _MESSAGE.select().where(MessageRow.conversation_id == bindparam("key")).order_by(MessageRow.n)
_IDS = select(MessageRow.id).order_by(MessageRow.n)
_CHILDREN = _IDS.where(MessageRow.parent_id == bindparam("key"))
_FIRST = _IDS.where(MessageRow.conversation_id == bindparam("key"), MessageRow.parent_id.is_(None))
_ADD_PARTS = insert(table_of(MessagePartRow))
_PARTS = (
    select(MessagePartRow.message_id, MessagePartRow.text)
    .where(MessagePartRow.message_id.in_(bindparam("keys", expanding=True)))
    .order_by(MessagePartRow.message_id, MessagePartRow.n)
)
_FINISH = update(table_of(MessageRow)).where(MessageRow.id == bindparam("key"), MessageRow.state == _RUNNING)
_DROP_PARTS = delete(table_of(MessagePartRow)).where(MessagePartRow.message_id == bindparam("key"))


class SqlMessages:
    """`app.domain.ports.Messages` over a connection."""

    def __init__(self, connection: AsyncConnection) -> None:
        """Work within the connection's transaction."""
        self._connection = connection

    async def add(self, *messages: Message) -> None:
        """Append messages, parents first."""
        if messages:
            await self._connection.execute(_ADD, [_MESSAGE.values(message) for message in messages])

    async def get(self, message_id: str) -> Message | None:
        """Return a message; a running answer with the parts saved so far."""
        messages = await self._filled(_MESSAGE.all(await self._connection.execute(_GET, {"key": message_id})))
        return messages[0] if messages else None

    async def thread(self, conversation_id: str) -> Sequence[Message]:
        """Return all messages of a conversation, every branch, oldest first."""
        result = await self._connection.execute(_THREAD, {"key": conversation_id})
        return await self._filled(_MESSAGE.all(result))

    async def branch(self, leaf_id: str) -> Sequence[Message]:
        """Return the path from the first message to this one."""
        path = (
            select(MessageRow.n, MessageRow.parent_id, literal(0).label("depth"))
            .where(MessageRow.id == leaf_id)
            .cte("path", recursive=True)
        )
        parent = aliased(MessageRow)
        path = path.union_all(
            select(parent.n, parent.parent_id, path.c.depth + 1).join_from(path, parent, parent.id == path.c.parent_id)
        )
        query = _MESSAGE.select().join(path, path.c.n == MessageRow.n).order_by(path.c.depth.desc())
        return await self._filled(_MESSAGE.all(await self._connection.execute(query)))

    async def children(self, conversation_id: str, parent_id: str | None) -> Sequence[str]:
        """Return the ids of the messages that follow one, or that begin a conversation; oldest first."""
        query, key = (_CHILDREN, parent_id) if parent_id else (_FIRST, conversation_id)
        found = await self._connection.execute(query, {"key": key})
        return [message_id for (message_id,) in found]

    async def add_parts(self, parts: Sequence[AnswerPart]) -> None:
        """Save pieces of running answers; the same one twice is a StorageFailure."""
        if parts:
            await self._connection.execute(_ADD_PARTS, [asdict(part) for part in parts])

    async def finish(
        self,
        message_id: str,
        *,
        state: MessageState,
        text: ReleasedText,
        finished_at: datetime,
        category: str | None = None,
        error_code: str | None = None,
        error_data: ErrorData | None = None,
        receipt: Receipt | None = None,
    ) -> bool:
        """Close a running answer and drop its parts; False, and no change, where none of this id is running."""
        row = {
            "key": message_id,
            "state": state,
            "text": text,
            "finished_at": finished_at,
            "category": category,
            "error_code": error_code,
            "error_data": error_data or {},
            "receipt": receipt,
        }
        if (await self._connection.execute(_FINISH, row)).rowcount == 0:
            return False
        await self._connection.execute(_DROP_PARTS, {"key": message_id})
        return True

    async def interrupt_running(self, at: datetime) -> int:
        """Close every running answer as `interrupted` with the parts that were saved; return how many."""
        running = await self._connection.execute(_MESSAGE.select().where(MessageRow.state == _RUNNING))
        answers = await self._filled(_MESSAGE.all(running))
        for answer in answers:
            await self.finish(answer.id, state=MessageState.INTERRUPTED, text=answer.text, finished_at=at)
        return len(answers)

    async def recent(self, *, since: datetime, before: str | None = None, limit: int = 200) -> Sequence[Message]:
        """Those that have a text and are final, newest first."""
        query = _MESSAGE.select().where(
            MessageRow.created_at >= since,
            MessageRow.state != MessageState.RUNNING,
            MessageRow.text != ReleasedText(""),
        )
        if before is not None:
            query = query.where(MessageRow.n < select(MessageRow.n).where(MessageRow.id == before).scalar_subquery())
        return _MESSAGE.all(await self._connection.execute(query.order_by(MessageRow.n.desc()).limit(limit)))

    async def counts(self, *, since: datetime) -> Mapping[MessageState, int]:
        """Return how many answers of each state were begun since."""
        query = (
            select(MessageRow.state, func.count())
            .where(MessageRow.role == Role.ASSISTANT, MessageRow.created_at >= since)
            .group_by(MessageRow.state)
        )
        counted = await self._connection.execute(query)
        return {state: int(count) for state, count in counted}

    async def _filled(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Give running answers their parts as text."""
        running = [message.id for message in messages if message.state is MessageState.RUNNING]
        if not running:
            return messages
        parts: dict[str, list[ReleasedText]] = {}
        for message_id, piece in await self._connection.execute(_PARTS, {"keys": running}):
            parts.setdefault(message_id, []).append(piece)
        return [
            replace(message, text=joined(parts[message.id])) if message.id in parts else message for message in messages
        ]
