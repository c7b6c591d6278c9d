"""Settings become objects here, and nowhere else: the only place that names concrete classes."""

import asyncio
import contextlib
import errno
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
from fastapi import FastAPI

from app import logs
from app.domain.errors import ChatError, StorageFailure, StorageFull, StorageReadOnly
from app.domain.models import now
from app.domain.ports import Engine, Filter, PromptFormat, Storage
from app.engines.chat_completions import ChatCompletionsEngine
from app.engines.completions import CompletionsEngine
from app.engines.script_file import load_script
from app.engines.scripted import SLOTS, ScriptedEngine
from app.safety.assessment.bank import BUILTIN
from app.safety.assessment.examination import Candidate, Progress, examine
from app.safety.assessment.importers import Columns, read_banks
from app.safety.assessment.obfuscation import OBFUSCATED
from app.safety.assessment.score import Assessment, assess
from app.safety.filter import ContentFilter
from app.safety.policy import Policy
from app.safety.policy_file import InvalidPolicy, load_policy
from app.services.accounts import AccountDesk
from app.services.answering import Answering
from app.services.chat import Chat
from app.services.conversations import ConversationDesk
from app.services.exports import ExportDesk
from app.services.hits import HitsDesk
from app.services.moderation import Moderation
from app.services.outgoing import Customs
from app.services.overview import OverviewDesk
from app.services.prompt_library import PromptLibrary
from app.services.queue import FairQueue
from app.services.services import Services
from app.services.shares import ShareDesk
from app.services.stats import Stats
from app.services.turns import Journal, Turns
from app.settings import PREFIX, SCRIPTED, InvalidSettings, Settings
from app.web.application import Door, Front, create
from app.web.closing import Closing
from app.worker.supervisor import Supervisor
from prompts.formats.registry import load_format
from prompts.formats.tokenizer import Tokenizer
from storage import schema
from storage.database import open_storage
from storage.ownership import owned
from ui import forms, markdown, mounting, shared
from ui.admin import console
from ui.chat import page

log = structlog.get_logger()

_MIN_SECRET = 32
_DEFAULT_SECRETS = {"changeme", "change-me", "secret", "haina", "default"}
_SWEEP_EVERY_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Haina:
    """A wired application, not yet running: its lifespan starts and stops the rest."""

    app: FastAPI
    services: Services
    settings: Settings
    closing: Closing
    """For the server to say that it goes down, before it waits for open streams."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desks:
    """The services that the command line uses: they need the database, no engine and no web."""

    accounts: AccountDesk
    prompts: PromptLibrary


@asynccontextmanager
async def open_desks(settings: Settings) -> AsyncIterator[Desks]:
    """Open the database, migrated, for a command.

    Raises StorageFailure, InvalidSettings for a policy that cannot be read.
    """
    prepare_data_dir(settings)
    await schema.upgrade(settings.storage_url)
    storage = await open_storage(settings.storage_url)
    try:
        yield Desks(accounts=AccountDesk(storage), prompts=PromptLibrary(storage, content_filter=filter_of(settings)))
    finally:
        await storage.close()


def check_door(settings: Settings) -> None:
    """Refuse to open the door to others with a secret that is missing, short or well known.

    Raises InvalidSettings.
    """
    secret = settings.server.secret_key.get_secret_value()
    if settings.is_private and not secret:
        return
    if len(secret) < _MIN_SECRET or secret.lower() in _DEFAULT_SECRETS or len(set(secret)) < 8:  # noqa: PLR2004
        raise InvalidSettings(
            "HAINA_SERVER__SECRET_KEY: others can reach this server, so it needs a random secret of at least "
            f"{_MIN_SECRET} characters; make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )


def prepare_data_dir(settings: Settings) -> None:
    """Make the data folder and see that it can be written.

    Raises StorageReadOnly or StorageFull.
    """
    with _on_disk(settings.data_dir):
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = settings.data_dir / f".probe-{os.getpid()}"
        try:
            probe.write_bytes(b"haina")
        finally:
            probe.unlink(missing_ok=True)  # a full disk makes the file, and no room for what is in it


@contextlib.contextmanager
def _on_disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kind = StorageFull if error.errno in {errno.ENOSPC, errno.EDQUOT} else StorageReadOnly
        raise kind(f"{folder}: {error.strerror}") from error


@asynccontextmanager
async def build(settings: Settings) -> AsyncIterator[Haina]:
    """Wire everything: own and migrate the database, read the policy, choose the engine, make services and pages.

    Raises InvalidSettings, also for a policy that cannot be read, InvalidInput for a script, StorageFailure.
    """
    check_door(settings)
    prepare_data_dir(settings)
    async with owned(settings.storage_url):
        await schema.upgrade(settings.storage_url)
        yield await _wire(settings, await open_storage(settings.storage_url))


async def _wire(settings: Settings, storage: Storage) -> Haina:
    content_filter = filter_of(settings)
    supervisor = None if settings.engine.url else _supervisor(settings)
    engine = engine_of(settings, supervisor=supervisor)
    services, journal, answering = _services(settings, storage, content_filter, engine)
    async with storage.write() as unit:
        interrupted = await unit.messages.interrupt_running(now())
        await unit.commit()
    imported = await services.prompts.import_built_in()
    log.info("storage_ready", interrupted_answers=interrupted, imported_templates=imported)
    html = forms.HtmlForms()
    closing = Closing()
    app = create(
        services,
        front=Front(
            markdown=markdown.MarkdownRenderer(),
            forms=html,
            trouble=html,
            shared=shared.HtmlShared(),
            assets={"chat": page.ASSETS, "admin": console.ASSETS},
            mount=lambda app: mounting.mount(app, services=services),
        ),
        door=Door(
            secret_key=_secret_key(settings),
            has_guests=settings.has_guests,
            is_open_to_programs=settings.is_private,
            is_secure=settings.server.public_url.startswith("https://"),
            operator=settings.server.operator,
            hosts=("127.0.0.1", "localhost", "[::1]", "::1", "testserver") if settings.is_private else ("*",),
        ),
        running=_running(storage, services, journal, answering, supervisor),
        closing=closing,
    )
    return Haina(app=app, services=services, settings=settings, closing=closing)


def filter_of(settings: Settings) -> ContentFilter:
    """Return the content filter with the policy that is set, or the built-in one.

    Raises InvalidSettings where the policy cannot be read.
    """
    return ContentFilter(policy_of(settings))


def policy_of(settings: Settings) -> Policy:
    """Return the policy that is set, or the built-in one.

    Raises InvalidSettings where it cannot be read.
    """
    path = settings.safety.policy
    try:
        return load_policy(Path(path) if path else None)
    except InvalidPolicy as error:
        raise InvalidSettings(f"HAINA_SAFETY__POLICY: {error}") from error


async def assessed(
    settings: Settings,
    *,
    names: Sequence[str] = (),
    columns: Columns | None = None,
    sample: int | None = None,
    with_engine: bool = False,
    progress: Progress | None = None,
) -> Assessment:
    """Return what the filter, and the engine that is set, make of these banks; of the built-in ones without names.

    `sample` is how many questions are drawn from each bank, at most; `columns` say how tables are read.
    Raises InvalidSettings, InvalidInput and OSError for a bank, EngineUnavailable, SafetyUnavailable.
    """
    if with_engine and not settings.engine.url:
        raise InvalidSettings("no engine is set to be asked: set HAINA_ENGINE__URL, or use --engine")
    policy = policy_of(settings)
    content_filter = ContentFilter(policy)
    # What is made from the lists asks the filter the same thing thousands of times; no model needs to hear it.
    banks = read_banks(names or (*BUILTIN, *(() if with_engine else (OBFUSCATED,))), policy=policy, columns=columns)
    if sample is not None:
        banks = tuple(bank.drawn(sample) for bank in banks)
    if not with_engine:
        results = await examine(banks, content_filter=content_filter, progress=progress)
        return assess(banks, results, policy=content_filter.policy)
    engine = engine_of(settings, supervisor=None)
    try:
        candidate = await Candidate.of(engine)
        results = await examine(banks, content_filter=content_filter, candidate=candidate, progress=progress)
    finally:
        await engine.close()
    return assess(banks, results, policy=content_filter.policy, model=candidate.model)


def _services(
    settings: Settings, storage: Storage, content_filter: Filter, engine: Engine
) -> tuple[Services, Journal, Answering]:
    operator, customs = settings.server.operator, Customs(content_filter)
    queue, stats, turns, journal = FairQueue(), Stats(), Turns(), Journal(storage)
    answering = Answering(
        storage=storage,
        content_filter=content_filter,
        engine=engine,
        queue=queue,
        turns=turns,
        journal=journal,
        stats=stats,
    )
    services = Services(
        accounts=AccountDesk(storage, turns=turns),
        moderation=Moderation(content_filter),
        chat=Chat(storage=storage, content_filter=content_filter, answering=answering, turns=turns, stats=stats),
        conversations=ConversationDesk(storage, content_filter=content_filter),
        exports=ExportDesk(storage, customs=customs, operator=operator),
        hits=HitsDesk(storage),
        overview=OverviewDesk(storage=storage, engine=engine, queue=queue, stats=stats, content_filter=content_filter),
        prompts=PromptLibrary(storage, content_filter=content_filter),
        queue=queue,
        shares=ShareDesk(storage, customs=customs, operator=operator, is_on=settings.has_shares),
        stats=stats,
        engine=engine,
    )
    return services, journal, answering


def _supervisor(settings: Settings) -> Supervisor:
    model = settings.model
    return Supervisor(
        [
            *("--model", model.path, "--revision", model.revision),
            *("--dtype", model.dtype),
            *("--quantize", model.quantize),
            *("--slots", str(model.slots)),
            *("--adapter", model.adapter, "--adapter-mode", model.adapter_mode),
            *("--data", str(settings.data_dir)),
        ],
        environment={f"{PREFIX}LOG__FORMAT": logs.format_of(settings.log)},  # its log goes through us to our terminal
    )


def engine_of(settings: Settings, *, supervisor: Supervisor | None) -> Engine:
    """Return the engine that is set: the scripted one, one behind a URL, or the worker of this supervisor.

    Raises InvalidInput for a script that cannot be read.
    """
    wanted = settings.engine
    if wanted.url.startswith(SCRIPTED):
        return ScriptedEngine(load_script(wanted.url), slots=wanted.slots or SLOTS)
    url = supervisor.url if supervisor else wanted.url
    key = supervisor.token if supervisor else wanted.api_key.get_secret_value()
    if wanted.kind == "chat" and supervisor is None:
        return ChatCompletionsEngine(
            url, api_key=key, model=wanted.model, timeout_s=wanted.timeout_s, slots=wanted.slots
        )
    return CompletionsEngine(
        url,
        formats=_prompt_format,
        api_key=key,
        model=wanted.model,
        timeout_s=wanted.timeout_s,
        slots=wanted.slots,
        tokenizer_path=Path(settings.model.tokenizer) if settings.model.tokenizer else None,
        is_local=supervisor is not None,
    )


def _prompt_format(name: str | None, tokenizer_json: str) -> PromptFormat:
    return load_format(name, Tokenizer.from_json(tokenizer_json))


def _running(
    storage: Storage, services: Services, journal: Journal, answering: Answering, supervisor: Supervisor | None
) -> Callable[[], contextlib.AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        """Start what runs beside the requests; stop it in the opposite order, running answers first."""
        if supervisor is not None:
            await supervisor.start()
        tasks = [asyncio.create_task(journal.run()), asyncio.create_task(_sweep(storage, services))]
        try:
            yield
        finally:
            await answering.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await services.engine.close()
            if supervisor is not None:
                await supervisor.stop()
            await storage.close()

    return running


async def _sweep(storage: Storage, services: Services) -> None:
    """Remove, now and then, what is over: expired sessions and links, and conversations deleted a week ago."""
    while True:
        with contextlib.suppress(StorageFailure):
            async with storage.write() as unit:
                await unit.accounts.purge_sessions(expired_before=now())
                await unit.commit()
            await services.conversations.purge()
            await services.shares.purge()
        await asyncio.sleep(_SWEEP_EVERY_S)


def _secret_key(settings: Settings) -> str:
    """Return the secret that is set, or one that is made once and kept in the data folder, for its owner only."""
    if secret := settings.server.secret_key.get_secret_value():
        return secret
    path = settings.data_dir / "secret_key"
    with _on_disk(settings.data_dir):
        if not path.exists():
            _write_secret(path)
        secret = path.read_text(encoding="ascii", errors="replace").strip()
    if len(secret) < _MIN_SECRET:
        raise ChatError(f"{path} is damaged; remove it, and guests start anew")
    return secret


def _write_secret(path: Path) -> None:
    """Make the file, unless another process was faster; without room for the secret there is no file either."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(_MIN_SECRET))
    except OSError:
        path.unlink(missing_ok=True)
        raise
