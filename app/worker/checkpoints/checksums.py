"""Checksums that came with a model's files, and whether the files agree with them.

Four places tell them: a list in the folder (`SHA256SUMS`, or `NAME.sha256`, as `sha256sum` writes them); the record of
our own conversion; the hub's cache, where a file is a link to a blob named by its checksum; and what the hub's client
notes beside a download into a folder. A blob of the hub's is named by SHA-256 if it is large, else as git names it.

Sources: https://huggingface.co/docs/huggingface_hub/guides/manage-cache; git's own documentation, "Git Objects".
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_LIST = re.compile(r"(?P<digest>[0-9a-fA-F]{64}) [ *](?P<name>.+)")
_BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_RECORD = "haina-conversion.json"
_GIT_DIGITS = 40
_LONGEST_LIST = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Checksum:
    """What a file's content must come to."""

    digest: str
    """Hexadecimal: 64 digits of SHA-256, or git's 40."""
    source: str
    """Where it is written."""

    def is_of(self, file: Path) -> bool:
        """Read a file through and compare: about a second a gigabyte. Raises OSError."""
        if len(self.digest) == _GIT_DIGITS:
            digest = hashlib.sha1(f"blob {file.stat().st_size}\0".encode(), usedforsecurity=False)
        else:
            digest = hashlib.sha256()
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, lambda: digest).hexdigest() == self.digest


def listed(folder: Path) -> dict[str, Checksum]:
    """Return what the lists in a folder say, by the file's name there. A list that cannot be read says nothing."""
    found = dict(_recorded(folder / _RECORD))
    for path in sorted(folder.iterdir()):
        if path.name.lower() in {"sha256sums", "sha256sums.txt"} or path.suffix == ".sha256":
            for digest, name in _lines(path):
                named = Path(name.strip()).name or path.stem
                found[named] = Checksum(digest=digest.lower(), source=path.name)
    return found


def noted(file: Path) -> Checksum | None:
    """Return what the hub's client knows about a file that it fetched, or nothing."""
    if file.is_symlink() and _BLOB.fullmatch(name := Path(os.readlink(file)).name):  # noqa: PTH115 - not resolved further
        return Checksum(digest=name, source="the hub's cache")
    note = file.parent / ".cache/huggingface/download" / f"{file.name}.metadata"
    lines = _text(note).splitlines()
    if len(lines) > 1 and _BLOB.fullmatch(etag := lines[1].strip()):
        return Checksum(digest=etag, source="the hub's client")
    return None


def _recorded(path: Path) -> Iterator[tuple[str, Checksum]]:
    """Yield what our conversion has noted of the files that it wrote."""
    try:
        shards = json.loads(_text(path) or "{}").get("shards", {})
        noted = [(name, str(one["sha256"])) for name, one in shards.items()]
    except (ValueError, RecursionError, AttributeError, TypeError, KeyError):
        return
    for name, digest in noted:
        if _BLOB.fullmatch(digest) and name == Path(name).name:
            yield name, Checksum(digest=digest, source=path.name)


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    text = _text(path)
    for line in text.splitlines():
        if match := _LIST.fullmatch(line.strip()):
            yield match["digest"], match["name"]
    if re.fullmatch(r"[0-9a-fA-F]{64}", text.strip()):  # a digest and nothing else
        yield text.strip(), path.stem


def _text(path: Path) -> str:
    try:
        if not path.is_file() or path.stat().st_size > _LONGEST_LIST:
            return ""
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
