"""Appeals and reviews: who may ask, once, and what the reviewer's word does."""

import asyncio
import tomllib
from dataclasses import replace

import pytest

from app.domain.errors import (
    AccessDenied,
    Conflict,
    ContentBlocked,
    InvalidInput,
    NotFound,
    QuotaExceeded,
    SafetyUnavailable,
)
from app.domain.generation import ChatMessage
from app.domain.models import Account, AccountRole, AuditAction, Hit, MessageState, ReviewState, Role, now
from app.domain.verdicts import Action, Stage
from app.domain.words import LANGUAGES, describe
from app.engines.scripted import Script
from app.safety.filter import ContentFilter
from app.safety.policy import PhraseList, Rule, make_policy
from app.services.appeals import MAX_COMMENT, MAX_OPEN
from app.services.chat import ApiQuestion
from app.services.reviews import allow_line
from tests.fakes.filters import OneFilter
from tests.fakes.house import House, make_house
from tests.fakes.sweets import FLAGGED, HANDED_OVER, REFUSED, sweets

FILTER = sweets()
ROOT = Account(id="root", name="root", role=AccountRole.ADMIN, created_at=now())
ID_NUMBER = "11010519491231002X"


@pytest.fixture
def house() -> House:
    return make_house(content_filter=FILTER)


async def refused(house: House, text: str = REFUSED) -> str:
    """Ask what is refused; return the decision."""
    return str((await house.ask(text)).question.error_data["decision_id"])


async def test_a_refused_question_can_be_appealed_and_the_outcome_is_read_with_the_thread(house: House) -> None:
    asked = await house.ask(REFUSED)
    decision = str(asked.question.error_data["decision_id"])
    review = await house.appeals.appeal(house.ann, decision, comment="  It was about\r\na recipe. ")
    assert (review.state, review.comment, review.account_name) == (ReviewState.OPEN, "It was about\na recipe.", "ann")
    assert await house.appeals.get(house.ann, decision) == review
    await house.reviews.decide(ROOT, decision, is_overturned=True, note="You are right.")
    thread = await house.desk.open(house.ann, asked.conversation.id)
    told = thread.reviews[decision]
    assert (told.state, told.note, told.decided_by) == (ReviewState.OVERTURNED, "You are right.", "root")


async def test_a_refused_answer_can_be_appealed() -> None:
    house = make_house(script=Script(default=f"I like {REFUSED} a lot."), content_filter=FILTER)
    answer = await house.answer(await house.ask("harmless"))
    assert answer.state is MessageState.BLOCKED
    assert (await house.appeals.appeal(house.ann, str(answer.error_data["decision_id"]))).is_appealed


async def test_whose_text_it_was_not_may_not_even_know_of_it(house: House) -> None:
    decision = await refused(house)
    for attempt in (
        house.appeals.appeal(house.bob, decision),
        house.appeals.get(house.bob, decision),
        house.appeals.appeal(house.ann, "unknown"),
        house.appeals.get(house.ann, decision),  # nobody has appealed yet
    ):
        with pytest.raises(NotFound):
            await attempt


async def test_a_decision_is_appealed_once_also_by_two_tabs_at_once(house: House) -> None:
    decision = await refused(house)
    async with house.storage.write():  # all have looked before any of them writes
        tabs = [asyncio.create_task(house.appeals.appeal(house.ann, decision)) for _ in range(3)]
        for _ in range(10):
            await asyncio.sleep(0)
    results = await asyncio.gather(*tabs, return_exceptions=True)
    assert sum(isinstance(one, Conflict) for one in results) == 2
    with pytest.raises(Conflict) as caught:
        await house.appeals.appeal(house.ann, decision)
    assert caught.value.data == {"kind": "appealed"}
    await house.reviews.decide(ROOT, decision, is_overturned=False)
    with pytest.raises(Conflict):
        await house.appeals.appeal(house.ann, decision)


async def test_what_was_not_refused_cannot_be_appealed(house: House) -> None:
    asked = await house.ask(FLAGGED)
    await house.answer(asked)
    async with house.storage.read() as unit:
        (hit,) = await unit.hits.page()
    with pytest.raises(Conflict) as caught:
        await house.appeals.appeal(house.ann, hit.decision_id)
    assert caught.value.data == {"kind": "not_refused"}


async def test_a_failure_of_the_filter_is_no_judgement(house: House) -> None:
    decision = await refused(house)
    async with house.storage.write() as unit:
        (hit,) = await unit.hits.of_decision(decision)
        await unit.hits.add(replace(hit, id="x", decision_id="failure", is_degraded=True))
        await unit.commit()
    with pytest.raises(Conflict) as caught:
        await house.appeals.appeal(house.ann, "failure")
    assert caught.value.data == {"kind": "not_judged"}


async def test_a_rule_on_trial_refused_nothing(house: House) -> None:
    decision = await refused(house)
    async with house.storage.write() as unit:
        (hit,) = await unit.hits.of_decision(decision)
        await unit.hits.add(replace(hit, id="x", decision_id="trial", is_shadow=True))
        await unit.commit()
    with pytest.raises(NotFound):
        await house.appeals.appeal(house.ann, "trial")


async def test_a_comment_passes_the_filter_like_a_question() -> None:
    house = make_house()
    decision = await refused(house, "haina-blocked-test-phrase")
    with pytest.raises(ContentBlocked) as caught:
        await house.appeals.appeal(house.ann, decision, comment="I only said haina-blocked-test-phrase")
    assert all("test" in describe(caught.value, "en") and describe(caught.value, one) for one in LANGUAGES)
    async with house.storage.read() as unit:
        assert await unit.reviews.get(decision) is None
        assert len(await unit.hits.of_decision(str(caught.value.data["decision_id"]))) == 1
    review = await house.appeals.appeal(house.ann, decision, comment=f"my number is {ID_NUMBER}")
    assert ID_NUMBER not in review.comment
    assert review.comment.startswith("my number is ")


async def test_a_comment_is_of_a_certain_length(house: House) -> None:
    decision = await refused(house)
    with pytest.raises(InvalidInput) as caught:
        await house.appeals.appeal(house.ann, decision, comment="x" * (MAX_COMMENT + 1))
    assert "1,000" in describe(caught.value, "zh")
    assert (await house.appeals.appeal(house.ann, decision, comment="x" * MAX_COMMENT)).comment


async def test_a_filter_in_trouble_takes_no_comment() -> None:
    house = make_house(content_filter=FILTER)
    decision = await refused(house)

    class Broken:
        name = "broken"

        def open(self, *, stage: Stage) -> object:
            raise RuntimeError(stage)

    house.appeals._filters = OneFilter(
        ContentFilter(make_policy("broken"), detectors=[Broken()])  # type: ignore[list-item]
    )
    with pytest.raises(SafetyUnavailable):
        await house.appeals.appeal(house.ann, decision, comment="because")
    assert (await house.appeals.appeal(house.ann, decision)).comment == ""


async def test_so_many_appeals_may_wait_and_no_more(house: House) -> None:
    decisions = [await refused(house) for _ in range(MAX_OPEN + 1)]
    for decision in decisions[:-1]:
        await house.appeals.appeal(house.ann, decision)
    with pytest.raises(QuotaExceeded) as caught:
        await house.appeals.appeal(house.ann, decisions[-1])
    assert all(str(MAX_OPEN) in describe(caught.value, language) for language in LANGUAGES)
    await house.reviews.decide(ROOT, decisions[0], is_overturned=False)
    await house.appeals.appeal(house.ann, decisions[-1])


# The queue


async def test_what_is_handed_over_waits_in_the_queue_and_an_appeal_opens_it_again(house: House) -> None:
    decision = await refused(house, HANDED_OVER)
    (waiting,) = await house.reviews.page(ROOT)
    assert (waiting.decision_id, waiting.is_handoff, waiting.is_appealed) == (decision, True, False)
    assert waiting.account_name == "ann"
    with pytest.raises(NotFound):
        await house.appeals.get(house.ann, decision)
    await house.reviews.decide(ROOT, decision, is_overturned=False)
    again = await house.appeals.appeal(house.ann, decision, comment="please")
    assert (again.state, again.is_handoff, again.is_appealed, again.comment) == (ReviewState.OPEN, True, True, "please")


async def test_an_answer_that_is_handed_over_waits_too() -> None:
    house = make_house(script=Script(default=f"{HANDED_OVER}!"), content_filter=FILTER)
    await house.answer(await house.ask("harmless"))
    (waiting,) = await house.reviews.page(ROOT, state=ReviewState.OPEN)
    assert (waiting.is_handoff, waiting.account_name) == (True, "ann")


async def test_a_review_is_decided_once_and_each_step_is_written_down(house: House) -> None:
    decision = await refused(house)
    with pytest.raises(NotFound):
        await house.reviews.decide(ROOT, decision, is_overturned=True)  # nobody asked
    await house.appeals.appeal(house.ann, decision)
    await house.reviews.decide(ROOT, decision, is_overturned=True)
    with pytest.raises(Conflict) as caught:
        await house.reviews.decide(ROOT, decision, is_overturned=False)
    assert caught.value.data == {"kind": "decided"}
    dossier = await house.reviews.open(ROOT, decision)
    assert [(one.action, one.actor_name) for one in dossier.trail] == [
        (AuditAction.REVIEW_OVERTURNED, "root"),
        (AuditAction.REVIEW_APPEALED, "ann"),
    ]
    assert [hit.category for hit in dossier.hits] == ["sweets"]
    assert not dossier.has_evidence
    assert dossier.strike is None


async def test_a_note_passes_the_filter_like_an_answer(house: House) -> None:
    decision = await refused(house)
    await house.appeals.appeal(house.ann, decision)
    with pytest.raises(ContentBlocked):
        await house.reviews.decide(ROOT, decision, is_overturned=True, note=f"{REFUSED} is fine")
    with pytest.raises(InvalidInput):
        await house.reviews.decide(ROOT, decision, is_overturned=True, note="x" * 1001)
    assert (await house.reviews.open(ROOT, decision)).review == await house.appeals.get(house.ann, decision)
    review = await house.reviews.decide(ROOT, decision, is_overturned=True, note=" fine ")
    assert review.note == "fine"


async def test_the_queue_is_for_admins(house: House) -> None:
    decision = await refused(house)
    for attempt in (
        house.reviews.page(house.ann),
        house.reviews.hits_of(house.ann, []),
        house.reviews.open(house.ann, decision),
        house.reviews.decide(house.ann, decision, is_overturned=True),
    ):
        with pytest.raises(AccessDenied):
            await attempt


async def test_a_decision_that_is_unknown_is_not_opened(house: House) -> None:
    with pytest.raises(NotFound):
        await house.reviews.open(ROOT, "unknown")


# What a program is told


async def test_a_program_is_told_the_decision_of_its_refused_question_and_of_a_refused_answer() -> None:
    house = make_house(script=Script(default=REFUSED), content_filter=FILTER)
    with pytest.raises(ContentBlocked) as caught:
        await house.chat.ask_for_program(house.ann, ApiQuestion(messages=(ChatMessage(Role.USER, REFUSED),)))
    assert (await house.appeals.appeal(house.ann, str(caught.value.data["decision_id"]))).is_appealed
    asked = await house.chat.ask_for_program(house.ann, ApiQuestion(messages=(ChatMessage(Role.USER, "hello"),)))
    answer = await house.answer(asked)
    assert (await house.appeals.appeal(house.ann, str(answer.error_data["decision_id"]))).is_appealed


async def test_a_refused_title_and_a_refused_blank_of_a_template_can_be_appealed() -> None:
    house = make_house(content_filter=FILTER)
    asked = await house.ask("harmless")
    await house.answer(asked)
    with pytest.raises(ContentBlocked) as caught:
        await house.desk.rename(house.ann, asked.conversation.id, title=REFUSED)
    assert (await house.appeals.appeal(house.ann, str(caught.value.data["decision_id"]))).is_appealed


# The proposal


def hit_at(start: int, end: int, *, action: Action = Action.REFUSE) -> Hit:
    return Hit(
        id="h", decision_id="d", created_at=now(), stage=Stage.INPUT, action=action, category="c", rule="r",
        detector="phrases", policy="p", start=start, end=end,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "phrase", "expected"),
    [
        ("过了路口交通很堵", "口交", 'allow = ["了路口交通很"]'),
        ("路口交通", "口交", 'allow = ["路口交通"]'),
        ("how to kill a process now", "kill", 'allow = ["to kill a"]'),
        ("kill", "kill", ""),
        ("。口交！", "口交", ""),
        ('say "kill it"', "kill", 'allow = ["kill it"]'),
        ("先用 kill 命令", "kill", 'allow = ["先用 kill 命令"]'),
    ],
)
def test_an_allow_phrase_is_what_was_found_with_its_neighbours(text: str, phrase: str, expected: str) -> None:
    start = text.index(phrase)
    assert allow_line(text, [hit_at(start, start + len(phrase))]) == expected


def test_only_what_was_refused_and_lies_in_the_text_is_proposed() -> None:
    assert allow_line("one two three", [hit_at(4, 7, action=Action.FLAG)]) == ""
    assert allow_line("one two three", [hit_at(104, 107)], start=100) == 'allow = ["one two three"]'
    assert allow_line("one two three", [hit_at(4, 7)], start=100) == ""
    assert allow_line("one two three", [hit_at(4, 7), hit_at(4, 7)]) == 'allow = ["one two three"]'


@pytest.mark.parametrize("text", ["过了路口交通很堵", "请问 how to buy toffee today", "buy toffee"])
async def test_with_the_proposed_line_the_text_passes_and_the_phrase_alone_does_not(text: str) -> None:
    def content_filter(*allowed: str) -> ContentFilter:
        phrases = PhraseList(
            name="own", category="own", language="any", phrases=("口交", "toffee"), allowed=tuple(allowed)
        )
        rule = Rule(category="own", stages=frozenset(Stage), action=Action.REFUSE)
        return ContentFilter(make_policy("own", rules=[rule], lists=[phrases]))

    checked = await content_filter().check(text, stage=Stage.INPUT)
    (finding,) = checked.decision.findings
    line = allow_line(checked.heard.unsealed(), [hit_at(finding.start, finding.end)])
    allowing = content_filter(*tomllib.loads(line)["allow"])
    assert (await allowing.check(text, stage=Stage.INPUT)).text == text
    assert (await allowing.check("toffee", stage=Stage.INPUT)).text is None
    assert (await allowing.check("口交", stage=Stage.INPUT)).text is None
