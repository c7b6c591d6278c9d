"""Backups, taken while the server runs, put back while it does not."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.domain.errors import (
    InvalidInput,
    SchemaOutdated,
    StorageBusy,
    StorageCorrupt,
    StorageFailure,
)
from app.domain.models import Account, AccountRole, now
from storage.backup import backup, restore
from storage.connections import plain_engine
from storage.database import SqlStorage, open_storage


async def add(url: str, name: str) -> None:
    opened = await open_storage(url)
    try:
        async with opened.write() as unit:
            await unit.accounts.add(Account(id=name, name=name, role=AccountRole.USER, created_at=now()))
            await unit.commit()
    finally:
        await opened.close()


async def names(url: str) -> set[str]:
    opened = await open_storage(url)
    try:
        async with opened.read() as unit:
            return {account.name for account in await unit.accounts.page(limit=100_000)}
    finally:
        await opened.close()


@pytest.fixture
async def server(sqlite_url: str) -> AsyncIterator[SqlStorage]:
    """Somebody else who has the database open."""
    opened = await open_storage(sqlite_url)
    async with opened.write() as unit:
        await unit.accounts.has_admin()
    yield opened
    await opened.close()


async def test_a_backup_is_one_file_for_its_owner_that_can_be_restored(sqlite_url: str, tmp_path: Path) -> None:
    file = tmp_path / "backups" / "monday.db"
    file.parent.mkdir()
    await add(sqlite_url, "ann")
    await backup(sqlite_url, file)
    assert [one.name for one in file.parent.iterdir()] == ["monday.db"]
    assert file.stat().st_mode & 0o777 == 0o600
    await add(sqlite_url, "bob")
    kept = await restore(sqlite_url, file)
    assert await names(sqlite_url) == {"ann"}
    assert kept is not None
    assert await names(f"sqlite+aiosqlite:///{kept}") == {"ann", "bob"}
    assert file.exists()


async def test_a_backup_is_taken_while_others_write(sqlite_url: str, server: SqlStorage, tmp_path: Path) -> None:
    is_done = asyncio.Event()

    async def write() -> int:
        n = 0
        while not is_done.is_set():
            async with server.write() as unit:
                for name in (f"{n}-a", f"{n}-b"):
                    await unit.accounts.add(Account(id=name, name=name, role=AccountRole.USER, created_at=now()))
                await unit.commit()
            n += 1
        return n

    writer = asyncio.create_task(write())
    await backup(sqlite_url, tmp_path / "copy.db")
    is_done.set()
    assert await writer > 0
    assert len(await names(f"sqlite+aiosqlite:///{tmp_path / 'copy.db'}")) % 2 == 0


async def test_nothing_is_restored_while_somebody_has_the_database_open(
    sqlite_url: str, server: SqlStorage, tmp_path: Path
) -> None:
    await backup(sqlite_url, tmp_path / "copy.db")
    with pytest.raises(StorageBusy):
        await restore(sqlite_url, tmp_path / "copy.db")
    async with server.write() as unit:  # and nothing happened to them
        await unit.accounts.add(Account(id="a", name="a", role=AccountRole.USER, created_at=now()))
        await unit.commit()
    left = {name for name in os.listdir(tmp_path) if not name.endswith(("-wal", "-shm"))}  # noqa: PTH208
    assert left == {"copy.db", "haina.db"}


async def test_a_damaged_newer_or_strange_backup_is_not_restored(sqlite_url: str, tmp_path: Path) -> None:
    await add(sqlite_url, "ann")
    file = tmp_path / "copy.db"
    await backup(sqlite_url, file)
    with plain_engine(f"sqlite+aiosqlite:///{file}", pragmas=()).begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaOutdated):
        await restore(sqlite_url, file)
    file.write_bytes(b"garbage " * 1000)
    with pytest.raises(StorageCorrupt):
        await restore(sqlite_url, file)
    file.write_bytes(b"")
    with pytest.raises(SchemaOutdated):
        await restore(sqlite_url, file)
    with pytest.raises(InvalidInput):
        await restore(sqlite_url, tmp_path / "nothing.db")
    assert await names(sqlite_url) == {"ann"}


async def test_a_backup_takes_the_place_of_a_damaged_or_missing_database(sqlite_url: str, tmp_path: Path) -> None:
    await add(sqlite_url, "ann")
    await backup(sqlite_url, tmp_path / "copy.db")
    (tmp_path / "haina.db").write_bytes(b"garbage " * 1000)
    (tmp_path / "haina.db-wal").write_bytes(b"garbage " * 1000)
    kept = await restore(sqlite_url, tmp_path / "copy.db")
    assert kept is not None
    assert kept.read_bytes().startswith(b"garbage")
    assert kept.with_name(f"{kept.name}-wal").exists()  # it would be applied to the restored file
    assert await names(sqlite_url) == {"ann"}
    (tmp_path / "haina.db").unlink()
    assert await restore(sqlite_url, tmp_path / "copy.db") is None
    assert await names(sqlite_url) == {"ann"}


async def test_a_backup_of_nothing_or_to_nowhere_is_refused(sqlite_url: str, tmp_path: Path) -> None:
    missing = f"sqlite+aiosqlite:///{tmp_path / 'missing.db'}"
    with pytest.raises(StorageFailure):
        await backup(missing, tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()
    for nowhere in (tmp_path / "no" / "copy.db", tmp_path, tmp_path / "haina.db"):
        with pytest.raises(InvalidInput):
            await backup(sqlite_url, nowhere)


async def test_postgresql_is_left_to_its_own_tools() -> None:
    url = "postgresql+psycopg://haina@localhost/haina"
    with pytest.raises(InvalidInput, match="pg_dump"):
        await backup(url, Path("copy"))
    with pytest.raises(InvalidInput, match="pg_restore"):
        await restore(url, Path("copy"))
