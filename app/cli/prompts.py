"""`haina prompts`: templates without a browser."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from app.cli.shared import (
    FOUND,
    about,
    line,
    settings_of,
    with_desks,
)
from app.domain.errors import (
    ChatError,
    InvalidInput,
)
from app.services.accounts import operator

if TYPE_CHECKING:
    from app.bootstrap import Desks

app = typer.Typer(help="Prompt templates without a browser.", no_args_is_help=True)


@app.command("list")
def prompts_list() -> None:
    """List the templates in the database with their live versions."""

    async def work(desks: "Desks") -> None:
        for one in await desks.prompts.shelf():
            title = one.template.title
            typer.echo(f"{one.template.name}\tv{one.live.number}\t{title.get('en') or next(iter(title.values()), '')}")

    with_desks(work)


@app.command("show")
def prompts_show(name: str) -> None:
    """Print a template's live version as a file."""
    from prompts import library  # noqa: PLC0415 - as above

    async def work(desks: "Desks") -> None:
        typer.echo(library.write(await desks.prompts.export(operator(), name)))

    with_desks(work)


@app.command("export")
def prompts_export(folder: Path) -> None:
    """Write every template's live version into a folder, a file each."""
    from prompts import library  # noqa: PLC0415 - as above

    async def work(desks: "Desks") -> None:
        with about(folder):
            folder.mkdir(parents=True, exist_ok=True)
        shelf = await desks.prompts.shelf()
        for one in shelf:
            file = await desks.prompts.export(operator(), one.template.name)
            path = folder / f"{file.name}.toml"
            with about(path):
                path.write_text(library.write(file), encoding="utf-8")
        typer.echo(f"{len(shelf)} templates written to {folder}")

    with_desks(work)


@app.command("import")
def prompts_import(files: list[Path]) -> None:
    """Add templates from files, and take over what differs in those that are here."""
    from prompts import library  # noqa: PLC0415 - as above

    parsed = [library.read_file(path) for path in files]

    async def work(desks: "Desks") -> None:
        changed = await desks.prompts.import_files(operator(), parsed)
        typer.echo(f"{changed} of {len(parsed)} imported; the others are here already")

    with_desks(work)


@app.command("check")
def prompts_check(files: list[Path]) -> None:
    """Check template files as an import would, the content filter included, without a database."""
    from app.bootstrap import filter_of  # noqa: PLC0415
    from app.services.prompt_library import require_clean  # noqa: PLC0415
    from prompts import library  # noqa: PLC0415 - as above

    content_filter = filter_of(settings_of())

    async def work() -> int:
        faults = 0
        for path in files:
            try:
                await require_clean(content_filter, library.read_file(path))
            except InvalidInput as error:
                faults += 1
                typer.echo(f"✗ {error.detail}")
            except ChatError as error:
                faults += 1
                typer.echo(f"✗ {path}: {line(error)}")
            else:
                typer.echo(f"✓ {path}")
        await content_filter.close()
        return faults

    if asyncio.run(work()):
        raise typer.Exit(FOUND)
