"""How a database is reached: its URL, connections with everything set, and errors translated at this one edge.

`sqlite+aiosqlite` and `postgresql+psycopg`, asynchronous for the repositories, plain for migrations and backups.
"""

import functools
import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import aiosqlite
from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from app.domain.errors import (
    InvalidInput,
    StorageBusy,
    StorageCorrupt,
    StorageFailure,
    StorageFull,
    StorageReadOnly,
)

SQLITE, POSTGRESQL = "sqlite+aiosqlite", "postgresql+psycopg"
BUSY_TIMEOUT_MS = 5000
_READERS = 8

_WAL = "journal_mode=WAL"
_PRAGMAS = (f"busy_timeout={BUSY_TIMEOUT_MS}", _WAL, "foreign_keys=ON", "synchronous=NORMAL")
"""Of every connection. The first comes first: setting WAL may have to wait for another process."""


class Duplicate(StorageFailure):
    """A unique key refused a row. Repositories turn it into a Conflict where the port promises one."""


# The URL


def parse(url: str) -> URL:
    """Return the parts of a database URL.

    Raises InvalidInput for anything but a SQLite file or a PostgreSQL database.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise InvalidInput("the database's URL cannot be read", param="storage.url") from None
    if parsed.drivername not in {SQLITE, POSTGRESQL}:
        raise InvalidInput(f"the database's URL begins with {SQLITE}:// or {POSTGRESQL}://", param="storage.url")
    if parsed.drivername == SQLITE and (parsed.query or (parsed.database or ":memory:") == ":memory:"):
        raise InvalidInput(f"a SQLite URL names a file, and nothing else: {SQLITE}:///haina.db", param="storage.url")
    return parsed


def sqlite_file(url: str) -> Path | None:
    """Return the file of a SQLite URL; None for PostgreSQL.

    Raises InvalidInput as `parse` does.
    """
    parsed = parse(url)
    return Path(parsed.database or "").absolute() if parsed.drivername == SQLITE else None


def check_folder(file: Path) -> None:
    """See that a file can be made and written in its folder.

    Raises StorageFailure where there is no such folder, StorageReadOnly where it, or the file, cannot be written.
    """
    if not file.parent.is_dir():
        raise StorageFailure(f"there is no folder {file.parent}")
    for path in (file.parent, file):
        if path.exists() and not os.access(path, os.W_OK):
            raise StorageReadOnly(f"{path} cannot be written")


# Connections


def connect_sqlite(file: Path, *, mode: str = "rw", pragmas: Iterable[str] = _PRAGMAS) -> sqlite3.Connection:
    """Return a connection that never begins a transaction by itself.

    `mode` is `ro`, `rw`, or `rwc`, which makes the file.
    """
    connection = sqlite3.connect(
        f"{file.as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False
    )
    try:
        for pragma in pragmas:
            _set(connection, pragma)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _set(connection: sqlite3.Connection, pragma: str) -> None:
    """Set a pragma. The switch to WAL does not wait for another process as all else does, so it is tried again."""
    deadline = monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute(f"PRAGMA {pragma}")
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not (is_busy and pragma == _WAL and monotonic() < deadline):
                raise
            sleep(0.01)
        else:
            return


def sqlite_engine(file: Path, *, is_writer: bool) -> AsyncEngine:
    """Return the engine of the one writer, or of the readers, whose connections refuse to write."""
    # aiosqlite logs each statement *with its parameters*, message text among them, at the level debug.
    logging.getLogger("aiosqlite").setLevel(logging.WARNING)
    pragmas = _PRAGMAS if is_writer else (*_PRAGMAS, "query_only=ON")
    engine = create_async_engine(
        f"{SQLITE}:///{file}",
        pool_size=1 if is_writer else _READERS,
        max_overflow=0,
        pool_reset_on_return=None,  # a unit ends its transaction itself; one trip less
        hide_parameters=True,
        connect_args={"async_creator_fn": functools.partial(_open_aside, file, pragmas)},
    )
    begin = "BEGIN IMMEDIATE" if is_writer else "BEGIN"
    _begin_with(engine.sync_engine, begin)
    event.listen(engine.sync_engine, "handle_error", _translate, retval=True)
    return engine


def postgresql_engine(url: URL) -> AsyncEngine:
    """Return an engine; nobody waits longer for a row's lock than for SQLite's."""
    options = {} if "options" in url.query else {"options": f"-c lock_timeout={BUSY_TIMEOUT_MS}"}
    engine = create_async_engine(
        url,
        pool_size=10,
        max_overflow=10,
        pool_pre_ping=True,  # or the first question after the database's restart would fail
        hide_parameters=True,
        connect_args={"connect_timeout": 10, **options},
    )
    event.listen(engine.sync_engine, "handle_error", _translate, retval=True)
    return engine


def plain_engine(url: str, *, mode: str = "rw", pragmas: Iterable[str] = _PRAGMAS) -> Engine:
    """Return an engine without asyncio and without a pool, whose transactions exclude other writers.

    Raises InvalidInput as `parse` does.
    """
    file = sqlite_file(url)
    if file is None:
        engine = create_engine(
            parse(url), poolclass=NullPool, hide_parameters=True, connect_args={"connect_timeout": 10}
        )
    else:
        creator = functools.partial(connect_sqlite, file, mode=mode, pragmas=tuple(pragmas))
        engine = create_engine("sqlite://", creator=creator, poolclass=NullPool, hide_parameters=True)
        _begin_with(engine, "BEGIN IMMEDIATE")
    event.listen(engine, "handle_error", _translate, retval=True)
    return engine


def _begin_with(engine: Engine, statement: str) -> None:
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(statement)

    event.listen(engine, "begin", begin)


def _open_aside(file: Path, pragmas: Iterable[str], *_: Any, **__: Any) -> aiosqlite.Connection:
    """Return a connection that is opened, and set up, in its own thread."""
    connection = aiosqlite.Connection(functools.partial(connect_sqlite, file, pragmas=pragmas), iter_chunk_size=64)
    connection._thread.daemon = True  # noqa: SLF001 - as SQLAlchemy does: a forgotten one does not hold up the exit
    return connection


# Errors

_SQLITE_KINDS: dict[int, type[StorageFailure]] = {
    sqlite3.SQLITE_BUSY: StorageBusy,
    sqlite3.SQLITE_LOCKED: StorageBusy,
    sqlite3.SQLITE_READONLY: StorageReadOnly,
    sqlite3.SQLITE_PERM: StorageReadOnly,
    sqlite3.SQLITE_FULL: StorageFull,
    sqlite3.SQLITE_CORRUPT: StorageCorrupt,
    sqlite3.SQLITE_NOTADB: StorageCorrupt,
    sqlite3.SQLITE_CONSTRAINT_UNIQUE: Duplicate,
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY: Duplicate,
}
_POSTGRESQL_KINDS: dict[str, type[StorageFailure]] = {
    "23505": Duplicate,  # unique_violation
    "25006": StorageReadOnly,  # read_only_sql_transaction
    "40001": StorageBusy,  # serialization_failure
    "40P01": StorageBusy,  # deadlock_detected
    "53100": StorageFull,  # disk_full
    "53300": StorageBusy,  # too_many_connections
    "55P03": StorageBusy,  # lock_not_available
    "57014": StorageBusy,  # query_canceled: a timeout of the server's
    "XX001": StorageCorrupt,  # data_corrupted
    "XX002": StorageCorrupt,  # index_corrupted
}


def failure_of(error: BaseException) -> StorageFailure:
    """Return what a driver's error means. What it says is kept, the values it may quote are not.

    Source: https://www.sqlite.org/rescode.html, https://www.postgresql.org/docs/current/errcodes-appendix.html
    """
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0)
        kind = _SQLITE_KINDS.get(code) or _SQLITE_KINDS.get(code & 0xFF, StorageFailure)
        return kind(str(error))
    kind = _POSTGRESQL_KINDS.get(getattr(error, "sqlstate", None) or "", StorageFailure)
    said = getattr(getattr(error, "diag", None), "message_primary", None) or str(error)
    return kind(said.partition("\n")[0])


@contextmanager
def translated() -> Iterator[None]:
    """Translate what `sqlite3` raises where it is used without SQLAlchemy."""
    try:
        yield
    except sqlite3.Error as error:
        raise failure_of(error) from error


def _translate(context: ExceptionContext) -> BaseException | None:
    # A failed ping is the pool's own affair; an exception that is not the driver's is a fault of ours.
    if context.is_pre_ping or context.sqlalchemy_exception is None:
        return None
    return failure_of(context.original_exception)
