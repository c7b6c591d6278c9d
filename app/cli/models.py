"""`haina models`: what is here, converted, checked."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.shared import (
    FOUND,
    Dtype,
    given,
    settings_of,
)

if TYPE_CHECKING:
    pass

app = typer.Typer(help="Models on this machine.", no_args_is_help=True)


@app.command("list")
def models_list() -> None:
    """List the models that are here."""
    from app.worker.checkpoints.shelf import models_here  # noqa: PLC0415 - as above

    for model in models_here(settings_of().data_dir):
        typer.echo(f"{model.name}\t{model.size_bytes / 1e6:,.0f} MB\t{model.path}")


@app.command("convert")
def models_convert(
    source: Annotated[str, typer.Argument(metavar="SRC", help="A folder in Baichuan's official layout, or a hub id.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="The folder to write; it must not be there yet.")],
    dtype: Annotated[Dtype, typer.Option(help="Precision of the weights; auto keeps the source's.")] = "auto",
    revision: Annotated[
        list[str] | None,
        typer.Option(
            help="Revision of a hub id. Several, or `all` intermediate checkpoints: a folder in DST for each."
        ),
    ] = None,
    adapter: Annotated[str, typer.Option(help="LoRA adapter to be merged in: a folder or a hub id.")] = "",
) -> None:
    """Write an official checkpoint anew as a standard one; run it again to go on after a stop."""
    from app.worker.baichuan import conversion, series  # noqa: PLC0415 - as above

    revisions = revision or []
    if len(revisions) > 1 or series.ALL in revisions:
        series.convert(source, target, revisions=revisions, dtype=dtype, adapter=adapter, say=typer.echo)
    else:
        conversion.convert(source, target, dtype=dtype, revision=next(iter(revisions), None), adapter=adapter)
    typer.echo(f"converted to {target}")


@app.command("check")
def models_check(
    path: Annotated[str, typer.Argument(help="A folder, a hub id that is in the hub's cache, or `default`.")],
    deep: Annotated[bool, typer.Option(help="Compare checksums too: reads every byte.")] = False,
    revision: Annotated[str, typer.Option(help="Revision of a hub id.")] = "",
    data: Annotated[Path | None, typer.Option(help="Data folder.")] = None,
) -> None:
    """Say what a model is, whether its files are whole, and whether it fits this machine."""
    from app.worker.checkpoints import checkup, shelf  # noqa: PLC0415 - as above

    folder = shelf.find(path, revision=revision or None, data_dir=settings_of(**given(data_dir=data)).data_dir)
    found = checkup.examine(
        folder, name=f"{path} {revision}", is_deep=deep, say=lambda line: typer.echo(line, err=True)
    )
    for line in checkup.lines(found):
        typer.echo(line)
    if found.faults:
        raise typer.Exit(FOUND)
