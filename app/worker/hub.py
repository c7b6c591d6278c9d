"""A hub id → the folder of its files, fetched once into the hub's own cache. No code of a repository is fetched."""

from pathlib import Path

from huggingface_hub import snapshot_download

from app.worker.failures import LoadFailed

_WANTED = ("*.json", "*.model", "*.safetensors", "*.bin", "*.txt", "*.jinja")
"""Weights, configuration, tokenizer; never `*.py`."""


def folder_of(source: str, *, revision: str | None) -> Path:
    """Return the folder of a model: `source` itself where it is one.

    Raises LoadFailed where there is none, or the hub cannot be reached and its cache does not hold it.
    """
    if folder := _local(source):
        return folder
    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=list(_WANTED)))
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise LoadFailed(f"{source} is no folder here, and cannot be fetched from the hub: {reason}") from error


def cached_folder_of(source: str, *, revision: str | None) -> Path:
    """Return the folder of a model that is here already, whole or not. Raises LoadFailed."""
    if folder := _local(source):
        return folder
    try:
        return Path(snapshot_download(source, revision=revision, local_files_only=True))
    except (OSError, ValueError) as error:
        at = f" at {revision}" if revision else ""
        raise LoadFailed(f"{source}{at} is no folder here, and is not in the hub's cache") from error


def _local(source: str) -> Path | None:
    """Return the folder that `source` is, None where it may be a hub id. Raises LoadFailed where it can be neither."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if source.startswith((".", "/", "~")) or folder.exists():
        raise LoadFailed(f"there is no folder {source}")
    return None
