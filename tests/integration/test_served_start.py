"""What keeps a server from starting is one clear line and an exit code; what it needs is there when it has started."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from storage import schema
from tests.fakes.served import ROOT, Served


def serve(data_dir: Path, *, port: int = 0, settings: Mapping[str, str] | None = None) -> tuple[int, list[str]]:
    """Start a server that cannot; return its exit code and what it said."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HAINA_")}
    environment |= {"HAINA_DATA_DIR": str(data_dir), "HAINA_ENGINE__URL": "scripted:", "HAINA_LOG__LEVEL": "error"}
    ended = subprocess.run(
        [sys.executable, "-m", "app", "serve", "--port", str(port)],
        cwd=ROOT,
        env=environment | dict(settings or {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ended.returncode, (ended.stdout + ended.stderr).strip().splitlines()


def settings_of(**settings: str) -> dict[str, str]:
    return {f"HAINA_{name}": value for name, value in settings.items()}


@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        (settings_of(SERVER__PROT="1"), 2, "HAINA_SERVER__PORT"),
        (settings_of(LOG__LEVEL="loud"), 2, "HAINA_LOG__LEVEL"),
        (settings_of(SERVER__HOST="0.0.0.0"), 2, "HAINA_SERVER__SECRET_KEY"),
        (settings_of(SERVER__HOST="0.0.0.0", SERVER__SECRET_KEY="changeme"), 2, "HAINA_SERVER__SECRET_KEY"),
        (settings_of(SAFETY__POLICY="/nowhere.toml"), 2, "HAINA_SAFETY__POLICY"),
        (settings_of(ENGINE__URL="scripted:/nowhere.toml"), 2, "nowhere.toml"),
        (settings_of(STORAGE__URL="mysql://x"), 2, "sqlite+aiosqlite"),
        (settings_of(STORAGE__URL="postgresql+psycopg://x:secret@127.0.0.1:1/x"), 3, "database"),
        (settings_of(DATA_DIR="/proc/haina"), 3, "/proc/haina"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_one_clear_line(tmp_path: Path, settings: dict[str, str], code: int, said: str) -> None:
    got, lines = serve(tmp_path / "data", settings=settings)
    assert (got, len(lines)) == (code, 1), lines
    assert lines[0].startswith("haina: ")
    assert said in lines[0]
    assert "secret@" not in lines[0]


def test_a_port_or_a_database_in_use_stops_the_second_server_and_not_the_first(tmp_path: Path) -> None:
    first = Served(tmp_path / "data", settings={"HAINA_ENGINE__URL": "scripted:"}).start()
    try:
        code, [line] = serve(tmp_path / "other", port=first.port)
        assert code == 3
        assert f"port {first.port} is in use" in line
        code, [line] = serve(tmp_path / "data")
        assert code == 3
        assert "Another Haina is using this database" in line
        first.wait_for("/readyz")
    finally:
        assert first.stop() == 0


def test_a_newer_or_a_damaged_database_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "haina.db"
    with sqlite3.connect(file) as database:
        database.execute("create table alembic_version (version_num text)")
        database.execute("insert into alembic_version values ('9999')")
    code, [line] = serve(tmp_path)
    assert code == 3
    assert "9999" in line
    assert schema.head() in line
    with sqlite3.connect(file) as database:
        assert database.execute("select name from sqlite_master").fetchall() == [("alembic_version",)]
    file.write_bytes(b"no database at all" * 1000)
    code, [line] = serve(tmp_path)
    assert code == 3
    assert "damaged" in line


def test_the_web_process_has_no_torch_in_it(tmp_path: Path) -> None:
    served = Served(tmp_path / "data", settings={"HAINA_ENGINE__URL": "scripted:"}).start()
    try:
        served.wait_for("/")
        maps = Path(f"/proc/{served.pid}/maps").read_text(encoding="utf-8")
    finally:
        assert served.stop() == 0
    assert "/pydantic_core/" in maps  # libraries are found in it at all
    assert "/torch/" not in maps
