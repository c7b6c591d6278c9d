"""Several revisions of one model, converted side by side; of files that are equal in them one copy is kept.

Made for the intermediate checkpoints of Baichuan2-7B: eleven revisions of one hub id, 220 to 2,420 billion tokens.
"""

import filecmp
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from app.domain.errors import InvalidInput
from app.worker.baichuan import conversion
from app.worker.checkpoints import hub

ALL = "all"
"""Stands for all the intermediate checkpoints."""


def convert(
    source: str,
    target: Path,
    *,
    revisions: Sequence[str],
    dtype: str = "auto",
    adapter: str = "",
    say: Callable[[str], None],
) -> None:
    """Convert revisions of a hub id into folders of their names below `target`; those that are there already stay.

    Raises InvalidInput where `revisions` are none, and what `conversion.convert` raises: what is done by then stays.
    """
    revisions = hub.STEPS if ALL in revisions else tuple(dict.fromkeys(revisions))
    if Path(source).expanduser().is_dir():
        raise InvalidInput("a folder has no revisions; name a hub id, or leave --revision out")
    for revision in revisions:
        if Path(revision).name != revision or revision.startswith("."):
            raise InvalidInput(f"{revision!r} cannot be a folder's name; convert it by itself")
    for revision in revisions:
        folder = target / revision
        if (folder / "config.json").is_file():
            say(f"{folder} is there already")
            continue
        say(f"{revision}:")
        conversion.convert(source, folder, dtype=dtype, revision=revision, adapter=adapter)
        share(folder, [target / other for other in revisions if other != revision])


def share(folder: Path, others: Sequence[Path]) -> None:
    """Replace files of a folder that another has as well, under the same name, by links to the same bytes.

    Where the disk knows no such links the copies stay.
    """
    for file in sorted(folder.iterdir()):
        twin = next((one / file.name for one in others if _is_like(one / file.name, file)), None)
        if twin is not None:
            with suppress(OSError):
                _link(twin, file)


def _is_like(one: Path, other: Path) -> bool:
    return one.is_file() and filecmp.cmp(one, other, shallow=False)  # weights differ in their first bytes


def _link(twin: Path, file: Path) -> None:
    """Give `file`'s name to the bytes of `twin`, in one step."""
    link = file.with_name(f".{file.name}.link")
    link.unlink(missing_ok=True)
    os.link(twin, link)
    link.replace(file)
