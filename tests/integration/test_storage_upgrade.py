"""A database of schema 0001 with rows in it, as the first version left it, brought up to date: nothing is lost.

`tests/data/haina-0001.sql` was written by that version's own migration and is never made anew.
"""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.domain.models import MessageState, Review, ReviewState
from app.domain.verdicts import Action
from storage import schema
from storage.connections import plain_engine
from storage.database import open_storage

OLD = Path(__file__).parents[1] / "data" / "haina-0001.sql"
NEW_TABLES = {"policy_versions", "reviews", "strikes", "suspensions", "evidence", "audit", "shares"}
AT = datetime(2026, 11, 20, 8, tzinfo=UTC)


@pytest.fixture
def old_file(tmp_path: Path) -> Path:
    """The file of an old SQLite database."""
    file = tmp_path / "old.db"
    with closing(sqlite3.connect(file)) as database:
        database.executescript(OLD.read_text(encoding="utf-8"))
    return file


@pytest.fixture(params=["sqlite", "postgres"])
def old_url(request: pytest.FixtureRequest, old_file: Path) -> str:
    """The URL of an old database."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{old_file}"
    url = str(request.getfixturevalue("blank_postgres_url"))
    with plain_engine(url).begin() as connection, closing(sqlite3.connect(old_file)) as old:
        schema.migrate(connection, "0001")
        old.row_factory = sqlite3.Row
        tables = sa.MetaData()
        tables.reflect(connection)
        for table in tables.sorted_tables:
            if table.name == "alembic_version":
                continue
            for row in old.execute(f'SELECT * FROM "{table.name}"').fetchall():  # noqa: S608 - our own tables
                values = {column.name: _value(column, row[column.name]) for column in table.columns}
                connection.execute(table.insert().values(values))
    return url


def _value(column: "sa.Column[object]", value: object) -> object:
    """Return what SQLite keeps as PostgreSQL takes it."""
    if value is None:
        return None
    if isinstance(column.type, sa.Boolean):
        return bool(value)
    return datetime.fromisoformat(str(value)).replace(tzinfo=UTC) if isinstance(column.type, sa.DateTime) else value


def counts(url: str) -> dict[str, int]:
    engine = plain_engine(url, pragmas=())
    with engine.connect() as connection:
        names = set(sa.inspect(connection).get_table_names()) - {"alembic_version", *NEW_TABLES}
        return {
            name: int(connection.exec_driver_sql(f'SELECT count(*) FROM "{name}"').scalar_one())  # noqa: S608 - as above
            for name in names
        }


def test_the_released_migration_still_makes_what_it_made(old_file: Path, tmp_path: Path) -> None:
    new_file = tmp_path / "new.db"
    with plain_engine(f"sqlite+aiosqlite:///{new_file}", mode="rwc", pragmas=()).begin() as connection:
        schema.migrate(connection, "0001")

    def made(file: Path) -> list[tuple[str, ...]]:
        with closing(sqlite3.connect(file)) as database:
            return sorted(database.execute("SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema"))

    assert made(new_file) == made(old_file)


async def test_every_old_row_is_there_after_the_upgrade(old_url: str) -> None:
    before = counts(old_url)
    assert min(before.values()) > 0
    await schema.upgrade(old_url)
    assert counts(old_url) == before
    assert (await schema.check(old_url)).is_current


async def test_old_hits_say_what_nobody_noted_and_what_was_handed_over_is_queued(old_url: str) -> None:
    await schema.upgrade(old_url)
    storage = await open_storage(old_url)
    try:
        async with storage.read() as unit:
            (hit,) = await unit.hits.of_decision("decision-of-a-question")
            queue = await unit.reviews.page()
            blocked = await unit.messages.get("a1")
            running = await unit.messages.get("a3")
    finally:
        await storage.close()
    assert (hit.action, hit.created_at, hit.end, hit.account_id) == (Action.REFUSE, AT, 21, "ann")
    assert (hit.score, hit.digest, hit.text_length, hit.language, hit.is_shadow) == (1.0, "", 0, "", False)
    assert [one.decision_id for one in queue] == ["handed-over-of-nobody", "handed-over"]
    assert queue[1] == Review(
        decision_id="handed-over",
        created_at=AT,
        account_id="guest",
        account_name="guest-1234abcd",
        is_handoff=True,
        state=ReviewState.OPEN,
    )
    assert (queue[0].account_id, queue[0].account_name) == ("", "")
    assert blocked is not None
    assert (blocked.state, blocked.error_data["decision_id"]) == (MessageState.BLOCKED, "decision-of-an-answer")
    assert running is not None
    assert running.text == "half"
