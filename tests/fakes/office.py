"""The admin console over an in-memory database, the real services and filter, and an engine whose state is set."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import gradio as gr
from starlette.requests import Request

from app.domain.generation import EngineState, EngineStatus
from app.domain.models import Account, AccountRole, new_id, now
from app.domain.ports import Engine
from app.domain.words import Language
from app.safety.evidence_box import AesBox
from app.safety.policy_file import PolicyFile
from app.safety.shelf import FilterShelf
from app.safety.tracing import HmacTracer
from app.services.accounts import AccountDesk
from app.services.appeals import AppealDesk
from app.services.audit import AuditDesk
from app.services.evidence import EvidenceDesk
from app.services.hits import HitsDesk, Recorder
from app.services.overview import OverviewDesk
from app.services.policies import PolicyDesk
from app.services.prompt_library import PromptLibrary
from app.services.queue import FairQueue
from app.services.replay import ReplayDesk
from app.services.reviews import ReviewDesk
from app.services.services import Services
from app.services.stats import Stats
from app.services.strikes import StrikeLimits, Strikes
from tests.fakes.memory_storage import MemoryStorage
from ui.admin.console import endpoint

POLICY = PolicyFile()


@dataclass
class StillEngine:
    """An engine of which only the state is asked."""

    state: EngineStatus = field(default_factory=lambda: EngineStatus(state=EngineState.READY))

    async def status(self) -> EngineStatus:
        return self.state


def account(name: str, role: AccountRole = AccountRole.USER, *, is_suspended: bool = False) -> Account:
    return Account(id=new_id(), name=name, role=role, created_at=now(), is_suspended=is_suspended)


def request_of(who: Account | None, *, language: Language = "en") -> gr.Request:
    """Return what Gradio hands to a page's function: Starlette's own request, with the doorkeeper's account in it."""
    headers = [(b"cookie", f"haina_lang={language}".encode())]
    request = Request({"type": "http", "method": "POST", "headers": headers, "state": {"account": who}})
    return cast("gr.Request", request)


@dataclass
class Office:
    """A console and everything behind it."""

    storage: MemoryStorage = field(default_factory=MemoryStorage)
    engine: StillEngine = field(default_factory=StillEngine)
    queue: FairQueue = field(default_factory=FairQueue)
    stats: Stats = field(default_factory=Stats)
    filters: FilterShelf = field(default_factory=lambda: FilterShelf(POLICY))
    root: Account = field(default_factory=lambda: account("root", AccountRole.ADMIN))

    def __post_init__(self) -> None:
        self.accounts = AccountDesk(self.storage)
        self.prompts = PromptLibrary(self.storage, filters=self.filters)
        overview = OverviewDesk(
            storage=self.storage,
            engine=cast("Engine", self.engine),
            queue=self.queue,
            stats=self.stats,
            filters=self.filters,
        )
        self.strikes = Strikes(self.storage, limits=StrikeLimits())
        self.evidence = EvidenceDesk(self.storage, box=AesBox(bytes(range(32))), mode="refused")
        self.recorder = Recorder(tracer=HmacTracer("secret"), evidence=self.evidence)
        self.appeals = AppealDesk(self.storage, filters=self.filters, recorder=self.recorder)
        self.reviews = ReviewDesk(self.storage, filters=self.filters, strikes=self.strikes)
        parts = SimpleNamespace(
            accounts=self.accounts,
            audit=AuditDesk(self.storage),
            evidence=self.evidence,
            hits=HitsDesk(self.storage),
            overview=overview,
            policies=PolicyDesk(self.storage, filters=self.filters),
            prompts=self.prompts,
            replays=ReplayDesk(self.storage, filters=self.filters),
            reviews=self.reviews,
            strikes=self.strikes,
        )
        self.services = cast("Services", parts)
        self._ask = endpoint(self.services)

    async def add(self, *accounts: Account) -> None:
        async with self.storage.write() as unit:
            for one in accounts:
                await unit.accounts.add(one)
            await unit.commit()

    async def ask(
        self,
        page: str,
        action: str = "show",
        *,
        who: Account | None = None,
        language: Language = "en",
        form: Mapping[str, list[str]] | None = None,
        **fields: str,
    ) -> SimpleNamespace:
        """Ask as an admin, or as somebody else, with a whole form or some fields; return the reply by attribute."""
        values = {**(form or {}), **{name: [value] for name, value in fields.items()}}
        call = {"page": page, "action": action, "fields": values}
        return SimpleNamespace(**await self._ask(call, request_of(who or self.root, language=language)))

    async def show(self, page: str, *, language: Language = "en", **fields: str) -> str:
        """Return a page's markup."""
        reply = await self.ask(page, language=language, form={name: [value] for name, value in fields.items()})
        assert not reply.is_error, reply.said
        return str(reply.html)
