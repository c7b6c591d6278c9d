"""A real PostgreSQL server for the tests: started once, with a fresh database for each test that asks for one."""

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest

from storage import schema

_NUMBERS = count(1)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The folder of the server's socket, which is its address; `migrated` is a database to be copied."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        pytest.skip("PostgreSQL is not installed: /usr/lib/postgresql/*/bin/initdb is missing")
    bin_dir = programs[-1].parent
    # Not below pytest's own folder, which the account `postgres` may not enter.
    folder = Path(tempfile.mkdtemp(prefix="haina-postgres-"))
    as_postgres: list[str | Path] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "postgres")
        as_postgres = ["runuser", "-u", "postgres", "--"]
    data = folder / "data"
    # No TCP at all; nothing that is written has to outlive a power cut.
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off -c max_connections=50"
    make: list[str | Path] = [bin_dir / "initdb", "-D", data, "-A", "trust", "-U", "haina", "-E", "UTF8", "--no-sync"]
    start: list[str | Path] = [bin_dir / "pg_ctl", "-D", data, "-l", folder / "log", "-o", options, "-w", "start"]
    stop: list[str | Path] = [bin_dir / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"]
    try:
        subprocess.run([*as_postgres, *make], check=True, cwd=folder, capture_output=True, timeout=120)
        subprocess.run([*as_postgres, *start], check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=120)
        _administer(str(folder), "CREATE DATABASE migrated")
        asyncio.run(schema.upgrade(_url(str(folder), "migrated")))
        yield str(folder)
    finally:
        subprocess.run([*as_postgres, *stop], check=False, cwd=folder, capture_output=True, timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def blank_postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of a database without any table."""
    yield from _database(postgres_server, template="template1")


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of a migrated, empty database."""
    yield from _database(postgres_server, template="migrated")


@pytest.fixture(scope="session")
def migrated_sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty database to be copied."""
    file = tmp_path_factory.mktemp("migrated") / "haina.db"
    asyncio.run(schema.upgrade(f"sqlite+aiosqlite:///{file}"))
    return file


@pytest.fixture
def sqlite_url(migrated_sqlite_file: Path, tmp_path: Path) -> str:
    """The URL of a migrated, empty database."""
    file = shutil.copy(migrated_sqlite_file, tmp_path / "haina.db")
    return f"sqlite+aiosqlite:///{file}"


def _database(server: str, *, template: str) -> Iterator[str]:
    name = f"test_{next(_NUMBERS)}"
    _administer(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield _url(server, name)
    _administer(server, f"DROP DATABASE {name} WITH (FORCE)")


def _url(server: str, name: str) -> str:
    return f"postgresql+psycopg://haina@/{name}?host={server}"


def _administer(server: str, statement: str) -> None:
    with psycopg.connect(host=server, user="haina", dbname="postgres", autocommit=True) as connection:
        connection.execute(statement)
