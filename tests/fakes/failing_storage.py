"""A storage that refuses when it is told to, as a full disk does."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from app.domain.errors import StorageFailure
from app.domain.ports import Storage, Unit


class FailingStorage:
    """Passes everything on, but for the writes that are to fail."""

    def __init__(self, inner: Storage) -> None:
        self._inner = inner
        self._failures: list[StorageFailure] = []

    def fail_next_write(self, error: StorageFailure) -> None:
        self._failures.append(error)

    @property
    def has_failures(self) -> bool:
        return bool(self._failures)

    def read(self) -> AbstractAsyncContextManager[Unit]:
        return self._inner.read()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Unit]:
        if self._failures:
            raise self._failures.pop(0)
        async with self._inner.write() as unit:
            yield unit

    async def close(self) -> None:
        await self._inner.close()
