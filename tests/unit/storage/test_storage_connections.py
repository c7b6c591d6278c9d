import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from app.domain.errors import (
    InvalidInput,
    StorageBusy,
    StorageCorrupt,
    StorageFailure,
    StorageFull,
    StorageReadOnly,
)
from storage import connections
from storage.connections import Duplicate, connect_sqlite, failure_of, parse, sqlite_file


@pytest.mark.parametrize(
    "url",
    [
        "",
        "haina.db",
        "mysql://host/name",
        "sqlite:///haina.db",
        "sqlite+aiosqlite://",
        "sqlite+aiosqlite:///:memory:",
        "sqlite+aiosqlite:///haina.db?mode=ro",
        "postgresql://user:secret@host/name",
        "postgresql+psycopg://user:secret@host:port/name",
    ],
)
def test_a_url_that_is_not_for_us_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(url)
    assert "secret" not in caught.value.detail


def test_a_sqlite_url_names_a_file_and_a_postgresql_url_none() -> None:
    file = sqlite_file("sqlite+aiosqlite:////var/lib/haina.db")
    assert str(file) == "/var/lib/haina.db"
    assert sqlite_file("postgresql+psycopg://user@host/name") is None


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_BUSY, StorageBusy),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, StorageBusy),
        (sqlite3.SQLITE_READONLY_DBMOVED, StorageReadOnly),
        (sqlite3.SQLITE_FULL, StorageFull),
        (sqlite3.SQLITE_CORRUPT_INDEX, StorageCorrupt),
        (sqlite3.SQLITE_NOTADB, StorageCorrupt),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, Duplicate),
        (sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY, StorageFailure),
        (sqlite3.SQLITE_IOERR, StorageFailure),
    ],
)
def test_sqlite_s_codes_become_our_errors(code: int, kind: type[StorageFailure]) -> None:
    error = sqlite3.OperationalError("said")
    error.sqlite_errorcode = code
    assert type(failure_of(error)) is kind
    assert failure_of(error).detail == "said"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("UniqueViolation", Duplicate),
        ("ReadOnlySqlTransaction", StorageReadOnly),
        ("LockNotAvailable", StorageBusy),
        ("DeadlockDetected", StorageBusy),
        ("TooManyConnections", StorageBusy),
        ("DiskFull", StorageFull),
        ("DataCorrupted", StorageCorrupt),
        ("ForeignKeyViolation", StorageFailure),
        ("OperationalError", StorageFailure),
    ],
)
def test_postgresql_s_codes_become_our_errors(name: str, kind: type[StorageFailure]) -> None:
    error_type = getattr(psycopg.errors, name, None) or getattr(psycopg, name)
    failure = failure_of(error_type("said\nDETAIL: Failing row contains (secret)"))
    assert type(failure) is kind
    assert failure.detail == "said"


def test_the_switch_to_wal_waits_for_another_process_that_is_about_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "new.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("create table one (n)")
        other.execute("begin immediate")
        pauses: list[float] = []

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            other.execute("commit")

        monkeypatch.setattr(connections, "sleep", pause)
        with closing(connect_sqlite(file)) as ours:
            assert ours.execute("pragma journal_mode").fetchone() == ("wal",)
    assert len(pauses) == 1
