"""The schema's revision: brought up to date by migrations, and checked before a database is used.

Migrations run on a connection of their own, in one transaction that excludes every other writer, so two processes that
start together migrate once. On SQLite foreign keys are off meanwhile (rebuilding a table would delete its children) and
checked before the commit, and a verified copy of the file is laid beside it first: `haina.db.before-0002`.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from app.domain.errors import SchemaOutdated, StorageCorrupt
from storage import copying
from storage.connections import check_folder, plain_engine, sqlite_file

log = structlog.get_logger()

_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 4_807_412_233
"""Of PostgreSQL's advisory locks: any number that nobody else takes."""
_PATIENCE_MS = 120_000
"""How long to wait for another process that migrates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revisions:
    """The schema's revision in the database, empty where there is none, and this program's."""

    found: str
    expected: str

    @property
    def is_current(self) -> bool:
        """Whether the two are the same."""
        return self.found == self.expected

    @property
    def is_known(self) -> bool:
        """Whether this program can bring the database up to date: it is no newer than the program."""
        return not self.found or self.found in known()


async def upgrade(url: str) -> None:
    """Bring a database to this program's schema; a SQLite file is made where there is none.

    Raises InvalidInput for an impossible URL, SchemaOutdated where the database is newer, other StorageFailures.
    Nothing is changed then.
    """
    await asyncio.to_thread(_upgrade, url)


async def check(url: str) -> Revisions:
    """Return the revisions of a database that is sound and up to date; a SQLite file is read through.

    Raises InvalidInput for an impossible URL, SchemaOutdated, StorageCorrupt, other StorageFailures.
    """
    file = sqlite_file(url)
    if file is not None and file.exists():
        await asyncio.to_thread(copying.verify, file)
    return await require_current(url)


async def require_current(url: str) -> Revisions:
    """Return the revisions of a database that is up to date, without reading it through.

    Raises InvalidInput for an impossible URL, SchemaOutdated, other StorageFailures.
    """
    revisions = await asyncio.to_thread(revisions_of, url)
    if not revisions.is_current:
        raise SchemaOutdated(found=revisions.found, expected=revisions.expected)
    return revisions


def head() -> str:
    """Return this program's revision."""
    return ScriptDirectory(str(_MIGRATIONS)).get_current_head() or ""


def known() -> set[str]:
    """Return the revisions that this program knows."""
    return {script.revision for script in ScriptDirectory(str(_MIGRATIONS)).walk_revisions()}


def revisions_of(url: str) -> Revisions:
    """Return the revisions of a database, whatever they are; a SQLite file is not made.

    Raises InvalidInput for an impossible URL, StorageFailure and its kinds.
    """
    file = sqlite_file(url)
    if file is not None:
        check_folder(file)
        if not file.exists():
            return Revisions(found="", expected=head())
    engine = plain_engine(url)
    with engine.connect() as connection:
        return _read(connection)


def _read(connection: Connection) -> Revisions:
    found = MigrationContext.configure(connection).get_current_heads()
    return Revisions(found=",".join(found), expected=head())


def _upgrade(url: str) -> None:
    file = sqlite_file(url)
    if file is not None:
        check_folder(file)
    pragmas = (f"busy_timeout={_PATIENCE_MS}", "journal_mode=WAL", "foreign_keys=OFF")
    engine = plain_engine(url, mode="rwc", pragmas=pragmas)
    with engine.begin() as connection:
        if file is None:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        revisions = _read(connection)
        if not revisions.is_known:
            raise SchemaOutdated(found=revisions.found, expected=revisions.expected)
        if revisions.is_current:
            return
        if file is not None and revisions.found:
            kept = file.with_name(f"{file.name}.before-{revisions.expected}")
            copying.copy(file, kept)
            log.info("database_copied", file=kept.name)
        migrate(connection, revisions.expected)
        if file is not None:
            _require_sound_references(connection)
    log.info("database_migrated", found=revisions.found, now=revisions.expected)


def migrate(connection: Connection, revision: str, *, step: Callable[[Config, str], None] = command.upgrade) -> None:
    """Run the migrations up to a revision within the connection's transaction, and commit nothing."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    step(config, revision)


def _require_sound_references(connection: Connection) -> None:
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    if broken:
        tables = sorted({str(row[0]) for row in broken})
        raise StorageCorrupt(f"after the migration {len(broken)} rows refer to nothing, in {tables}")
