"""The storage: units of work over SQLite or PostgreSQL.

SQLite takes one writer at a time, so writers queue in front of it, first come, first served, and each has the database
to itself: nobody meets a lock. Readers have connections of their own, which see the last commit and refuse to write.
PostgreSQL arbitrates by itself; there the queue is left out.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.domain.errors import StorageBusy
from app.domain.ports import (
    Accounts,
    AuditTrail,
    Conversations,
    EvidenceShelf,
    Hits,
    Messages,
    Policies,
    Reviews,
    Shares,
    Strikes,
    Templates,
)
from storage import schema
from storage.accounts import SqlAccounts
from storage.audit import SqlAudit
from storage.connections import check_folder, parse, postgresql_engine, sqlite_engine, sqlite_file
from storage.conversations import SqlConversations
from storage.evidence import SqlEvidence
from storage.hits import SqlHits
from storage.messages import SqlMessages
from storage.policies import SqlPolicies
from storage.reviews import SqlReviews
from storage.shares import SqlShares
from storage.strikes import SqlStrikes
from storage.templates import SqlTemplates


async def open_storage(url: str) -> "SqlStorage":
    """Open a migrated database; nothing is made or changed.

    Raises InvalidInput for an impossible URL, SchemaOutdated, and other StorageFailures.
    """
    file = sqlite_file(url)
    if file is None:
        await schema.require_current(url)
        return SqlStorage.on_postgresql(url)
    check_folder(file)
    await schema.require_current(url)
    return SqlStorage(
        reader=sqlite_engine(file, is_writer=False), writer=sqlite_engine(file, is_writer=True), turn=asyncio.Lock()
    )


class SqlUnit:
    """One transaction and its repositories."""

    def __init__(self, connection: AsyncConnection) -> None:
        """The transaction begins with the first statement."""
        self._connection = connection
        self.accounts: Accounts = SqlAccounts(connection)
        self.conversations: Conversations = SqlConversations(connection)
        self.messages: Messages = SqlMessages(connection)
        self.hits: Hits = SqlHits(connection)
        self.reviews: Reviews = SqlReviews(connection)
        self.strikes: Strikes = SqlStrikes(connection)
        self.evidence: EvidenceShelf = SqlEvidence(connection)
        self.audit: AuditTrail = SqlAudit(connection)
        self.templates: Templates = SqlTemplates(connection)
        self.policies: Policies = SqlPolicies(connection)
        self.shares: Shares = SqlShares(connection)

    async def commit(self) -> None:
        """Make all of it last."""
        await self._connection.commit()


class SqlStorage:
    """`app.domain.ports.Storage` over SQLAlchemy. Make one with `open_storage`."""

    def __init__(
        self, *, reader: AsyncEngine, writer: AsyncEngine, turn: AbstractAsyncContextManager[Any, Any]
    ) -> None:
        """`turn` is held while writing."""
        self._reader = reader
        self._writer = writer
        self._turn = turn

    @classmethod
    def on_postgresql(cls, url: str) -> "SqlStorage":
        """Share one pool; a reader sees one moment throughout, as on SQLite."""
        engine = postgresql_engine(parse(url))
        reader = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        return cls(reader=reader, writer=engine, turn=nullcontext())

    @asynccontextmanager
    async def read(self) -> AsyncIterator[SqlUnit]:
        """Begin a transaction that only reads: many at once. Writing in it is StorageReadOnly."""
        async with _unit(self._reader) as unit:
            yield unit

    @asynccontextmanager
    async def write(self) -> AsyncIterator[SqlUnit]:
        """Begin a transaction that may write: on SQLite one after the other."""
        async with self._turn, _unit(self._writer) as unit:
            yield unit

    async def close(self) -> None:
        """Close all connections."""
        await self._reader.dispose()
        await self._writer.dispose()


@asynccontextmanager
async def _unit(engine: AsyncEngine) -> AsyncIterator[SqlUnit]:
    try:
        async with engine.connect() as connection:
            yield SqlUnit(connection)
    except PoolTimeout as error:
        raise StorageBusy("no connection became free") from error
