"""A database that is locked, full, read-only, damaged or gone; a process that is killed while it writes."""

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from app.domain.errors import (
    StorageBusy,
    StorageCorrupt,
    StorageFailure,
    StorageFull,
    StorageOwned,
    StorageReadOnly,
)
from app.domain.models import Account, AccountRole, new_id, now
from storage import copying, schema
from storage.database import SqlStorage, SqlUnit, open_storage
from storage.ownership import owned

WRITER = """
import asyncio, sys
from storage.database import open_storage
from app.domain.models import *

async def main(url):
    storage, n = await open_storage(url), 0
    while True:
        async with storage.write() as unit:
            for _ in range(2):
                await unit.accounts.add(Account(id=new_id(), name=new_id(), role=AccountRole.USER, created_at=now()))
            await unit.commit()
        n += 2
        print(n, flush=True)

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture
async def storage(sqlite_url: str) -> AsyncIterator[SqlStorage]:
    opened = await open_storage(sqlite_url)
    yield opened
    await opened.close()


async def add_account(storage: SqlStorage) -> None:
    async with storage.write() as unit:
        await unit.accounts.add(Account(id=new_id(), name=new_id(), role=AccountRole.USER, created_at=now()))
        await unit.commit()


async def tell_writer(storage: SqlStorage, pragma: str) -> None:
    """Set something on the writer's one connection, which stays open."""
    async with storage.write() as unit:
        await unit._connection.exec_driver_sql(f"PRAGMA {pragma}")


async def test_a_database_that_another_process_locks_is_busy_then_free_again(
    storage: SqlStorage, tmp_path: Path
) -> None:
    await tell_writer(storage, "busy_timeout=20")
    with closing(sqlite3.connect(tmp_path / "haina.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageBusy):
            await add_account(storage)
        async with storage.read() as unit:  # readers do not mind
            assert await unit.accounts.page() == []
        other.execute("ROLLBACK")
    await add_account(storage)


async def test_a_read_only_database_says_so(storage: SqlStorage) -> None:
    await tell_writer(storage, "query_only=ON")
    with pytest.raises(StorageReadOnly):
        await add_account(storage)


async def test_a_full_disk_says_so_and_goes_on_when_there_is_room(storage: SqlStorage, tmp_path: Path) -> None:
    pages = int((tmp_path / "haina.db").stat().st_size / 4096)
    await tell_writer(storage, f"max_page_count={pages}")
    with pytest.raises(StorageFull):
        await asyncio.gather(*(add_account(storage) for _ in range(1000)))
    await tell_writer(storage, "max_page_count=1000000")
    await add_account(storage)


async def test_a_file_that_is_no_database_is_corrupt(tmp_path: Path) -> None:
    (tmp_path / "haina.db").write_bytes(b"not a database at all, but long enough to be one" * 100)
    url = f"sqlite+aiosqlite:///{tmp_path / 'haina.db'}"
    for attempt in (open_storage, schema.check, schema.upgrade):
        with pytest.raises(StorageCorrupt):
            await attempt(url)


async def test_a_damaged_page_is_found_by_the_check(sqlite_url: str, tmp_path: Path) -> None:
    with (tmp_path / "haina.db").open("r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\xff" * 4096)
    with pytest.raises(StorageCorrupt):
        await schema.check(sqlite_url)


async def test_damage_that_no_query_meets_is_found_by_the_check(sqlite_url: str, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "haina.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("DELETE FROM sqlite_schema WHERE name = 'ix_hits_created_at_id'")  # its page is now nobody's
    await schema.require_current(sqlite_url)
    with pytest.raises(StorageCorrupt, match="never used"):
        await schema.check(sqlite_url)


async def test_a_missing_folder_is_told_apart_from_a_missing_schema(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'nowhere' / 'haina.db'}"
    for attempt in (open_storage, schema.check, schema.upgrade):
        with pytest.raises(StorageFailure, match="there is no folder"):
            await attempt(url)


async def test_a_postgresql_that_does_not_answer_is_a_failure_without_the_password(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://haina:secret@/haina?host={tmp_path}"
    for attempt in (open_storage, schema.check, schema.upgrade):
        with pytest.raises(StorageFailure) as caught:
            await attempt(url)
        assert "secret" not in str(caught.value)


async def test_a_lock_on_postgresql_is_busy(postgres_url: str) -> None:
    opened = await open_storage(postgres_url)
    try:
        await add_account(opened)
        async with opened.write() as first, opened.write() as second:
            (account,) = await first.accounts.page()
            await first.accounts.touch(account.id, now())
            await _set_lock_timeout(second)
            with pytest.raises(StorageBusy):
                await second.accounts.touch(account.id, now())
    finally:
        await opened.close()


async def _set_lock_timeout(unit: SqlUnit) -> None:
    await unit._connection.exec_driver_sql("SET LOCAL lock_timeout = '20ms'")


async def test_writers_come_in_the_order_in_which_they_asked(storage: SqlStorage) -> None:
    order: list[int] = []

    async def write(n: int) -> None:
        async with storage.write() as unit:
            await unit.accounts.has_admin()
            order.append(n)

    await asyncio.gather(*(write(n) for n in range(20)))
    assert order == list(range(20))


async def test_a_writer_cancelled_within_a_statement_holds_up_nobody(storage: SqlStorage) -> None:
    for patience in range(0, 400, 20):
        writer = asyncio.create_task(add_account(storage))
        for _ in range(patience):  # to be somewhere else each time, between asking for the turn and the commit
            await asyncio.sleep(0)
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
        await asyncio.wait_for(add_account(storage), timeout=30)
    async with storage.read() as unit:
        assert len(await unit.accounts.page(limit=100)) >= 20


async def test_a_process_killed_while_it_writes_leaves_whole_transactions(sqlite_url: str, tmp_path: Path) -> None:
    writer = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        WRITER,
        sqlite_url,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(schema.__file__).parents[1],
    )
    assert writer.stdout is not None
    committed = 0
    while committed < 40:
        committed = int(await writer.stdout.readline())
    os.kill(writer.pid, signal.SIGKILL)
    told = (await writer.stdout.read()).split()
    await writer.wait()
    committed = int(told[-1]) if told else committed
    copying.verify(tmp_path / "haina.db")
    opened = await open_storage(sqlite_url)
    try:
        async with opened.read() as unit:
            found = len(await unit.accounts.page(limit=100_000))
        assert found % 2 == 0
        assert committed <= found <= committed + 2
        await add_account(opened)
    finally:
        await opened.close()


OWNER = """
import asyncio, sys
from storage.ownership import owned

async def main(url):
    async with owned(url):
        print("mine", flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize("database", ["sqlite_url", "postgres_url"])
async def test_a_database_has_one_owner_and_a_killed_one_leaves_it_free(
    database: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(database)
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER, url), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    assert await owner.stdout.readline() == b"mine\n"
    with pytest.raises(StorageOwned):
        async with owned(url):
            pass
    owner.kill()
    await owner.communicate()
    async with asyncio.timeout(20):
        while not await can_own(url):  # noqa: ASYNC110 - PostgreSQL notices the end of a session a moment later
            await asyncio.sleep(0.05)


async def can_own(url: str) -> bool:
    try:
        async with owned(url):
            return True
    except StorageOwned:
        return False
