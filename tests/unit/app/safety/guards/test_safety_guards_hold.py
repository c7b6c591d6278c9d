"""A stream past its guards: what is shown, and why, depends on the text and the verdicts, and on nothing else."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.generation import ChatMessage
from app.domain.models import Role
from app.domain.verdicts import Action, Cut, GateEvent, Masked, ReleasedText, Stage
from app.safety.filter import ContentFilter
from app.safety.gate import StreamGate
from app.safety.guards.spec import GuardSpec
from app.safety.guards.windows import Windows
from app.safety.normalise import MASK
from app.safety.personal_data import TEST_NUMBER
from app.safety.policy import PhraseList, Rule
from tests.fakes.guards import (
    CONTROVERSIAL,
    DEAD,
    HANG,
    RUBBISH,
    UNSAFE,
    FakeGuard,
    guard_spec,
    guarded_policy,
    posts_of,
)
from tests.fakes.invariants import invariant

_BLOCKED = "haina-blocked-test-phrase"
_FLAGGED = "haina-flagged-test-phrase"
_prose = st.text(alphabet="海纳百川有容乃大，。！?; \n.ab█", min_size=1, max_size=60)
_planted = st.sampled_from([UNSAFE, CONTROVERSIAL, _FLAGGED, _BLOCKED, TEST_NUMBER])
texts = st.lists(st.one_of(_prose, _prose, _prose, _planted), max_size=14).map("".join)
DETECTORS = ContentFilter(guarded_policy(guard_spec(stages=frozenset()))).detectors(stage=Stage.OUTPUT)
"""Made once: what the filters of these tests have in common."""
_MASKS = Rule(category="personal_data", stages=frozenset(Stage), action=Action.MASK)


def shown(events: Sequence[GateEvent]) -> str:
    return "".join(event.text for event in events if not isinstance(event, Cut))


def outcome(gate: StreamGate, events: Sequence[GateEvent]) -> object:
    cuts = [event.decision for event in events if isinstance(event, Cut)]
    masks = [event.finding for event in events if isinstance(event, Masked)]
    said = [(d.action, d.findings, d.category, d.is_degraded, d.unguarded_by) for d in (*cuts, *gate.decisions)]
    return shown(events), masks, said, len(cuts)


async def pause() -> None:
    await asyncio.sleep(0)


async def stream(
    gate: StreamGate, pieces: Sequence[str], *, between: Callable[[], Awaitable[None]] = pause
) -> list[GateEvent]:
    """Feed as a turn does: stop where the gate is over, and take what comes while nothing is fed."""
    events: list[GateEvent] = []
    for piece in pieces:
        if gate.is_over:
            break
        events += await gate.feed(piece)
        await between()
        events += gate.take()
    return [*events, *await gate.finish()]


def cut_up(text: str, choose: random.Random) -> list[str]:
    pieces = []
    while text:
        n = choose.choice((1, 1, 2, 3, 5, 8, 40, 400))
        pieces.append(text[:n])
        text = text[n:]
    return pieces


def two_guards(choose: random.Random) -> tuple[ContentFilter, FakeGuard, FakeGuard]:
    one, two = guard_spec(), guard_spec(name="second", categories=(("Violent", "doubtful"),))
    rules = [_MASKS, Rule(category="doubtful", stages=frozenset(Stage), action=Action.FLAG, threshold=0.3)]
    first, second = (FakeGuard(latency=lambda: choose.choice((0, 0, 1, 3, 9))) for _ in range(2))
    policy = guarded_policy(one, two, rules=rules)
    posts = posts_of((one, first), (two, second))
    return ContentFilter(policy, detectors=DETECTORS, posts=posts), first, second


@invariant
@given(text=texts, choose=st.integers(0, 1 << 30).map(random.Random))
def test_neither_the_cut_of_a_stream_nor_the_pace_of_its_guards_changes_what_is_shown_and_decided(
    text: str, choose: random.Random
) -> None:
    async def run() -> None:
        outcomes = []
        for pieces in ([text], list(text), cut_up(text, choose), ["", *cut_up(text, choose), ""]):
            content_filter, first, second = two_guards(choose)
            gate = content_filter.open(stage=Stage.OUTPUT)
            outcomes.append(outcome(gate, await stream(gate, pieces)))
            await gate.close()
            assert max(first.most_running, second.most_running) <= 1
            assert (first.running, second.running) == (0, 0)
        assert all(one == outcomes[0] for one in outcomes)
        content_filter, _, _ = two_guards(choose)
        checked = await content_filter.check(text, stage=Stage.OUTPUT)
        assert checked.text in {None, outcomes[0][0]}  # type: ignore[index]
        assert (checked.text is None) is bool(outcomes[0][3])  # type: ignore[index]

    asyncio.run(run())


@invariant
@given(text=texts, choose=st.integers(0, 1 << 30).map(random.Random))
def test_nothing_is_shown_beyond_the_last_window_that_every_guard_let_pass(text: str, choose: random.Random) -> None:
    async def run() -> None:
        content_filter, first, second = two_guards(choose)
        gate = content_filter.open(stage=Stage.OUTPUT)
        out = ""
        for piece in cut_up(text, choose):
            if gate.is_over:
                break
            out += shown([*await gate.feed(piece), *gate.take()])
            for guard in (first, second):
                judged = guard.asked[: len(guard.asked) - guard.running]
                assert out == "" or any(out[-50:] in turns[-1].text for turns in judged)
                assert UNSAFE not in out
            await pause()
        await gate.close()

    asyncio.run(run())


@invariant
@given(
    text=texts,
    choose=st.integers(0, 1 << 30).map(random.Random),
    dies_after=st.integers(0, 6),
    mode=st.sampled_from(["strict", "fast"]),
)
def test_where_a_guard_dies_in_the_middle_the_stream_is_cut_and_shows_the_beginning_of_a_sound_run(
    text: str, choose: random.Random, dies_after: int, mode: str
) -> None:
    async def run(limit: int | None) -> tuple[StreamGate, list[GateEvent], FakeGuard]:
        guard = FakeGuard(latency=lambda: choose.choice((0, 1, 4)), dies_after=limit)
        content_filter = one_guard(guard, mode=mode)
        gate = content_filter.open(stage=Stage.OUTPUT)
        return gate, await stream(gate, cut_up(text, choose)), guard

    _, healthy, asked = asyncio.run(run(None))
    gate, failed, _ = asyncio.run(run(dies_after))
    cuts = [place for place, event in enumerate(failed) if isinstance(event, Cut)]
    assert cuts in ([], [len(failed) - 1])
    assert list(asyncio.run(gate.feed("more"))) == []
    assert cuts or not any(isinstance(event, Cut) for event in healthy)
    if mode == "strict":
        assert shown(healthy).startswith(shown(failed))
    if len(asked.asked) > dies_after and not any(isinstance(event, Cut) for event in healthy):
        assert isinstance(failed[-1], Cut)
        assert failed[-1].decision.is_degraded
        assert failed[-1].decision.category == "unavailable"


@invariant
@given(text=texts, choose=st.integers(0, 1 << 30).map(random.Random))
def test_without_a_verdict_that_matters_the_text_comes_out_as_it_would_without_guards(
    text: str, choose: random.Random
) -> None:
    async def run() -> None:
        for mode in ("strict", "fast"):
            guarded, alone = one_guard(FakeGuard(), mode=mode), one_guard(FakeGuard(), stages=frozenset())
            calm = text.replace(UNSAFE, "x").replace(CONTROVERSIAL, "y").replace(_BLOCKED, "z")
            first, second = guarded.open(stage=Stage.OUTPUT), alone.open(stage=Stage.OUTPUT)
            pieces = cut_up(calm, choose)
            assert outcome(first, await stream(first, pieces)) == outcome(second, await stream(second, pieces))

    asyncio.run(run())


def one_guard(guard: FakeGuard, **changes: object) -> ContentFilter:
    spec = guard_spec(**changes)
    policy = guarded_policy(spec, rules=[_MASKS])
    return ContentFilter(policy, detectors=DETECTORS, posts=posts_of((spec, guard)))


SENTENCE = "All the rivers run into the sea, yet the sea is not full. "


async def test_the_first_window_is_shown_before_the_second_is_written() -> None:
    gate = one_guard(FakeGuard()).open(stage=Stage.OUTPUT)
    assert shown(await gate.feed(SENTENCE)) == ""
    awaited = gate.awaited
    assert awaited is not None
    await awaited
    assert shown(gate.take()) == SENTENCE
    assert gate.awaited is None


async def test_the_end_of_a_text_comes_out_window_by_window() -> None:
    gate = one_guard(FakeGuard(latency=lambda: 3)).open(stage=Stage.OUTPUT)
    await gate.feed(SENTENCE * 8)
    batches = [shown(events) async for events in gate.rest()]
    assert "".join(batches) == SENTENCE * 8
    assert len(batches) > 3


async def test_a_refusal_cancels_nothing_that_was_shown_and_everything_that_was_not() -> None:
    guard = FakeGuard()
    gate = one_guard(guard).open(stage=Stage.OUTPUT)
    events = await stream(gate, [SENTENCE, SENTENCE, f"Now {UNSAFE}, and so on. ", SENTENCE])
    assert shown(events) == SENTENCE * 2
    (cut,) = [event for event in events if isinstance(event, Cut)]
    (finding,) = cut.decision.findings
    assert (finding.category, finding.rule, finding.detector) == ("violence", "guard:violent", "guard")
    assert finding.start == len(SENTENCE * 2)
    assert not cut.decision.is_degraded


async def test_what_another_detector_refuses_no_guard_hears_of() -> None:
    guard = FakeGuard()
    gate = one_guard(guard).open(stage=Stage.OUTPUT)
    events = await stream(gate, [SENTENCE, f"then {_BLOCKED} {UNSAFE}"])
    assert shown(events) == SENTENCE
    assert isinstance(events[-1], Cut)
    assert events[-1].decision.category == "test"
    assert all(_BLOCKED not in turns[-1].text for turns in guard.asked)
    assert len(guard.asked) == 1


async def test_a_guard_is_shown_what_a_reader_would_see() -> None:
    guard = FakeGuard()
    content_filter = one_guard(guard)
    checked = await content_filter.check(f"my number is {TEST_NUMBER}, is it not?", stage=Stage.INPUT)
    assert checked.text == f"my number is {MASK}, is it not?"
    assert guard.asked[0][-1].text == checked.text


async def test_places_of_findings_are_those_of_the_text_before_masks_were_put_in() -> None:
    gate = one_guard(FakeGuard()).open(stage=Stage.OUTPUT)
    first = f"My number is {TEST_NUMBER}, as you know it. "
    events = await stream(gate, [first, f"And {CONTROVERSIAL} as well, my dear friend. "])
    assert len(shown(events)) < len(first) + 40
    (decision,) = gate.decisions
    flag = next(finding for finding in decision.findings if finding.category == "violence")
    assert flag.start == len(first)


async def test_a_guard_flags_what_a_policy_masks_for_it_cannot_say_where() -> None:
    rules = [Rule(category="secret", stages=frozenset(Stage), action=Action.MASK)]
    lists = [PhraseList(name="own", category="secret", language="any", phrases=("blue river",))]
    spec = guard_spec(categories=(("Violent", "secret"),))
    content_filter = ContentFilter(guarded_policy(spec, rules=rules, lists=lists), posts=posts_of((spec, FakeGuard())))
    checked = await content_filter.check(f"a blue river {UNSAFE}", stage=Stage.OUTPUT)
    assert checked.text == f"a {MASK} {UNSAFE}"
    assert [(one.detector, one.action) for one in checked.decision.findings] == [
        ("guard", Action.FLAG),
        ("phrases", Action.MASK),
    ]


async def test_what_is_found_in_each_window_is_told_once() -> None:
    gate = one_guard(FakeGuard()).open(stage=Stage.OUTPUT)
    await stream(gate, [f"{CONTROVERSIAL}. ", SENTENCE * 6])
    (decision,) = gate.decisions
    assert [finding.action for finding in decision.findings] == [Action.FLAG]


async def test_with_degrade_the_text_goes_on_and_the_decision_says_so() -> None:
    gate = one_guard(FakeGuard(), on_error="degrade").open(stage=Stage.OUTPUT)
    events = await stream(gate, [SENTENCE, f"{RUBBISH}. ", SENTENCE])
    assert shown(events) == f"{SENTENCE}{RUBBISH}. {SENTENCE}"
    (decision,) = gate.decisions
    assert decision.unguarded_by == ("guard",)
    assert (decision.action, decision.is_degraded, decision.findings) == (Action.ALLOW, False, ())


@pytest.mark.parametrize("trigger", [RUBBISH, DEAD, HANG])
async def test_a_guard_that_cannot_judge_ends_the_text(trigger: str) -> None:
    gate = one_guard(FakeGuard(), window_budget_s=0.01).open(stage=Stage.OUTPUT)
    events = await stream(gate, [SENTENCE, f"{trigger}. ", SENTENCE])
    assert shown(events) == SENTENCE
    assert isinstance(events[-1], Cut)
    (finding,) = events[-1].decision.findings
    assert (finding.rule, finding.start, events[-1].decision.is_degraded) == ("unavailable:guard", len(SENTENCE), True)


async def test_a_fast_guard_holds_nothing_back_and_cuts_when_it_knows() -> None:
    gate = one_guard(FakeGuard(latency=lambda: 5), mode="fast").open(stage=Stage.OUTPUT)
    text = f"Now {UNSAFE}, and so on and on. "
    assert shown(await gate.feed(text)) + shown(await gate.feed("I go on.")) == text[: len(text)] + "I go on"
    cut = (await gate.finish())[-1]
    assert isinstance(cut, Cut)
    assert cut.decision.category == "violence"


async def test_a_question_to_a_fast_guard_waits_all_the_same() -> None:
    content_filter = one_guard(FakeGuard(latency=lambda: 5), mode="fast")
    assert (await content_filter.check(f"a {UNSAFE} question", stage=Stage.INPUT)).text is None


async def test_a_stage_that_a_guard_is_not_for_asks_nobody() -> None:
    guard = FakeGuard()
    content_filter = one_guard(guard)
    assert (await content_filter.check(UNSAFE, stage=Stage.EXPORT)).text == UNSAFE
    assert guard.asked == []


async def test_the_question_and_the_rounds_before_are_shown_with_an_answer() -> None:
    guard = FakeGuard()
    context = [
        ChatMessage(Role.SYSTEM, "be brief"),
        ChatMessage(Role.USER, "one"),
        ChatMessage(Role.ASSISTANT, "two"),
        ChatMessage(Role.USER, "three"),
    ]
    await one_guard(guard).open(stage=Stage.OUTPUT, context=context).finish()
    assert guard.asked == []
    gate = one_guard(guard).open(stage=Stage.OUTPUT, context=context)
    await stream(gate, ["four"])
    assert [(turn.role.value, turn.text) for turn in guard.asked[0]] == [
        ("user", "one"),
        ("assistant", "two"),
        ("user", "three"),
        ("assistant", "four"),
    ]


async def test_an_answer_that_goes_on_is_judged_with_its_beginning() -> None:
    guard = FakeGuard()
    context = [ChatMessage(Role.USER, "say"), ChatMessage(Role.ASSISTANT, "a river")]
    begun = ReleasedText("a river runs ")
    gate = one_guard(guard).continued(begun, stage=Stage.OUTPUT, context=context)
    assert shown(await stream(gate, ["into the sea."])) == "into the sea."
    assert [turn.text for turn in guard.asked[0]] == ["say", "a river runs into the sea."]


async def test_a_gate_that_is_closed_leaves_no_call_behind() -> None:
    guard = FakeGuard()
    gate = one_guard(guard).open(stage=Stage.OUTPUT)
    await gate.feed(f"{HANG} {SENTENCE}")
    await pause()
    assert guard.running == 1
    await gate.close()
    assert (guard.running, guard.cancelled) == (0, 1)
    assert [task for task in asyncio.all_tasks() if task.get_name().startswith("guard-")] == []


async def test_a_call_that_is_ended_from_outside_is_a_failure_and_nobody_waits_for_it() -> None:
    gate = one_guard(FakeGuard()).open(stage=Stage.OUTPUT)
    await gate.feed(f"{HANG} {SENTENCE}")
    await pause()
    (call,) = [task for task in asyncio.all_tasks() if task.get_name() == "guard-guard"]
    call.cancel()
    (cut,) = await gate.finish()
    assert isinstance(cut, Cut)
    assert cut.decision.is_degraded


async def test_a_check_that_is_cancelled_leaves_no_call_behind() -> None:
    guard = FakeGuard()
    check = asyncio.create_task(one_guard(guard).check(HANG, stage=Stage.INPUT))
    while not guard.running:
        await pause()
    check.cancel()
    await asyncio.wait({check})
    assert (check.cancelled(), guard.running, guard.cancelled) == (True, 0, 1)


async def test_without_guards_nothing_is_awaited_and_no_task_is_made() -> None:
    gate = ContentFilter(guarded_policy(guard_spec(stages=frozenset({Stage.INPUT})))).open(stage=Stage.OUTPUT)
    before = asyncio.all_tasks()
    assert shown(await gate.feed("a river, ")) == "a river, "
    assert gate.awaited is None
    assert asyncio.all_tasks() == before


async def test_a_very_long_question_is_judged_in_parts_that_overlap() -> None:
    guard = FakeGuard()
    text = "".join(chr(0x4E00 + place % 5000) for place in range(9000))
    assert (await one_guard(guard).check(text, stage=Stage.INPUT)).text == text
    parts = [turns[-1].text for turns in guard.asked]
    assert [len(part) for part in parts] == [4000, 4000, 4000]
    assert parts[0] == text[:4000]
    assert parts[1] == text[3500:7500]
    assert parts[2] == text[-4000:]
    assert (await one_guard(FakeGuard()).check(UNSAFE + text, stage=Stage.INPUT)).text is None


@invariant
@given(text=st.text(alphabet="海纳。.! \nab", max_size=1500), choose=st.integers(0, 1 << 30).map(random.Random))
def test_windows_end_where_the_text_says(text: str, choose: random.Random) -> None:
    whole = Windows().feed(text)
    windows = Windows()
    assert [end for piece in cut_up(text, choose) for end in windows.feed(piece)] == whole
    start = 0
    for end in whole:
        least = min(max(start // 4, 24), 160)
        assert least <= end - start <= least + 40
        ends_well = text[end - 1] in "。！？；!?;\n" or text[end - 2 : end] == ". "
        assert ends_well or end - start == least + 40
        start = end


def test_a_window_begins_small_and_grows() -> None:
    ends = Windows().feed("字" * 3000)
    sizes = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    assert sizes[0] == 64
    assert sizes == sorted(sizes)
    assert sizes[-1] == 200


def test_a_spec_can_be_a_key() -> None:
    assert {guard_spec(): 1}[GuardSpec(**{f: getattr(guard_spec(), f) for f in GuardSpec.__dataclass_fields__})] == 1


async def test_a_short_text_that_comes_with_the_policy_is_judged_at_once_and_no_guard_is_asked() -> None:
    guard = FakeGuard()
    content_filter = one_guard(guard)
    assert content_filter.check_at_once("What the house says.", stage=Stage.OUTPUT).text == "What the house says."
    assert content_filter.check_at_once(_BLOCKED, stage=Stage.OUTPUT).text is None
    assert guard.asked == []
