"""One server at a time owns a database: at its start it closes the answers that still run, so they must be nobody's.

The claim ends with the process, however that ends. On SQLite it is the kernel's lock of a file beside the database
(`haina.db.lock`), on PostgreSQL an advisory lock of a session that does nothing else.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from app.domain.errors import StorageOwned
from storage.connections import check_folder, plain_engine, sqlite_file

_LOCK = 4_807_412_234
"""Of PostgreSQL's advisory locks: any number that nobody else takes."""


@asynccontextmanager
async def owned(url: str) -> AsyncIterator[None]:
    """Own a database.

    Raises StorageOwned where another server does, InvalidInput for an impossible URL, StorageFailure and its kinds.
    """
    file = sqlite_file(url)
    claim = _file_claim(file) if file is not None else _session_claim(url)
    with contextlib.ExitStack() as stack:
        await asyncio.to_thread(stack.enter_context, claim)
        yield


@contextmanager
def _file_claim(file: Path) -> Iterator[None]:
    check_folder(file)
    lock = FileLock(file.with_name(f"{file.name}.lock"), timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise StorageOwned(f"{file} is in use") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _session_claim(url: str) -> Iterator[None]:
    with plain_engine(url).connect() as connection:
        is_ours = connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({_LOCK})").scalar()
        connection.commit()
        if not is_ours:
            raise StorageOwned("another server is connected to this database")
        yield
