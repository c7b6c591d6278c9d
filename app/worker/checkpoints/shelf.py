"""The models on this machine: those of the data folder, and whatever a path or a hub id leads to without a network."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.domain.errors import InvalidInput
from app.worker import embedded
from app.worker.checkpoints import hub
from app.worker.failures import LoadFailed

UNFINISHED = ".part"
"""The ending of a folder's name while a model is converted into it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolder:
    """A folder with a model that can be loaded."""

    name: str
    path: Path
    size_bytes: int


def models_here(data_dir: Path) -> Iterator[ModelFolder]:
    """Yield the models below `models/` in the data folder, by name; not those that are still being converted."""
    for config in sorted((data_dir / "models").glob("*/config.json")):
        folder = config.parent
        if folder.suffix == UNFINISHED:
            continue
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        yield ModelFolder(name=folder.name, path=folder, size_bytes=size)


def find(source: str, *, revision: str | None, data_dir: Path) -> Path:
    """Return the folder of a model that is here: `source` is a folder, a hub id, or `default`.

    Raises InvalidInput where nothing is there.
    """
    if source != "default":
        try:
            return hub.cached_folder_of(source, revision=revision)
        except LoadFailed as error:
            raise InvalidInput(str(error)) from error
    try:
        folder = embedded.converted_folder(embedded.find_gguf(), data_dir=data_dir)
    except embedded.EmbeddedModelMissing as error:
        raise InvalidInput(str(error)) from error
    if not folder.is_dir():
        raise InvalidInput(f"the embedded model is not in {data_dir} yet: the first start converts it")
    return folder
