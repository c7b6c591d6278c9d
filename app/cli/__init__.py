"""The `haina` command. Each command builds settings, calls one function, and prints.

Exit codes: 0 done · 1 a check found something · 2 wrong usage or settings · 3 a dependency is not reachable.
"""

import errno
import io
import sys

import typer

from app.cli import accounts, database, layers, lexicon, models, prompts, running, safety
from app.cli.shared import FOUND, UNREACHABLE, USAGE, fail, line
from app.domain.errors import ChatError, EngineUnavailable, InvalidInput, NotFound, StorageFailure
from app.domain.words import describe
from app.settings import InvalidSettings
from app.worker.failures import LoadFailed

_WRONG_PATH = {
    *(errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL),
    *(errno.EACCES, errno.EPERM, errno.EROFS),
}
"""What a path that was given can be at fault for; anything else is the disk's affair."""

app = typer.Typer(
    name="haina",
    help="Haina: a self-hosted web chat for Baichuan2-Chat with an admin console.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.registered_commands += running.app.registered_commands
safety.app.add_typer(layers.app, name="layer")
safety.app.add_typer(lexicon.app, name="lexicon")
for name, group in (
    ("models", models.app),
    ("prompts", prompts.app),
    ("safety", safety.app),
    ("admin", accounts.app),
    ("db", database.app),
):
    app.add_typer(group, name=name)


def main() -> None:
    """Run the command line; every expected failure is one clear line and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a character is no failure
    try:
        app()
    except InvalidSettings as error:
        fail(str(error), USAGE)
    except (InvalidInput, NotFound) as error:
        fail(error.detail or describe(error, "en"), USAGE)
    except (StorageFailure, EngineUnavailable) as error:
        fail(line(error), UNREACHABLE)
    except LoadFailed as error:
        fail(str(error), UNREACHABLE)
    except ChatError as error:
        fail(line(error), FOUND)
    except OSError as error:
        place = f"{error.filename}: " if error.filename is not None else ""
        fail(f"{place}{error.strerror or error}", USAGE if error.errno in _WRONG_PATH else UNREACHABLE)
