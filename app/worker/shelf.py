"""The models that lie in the data folder, and what came with the program."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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
