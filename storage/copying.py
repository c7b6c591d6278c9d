"""Whole copies of a SQLite file, taken while others write to it, and proof that a file is sound."""

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from app.domain.errors import StorageCorrupt, StorageFailure, StorageFull, StorageReadOnly
from storage.connections import BUSY_TIMEOUT_MS, connect_sqlite, translated

_ENOSPC, _EDQUOT = 28, 122


def copy(source: Path, target: Path) -> None:
    """Copy a database into one file that its owner alone may read; `target` appears whole and verified, or not at all.

    Raises StorageFailure and its kinds.
    """
    if not source.exists():
        raise StorageFailure(f"there is no database {source}")
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")
    with _on_disk(unfinished), translated():
        try:
            os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            _copy_pages(source, unfinished)
            verify(unfinished)
            _flush(unfinished)
            unfinished.replace(target)
            _flush(target.parent)
        finally:
            unfinished.unlink(missing_ok=True)


def verify(file: Path) -> None:
    """Read a database through.

    Raises StorageCorrupt where it is damaged or no database at all, StorageFailure where it cannot be opened.
    """
    try:
        with translated(), closing(connect_sqlite(file, pragmas=(f"busy_timeout={BUSY_TIMEOUT_MS}",))) as connection:
            faults = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
    except StorageCorrupt as error:
        raise StorageCorrupt(f"{file}: {error.detail}") from error
    if faults != ["ok"]:
        raise StorageCorrupt(f"{file}: {_first_fault(faults)}")


def _first_fault(faults: Sequence[str]) -> str:
    """Return one line: SQLite may put a heading, and every fault of a tree, into one row."""
    lines = [line.strip() for fault in faults for line in fault.splitlines()]
    return next((line for line in lines if line and not line.startswith("***")), "no answer")


def _copy_pages(source: Path, target: Path) -> None:
    timeout = (f"busy_timeout={BUSY_TIMEOUT_MS}",)
    with (
        closing(connect_sqlite(source, pragmas=timeout)) as reading,
        closing(connect_sqlite(target, pragmas=timeout)) as writing,
    ):
        reading.backup(writing)  # all pages at once: one moment, however much is written meanwhile
        writing.execute("PRAGMA journal_mode=DELETE")  # one file, without a -wal beside it


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _on_disk(file: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise StorageReadOnly(f"{file.parent} cannot be written") from error
    except OSError as error:
        kind = StorageFull if error.errno in {_ENOSPC, _EDQUOT} else StorageFailure
        raise kind(f"{file.parent}: {error.strerror}") from error
