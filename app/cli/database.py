"""`haina db`."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from app.cli.shared import (
    FOUND,
    fail,
    line,
    settings_of,
)
from app.domain.errors import (
    SchemaOutdated,
    StorageCorrupt,
)

if TYPE_CHECKING:
    pass

app = typer.Typer(help="The database.", no_args_is_help=True)


@app.command("upgrade")
def db_upgrade() -> None:
    """Bring the database to this program's schema; a SQLite file is copied first."""
    from app.bootstrap import prepare_data_dir  # noqa: PLC0415
    from storage import schema  # noqa: PLC0415 - as above

    settings = settings_of()
    prepare_data_dir(settings)
    asyncio.run(schema.upgrade(settings.storage_url))
    typer.echo("the database is up to date")


@app.command("check")
def db_check() -> None:
    """Say whether the database is sound, read through where it is a file, and has this program's schema."""
    from storage import schema  # noqa: PLC0415 - as above

    try:
        asyncio.run(schema.check(settings_of().storage_url))
    except (StorageCorrupt, SchemaOutdated) as error:
        fail(line(error), FOUND)
    typer.echo("the database is sound and up to date")


@app.command("backup")
def db_backup(file: Path) -> None:
    """Copy the database while the server runs; the copy is verified."""
    from storage.backup import backup  # noqa: PLC0415 - as above

    asyncio.run(backup(settings_of().storage_url, file))
    typer.echo(f"backed up to {file}")


@app.command("restore")
def db_restore(file: Path) -> None:
    """Put a backup in the database's place; stop the server first. What was there is kept beside it."""
    from storage.backup import restore  # noqa: PLC0415 - as above

    asyncio.run(restore(settings_of().storage_url, file))
    typer.echo(f"restored from {file}")
