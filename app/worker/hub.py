"""A hub id → the folder of its files, fetched once into the hub's own cache. No code of a repository is fetched."""

from pathlib import Path

from huggingface_hub import snapshot_download

from app.worker.failures import LoadFailed

_WANTED = ("*.json", "*.model", "*.safetensors", "*.bin", "*.txt", "*.jinja", "*.pdf", "LICENSE*", "NOTICE*")
"""Weights, configuration, tokenizer, licence (Baichuan's is a PDF); never `*.py`."""


def folder_of(source: str, *, revision: str | None) -> Path:
    """Return the folder of a model: `source` itself where it is one.

    Raises LoadFailed where there is none, or the hub cannot be reached and its cache does not hold it.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if source.startswith((".", "/", "~")):
        raise LoadFailed(f"there is no folder {source}")
    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=list(_WANTED)))
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise LoadFailed(f"{source} is no folder here, and cannot be fetched from the hub: {reason}") from error
