"""A hub id → the folder of its files, fetched once into the hub's own cache. No code of a repository is fetched.

The cache keeps one copy of what is equal in several revisions: a revision's folder holds links to files by content.
"""

import re
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import RevisionNotFoundError

from app.worker.failures import LoadFailed

_WANTED = ("*.json", "*.model", "*.safetensors", "*.bin", "*.txt", "*.jinja", "*.pdf", "LICENSE*", "NOTICE*")
"""Weights, configuration, tokenizer, licence (Baichuan's is a PDF); never `*.py`."""
INTERMEDIATE = "baichuan-inc/Baichuan2-7B-Intermediate-Checkpoints"
STEPS = tuple(f"train_{tokens:05}B" for tokens in range(220, 2421, 220))
"""Its revisions, by billions of tokens; its main branch has no weights.

Source: discussion 2 of that repository on the hub.
"""
_COMMIT = re.compile(r"[0-9a-f]{40}")


def folder_of(source: str, *, revision: str | None) -> Path:
    """Return the folder of a model: `source` itself where it is one.

    Raises LoadFailed where there is none, or the hub cannot be reached and its cache does not hold it.
    """
    if folder := _local(source):
        return folder
    _require_step(source, revision)
    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=list(_WANTED)))
    except RevisionNotFoundError as error:
        raise LoadFailed(f"{source} has no revision {revision or 'main'}") from error
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise LoadFailed(f"{source} is no folder here, and cannot be fetched from the hub: {reason}") from error


def cached_folder_of(source: str, *, revision: str | None) -> Path:
    """Return the folder of a model that is here already, whole or not. Raises LoadFailed."""
    if folder := _local(source):
        return folder
    _require_step(source, revision)
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


def _require_step(source: str, revision: str | None) -> None:
    """See that one of the intermediate checkpoints is named where they are asked for. Raises LoadFailed."""
    if source != INTERMEDIATE or revision in STEPS or _COMMIT.fullmatch(revision or ""):
        return
    raise LoadFailed(f"{source} has no weights at {revision or 'main'}; its revisions are {', '.join(STEPS)}")
