"""Backups of a SQLite database: taken while the server runs, put back while it does not."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import structlog

from app.domain.errors import InvalidInput, SchemaOutdated, StorageBusy, StorageCorrupt
from storage import copying, schema
from storage.connections import SQLITE, check_folder, connect_sqlite, failure_of, sqlite_file, translated

log = structlog.get_logger()

_COMPANIONS = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a file; left behind, they would be applied to whatever takes its name."""


async def backup(url: str, file: Path) -> None:
    """Copy the database to `file`, whole and verified, also while others write. A file of that name is replaced.

    Raises InvalidInput for PostgreSQL and for a file that cannot be a backup, StorageFailure and its kinds.
    """
    await asyncio.to_thread(_backup, _database_of(url, "pg_dump --format=custom"), file)


async def restore(url: str, file: Path) -> Path | None:
    """Put a backup in the database's place; return where the present one was moved, None where there was none.

    The backup is read through first. An older one is migrated at the next start.
    Raises InvalidInput for PostgreSQL and a missing file; StorageCorrupt for a damaged backup, SchemaOutdated for one
    that is newer than this program or not Haina's; StorageBusy while another process has the database open.
    """
    return await asyncio.to_thread(_restore, _database_of(url, "pg_restore"), file)


def _database_of(url: str, command: str) -> Path:
    database = sqlite_file(url)
    if database is None:
        raise InvalidInput(f"this command is for SQLite; PostgreSQL has its own: {command}", param="storage.url")
    return database


def _backup(database: Path, file: Path) -> None:
    file = file.absolute()
    is_special = file.exists() and not file.is_file()  # a folder, or something like /dev/null, which root can replace
    if file == database or is_special or not file.parent.is_dir():
        raise InvalidInput(f"a backup cannot be written to {file}", param="file")
    copying.copy(database, file)
    _require_known(file)
    log.info("database_backed_up", bytes=file.stat().st_size)


def _restore(database: Path, file: Path) -> Path | None:
    file = file.absolute()
    if not file.is_file() or file == database:
        raise InvalidInput(f"there is no backup {file}", param="file")
    check_folder(database)
    try:
        copying.verify(file)
    except StorageCorrupt as error:
        raise StorageCorrupt(error.detail, kind="backup") from error
    _require_known(file)
    arriving = database.with_name(f"{database.name}.restoring")
    copying.copy(file, arriving)
    try:
        with _alone(database):
            kept = _set_aside(database)
            arriving.replace(database)
    finally:
        arriving.unlink(missing_ok=True)
    log.info("database_restored", kept=kept.name if kept else None)
    return kept


def _require_known(file: Path) -> None:
    revisions = schema.revisions_of(f"{SQLITE}:///{file}")
    if not revisions.found or not revisions.is_known:
        raise SchemaOutdated(f"{file}", found=revisions.found, expected=revisions.expected)


@contextmanager
def _alone(database: Path) -> Iterator[None]:
    """Hold the database so that nobody else has it open.

    Leaving WAL mode works for the last connection only, and writes the log into the file. A file too damaged for that
    is let go: it is what the backup is for.
    Raises StorageBusy.
    """
    if not database.exists():
        yield
        return
    with translated(), closing(connect_sqlite(database, pragmas=("busy_timeout=500",))) as connection:
        try:
            connection.execute("PRAGMA journal_mode=DELETE")
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.DatabaseError as error:
            _let_damage_pass(error)
        yield
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def _let_damage_pass(error: sqlite3.DatabaseError) -> None:
    failure = failure_of(error)
    if isinstance(failure, StorageBusy):
        raise StorageBusy("another process has the database open: stop the server first") from error
    if not isinstance(failure, StorageCorrupt):
        raise failure from error


def _set_aside(database: Path) -> Path | None:
    """Move the present files out of the way, under a name that says when."""
    if not database.exists():
        return None
    kept = database.with_name(f"{database.name}.replaced-{datetime.now(UTC):%Y%m%dT%H%M%S%f}")
    for suffix in ("", *_COMPANIONS):
        present = database.with_name(database.name + suffix)
        if present.exists():
            present.replace(kept.with_name(kept.name + suffix))
    return kept
