"""A chat over an in-memory database, the real filter and a scripted engine."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.domain.events import Ended, Numbered, Released, TurnEvent
from app.domain.models import Account, AccountRole, Message, new_id, now
from app.domain.ports import Storage
from app.engines.scripted import Rule, Script, ScriptedEngine
from app.safety.answers import Answer
from app.safety.evidence_box import AesBox
from app.safety.filter import ContentFilter
from app.safety.policy_file import load_policy
from app.safety.tracing import HmacTracer
from app.services.answering import Answering
from app.services.appeals import AppealDesk
from app.services.chat import Asked, Chat, Question
from app.services.conversations import ConversationDesk
from app.services.evidence import EvidenceDesk, EvidenceMode
from app.services.hits import Recorder
from app.services.queue import FairQueue
from app.services.reviews import ReviewDesk
from app.services.stats import Stats
from app.services.strikes import StrikeLimits, Strikes
from app.services.turns import Journal, Turns
from tests.fakes.failing_storage import FailingStorage
from tests.fakes.filters import OneFilter
from tests.fakes.memory_storage import MemoryStorage

POLICY = replace(load_policy(), answers=())
FILTER = ContentFilter(POLICY)
NO_LIMITS = StrikeLimits(in_row=0, per_day=0)


@dataclass
class House:
    """A chat with everything around it in reach."""

    chat: Chat
    answering: Answering
    desk: ConversationDesk
    storage: FailingStorage
    engine: ScriptedEngine
    queue: FairQueue
    journal: Journal
    turns: Turns
    appeals: AppealDesk
    evidence: EvidenceDesk
    recorder: Recorder
    reviews: ReviewDesk
    strikes: Strikes
    ann: Account
    bob: Account

    async def ask(self, text: str, *, account: Account | None = None, **where: str | None) -> Asked:
        return await self.chat.ask(account or self.ann, Question(text=text, **where))  # type: ignore[arg-type]

    async def events(self, turn_id: str, *, account: Account | None = None, after: int = 0) -> list[TurnEvent]:
        found: list[Numbered] = []
        async for batch in self.chat.read(account or self.ann, turn_id, after=after):
            found.extend(batch)
        assert [one.n for one in found] == list(range(found[0].n, found[0].n + len(found)))
        return [one.event for one in found]

    async def answer(self, asked: Asked, *, account: Account | None = None) -> Message:
        events = await self.events(asked.answer.id, account=account)
        assert isinstance(events[-1], Ended)
        assert sum(isinstance(event, Ended) for event in events) == 1
        return events[-1].answer

    async def saved(self, message_id: str) -> Message:
        async with self.storage.read() as unit:
            message = await unit.messages.get(message_id)
        assert message is not None
        return message


def rule(pattern: str, reply: str, **more: object) -> Rule:
    return Rule(pattern=re.compile(pattern), reply=reply, **more)  # type: ignore[arg-type]


def released(events: Sequence[TurnEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Released))


def make_account(name: str) -> Account:
    return Account(id=new_id(), name=name, role=AccountRole.USER, created_at=now())


def make_house(
    *rules: Rule,
    script: Script | None = None,
    slots: int = 4,
    content_filter: ContentFilter = FILTER,
    answers: Sequence[Answer] = (),
    save_later_s: float = 5.0,
    limits: StrikeLimits = NO_LIMITS,
    evidence: EvidenceMode = "off",
    inner: Storage | None = None,
) -> House:
    if answers:
        content_filter = ContentFilter(replace(POLICY, answers=tuple(answers)))
    storage, queue, turns = FailingStorage(inner or MemoryStorage()), FairQueue(), Turns()
    engine = ScriptedEngine(script or Script(rules=rules, default="All rivers run into the sea."), slots=slots)
    journal = Journal(storage)
    stats = Stats()
    desk_of_evidence = EvidenceDesk(storage, box=AesBox(bytes(range(32))), mode=evidence)
    recorder = Recorder(tracer=HmacTracer("secret"), evidence=desk_of_evidence)
    strikes = Strikes(storage, limits=limits)
    answering = Answering(
        storage=storage,
        engine=engine,
        queue=queue,
        turns=turns,
        journal=journal,
        stats=stats,
        recorder=recorder,
        save_later_s=save_later_s,
    )
    chat = Chat(
        storage=storage,
        filters=OneFilter(content_filter),
        answering=answering,
        turns=turns,
        stats=stats,
        recorder=recorder,
        strikes=strikes,
    )
    desk = ConversationDesk(storage, filters=OneFilter(content_filter), recorder=recorder)
    return House(
        chat=chat,
        answering=answering,
        desk=desk,
        storage=storage,
        engine=engine,
        queue=queue,
        journal=journal,
        turns=turns,
        appeals=AppealDesk(storage, filters=OneFilter(content_filter), recorder=recorder),
        evidence=desk_of_evidence,
        recorder=recorder,
        reviews=ReviewDesk(storage, filters=OneFilter(content_filter), strikes=strikes),
        strikes=strikes,
        ann=make_account("ann"),
        bob=make_account("bob"),
    )
