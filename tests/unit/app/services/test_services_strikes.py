"""Strikes: what counts, what pauses, what is forgiven – also when two tabs ask at once."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from app.domain.errors import AccessDenied, ContentBlocked, NotFound, SafetyUnavailable, Suspended
from app.domain.generation import ChatMessage
from app.domain.models import Account, AccountRole, AuditAction, MessageState, Role, new_id, now
from app.domain.verdicts import Action, Checked, Decision, Finding, Stage
from app.domain.words import LANGUAGES, describe, pause
from app.engines.scripted import Script
from app.safety.detector import Scan
from app.safety.filter import ContentFilter
from app.safety.policy import make_policy
from app.services import strikes as module
from app.services.chat import ApiQuestion
from app.services.strikes import StrikeLimits, counts
from tests.fakes.house import House, make_account, make_house
from tests.fakes.sweets import HANDED_OVER, REFUSED, sweets

LIMITS = StrikeLimits(in_row=3, per_day=5, pause=timedelta(hours=2))
FILTER = sweets()
ROOT = Account(id="root", name="root", role=AccountRole.ADMIN, created_at=now())


class Broken:
    """A detector that fails."""

    name = "broken"

    def open(self, *, stage: Stage) -> Scan:
        raise RuntimeError(stage)


class Hesitant(ContentFilter):
    """A filter that takes its time with one text."""

    def __init__(self) -> None:
        super().__init__(FILTER._policy)
        self.is_asked, self.may_go_on = asyncio.Event(), asyncio.Event()

    async def check(
        self,
        text: str,
        *,
        stage: Stage,
        context: Sequence[ChatMessage] = (),
        with_guards: bool = True,
        beside: Sequence[str] | None = None,
    ) -> Checked:
        if text == "take your time":
            self.is_asked.set()
            await self.may_go_on.wait()
        return await super().check(text, stage=stage, context=context, with_guards=with_guards, beside=beside)


def strict_house(**more: object) -> House:
    return make_house(content_filter=FILTER, limits=replace(LIMITS, **more))  # type: ignore[arg-type]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[timedelta], None]:
    """Move the strikes' clock on."""
    ahead = timedelta()

    def moved() -> datetime:
        return now() + ahead

    def move(by: timedelta) -> None:
        nonlocal ahead
        ahead += by

    monkeypatch.setattr(module, "now", moved)
    return move


async def refuse(house: House, times: int = 1) -> list[str]:
    """Ask what is refused; return the decisions."""
    asked = [await house.ask(f"{n}: {REFUSED}") for n in range(times)]
    return [str(one.question.error_data["decision_id"]) for one in asked]


async def overturn(house: House, decision_id: str) -> None:
    await house.appeals.appeal(house.ann, decision_id)
    await house.reviews.decide(ROOT, decision_id, is_overturned=True)


async def is_paused(house: House) -> bool:
    try:
        await house.strikes.require_free(house.ann)
    except Suspended:
        return True
    return False


async def test_the_third_refused_question_in_a_row_pauses_and_says_so() -> None:
    house = strict_house()
    await refuse(house, 2)
    assert not await is_paused(house)
    third = await house.ask(REFUSED)
    saved = await house.saved(third.question.id)
    assert saved == third.question
    assert all(str(saved.error_data["paused_until"]) in (pause(saved, language) or "") for language in LANGUAGES)
    assert pause(third.answer, "en") is None
    with pytest.raises(Suspended) as caught:
        await house.ask("a harmless question")
    assert 7100 < float(str(caught.value.data["retry_after_s"])) <= 7200
    assert all(str(caught.value.data["until"]) in describe(caught.value, language) for language in LANGUAGES)
    assert house.engine.requests == []


async def test_a_question_that_passes_breaks_the_row_but_not_the_day() -> None:
    house = strict_house()
    for _ in range(2):
        await refuse(house, 2)
        await house.answer(await house.ask("harmless"))
    assert not await is_paused(house)
    await refuse(house)
    assert await is_paused(house)


async def test_the_day_slides(clock: Callable[[timedelta], None]) -> None:
    house = strict_house(in_row=0)
    await refuse(house, 3)
    clock(timedelta(hours=23))
    await refuse(house)
    clock(timedelta(hours=2))
    await refuse(house, 3)
    assert not await is_paused(house)
    await refuse(house)
    assert await is_paused(house)


async def test_a_pause_ends_by_itself_and_its_strikes_are_used_up(clock: Callable[[timedelta], None]) -> None:
    house = strict_house()
    await refuse(house, 3)
    clock(timedelta(hours=1, minutes=59))
    assert await is_paused(house)
    clock(timedelta(minutes=2))
    await refuse(house, 2)
    assert not await is_paused(house)
    await refuse(house)
    assert await is_paused(house)


@pytest.mark.parametrize("text", ["haina-blocked-test-phrase", HANDED_OVER, "harmless"])
async def test_test_phrases_and_what_was_handed_over_never_count(text: str) -> None:
    house = strict_house(in_row=1, per_day=1)
    for _ in range(3):
        await house.ask(text)
    assert not await is_paused(house)


async def test_a_refused_question_between_that_does_not_count_breaks_no_row() -> None:
    house = strict_house()
    await refuse(house, 2)
    await house.ask(HANDED_OVER)
    await refuse(house)
    assert await is_paused(house)


async def test_a_filter_in_trouble_strikes_nobody() -> None:
    broken = ContentFilter(make_policy("broken"), detectors=[Broken()])
    house = make_house(content_filter=broken, limits=StrikeLimits(in_row=1, per_day=1))
    for _ in range(2):
        with pytest.raises(SafetyUnavailable):
            await house.ask("anything")
    assert not await is_paused(house)


def finding(category: str, action: Action) -> Finding:
    return Finding(category=category, rule="r", detector="d", action=action, start=0, end=1)


@pytest.mark.parametrize(
    ("stage", "findings", "is_degraded", "expected"),
    [
        (Stage.INPUT, [finding("hate", Action.REFUSE)], False, True),
        (Stage.INPUT, [finding("test", Action.REFUSE), finding("hate", Action.REFUSE)], False, True),
        (Stage.INPUT, [finding("test", Action.REFUSE), finding("hate", Action.FLAG)], False, False),
        (Stage.INPUT, [finding("hate", Action.REFUSE)], True, False),
        (Stage.INPUT, [finding("hate", Action.MASK)], False, False),
        (Stage.INPUT, [finding("self_harm", Action.HANDOFF), finding("hate", Action.REFUSE)], False, False),
        *((stage, [finding("hate", Action.REFUSE)], False, False) for stage in Stage if stage is not Stage.INPUT),
    ],
)
def test_only_a_question_that_the_policy_refused_counts(
    stage: Stage,
    findings: list[Finding],
    is_degraded: bool,  # noqa: FBT001 - a column
    expected: bool,  # noqa: FBT001 - as above
) -> None:
    action = max(one.action for one in findings)
    decision = Decision(
        id="d", stage=stage, action=action, policy="p", findings=tuple(findings), is_degraded=is_degraded
    )
    assert counts(decision) is expected


async def test_refused_answers_never_count() -> None:
    script = Script(default=f"I like {REFUSED}.")
    house = make_house(script=script, content_filter=FILTER, limits=StrikeLimits(in_row=1, per_day=1))
    answer = await house.answer(await house.ask("harmless"))
    assert answer.state is MessageState.BLOCKED
    assert not await is_paused(house)


async def test_without_limits_nothing_is_counted_and_no_pause_holds() -> None:
    house = make_house(content_filter=FILTER)
    await refuse(house, 9)
    assert not await is_paused(house)
    async with house.storage.read() as unit:
        assert await unit.strikes.counting(house.ann.id, since=now() - timedelta(days=1)) == []


async def test_admins_are_left_out() -> None:
    house = strict_house(in_row=1)
    root = replace(ROOT, id=new_id())
    for _ in range(3):
        await house.ask(REFUSED, account=root)
    await house.answer(await house.ask("harmless", account=root), account=root)


async def test_one_accounts_strikes_are_not_anothers() -> None:
    house = strict_house()
    await refuse(house, 3)
    await house.answer(await house.ask("harmless", account=house.bob), account=house.bob)


async def test_nothing_is_asked_while_paused_and_everything_can_be_read() -> None:
    house = strict_house()
    first = await house.ask("harmless")
    answer = await house.answer(first)
    decisions = await refuse(house, 3)
    program = ApiQuestion(messages=(ChatMessage(Role.USER, "harmless"),))
    for attempt in (
        house.chat.again(house.ann, answer.id),
        house.chat.go_on(house.ann, answer.id),
        house.chat.ask_for_program(house.ann, program),
    ):
        with pytest.raises(Suspended):
            await attempt
    assert (await house.desk.open(house.ann, first.conversation.id)).messages
    assert (await house.appeals.appeal(house.ann, decisions[0])).is_appealed


async def test_programs_count_for_their_account() -> None:
    house = strict_house()
    for _ in range(3):
        with pytest.raises(ContentBlocked):
            await house.chat.ask_for_program(house.ann, ApiQuestion(messages=(ChatMessage(Role.USER, REFUSED),)))
    with pytest.raises(Suspended):
        await house.ask("harmless")


async def test_a_refused_history_does_not_count() -> None:
    house = strict_house(in_row=1)
    messages = (ChatMessage(Role.USER, REFUSED), ChatMessage(Role.ASSISTANT, "no"), ChatMessage(Role.USER, "and now?"))
    with pytest.raises(ContentBlocked) as caught:
        await house.chat.ask_for_program(house.ann, ApiQuestion(messages=messages))
    assert not await is_paused(house)
    assert (await house.appeals.appeal(house.ann, str(caught.value.data["decision_id"]))).is_appealed


async def test_tabs_that_ask_at_once_count_one_after_the_other() -> None:
    house = strict_house()
    results = await asyncio.gather(*(house.ask(f"{n} {REFUSED}") for n in range(6)), return_exceptions=True)
    assert sum(isinstance(one, Suspended) for one in results) == 3
    async with house.storage.read() as unit:
        (suspension,) = await unit.strikes.suspended([house.ann.id], at=now())
        assert len(await unit.strikes.of_suspension(suspension.id)) == 3
        assert len(await unit.hits.page()) == 3


async def test_what_another_tab_paused_in_the_meantime_is_neither_saved_nor_answered() -> None:
    content_filter = Hesitant()
    house = make_house(content_filter=content_filter, limits=LIMITS)
    await refuse(house, 2)
    late = asyncio.create_task(house.ask("take your time"))
    await content_filter.is_asked.wait()
    await refuse(house)
    content_filter.may_go_on.set()
    with pytest.raises(Suspended):
        await late
    assert house.engine.requests == []
    assert house.turns.running() == []
    conversations, _ = await house.desk.page(house.ann)
    assert len(conversations) == 3


async def test_an_overturned_strike_ends_the_pause_and_the_others_count_on() -> None:
    house = strict_house()
    decisions = await refuse(house, 3)
    await overturn(house, decisions[1])
    assert not await is_paused(house)
    await refuse(house)
    assert await is_paused(house)


async def test_a_pause_that_stands_without_the_strike_stays() -> None:
    house = strict_house(in_row=2, per_day=3)
    decisions = await refuse(house, 1)
    await house.answer(await house.ask("harmless"))
    await refuse(house, 2)
    assert await is_paused(house)
    await overturn(house, decisions[0])
    assert await is_paused(house)


async def test_an_upheld_strike_counts_on() -> None:
    house = strict_house()
    decisions = await refuse(house, 3)
    await house.appeals.appeal(house.ann, decisions[0])
    await house.reviews.decide(ROOT, decisions[0], is_overturned=False)
    assert await is_paused(house)


async def test_a_strike_overturned_before_the_limit_counts_no_more() -> None:
    house = strict_house()
    (decision,) = await refuse(house)
    await overturn(house, decision)
    await refuse(house, 2)
    assert not await is_paused(house)


async def test_an_admin_ends_a_pause_once_and_it_is_written_down() -> None:
    house = strict_house()
    await refuse(house, 3)
    assert set(await house.strikes.paused(ROOT, [house.ann.id, house.bob.id])) == {house.ann.id}
    await house.strikes.lift(ROOT, "ANN ")
    assert not await is_paused(house)
    assert await house.strikes.paused(ROOT, [house.ann.id]) == {}
    await refuse(house, 2)
    assert not await is_paused(house)
    for name in ("ann", "nobody"):
        with pytest.raises(NotFound):
            await house.strikes.lift(ROOT, name)
    for attempt in (house.strikes.lift(house.bob, "ann"), house.strikes.paused(house.bob, [])):
        with pytest.raises(AccessDenied):
            await attempt
    async with house.storage.read() as unit:
        trail = [(one.actor_name, one.action) for one in await unit.audit.page(subject="ann")]
    assert trail == [("root", AuditAction.SUSPENSION_LIFTED), ("Haina", AuditAction.SUSPENSION_BEGAN)]


async def test_a_guest_is_paused_with_the_first_question_that_makes_them() -> None:
    house = strict_house(in_row=1)
    guest = replace(make_account("guest-1"), role=AccountRole.GUEST)
    await house.ask(REFUSED, account=guest)
    with pytest.raises(Suspended):
        await house.ask("harmless", account=guest)
