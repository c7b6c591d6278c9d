"""A turn with a guard model beside the filter: what is shown when, what is recorded, and that nothing stays behind."""

import asyncio

import pytest
from prometheus_client import generate_latest

from app.domain.errors import SafetyUnavailable
from app.domain.events import Released
from app.domain.generation import ChatMessage
from app.domain.models import MessageState, Role
from app.domain.verdicts import Action, Stage
from app.engines.scripted import Fault
from app.safety.filter import ContentFilter
from app.safety.guards.post import Post, Posts
from app.services.chat import ApiQuestion
from app.services.prompt_library import PromptLibrary
from tests.fakes.guards import (
    BROKEN,
    CONTROVERSIAL,
    DEAD,
    HANG,
    RUBBISH,
    UNSAFE,
    FakeGuard,
    guard_spec,
    guarded_policy,
)
from tests.fakes.house import House, make_house, released, rule

SENTENCE = "All the rivers run into the sea, yet the sea is not full. "


def guarded_house(*rules: object, guard: FakeGuard | None = None, **changes: object) -> tuple[House, FakeGuard]:
    guard = guard or FakeGuard()
    spec = guard_spec(**changes)
    posts = Posts()
    posts.add(Post(spec, guard))
    content_filter = ContentFilter(guarded_policy(spec), posts=posts)
    return make_house(*rules, content_filter=content_filter), guard  # type: ignore[arg-type]


def calls_left() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("guard-")]


async def metric(house: House, name: str) -> str:
    lines = generate_latest(house.answering._stats.registry).decode().splitlines()
    return next((line for line in lines if line.startswith(name)), "")


async def test_an_answer_passes_its_guard_window_by_window() -> None:
    house, guard = guarded_house(rule("rivers", SENTENCE * 5))
    asked = await house.ask("Where do the rivers run?")
    events = await house.events(asked.answer.id)
    assert released(events) == SENTENCE * 5
    assert sum(isinstance(event, Released) for event in events) > 2
    answers = [turns for turns in guard.asked if turns[-1].role is Role.ASSISTANT]
    assert answers[0][-2].text == "Where do the rivers run?"
    assert (await house.answer(asked)).state is MessageState.COMPLETE
    assert calls_left() == []


async def test_what_was_approved_is_shown_while_the_engine_is_silent() -> None:
    house, guard = guarded_house(rule("rivers", SENTENCE * 2, hang_after=len(SENTENCE.split()) + 4))
    asked = await house.ask("Where do the rivers run?")
    async with asyncio.timeout(10):
        async for batch in house.chat.read(house.ann, asked.answer.id):
            if SENTENCE in "".join(one.event.text for one in batch if isinstance(one.event, Released)):
                break
    assert guard.running == 0
    await house.chat.stop(house.ann, asked.answer.id)
    answer = await house.answer(asked)
    assert (answer.state, answer.text) == (MessageState.STOPPED, SENTENCE)
    assert house.engine.cancelled == [asked.answer.id]
    assert calls_left() == []


async def test_a_refused_window_closes_the_engine_at_once_and_ends_the_answer_once() -> None:
    house, _ = guarded_house(rule("rivers", f"{SENTENCE}Now {UNSAFE}, and so on. " + SENTENCE * 50))
    asked = await house.ask("Where do the rivers run?")
    answer = await house.answer(asked)
    assert (answer.state, answer.category, answer.text) == (MessageState.BLOCKED, "violence", SENTENCE)
    assert house.engine.cancelled == [asked.answer.id]
    assert house.engine.running == 0
    async with house.storage.read() as unit:
        (hit,) = await unit.hits.page()
    assert (hit.detector, hit.rule, hit.is_degraded) == ("guard", "guard:violent", False)
    assert await metric(house, "haina_cuts_total") == 'haina_cuts_total{category="violence",stage="output"} 1.0'


async def test_a_guard_that_is_silent_costs_an_answer_and_no_more() -> None:
    house, _ = guarded_house(rule("rivers", f"{SENTENCE}{HANG}. {SENTENCE * 2}", hang_after=40), window_budget_s=0.05)
    asked = await house.ask("Where do the rivers run?")
    answer = await house.answer(asked)
    assert (answer.state, answer.error_code, answer.text) == (MessageState.BLOCKED, SafetyUnavailable.code, SENTENCE)
    assert house.engine.running == 0
    assert calls_left() == []


async def test_a_guard_that_may_fail_lets_the_answer_go_on_and_a_hit_says_so() -> None:
    house, _ = guarded_house(rule("rivers", f"{SENTENCE}{RUBBISH}. {SENTENCE}"), on_error="degrade")
    asked = await house.ask("Where do the rivers run?")
    answer = await house.answer(asked)
    assert (answer.state, answer.text) == (MessageState.COMPLETE, f"{SENTENCE}{RUBBISH}. {SENTENCE}")
    async with house.storage.read() as unit:
        (hit,) = await unit.hits.page()
    assert (hit.rule, hit.action, hit.is_degraded) == ("unavailable:guard", Action.FLAG, True)


async def test_a_question_is_judged_with_the_rounds_before_it() -> None:
    house, guard = guarded_house(rule("first", "one"), rule("second", "two"))
    first = await house.ask("first")
    await house.answer(first)
    guard.asked.clear()
    second = await house.ask("second", conversation_id=first.conversation.id)
    assert [turn.text for turn in guard.asked[0]] == ["first", "one", "second"]
    await house.answer(second)
    assert [turn.text for turn in guard.asked[-1]] == ["first", "one", "second", "two"]


async def test_a_question_that_a_guard_refuses_never_reaches_the_model() -> None:
    house, _ = guarded_house()
    asked = await house.ask(f"tell me of {UNSAFE}")
    assert (asked.question.state, asked.question.text, asked.question.category) == (
        MessageState.BLOCKED,
        "",
        "violence",
    )
    assert house.engine.requests == []


async def test_a_question_that_no_guard_can_judge_is_not_asked_and_not_saved() -> None:
    house, _ = guarded_house()
    for trigger in (DEAD, BROKEN):
        with pytest.raises(SafetyUnavailable):
            await house.ask(trigger)
    assert house.engine.requests == []
    async with house.storage.read() as unit:
        assert await unit.conversations.page(house.ann.id) == []
    asked = await house.ask("rivers")
    await house.answer(asked)


async def test_an_answer_that_goes_on_is_judged_with_its_question_and_beginning() -> None:
    house, guard = guarded_house(rule("rivers", SENTENCE * 3, fault=Fault.DIED, fault_after=20))
    asked = await house.ask("rivers")
    broken = await house.answer(asked)
    assert broken.state is MessageState.FAILED
    assert broken.text == SENTENCE
    guard.asked.clear()
    again = await house.chat.go_on(house.ann, broken.id)
    await house.answer(again)
    assert [turn.role for turn in guard.asked[0]] == [Role.USER], "the question, once more"
    assert [turn.role for turn in guard.asked[1]] == [Role.USER, Role.ASSISTANT]
    assert guard.asked[1][-1].text.startswith(SENTENCE)
    assert len(guard.asked[1][-1].text) > len(SENTENCE)


async def test_a_program_s_history_is_context_and_is_judged_itself_where_the_policy_says_so() -> None:
    messages = (
        ChatMessage(Role.USER, "one"),
        ChatMessage(Role.ASSISTANT, CONTROVERSIAL),
        ChatMessage(Role.USER, "three"),
    )
    for stages, count in ((frozenset({Stage.INPUT}), 1), (frozenset({Stage.INPUT, Stage.HISTORY}), 3)):
        house, guard = guarded_house(stages=stages)
        asked = await house.chat.ask_for_program(house.ann, ApiQuestion(messages=messages))
        await house.answer(asked)
        assert len(guard.asked) == count
        assert [turn.text for turn in guard.asked[-1]] == ["one", CONTROVERSIAL, "three"]


async def test_a_server_that_stops_leaves_no_call_behind() -> None:
    house, guard = guarded_house(rule("rivers", f"{HANG} {SENTENCE}", hang_after=40), window_budget_s=60)
    asked = await house.ask("rivers")
    while not guard.running:  # noqa: ASYNC110 - the loop's turns are what is waited for
        await asyncio.sleep(0)
    await house.answering.close()
    assert (await house.answer(asked)).state is MessageState.INTERRUPTED
    assert (guard.running, calls_left()) == (0, [])


async def test_the_templates_of_the_program_are_there_also_while_the_guard_is_not() -> None:
    guard = FakeGuard()
    house, _ = guarded_house(guard=guard)
    prompts = PromptLibrary(house.storage, filters=house.chat._filters)
    assert await prompts.import_built_in() > 10
    assert guard.asked == []
