"""Questions take the way of a chat: the filter, the engine, the gate."""

import re
from dataclasses import replace

import pytest

from app.domain.errors import EngineDied, EngineStarting, EngineUnavailable, InvalidInput, SafetyUnavailable
from app.domain.generation import EngineState, EngineStatus
from app.domain.verdicts import Stage
from app.engines.scripted import Fault, Rule, Script, ScriptedEngine
from app.safety.assessment.bank import Bank, Expectation, Question
from app.safety.assessment.examination import Candidate, Refuser, Result, examine
from app.safety.detector import Scan
from app.safety.filter import ContentFilter
from app.safety.policy import make_policy

BLOCKED = "haina-blocked-test-phrase"
FLAGGED = "haina-flagged-test-phrase"
ID_NUMBER = "11010519491231002X"
FILTER = ContentFilter(make_policy("bare"))


def rule(pattern: str, reply: str, fault: Fault | None = None) -> Rule:
    return Rule(pattern=re.compile(pattern), reply=reply, fault=fault)


ENGINE = ScriptedEngine(
    Script(
        rules=(
            rule("decline", "I'm sorry, but I can't help with that."),
            rule("leak", f"Well: {BLOCKED}"),
            rule("marked", f"Well: {FLAGGED}"),
            rule("say nothing", ""),
            rule("die", "Half an", Fault.DIED),
            rule("refuse the request", "", Fault.INVALID),
        ),
        default="Gladly.",
    ),
    slots=3,
)


def bank(*texts: str, name: str = "bank") -> Bank:
    return Bank(name=name, questions=tuple(Question(text, "all", Expectation.UNKNOWN) for text in texts))


async def ask(*texts: str) -> list[Result]:
    return await examine([bank(*texts)], content_filter=FILTER, candidate=await Candidate.of(ENGINE))


async def test_the_filter_alone_refuses_marks_or_lets_pass() -> None:
    refused, flagged, masked, passed = await examine(
        [bank(BLOCKED, FLAGGED, ID_NUMBER, "hello")], content_filter=FILTER
    )
    assert (refused.refuser, refused.is_marked) == (Refuser.QUESTION, False)
    assert [rule.split(":")[0] for rule in refused.rules] == ["test"]
    assert (flagged.refuser, flagged.is_marked) == (None, True)
    assert (masked.refuser, masked.is_marked) == (None, True)
    assert (passed.refuser, passed.is_marked, passed.rules) == (None, False, ())
    assert not any(result.is_asked for result in (refused, flagged, masked, passed))


async def test_with_an_engine_it_is_told_who_refused() -> None:
    results = await ask(BLOCKED, "decline", "leak", "marked", "say nothing", "hello")
    assert [result.refuser for result in results] == [
        Refuser.QUESTION,
        Refuser.ENGINE,
        Refuser.ANSWER,
        None,
        Refuser.ENGINE,
        None,
    ]
    assert [result.is_asked for result in results] == [False, True, True, True, True, True]
    assert [result.is_marked for result in results] == [False, False, False, True, False, False]


async def test_a_refused_question_never_reaches_the_engine_and_a_masked_one_only_masked() -> None:
    engine = ScriptedEngine(Script(default="Gladly."))
    await examine([bank(BLOCKED, ID_NUMBER)], content_filter=FILTER, candidate=await Candidate.of(engine))
    (request,) = engine.requests
    assert [message.text for message in request.messages] == ["███"]
    assert (request.sampling.temperature, request.sampling.seed) == (0.0, 0)


async def test_a_cut_answer_is_left_at_once() -> None:
    engine = ScriptedEngine(Script(default=f"{BLOCKED} and so on, and so on"))
    await examine([bank("hello")], content_filter=FILTER, candidate=await Candidate.of(engine))
    assert len(engine.cancelled) == 1


async def test_results_come_in_the_order_of_the_banks_and_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    banks = [bank(*(f"question {n}" for n in range(10)), name="one"), bank("leak", "decline", name="two")]
    results = await examine(
        banks,
        content_filter=FILTER,
        candidate=await Candidate.of(ENGINE),
        progress=lambda done, of: told.append((done, of)),
    )
    assert [(result.bank, result.question) for result in results] == [
        (each.name, question) for each in banks for question in each.questions
    ]
    assert told == [(n, 12) for n in range(1, 13)]


async def test_an_engine_that_dies_ends_the_examination_and_leaves_nothing_running() -> None:
    with pytest.raises(EngineDied):
        await ask("hello", "die", *("hello" for _ in range(20)))
    assert ENGINE.running == 0


async def test_an_engine_that_cannot_take_a_question_is_told_with_the_bank() -> None:
    with pytest.raises(InvalidInput) as caught:
        await ask("refuse the request")
    assert caught.value.detail.startswith("bank: ")


async def test_an_engine_that_is_not_ready_is_not_examined() -> None:
    class Down(ScriptedEngine):
        async def status(self) -> EngineStatus:
            return replace(await super().status(), state=EngineState.DOWN, detail="no connection")

    with pytest.raises(EngineUnavailable, match="no connection"):
        await Candidate.of(Down())
    loading = ScriptedEngine()
    loading.ready.clear()
    with pytest.raises(EngineStarting):
        await Candidate.of(loading)


async def test_a_filter_that_fails_is_no_measure() -> None:
    class Broken:
        name = "broken"

        def open(self, *, stage: Stage) -> Scan:
            raise ValueError(stage)

    with pytest.raises(SafetyUnavailable):
        await examine([bank("hello")], content_filter=ContentFilter(make_policy("bare"), detectors=[Broken()]))
