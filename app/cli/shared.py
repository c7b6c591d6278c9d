"""What the commands share: exit codes, settings, desks, files that are named on the command line."""

import asyncio
import io
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from app import logs
from app.domain.errors import (
    ChatError,
    InvalidInput,
)
from app.domain.words import describe
from app.settings import Settings, load_settings

if TYPE_CHECKING:
    from app.bootstrap import Desks

FOUND, USAGE, UNREACHABLE = 1, 2, 3
"""Exit codes."""
Dtype = Literal["auto", "float32", "bfloat16", "float16"]


def line(error: ChatError) -> str:
    """Return an error as one line: its words, and what a developer needs."""
    words = describe(error, "en")
    return f"{words} ({error.detail})" if error.detail and error.detail != error.code else words


def fail(message: str, code: int) -> None:
    """Say why, and end with an exit code."""
    typer.echo(f"haina: {message}", err=True)
    sys.exit(code)


def settings_of(**overrides: object) -> Settings:
    """Return the settings, some overridden, and set the log up. Raises InvalidSettings."""
    settings = load_settings(None, **overrides)
    logs.configure(settings.log)
    return settings


def with_desks(work: Callable[["Desks"], Coroutine[Any, Any, None]]) -> None:
    """Run `work` over the services that need no engine, on a migrated database."""
    from app.bootstrap import open_desks  # noqa: PLC0415 - as above

    async def run() -> None:
        async with open_desks(settings_of()) as desks:
            await work(desks)

    asyncio.run(run())


@contextmanager
def about(path: Path) -> Iterator[None]:
    """Have an error that does not say so name the file: a disk that is full, or fails, does not."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def text_of(file: Path) -> str:
    """Return a file. Raises InvalidInput where it is no text, OSError."""
    with about(file):
        try:
            return file.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise InvalidInput(f"{file}: not UTF-8") from None


def lines_of(file: Path | None) -> Iterator[str]:
    """Yield a file's lines, or those of standard input, whatever bytes are in them."""
    if file is None:
        if sys.stdin is None:
            raise InvalidInput("there is no standard input; name a file")
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(encoding="utf-8", errors="replace")
        yield from sys.stdin
        return
    with about(file), file.open(encoding="utf-8", errors="replace") as lines:
        yield from lines


def given(**values: object) -> dict[str, Any]:
    """Return those that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def show_progress(done: int, of: int) -> None:
    """Say on standard error, ten times at most, how far something is."""
    if done * 10 // of > (done - 1) * 10 // of:
        typer.echo(f"{done} of {of} questions", err=True)
