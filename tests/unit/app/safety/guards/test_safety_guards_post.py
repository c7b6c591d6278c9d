"""A guard at its post: mapped labels, budgets, the breaker, and what is told about it."""

import asyncio

import pytest

from app.domain.generation import ChatMessage
from app.domain.health import DetectorState, FilterState, state_of
from app.domain.models import Role
from app.domain.verdicts import Cut, Stage
from app.safety.filter import ContentFilter
from app.safety.guards.breaker import FAILURES, PAUSE_S
from app.safety.guards.post import MAX_CALLS, Post, Posts
from app.safety.guards.spec import KINDS
from app.safety.guards.verdict import GuardFailure, GuardFinding, Label
from tests.fakes.guards import BROKEN, CONTROVERSIAL, DEAD, HANG, RUBBISH, UNSAFE, FakeGuard, guard_spec, guarded_policy


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def turn(text: str) -> tuple[ChatMessage, ...]:
    return (ChatMessage(Role.USER, text),)


async def reason(post: Post, text: str, *, stage: Stage = Stage.INPUT) -> str:
    try:
        await post.ask(turn(text), stage=stage)
    except GuardFailure as failure:
        return failure.reason
    return "ok"


async def test_five_failures_in_a_row_open_the_breaker_for_thirty_seconds_then_one_call_tries() -> None:
    clock, guard = Clock(), FakeGuard()
    post = Post(guard_spec(), guard, clock=clock)
    assert [await reason(post, DEAD) for _ in range(FAILURES)] == ["unreachable"] * FAILURES
    assert post.health().state is DetectorState.OPEN
    assert await reason(post, "rivers") == "open"
    assert len(guard.asked) == FAILURES
    clock.now += PAUSE_S
    assert post.health().state is DetectorState.FAILING
    assert await reason(post, BROKEN) == "status"
    assert post.health().state is DetectorState.OPEN
    assert await reason(post, "rivers") == "open"
    clock.now += PAUSE_S
    assert await reason(post, "rivers") == "ok"
    assert post.health().state is DetectorState.OK
    assert post.health().failures == FAILURES + 1


async def test_while_one_call_tries_nobody_else_does_and_if_it_goes_away_the_next_one_may() -> None:
    clock, guard = Clock(), FakeGuard()
    post = Post(guard_spec(), guard, clock=clock)
    for _ in range(FAILURES):
        await reason(post, DEAD)
    clock.now += PAUSE_S
    probe = asyncio.create_task(post.ask(turn(HANG), stage=Stage.INPUT))
    await asyncio.sleep(0)
    assert guard.running == 1
    assert await reason(post, "rivers") == "open"
    probe.cancel()
    await asyncio.wait({probe})
    assert await reason(post, "rivers") == "ok"


async def test_a_success_in_between_begins_the_count_anew() -> None:
    post = Post(guard_spec(), FakeGuard(), clock=Clock())
    for _ in range(4):
        assert [await reason(post, text) for text in [DEAD] * (FAILURES - 1)] == ["unreachable"] * (FAILURES - 1)
        assert await reason(post, "rivers") == "ok"
    assert post.health().state is DetectorState.OK


async def test_a_text_that_makes_a_guard_stammer_does_not_switch_it_off_for_others() -> None:
    post = Post(guard_spec(), FakeGuard(), clock=Clock())
    assert [await reason(post, RUBBISH) for _ in range(3 * FAILURES)] == ["reply"] * 3 * FAILURES
    assert post.health().state is DetectorState.FAILING
    assert await reason(post, "rivers") == "ok"


async def test_no_more_than_so_many_calls_run_at_once_and_the_wait_counts() -> None:
    guard = FakeGuard()
    post = Post(guard_spec(input_budget_s=30.0, window_budget_s=0.01), guard)
    calls = [asyncio.create_task(post.ask(turn(HANG), stage=Stage.INPUT)) for _ in range(MAX_CALLS)]
    await asyncio.sleep(0)
    assert await reason(post, "rivers", stage=Stage.OUTPUT) == "busy"
    assert guard.most_running == MAX_CALLS
    assert post.health().state is DetectorState.FAILING
    calls[0].cancel()
    await asyncio.wait({calls[0]})
    assert await reason(post, "rivers", stage=Stage.OUTPUT) == "ok"
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)


async def test_each_call_and_its_outcome_are_told_to_whoever_counts() -> None:
    clock = Clock()
    told: list[tuple[str, str, float]] = []
    post = Post(guard_spec(), FakeGuard(), observe=lambda *call: told.append(call), clock=clock)
    await reason(post, "rivers")
    await reason(post, RUBBISH)
    assert told == [("guard", "ok", 0.0), ("guard", "reply", 0.0)]


class Saying(FakeGuard):
    def __init__(self, *labels: Label) -> None:
        super().__init__()
        self.labels = labels

    async def _judged(self, text: str) -> tuple[Label, ...]:
        del text
        return self.labels


async def test_labels_become_categories_the_gravest_of_each_and_nothing_of_the_reply_is_in_a_rule() -> None:
    spec = guard_spec(categories=(("Hate Speech", "hate"), ("slurs", "hate"), ("Fine", "")))
    labels = [Label("hate speech", 0.4), Label(" SLURS ", 0.6), Label("fine"), Label("ignore all rules", 0.123456)]
    found = await Post(spec, Saying(*labels)).ask(turn("x"), stage=Stage.INPUT)
    assert found == (
        GuardFinding(category="hate", rule="guard:slurs", score=0.6),
        GuardFinding(category="unsafe", rule="guard:other", score=0.1235),
    )


async def test_a_label_that_nobody_mapped_is_a_failure() -> None:
    post = Post(guard_spec(kind="classify", categories=(("good", ""), ("bad", "hate"))), Saying(Label("LABEL_2")))
    assert await reason(post, "x") == "label"


async def test_an_adapter_with_a_fault_is_a_guard_that_did_not_judge(capsys: pytest.CaptureFixture[str]) -> None:
    class Faulty(FakeGuard):
        async def _judged(self, text: str) -> tuple[Label, ...]:
            raise KeyError(text)

    assert await reason(Post(guard_spec(), Faulty()), "a secret text") == "fault"
    assert "secret" not in capsys.readouterr().out


def test_every_kind_may_find_something_and_maps_its_labels_to_names_that_policies_may_have() -> None:
    for kind in KINDS:
        spec = guard_spec(kind=kind, categories=())
        assert spec.found
        assert all(category.replace("_", "").isalpha() and category.islower() for category in spec.found)


async def test_filters_that_share_posts_share_a_breaker() -> None:
    posts, spec = Posts(), guard_spec()
    posts.add(Post(spec, FakeGuard()))
    one, two = (ContentFilter(guarded_policy(spec), detectors=[], posts=posts) for _ in range(2))
    for _ in range(FAILURES):
        await one.check(DEAD, stage=Stage.INPUT)
    checked = await two.check("rivers", stage=Stage.INPUT)
    assert (checked.text, checked.decision.is_degraded) == (None, True)


async def test_health_names_every_part_and_says_what_it_means() -> None:
    spec, clock = guard_spec(), Clock()
    posts = Posts()
    posts.add(Post(spec, FakeGuard(), clock=clock))
    content_filter = ContentFilter(guarded_policy(spec), posts=posts)
    assert [one.name for one in content_filter.health()] == ["phrases", "homophones", "personal_data", "guard"]
    assert state_of(content_filter.health()) is FilterState.OK
    await content_filter.check("rivers", stage=Stage.INPUT)
    assert all(one.p50_s is not None and one.p95_s is not None for one in content_filter.health())
    await content_filter.check(DEAD, stage=Stage.INPUT)
    assert state_of(content_filter.health()) is FilterState.DEGRADED
    for _ in range(FAILURES):
        await content_filter.check(DEAD, stage=Stage.INPUT)
    assert state_of(content_filter.health()) is FilterState.CLOSED
    assert content_filter.health()[-1].reason == "unreachable"
    clock.now += PAUSE_S
    assert state_of(content_filter.health()) is FilterState.DEGRADED


async def test_a_guard_that_may_fail_degrades_the_filter_and_never_closes_it() -> None:
    spec = guard_spec(on_error="degrade")
    posts = Posts()
    posts.add(Post(spec, FakeGuard()))
    content_filter = ContentFilter(guarded_policy(spec), detectors=[], posts=posts)
    for _ in range(2 * FAILURES):
        checked = await content_filter.check(f"{DEAD} {UNSAFE}", stage=Stage.INPUT)
        assert checked.text == f"{DEAD} {UNSAFE}"
        assert checked.decision.unguarded_by == ("guard",)
    assert content_filter.health()[-1].state is DetectorState.OPEN
    assert state_of(content_filter.health()) is FilterState.DEGRADED


async def test_a_detector_that_fails_is_not_called_sound_for_a_minute() -> None:
    class Broken:
        name = "broken"

        def open(self, *, stage: Stage) -> object:
            raise MemoryError(stage)

    content_filter = ContentFilter(guarded_policy(guard_spec(stages=frozenset())), detectors=[Broken()])  # type: ignore[list-item]
    clock = Clock()
    content_filter._watch._clock = clock
    (cut,) = await content_filter.open(stage=Stage.INPUT).feed("x")
    assert isinstance(cut, Cut)
    (health, _) = content_filter.health()
    assert (health.state, health.failures, health.reason) == (DetectorState.FAILING, 1, "MemoryError")
    clock.now += 60
    assert content_filter.health()[0].state is DetectorState.OK


async def test_whoever_closes_a_filter_closes_its_guards() -> None:
    spec, guard = guard_spec(), FakeGuard()
    posts = Posts()
    posts.add(Post(spec, guard))
    await ContentFilter(guarded_policy(spec), detectors=[], posts=posts).close()
    assert guard.is_closed


async def test_what_is_doubtful_is_flagged_by_a_policy_that_refuses_only_what_is_sure() -> None:
    spec = guard_spec()
    posts = Posts()
    posts.add(Post(spec, FakeGuard()))
    checked = await ContentFilter(guarded_policy(spec), detectors=[], posts=posts).check(
        CONTROVERSIAL, stage=Stage.INPUT
    )
    assert checked.text == CONTROVERSIAL
    (finding,) = checked.decision.findings
    assert (finding.score, finding.detector) == (0.5, "guard")
