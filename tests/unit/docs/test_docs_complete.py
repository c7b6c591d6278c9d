"""Every command, setting, route and error code is in the documents."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from app.cli import app
from app.domain.errors import ChatError
from app.settings import setting_names

DOCS = Path(__file__).resolve().parents[3] / "docs"


def commands(group: Any = None, *, before: str = "haina") -> Iterator[str]:
    for name, command in (group or get_command(app)).commands.items():  # type: ignore[union-attr]
        is_group = hasattr(command, "commands")
        yield from commands(command, before=f"{before} {name}") if is_group else [f"{before} {name}"]


def error_codes(kind: type[ChatError] = ChatError) -> Iterator[str]:
    yield kind.code
    for child in kind.__subclasses__():
        if child.__module__ == "app.domain.errors":
            yield from error_codes(child)


@pytest.mark.parametrize("command", sorted(commands()))
def test_every_command_is_documented_and_helps(command: str) -> None:
    assert f"`{command}" in (DOCS / "commands.md").read_text(encoding="utf-8")
    assert CliRunner().invoke(app, [*command.split()[1:], "--help"]).exit_code == 0


@pytest.mark.parametrize("name", sorted(setting_names()))
def test_every_setting_is_documented(name: str) -> None:
    assert f"`{name}`" in (DOCS / "settings.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", sorted(set(error_codes())))
def test_every_error_code_is_documented(code: str) -> None:
    assert f"`{code}`" in (DOCS / "http.md").read_text(encoding="utf-8")
