"""Settings become objects here, and nowhere else: the only place that names concrete classes."""

import asyncio
import contextlib
import errno
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import structlog
from fastapi import FastAPI

from app import logs
from app.domain.errors import ChatError, InvalidInput, InvalidPolicy, StorageFailure, StorageFull, StorageReadOnly
from app.domain.models import now
from app.domain.ports import Engine, Filter, Filters, PromptFormat, Storage
from app.domain.verdicts import Stage
from app.engines.chat_completions import ChatCompletionsEngine
from app.engines.completions import CompletionsEngine
from app.engines.script_file import load_script
from app.engines.scripted import SLOTS, ScriptedEngine
from app.safety.assessment.bank import BUILTIN
from app.safety.assessment.examination import Candidate, Progress, examine
from app.safety.assessment.importers import Columns, read_banks
from app.safety.assessment.obfuscation import OBFUSCATED
from app.safety.assessment.score import Assessment, assess
from app.safety.evidence_box import AesBox, new_key, parse_key
from app.safety.filter import ContentFilter
from app.safety.guards.post import Observer, Posts
from app.safety.guards.spec import LOCAL, GuardSpec
from app.safety.policy import Policy
from app.safety.policy_file import PolicyFile, load_policy, policy_path
from app.safety.shelf import FilterShelf
from app.safety.tracing import HmacTracer
from app.safety.wording_check import require_sound
from app.services.accounts import AccountDesk, operator
from app.services.answering import Answering
from app.services.appeals import AppealDesk
from app.services.audit import AuditDesk
from app.services.chat import Chat
from app.services.conversations import ConversationDesk
from app.services.evidence import EvidenceDesk
from app.services.exports import ExportDesk
from app.services.hits import HitsDesk, Recorder
from app.services.moderation import Moderation
from app.services.outgoing import Customs
from app.services.overview import OverviewDesk
from app.services.policies import PolicyDesk
from app.services.prompt_library import PromptLibrary
from app.services.queue import FairQueue
from app.services.replay import Comparison, Replay, ReplayDesk
from app.services.reviews import ReviewDesk
from app.services.services import Services
from app.services.shares import ShareDesk
from app.services.stats import Stats
from app.services.strikes import StrikeLimits, Strikes
from app.services.turns import Journal, Turns
from app.settings import PREFIX, SCRIPTED, InvalidSettings, Settings
from app.web.application import Door, Front, create
from app.web.closing import Closing
from app.worker.protocol import NO_MODEL
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
GUARD = "guard"
"""The name of the guard that settings add to a policy."""


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
    policies: PolicyDesk
    replays: ReplayDesk
    filters: Filters


@asynccontextmanager
async def open_desks(settings: Settings) -> AsyncIterator[Desks]:
    """Open the database, migrated, for a command.

    Raises StorageFailure, InvalidSettings for a policy that cannot be read.
    """
    prepare_data_dir(settings)
    await schema.upgrade(settings.storage_url)
    storage = await open_storage(settings.storage_url)
    try:
        filters = await _filters(storage, _policy_file(settings), posts=_posts(settings))
        policies = PolicyDesk(storage, filters=filters)
        prompts = PromptLibrary(storage, filters=filters)
        replays = ReplayDesk(storage, filters=filters)
        try:
            yield Desks(
                accounts=AccountDesk(storage), prompts=prompts, policies=policies, replays=replays, filters=filters
            )
        finally:
            await filters.close()
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
    stats = Stats()
    supervisor = _supervisor(settings) if settings.model.classifier or not settings.engine.url else None
    policy_file = _policy_file(settings)
    _check_classifier(settings, _policy_in(policy_file))
    local = (supervisor.url, supervisor.token) if supervisor and settings.model.classifier else None
    filters = await _filters(storage, policy_file, posts=_posts(settings, observe=stats.guard_called, local=local))
    engine = engine_of(settings, supervisor=None if settings.engine.url else supervisor)
    secret_key = _secret_key(settings)
    in_row, per_day = settings.strikes
    strikes = Strikes(
        storage,
        limits=StrikeLimits(in_row=in_row, per_day=per_day, pause=timedelta(hours=settings.safety.suspension_h)),
    )
    evidence = EvidenceDesk(
        storage,
        box=evidence_box_of(settings),
        mode=settings.safety.evidence,
        days=settings.safety.evidence_days,
    )
    recorder = Recorder(tracer=HmacTracer(secret_key), evidence=evidence)
    services, journal, answering = _services(
        settings, storage, filters, engine, stats, recorder=recorder, strikes=strikes, evidence=evidence
    )
    await services.policies.refresh()
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
            replies=filters.replies,
            forms=html,
            trouble=html,
            shared=shared.HtmlShared(),
            assets={"chat": page.ASSETS, "admin": console.ASSETS},
            mount=lambda app: mounting.mount(app, services=services),
        ),
        door=Door(
            secret_key=secret_key,
            has_guests=settings.has_guests,
            is_open_to_programs=settings.is_private,
            is_secure=settings.server.public_url.startswith("https://"),
            operator=settings.server.operator,
            hosts=("127.0.0.1", "localhost", "[::1]", "::1", "testserver") if settings.is_private else ("*",),
        ),
        running=_running(storage, services, journal, answering, supervisor, closes=filters.close),
        closing=closing,
    )
    return Haina(app=app, services=services, settings=settings, closing=closing)


def filter_of(settings: Settings) -> ContentFilter:
    """Return the content filter with the policy that is set, or the built-in one.

    Close it where it may have asked guards. Raises InvalidSettings where the policy cannot be read, or would stop a
    reply or an answer of its own.
    """
    return _filter_for(settings, policy_of(settings))


def _filter_for(settings: Settings, policy: Policy) -> ContentFilter:
    content_filter = ContentFilter(policy, posts=_posts(settings))
    try:
        require_sound(policy, content_filter=content_filter)
    except InvalidPolicy as error:
        raise InvalidSettings(f"HAINA_SAFETY__POLICY: {error}") from error
    return content_filter


def _posts(settings: Settings, *, observe: Observer | None = None, local: tuple[str, str] | None = None) -> Posts:
    """Return where guards are asked; the key is that of the guard which the settings name, `local` our own worker."""
    keys = {GUARD: settings.safety.guard_api_key.get_secret_value()}
    return Posts(keys=keys, observe=observe, local=local) if observe else Posts(keys=keys, local=local)


def _check_classifier(settings: Settings, policy: Policy) -> None:
    """See that the classifier and the guard of the policy that asks it go together: neither does anything alone.

    Raises InvalidSettings.
    """
    is_asked = any(guard.url == LOCAL for guard in policy.guards)
    if settings.model.classifier and not is_asked:
        reason = f'nothing asks it: the policy needs a guard with kind = "classify" and url = "{LOCAL}"'
        raise InvalidSettings(f"HAINA_MODEL__CLASSIFIER: {reason}")
    if is_asked and not settings.model.classifier:
        raise InvalidSettings(f'HAINA_SAFETY__POLICY: a guard has url = "{LOCAL}", so set HAINA_MODEL__CLASSIFIER')


def policy_of(settings: Settings) -> Policy:
    """Return the policy that is set, or the built-in one, with the guard that is set.

    Raises InvalidSettings where it cannot be read.
    """
    return _policy_in(_policy_file(settings))


def _policy_in(policy_file: PolicyFile) -> Policy:
    try:
        return policy_file.load()
    except InvalidPolicy as error:
        raise InvalidSettings(f"HAINA_SAFETY__POLICY: {error}") from error


def _policy_file(settings: Settings) -> PolicyFile:
    """Return the file that is set, not yet read. Raises InvalidSettings where no shipped policy has its name."""
    wanted = settings.safety
    guard = None
    if wanted.guard_url:
        guard = GuardSpec(
            name=GUARD, kind=wanted.guard_kind, url=wanted.guard_url, model=wanted.guard_model, mode=wanted.guard_mode
        )
    try:
        return PolicyFile(policy_path(wanted.policy), guard=guard)
    except InvalidPolicy as error:
        raise InvalidSettings(f"HAINA_SAFETY__POLICY: {error}") from error


async def _filters(storage: Storage, policy_file: PolicyFile, *, posts: Posts) -> FilterShelf:
    """Return the filters in force: the policy that is set, and the layers that the database holds.

    Raises InvalidSettings where one cannot be read.
    """
    _policy_in(policy_file)
    async with storage.read() as unit:
        live = await unit.policies.live()
    layers = {version.layer: version.text for version in live}
    try:
        return FilterShelf(policy_file, layers=layers, posts=posts)
    except InvalidPolicy as error:
        if not layers:
            raise InvalidSettings(f"HAINA_SAFETY__POLICY: {error}") from error
        fix = "haina safety layer show | save | live"
        raise InvalidSettings(f"a policy layer does not fit over the policy ({fix}): {error}") from error


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
    content_filter = _filter_for(settings, policy)
    # What is made from the lists asks the filter the same thing thousands of times; no model needs to hear it.
    banks = read_banks(names or (*BUILTIN, *(() if with_engine else (OBFUSCATED,))), policy=policy, columns=columns)
    if sample is not None:
        banks = tuple(bank.drawn(sample) for bank in banks)
    if not with_engine:
        try:
            results = await examine(
                banks, content_filter=content_filter, safety_class=policy.class_of, progress=progress
            )
        finally:
            await content_filter.close()
        return assess(banks, results, policy=content_filter.policy)
    engine = engine_of(settings, supervisor=None)
    try:
        candidate = await Candidate.of(engine)
        results = await examine(
            banks,
            content_filter=content_filter,
            candidate=candidate,
            safety_class=policy.class_of,
            progress=progress,
        )
    finally:
        await engine.close()
        await content_filter.close()
    return assess(banks, results, policy=content_filter.policy, model=candidate.model)


async def replayed(
    settings: Settings,
    *,
    policy: Path | None = None,
    layer: tuple[str, str] | None = None,
    days: int = 30,
    banks: Sequence[str] = (),
) -> Replay:
    """Return what a draft – a policy file, or a layer's name and text – would decide otherwise than what is in force.

    The texts are the messages of the last days, or the questions of banks.
    Raises InvalidSettings, InvalidInput, InvalidPolicy, StorageFailure, SafetyUnavailable.
    """
    async with open_desks(settings) as desks:
        other: Filter = await desks.filters.draft(*layer) if layer else _filter_for(settings, load_policy(policy))
        if not banks:
            return await desks.replays.against(operator(), other, days=days)
        comparison = Comparison(live=desks.filters.site, draft=other)
        for bank in read_banks(banks, policy=policy_of(settings)):
            for number, question in enumerate(bank.questions, 1):
                await comparison.read(question.text, stage=Stage.INPUT, source=f"{bank.name} {number}")
        return comparison.result()


def _services(
    settings: Settings,
    storage: Storage,
    filters: Filters,
    engine: Engine,
    stats: Stats,
    *,
    recorder: Recorder,
    strikes: Strikes,
    evidence: EvidenceDesk,
) -> tuple[Services, Journal, Answering]:
    queue, turns, journal = FairQueue(), Turns(), Journal(storage)
    operator_name, customs = settings.server.operator, Customs(filters)
    answering = Answering(
        storage=storage,
        engine=engine,
        queue=queue,
        turns=turns,
        journal=journal,
        stats=stats,
        recorder=recorder,
    )
    services = Services(
        accounts=AccountDesk(storage, turns=turns),
        appeals=AppealDesk(storage, filters=filters, recorder=recorder),
        audit=AuditDesk(storage),
        moderation=Moderation(filters),
        chat=Chat(
            storage=storage,
            filters=filters,
            answering=answering,
            turns=turns,
            stats=stats,
            recorder=recorder,
            strikes=strikes,
        ),
        conversations=ConversationDesk(storage, filters=filters, recorder=recorder),
        evidence=evidence,
        exports=ExportDesk(storage, customs=customs, operator=operator_name),
        hits=HitsDesk(storage),
        overview=OverviewDesk(storage=storage, engine=engine, queue=queue, stats=stats, filters=filters),
        policies=PolicyDesk(storage, filters=filters),
        prompts=PromptLibrary(storage, filters=filters),
        replays=ReplayDesk(storage, filters=filters),
        queue=queue,
        reviews=ReviewDesk(storage, filters=filters, strikes=strikes),
        shares=ShareDesk(storage, customs=customs, operator=operator_name, is_on=settings.has_shares),
        stats=stats,
        strikes=strikes,
        engine=engine,
        filters=filters,
    )
    return services, journal, answering


def _supervisor(settings: Settings) -> Supervisor:
    """Return the keeper of the local worker: of the model that is set, or beside another engine of the classifier."""
    model = settings.model
    return Supervisor(
        [
            *("--model", NO_MODEL if settings.engine.url else model.path, "--revision", model.revision),
            *("--dtype", model.dtype),
            *("--quantize", model.quantize),
            *("--slots", str(model.slots)),
            *("--adapter", model.adapter, "--adapter-mode", model.adapter_mode),
            *("--classifier", model.classifier),
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
    storage: Storage,
    services: Services,
    journal: Journal,
    answering: Answering,
    supervisor: Supervisor | None,
    *,
    closes: Callable[[], Awaitable[None]],
) -> Callable[[], contextlib.AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        """Start what runs beside the requests; stop it in the opposite order, running answers first."""
        if supervisor is not None:
            await supervisor.start()
        tasks = [asyncio.create_task(journal.run()), asyncio.create_task(_sweep(storage, services))]
        tasks.append(asyncio.create_task(services.policies.run()))
        try:
            yield
        finally:
            await answering.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await services.engine.close()
            await closes()
            if supervisor is not None:
                await supervisor.stop()
            await storage.close()

    return running


async def _sweep(storage: Storage, services: Services) -> None:
    """Remove, now and then, what is over: expired sessions and links, conversations deleted a week ago, kept texts."""
    while True:
        with contextlib.suppress(StorageFailure):
            async with storage.write() as unit:
                await unit.accounts.purge_sessions(expired_before=now())
                await unit.commit()
            await services.conversations.purge()
            await services.evidence.purge()
            await services.shares.purge()
        await asyncio.sleep(_SWEEP_EVERY_S)


def _secret_key(settings: Settings) -> str:
    """Return the secret that is set, or one that is made once and kept in the data folder, for its owner only."""
    if secret := settings.server.secret_key.get_secret_value():
        return secret
    path = settings.data_dir / "secret_key"
    with _on_disk(settings.data_dir):
        if not path.exists():
            _write_secret(path, secrets.token_urlsafe(_MIN_SECRET))
        secret = path.read_text(encoding="ascii", errors="replace").strip()
    if len(secret) < _MIN_SECRET:
        raise ChatError(f"{path} is damaged; remove it, and guests start anew")
    return secret


def evidence_box_of(settings: Settings) -> AesBox:
    """Return the evidence box with the key that is set, or the one in the data folder; made where texts are kept.

    Where nothing is kept and there is no key, the box has none: it can only say so.
    Raises InvalidSettings for an impossible key that is set, ChatError for a damaged file.
    """
    if text := settings.safety.evidence_key.get_secret_value():
        try:
            return AesBox(parse_key(text))
        except InvalidInput as error:
            raise InvalidSettings(f"HAINA_SAFETY__EVIDENCE_KEY: {error.detail}") from error
    path = settings.data_dir / "evidence_key"
    with _on_disk(settings.data_dir):
        if not path.exists():
            if settings.safety.evidence == "off":
                return AesBox(None)
            _write_secret(path, new_key())
        text = path.read_text(encoding="ascii", errors="replace")
    try:
        return AesBox(parse_key(text))
    except InvalidInput as error:
        raise ChatError(f"{path} is damaged: put the right one back; without it no kept text can be opened") from error


def _write_secret(path: Path, secret: str) -> None:
    """Make the file, unless another process was faster; without room for the secret there is no file either."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secret)
    except OSError:
        path.unlink(missing_ok=True)
        raise
