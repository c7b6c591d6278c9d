"""Migrations: from nothing, twice at once, from an older and a newer schema; and no drift between models and them."""

import asyncio
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from app.domain.errors import SchemaOutdated, StorageCorrupt, StorageFailure
from storage import schema
from storage.connections import plain_engine
from storage.database import open_storage
from storage.rows import Base

HEAD = schema.head()
RELEASED = ("0001",)
"""Databases of these are in use."""
NEXT = """
import sqlalchemy as sa
from alembic import op

revision = "9000"
down_revision = "{head}"


def upgrade() -> None:
    recreate = "always" if op.get_bind().dialect.name == "sqlite" else "auto"
    with op.batch_alter_table("conversations", recreate=recreate) as table:
        table.add_column(sa.Column("colour", sa.Text(), nullable=True))
    {more}
"""


@pytest.fixture(params=["blank_sqlite", "blank_postgres"])
def blank_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def blank_sqlite_url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path / 'haina.db'}"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Pretend to be the next revision, which rebuilds a table that others refer to."""
    migrations = shutil.copytree(Path(schema.__file__).parent / "migrations", tmp_path / "migrations")
    following = migrations / "versions" / "9000_next.py"
    _rewrite(following, "")
    monkeypatch.setattr(schema, "_MIGRATIONS", migrations)
    return following


def execute(url: str, *statements: str) -> None:
    with plain_engine(url, pragmas=()).begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def scalar(url: str, query: str) -> object:
    with plain_engine(url, pragmas=()).connect() as connection:
        return connection.exec_driver_sql(query).scalar()


def _rewrite(revision: Path, more: str) -> None:
    revision.write_text(NEXT.format(head=HEAD, more=more))


def fill(url: str) -> None:
    execute(
        url,
        """INSERT INTO accounts (id, name, name_key, role, created_at, is_suspended)
        VALUES ('a', 'a', 'a', 'user', '2026-01-01 00:00:00.000000', false)""",
        """INSERT INTO conversations
        (id, owner_id, title, title_key, created_at, updated_at, variables, is_titled_by_owner, source)
        VALUES ('c', 'a', 't', 't', '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000', '{}', false, 'page')""",
        """INSERT INTO messages (id, conversation_id, role, text, state, created_at)
        VALUES ('m', 'c', 'user', 'x', 'complete', '2026-01-01 00:00:00.000000')""",
    )


async def test_a_blank_database_comes_to_the_head_and_stays_there(blank_url: str) -> None:
    with pytest.raises(SchemaOutdated):
        await schema.check(blank_url)
    await schema.upgrade(blank_url)
    await schema.upgrade(blank_url)
    revisions = await schema.check(blank_url)
    assert revisions.found == revisions.expected == HEAD


async def test_checking_makes_no_file(blank_sqlite_url: str, tmp_path: Path) -> None:
    with pytest.raises(SchemaOutdated):
        await schema.check(blank_sqlite_url)
    with pytest.raises(SchemaOutdated):
        await open_storage(blank_sqlite_url)
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - pathlib is for threads only, here


def test_models_and_migrations_say_the_same(url: str) -> None:
    with plain_engine(url).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []


def test_there_is_one_head_and_one_base() -> None:
    scripts = ScriptDirectory(str(Path(schema.__file__).parent / "migrations"))
    assert len(scripts.get_heads()) == 1
    assert len(scripts.get_bases()) == 1


async def test_starting_twice_at_once_migrates_once(blank_url: str) -> None:
    await asyncio.gather(*(schema.upgrade(blank_url) for _ in range(16)))
    assert scalar(blank_url, "SELECT count(*) FROM alembic_version") == 1


async def test_a_newer_database_is_left_alone(url: str) -> None:
    execute(url, "UPDATE alembic_version SET version_num = '9999'")
    for attempt in (schema.upgrade, schema.check, open_storage):
        with pytest.raises(SchemaOutdated) as caught:
            await attempt(url)
        assert caught.value.data == {"found": "9999", "expected": HEAD, "kind": "newer"}


@pytest.mark.usefixtures("later")
async def test_an_older_database_is_refused_then_migrated_with_its_rows(url: str) -> None:
    fill(url)
    with pytest.raises(SchemaOutdated):
        await open_storage(url)
    await schema.upgrade(url)
    assert scalar(url, "SELECT count(*) FROM messages") == 1
    assert scalar(url, "SELECT count(colour) FROM conversations") == 0
    assert (await schema.check(url)).found == "9000"


async def test_a_database_of_every_released_revision_comes_to_the_head_with_its_rows(blank_url: str) -> None:
    for revision in RELEASED:
        with plain_engine(blank_url, mode="rwc", pragmas=()).begin() as connection:
            schema.migrate(connection, revision)
        fill(blank_url)
        await schema.upgrade(blank_url)
        assert (await schema.check(blank_url)).is_current
        for table in ("accounts", "conversations", "messages"):
            assert scalar(blank_url, f"SELECT count(*) FROM {table}") == 1  # noqa: S608 - names of ours


@pytest.mark.usefixtures("later")
async def test_before_a_migration_the_file_is_copied(sqlite_url: str, tmp_path: Path) -> None:
    fill(sqlite_url)
    await schema.upgrade(sqlite_url)
    kept = f"sqlite+aiosqlite:///{tmp_path / 'haina.db.before-9000'}"
    assert scalar(kept, "SELECT version_num FROM alembic_version") == HEAD
    assert scalar(kept, "SELECT count(*) FROM messages") == 1


async def test_a_database_of_the_first_version_comes_to_the_head_with_its_rows(blank_url: str) -> None:
    file = Path(blank_url.removeprefix("sqlite+aiosqlite:///"))
    is_sqlite = blank_url.startswith("sqlite")
    with plain_engine(blank_url, mode="rwc", pragmas=()).begin() as connection:
        schema.migrate(connection, "0001")
    fill(blank_url)
    await schema.upgrade(blank_url)
    assert scalar(blank_url, "SELECT count(*) FROM messages") == 1
    assert scalar(blank_url, "SELECT count(*) FROM shares") == 0
    assert (await schema.check(blank_url)).found == HEAD
    assert file.with_name(f"{file.name}.before-{HEAD}").exists() is is_sqlite


@pytest.mark.parametrize("more", ["raise sa.exc.SAWarning", "op.execute('DELETE FROM nowhere')"])
async def test_a_migration_that_fails_changes_nothing(url: str, later: Path, more: str) -> None:
    fill(url)
    _rewrite(later, more)
    with pytest.raises((StorageFailure, sa.exc.SAWarning)):
        await schema.upgrade(url)
    assert scalar(url, "SELECT version_num FROM alembic_version") == HEAD
    assert scalar(url, "SELECT count(*) FROM messages") == 1
    columns = {column["name"] for column in sa.inspect(plain_engine(url)).get_columns("conversations")}
    assert "colour" not in columns


async def test_a_migration_that_breaks_references_is_rolled_back(sqlite_url: str, later: Path) -> None:
    fill(sqlite_url)
    _rewrite(later, "op.execute('DELETE FROM conversations')")
    with pytest.raises(StorageCorrupt):
        await schema.upgrade(sqlite_url)
    assert scalar(sqlite_url, "SELECT count(*) FROM conversations") == 1
    assert scalar(sqlite_url, "SELECT version_num FROM alembic_version") == HEAD


async def test_somebody_else_s_database_is_not_taken_over(blank_sqlite_url: str, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "haina.db")) as connection:
        connection.execute("CREATE TABLE messages (x)")
    with pytest.raises(StorageFailure):
        await schema.upgrade(blank_sqlite_url)
    assert scalar(blank_sqlite_url, "SELECT count(*) FROM sqlite_schema") == 1
