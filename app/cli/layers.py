"""`haina safety layer`: layers over the policy file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.shared import text_of, with_desks
from app.domain.errors import (
    NotFound,
)
from app.services.accounts import operator

if TYPE_CHECKING:
    from app.bootstrap import Desks

app = typer.Typer(help="Layers over the policy file, kept in the database.", no_args_is_help=True)


@app.command("list")
def layer_list() -> None:
    """List the layers of the policy and the version of each that is in force."""

    async def work(desks: "Desks") -> None:
        typer.echo(f"in force for everybody: {desks.policies.policy}")
        for version in await desks.policies.layers(operator()):
            made = f"{version.created_at:%Y-%m-%d %H:%M}\t{version.author}\t{version.message}"
            typer.echo(f"{version.layer}\tv{version.number}\t{made}")

    with_desks(work)


@app.command("show")
def layer_show(
    name: str, number: Annotated[int, typer.Option(help="A version; the one in force if left out.", min=0)] = 0
) -> None:
    """Print the text of a layer."""

    async def work(desks: "Desks") -> None:
        for version in await desks.policies.versions(operator(), name):
            if version.number == number if number else version.is_live:
                typer.echo(version.text, nl=not version.text.endswith("\n"))
                return
        raise NotFound(f"layer {name} has no version {number}", kind="policy")

    with_desks(work)


@app.command("save")
def layer_save(
    name: Annotated[str, typer.Argument(help="The layer; `site` is everybody's.")],
    file: Path,
    message: Annotated[str, typer.Option("--message", "-m", help="What changed, and why.")],
) -> None:
    """Put a new version of a layer in force, also in a server that runs."""
    text = text_of(file)

    async def work(desks: "Desks") -> None:
        version = await desks.policies.publish(operator(), name, text, message=message)
        typer.echo(f"{name} v{version.number} is in force: {desks.policies.policy}")

    with_desks(work)


@app.command("live")
def layer_live(name: str, number: int) -> None:
    """Put an older version of a layer in force again."""

    async def work(desks: "Desks") -> None:
        version = await desks.policies.set_live(operator(), name, number=number)
        typer.echo(f"{name} v{version.number} is in force: {desks.policies.policy}")

    with_desks(work)


@app.command("give")
def layer_give(
    account: str,
    names: Annotated[list[str] | None, typer.Argument(help="Layers, from the bottom; none takes them away.")] = None,
) -> None:
    """Lay layers over the policy for an account and its keys."""

    async def work(desks: "Desks") -> None:
        owner = await desks.accounts.by_name(operator(), account)
        kept = await desks.accounts.give_layers(operator(), " ".join(names or ()), account=owner)
        typer.echo(f"{account}: {kept or 'no layer'}")

    with_desks(work)
