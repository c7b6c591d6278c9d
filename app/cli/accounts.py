"""`haina admin`: accounts and keys without a browser."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from app.cli.shared import with_desks
from app.services.accounts import operator

if TYPE_CHECKING:
    from app.bootstrap import Desks

app = typer.Typer(help="Accounts and API keys without a browser.", no_args_is_help=True)

Password = Annotated[str, typer.Option(prompt=True, hide_input=True, confirmation_prompt=True, envvar="HAINA_PASSWORD")]


@app.command("create")
def admin_create(name: str, password: Password, role: Literal["user", "admin"] = "admin") -> None:
    """Make an account."""
    from app.domain.models import AccountRole  # noqa: PLC0415 - as above

    async def work(desks: "Desks") -> None:
        account = await desks.accounts.create(operator(), name, password=password, role=AccountRole(role))
        typer.echo(f"{account.role} {account.name} created")

    with_desks(work)


@app.command("reset-password")
def admin_reset_password(name: str, password: Password) -> None:
    """Set a new password and end all sessions of the account."""

    async def work(desks: "Desks") -> None:
        await desks.accounts.reset_password(operator(), name, password=password)
        typer.echo(f"password of {name} set; all its sessions are over")

    with_desks(work)


@app.command("make-key")
def admin_make_key(account: str, name: str = "command line") -> None:
    """Make an API key for an account; it is shown once."""

    async def work(desks: "Desks") -> None:
        owner = await desks.accounts.by_name(operator(), account)
        _, secret = await desks.accounts.make_key(operator(), owner, name=name)
        typer.echo(secret)

    with_desks(work)
