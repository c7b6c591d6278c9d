import ast
import asyncio
import json
import pickle
import random
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from app.domain.verdicts import (
    Action,
    Case,
    Checked,
    Cut,
    Decision,
    Finding,
    GateEvent,
    Masked,
    ReleasedText,
    SealedText,
    Stage,
    Text,
)
from app.safety.detector import Detector, Match, Scan
from app.safety.filter import ContentFilter
from app.safety.gate import MAX_FINDINGS, StreamGate
from app.safety.normalise import MASK
from app.safety.personal_data import TEST_NUMBER, PersonalDataDetector
from app.safety.phrases import Lexicon, Phrase, PhraseScan, squeeze
from app.safety.policy import PhraseList, Policy, Rule, make_policy
from app.safety.readings import ReadingDetector
from tests.fakes.invariants import EXAMPLES, invariant

_ROOT = Path(__file__).parents[4]

_ACTIONS = {"bad": Action.REFUSE, "odd": Action.FLAG, "secret": Action.MASK, "grave": Action.HANDOFF}
_phrases = st.text(alphabet="海纳黄片ab1", min_size=2, max_size=4)
texts = st.lists(
    st.one_of(st.text(alphabet="海纳黄片ab1 -*。\u200b█", max_size=6), st.just(TEST_NUMBER), _phrases), max_size=12
).map("".join)


def written(phrases: Iterable[Phrase]) -> ReadingDetector:
    """What finds phrases as they are written, and in no other reading."""
    return ReadingDetector(Lexicon(phrases), [])


@lru_cache(maxsize=1000)
def filter_of(number: int, max_allowed: int) -> tuple[Policy, ContentFilter]:
    """Return the policy of a number, and its filter: making them costs more than trying a text."""
    draw = random.Random(number)

    def phrases(most: int) -> tuple[str, ...]:
        drawn = ["".join(draw.choices("海纳黄片ab1", k=draw.randint(2, 4))) for _ in range(draw.randint(0, most))]
        return tuple({squeeze(phrase): phrase for phrase in drawn}.values())

    lists = [
        PhraseList(name=category, category=category, language="any", phrases=phrases(3), allowed=phrases(max_allowed))
        for category in _ACTIONS
    ]
    rules = [
        Rule(category=category, stages=frozenset(Stage), action=action)
        for category, action in {**_ACTIONS, "personal_data": Action.MASK}.items()
    ]
    policy = make_policy("drawn", rules=rules, lists=lists)
    return policy, ContentFilter(policy)


def filters(*, max_allowed: int = 1) -> st.SearchStrategy[ContentFilter]:
    return st.integers(0, EXAMPLES // 8).map(lambda number: filter_of(number, max_allowed)[1])


def policies(*, max_allowed: int = 1) -> st.SearchStrategy[Policy]:
    return st.integers(0, EXAMPLES // 8).map(lambda number: filter_of(number, max_allowed)[0])


def cut_up(text: str, choose: random.Random) -> list[str]:
    pieces = []
    while text:
        n = choose.choice((1, 1, 2, 3, 5, 8, 40))
        pieces.append(text[:n])
        text = text[n:]
    return pieces


async def stream(gate: StreamGate, pieces: Sequence[str]) -> list[GateEvent]:
    events: list[GateEvent] = []
    for piece in pieces:
        events += await gate.feed(piece)
    return [*events, *await gate.finish()]


def shown(events: Sequence[GateEvent]) -> str:
    return "".join(event.text for event in events if not isinstance(event, Cut))


def outcome(gate: StreamGate, events: Sequence[GateEvent]) -> object:
    """Everything about a run but the id and how the free text was divided."""
    cuts = [event.decision for event in events if isinstance(event, Cut)]
    decisions = [*cuts, *gate.decisions]
    masks = [event.finding for event in events if isinstance(event, Masked)]
    return shown(events), masks, [(d.action, d.findings, d.category, d.is_degraded) for d in decisions], len(cuts)


@invariant
@given(guard=filters(), text=texts, choose=st.randoms(use_true_random=False))
def test_events_and_decisions_do_not_depend_on_the_cut_of_the_stream(
    guard: ContentFilter, text: str, choose: random.Random
) -> None:
    async def run() -> None:
        gate = guard.open(stage=Stage.OUTPUT)
        whole = outcome(gate, await stream(gate, [text]))
        for pieces in (list(text), cut_up(text, choose), ["", *cut_up(text, choose), ""]):
            gate = guard.open(stage=Stage.OUTPUT)
            assert outcome(gate, await stream(gate, pieces)) == whole

    asyncio.run(run())


class Slow:
    """A detector that makes up its mind late, as a model does that reads window by window."""

    name = "slow"

    def __init__(self, detector: Detector, *, window: int) -> None:
        self.detector = detector
        self.window = window

    def open(self, *, stage: Stage) -> Scan:
        return SlowScan(self.detector.open(stage=stage), window=self.window)


class SlowScan:
    def __init__(self, scan: Scan, *, window: int) -> None:
        self.scan = scan
        self.window = window
        self.waiting = ""

    def feed(self, text: str) -> None:
        self.waiting += text
        if len(self.waiting) >= self.window:
            self.scan.feed(self.waiting)
            self.waiting = ""

    def finish(self) -> None:
        self.scan.feed(self.waiting)
        self.scan.finish()

    @property
    def safe_upto(self) -> int:
        return self.scan.safe_upto

    def take(self) -> Sequence[Match]:
        return self.scan.take()


@invariant
@given(policy=policies(), text=texts, window=st.integers(1, 20))
def test_a_slow_detector_delays_and_changes_nothing(policy: Policy, text: str, window: int) -> None:
    phrases = list(policy.phrases())
    quick: list[Detector] = [written(phrases[::2]), PersonalDataDetector()]
    odd = written(phrases[1::2])

    async def run() -> None:
        outcomes = []
        for width in (1, window):
            every = [*quick, Slow(odd, window=width)]
            gate = ContentFilter(policy, detectors=every).open(stage=Stage.OUTPUT)
            outcomes.append(outcome(gate, await stream(gate, list(text))))
        assert outcomes[0] == outcomes[1]

    asyncio.run(run())


async def test_what_a_quick_detector_refuses_waits_for_what_a_slow_one_masks_before_it() -> None:
    guard = overlapping(secret="海纳", bad="黄片")
    for window in (1, 3, 8, 99):
        quick = written([Phrase(text="黄片", category="bad", rule="b:1")])
        slow = Slow(written([Phrase(text="海纳", category="secret", rule="a:1")]), window=window)
        gate = StreamGate([quick, slow], policy=guard._policy, stage=Stage.OUTPUT)
        events = await stream(gate, list("看海纳和黄片吧"))
        assert shown(events) == f"看{MASK}和"
        assert isinstance(events[-1], Cut)


@invariant
@given(guard=filters(), text=texts)
def test_a_check_decides_as_the_stream_does(guard: ContentFilter, text: str) -> None:
    async def run() -> tuple[Checked, StreamGate, list[GateEvent]]:
        gate = guard.open(stage=Stage.OUTPUT)
        return await guard.check(text, stage=Stage.OUTPUT), gate, await stream(gate, list(text))

    checked, gate, events = asyncio.run(run())
    cuts = [event.decision for event in events if isinstance(event, Cut)]
    assert (checked.text is None) is bool(cuts) is checked.decision.is_refusal
    streamed = cuts[0] if cuts else gate.decision
    assert (checked.decision.action, checked.decision.findings) == (streamed.action, streamed.findings)
    if not cuts:
        assert checked.text == shown(events)


def redacted(text: str, findings: Sequence[Finding]) -> str:
    """Return the text up to the first refusal, a mask in place of each masked span, overlapping ones together."""
    upto = min((f.start for f in findings if f.action >= Action.REFUSE), default=len(text))
    out, place = "", 0
    for finding in sorted((f for f in findings if f.action is Action.MASK and f.start < upto), key=lambda f: f.start):
        if finding.start >= place:
            out += text[place : finding.start] + MASK
        place = max(place, finding.end)
    return out + text[place:upto]


@invariant
@given(guard=filters(), text=texts, choose=st.randoms(use_true_random=False))
def test_what_is_shown_is_the_text_up_to_the_refusal_with_masks_in_place(
    guard: ContentFilter, text: str, choose: random.Random
) -> None:
    gate = guard.open(stage=Stage.OUTPUT)
    events = asyncio.run(stream(gate, cut_up(text, choose)))
    cuts = [event.decision for event in events if isinstance(event, Cut)]
    decision = cuts[0] if cuts else gate.decision
    assert shown(events) == redacted(text, decision.findings)


@invariant
@given(guard=filters(max_allowed=0), text=texts, choose=st.randoms(use_true_random=False))
def test_what_is_shown_holds_no_refused_phrase(guard: ContentFilter, text: str, choose: random.Random) -> None:
    events = asyncio.run(stream(guard.open(stage=Stage.OUTPUT), cut_up(text, choose)))
    again = asyncio.run(guard.check(shown(events), stage=Stage.OUTPUT))
    assert again.text == shown(events)


@invariant
@given(policy=policies(), text=st.text(alphabet="海纳黄片ab1-*。xy", max_size=60))
def test_without_findings_the_text_passes_as_it_is_and_little_is_held(policy: Policy, text: str) -> None:
    guard = ContentFilter(policy)
    longest = max(len(squeeze(phrase.text)) for phrase in policy.phrases())

    async def run() -> None:
        gate = guard.open(stage=Stage.OUTPUT)
        out = ""
        for fed, char in enumerate(text, 1):
            events = await gate.feed(char)
            out += shown(events)
            if any(isinstance(event, Cut) for event in events):
                return
            if not gate.decision.findings:
                assert len(events) <= 1
                assert text.startswith(out)
                assert fed - len(out) <= longest * 9
        events = await gate.finish()
        if not any(isinstance(event, Cut) for event in events) and not gate.decision.findings:
            assert out + shown(events) == text

    asyncio.run(run())


@invariant
@given(guard=filters(), text=texts, choose=st.randoms(use_true_random=False))
def test_a_stream_ends_once_and_nothing_follows_a_cut(guard: ContentFilter, text: str, choose: random.Random) -> None:
    async def run() -> None:
        gate = guard.open(stage=Stage.OUTPUT)
        events = await stream(gate, cut_up(text, choose))
        cuts = [place for place, event in enumerate(events) if isinstance(event, Cut)]
        assert cuts in ([], [len(events) - 1])
        assert list(await gate.feed("more")) == []
        assert list(await gate.finish()) == []

    asyncio.run(run())


@invariant
@given(policy=policies(), text=texts)
def test_the_order_of_detectors_changes_nothing(policy: Policy, text: str) -> None:
    detectors: list[Detector] = [written(policy.phrases()), PersonalDataDetector()]

    async def run() -> None:
        outcomes = []
        for order in (detectors, detectors[::-1]):
            gate = ContentFilter(policy, detectors=order).open(stage=Stage.OUTPUT)
            outcomes.append(outcome(gate, await stream(gate, list(text))))
        assert outcomes[0] == outcomes[1]

    asyncio.run(run())


class Faulty:
    """A detector that does something wrong after some characters."""

    name = "faulty"

    def __init__(self, *, after: int, fault: str) -> None:
        self.after = after
        self.fault = fault

    def open(self, *, stage: Stage) -> Scan:
        if self.fault == "open":
            raise RuntimeError(f"{stage}")
        return FaultyScan(self)


class FaultyScan:
    def __init__(self, detector: Faulty) -> None:
        self.detector = detector
        self.text = ""
        self.is_over = False

    def _is_due(self, fault: str) -> bool:
        return len(self.text) >= self.detector.after and self.detector.fault == fault

    def feed(self, text: str) -> None:
        self.text += text
        if self._is_due("feed"):
            raise ValueError(f"cannot read {self.text}")

    def finish(self) -> None:
        self.is_over = True
        if self.detector.fault == "finish":
            raise MemoryError

    @property
    def safe_upto(self) -> int:
        if self._is_due("beyond"):
            return len(self.text) + 1
        if self._is_due("back"):
            return -1
        if self.detector.fault == "never" and self.is_over:
            return len(self.text) - 1
        return len(self.text)

    def take(self) -> Sequence[Match]:
        if self._is_due("late"):
            return [Match(category="bad", rule="x:1", start=0, end=self.detector.after)]
        if self._is_due("empty"):
            return [Match(category="bad", rule="x:1", start=len(self.text), end=len(self.text))]
        if self._is_due("junk"):
            return [None]  # type: ignore[list-item]
        return []


@invariant
@given(
    policy=policies(),
    text=texts.filter(lambda text: len(text) > 3),
    after=st.integers(2, 30),
    fault=st.sampled_from(["open", "feed", "finish", "beyond", "back", "never", "late", "empty", "junk"]),
    is_first=st.booleans(),
)
def test_a_detector_that_fails_or_lies_cuts_the_stream_and_shows_no_more_than_a_sound_run(
    policy: Policy,
    text: str,
    after: int,
    fault: str,
    is_first: bool,  # noqa: FBT001
) -> None:
    sound: list[Detector] = [written(policy.phrases()), PersonalDataDetector()]
    faulty = Faulty(after=min(after, len(text)), fault=fault)
    every = [faulty, *sound] if is_first else [*sound, faulty]

    async def run() -> tuple[list[GateEvent], list[GateEvent]]:
        healthy = await stream(ContentFilter(policy, detectors=sound).open(stage=Stage.OUTPUT), list(text))
        return healthy, await stream(ContentFilter(policy, detectors=every).open(stage=Stage.OUTPUT), list(text))

    with capture_logs() as logs:
        healthy, failed = asyncio.run(run())
    assert isinstance(failed[-1], Cut)
    assert shown(healthy).startswith(shown(failed))
    if failed[-1].decision.is_degraded:
        assert failed[-1].decision.action is Action.REFUSE
        assert any(finding.category == "unavailable" for finding in failed[-1].decision.findings)
        assert [entry["event"] for entry in logs] == ["detector_failed"]
        assert text not in json.dumps(logs, ensure_ascii=False, default=str)
    else:  # A match that comes before anything was decided is not late.
        assert isinstance(healthy[-1], Cut) or fault == "late"


@pytest.mark.parametrize("phrase", ["haina-blocked-test-phrase", "海纳测试禁语", "海 纳**测试**禁语"])
async def test_no_character_of_a_planted_phrase_leaves_under_ten_thousand_cuts(phrase: str) -> None:
    guard = ContentFilter(make_policy("bare"))
    choose = random.Random(11)
    before, after = "海水很蓝, haina is a name: ", "。之后还有 more text"
    for _ in range(10_000 // 3 + 1):
        gate = guard.open(stage=Stage.OUTPUT)
        events = await stream(gate, cut_up(before + phrase + after, choose))
        assert isinstance(events[-1], Cut)
        assert shown(events) == before


async def test_text_between_masks_comes_in_one_event() -> None:
    gate = ContentFilter(make_policy("bare")).open(stage=Stage.OUTPUT)
    events = await gate.feed(f"甲 {TEST_NUMBER}，乙 {TEST_NUMBER}。" + "字" * 5000)
    assert [type(event) for event in events] == [Text, Masked, Text, Masked, Text]
    assert shown(events).startswith(f"甲 {MASK}，乙 {MASK}。字")
    (decision,) = gate.decisions
    assert decision.action is Action.MASK
    assert [(finding.start, finding.end) for finding in decision.findings] == [(2, 20), (23, 41)]


def overlapping(**phrases: str) -> ContentFilter:
    lists = [
        PhraseList(name=category, category=category, language="any", phrases=tuple(text.split()))
        for category, text in phrases.items()
    ]
    rules = [Rule(category=category, stages=frozenset(Stage), action=action) for category, action in _ACTIONS.items()]
    return ContentFilter(make_policy("own", rules=rules, lists=lists))


async def test_spans_that_overlap_or_lie_in_each_other_share_a_mask() -> None:
    guard = overlapping(secret="海纳 纳黄 黄片三 海纳黄")
    checked = await guard.check("看海纳黄片三了", stage=Stage.OUTPUT)
    assert checked.text == f"看{MASK}了"
    assert len(checked.decision.findings) == 4


async def test_where_a_masked_and_a_refused_span_begin_together_nothing_is_masked() -> None:
    gate = overlapping(secret="海纳", bad="海纳黄").open(stage=Stage.OUTPUT)
    events = await stream(gate, list("看海纳黄片"))
    assert [type(event) for event in events] == [Text, Cut]
    assert shown(events) == "看"


async def test_a_flag_lets_the_text_pass_and_is_recorded_once() -> None:
    gate = ContentFilter(make_policy("bare")).open(stage=Stage.OUTPUT)
    text = "a haina-flagged-test-phrase b"
    assert shown(await stream(gate, list(text))) == text
    (decision,) = gate.decisions
    assert (decision.action, decision.category, decision.is_refusal) == (Action.FLAG, "test", False)


async def test_a_cut_carries_what_was_flagged_before_it_and_leaves_nothing_else_to_record() -> None:
    gate = ContentFilter(make_policy("bare")).open(stage=Stage.OUTPUT)
    events = await stream(gate, ["haina-flagged-test-phrase, haina-blocked-test-phrase"])
    (cut,) = [event for event in events if isinstance(event, Cut)]
    assert [finding.action for finding in cut.decision.findings] == [Action.FLAG, Action.REFUSE]
    assert (cut.decision.category, list(gate.decisions)) == ("test", [])
    assert cut.decision.id == gate.decision.id


async def test_a_decision_keeps_a_bounded_number_of_findings_and_every_mask_is_made() -> None:
    text = f"{TEST_NUMBER} " * 300
    checked = await ContentFilter(make_policy("bare")).check(text, stage=Stage.INPUT)
    assert checked.text == f"{MASK} " * 300
    assert len(checked.decision.findings) == MAX_FINDINGS


async def test_a_decision_holds_no_text() -> None:
    checked = await ContentFilter(make_policy("bare")).check("x haina-blocked-test-phrase", stage=Stage.INPUT)
    assert "blocked" not in repr(checked)


_FLOODS: dict[str, Callable[[], str]] = {
    "combining marks": lambda: "a" + "\u0301" * 100_000,
    "combining marks within a phrase": lambda: "海" + "\u0301" * 100_000,
    "lone surrogates": lambda: "\ud800\udfff" * 50_000,
    "control characters": lambda: "".join(map(chr, range(32))) * 3_000,
    "tags and selectors": lambda: "\U000e0041\ufe0f" * 50_000,
    "beginnings of phrases": lambda: "海纳测试禁" * 20_000,
    "digits": lambda: "1" * 100_000,
    "a megabyte": lambda: "这是一段很普通的话，没有什么特别的。" * 56_000,
}


@pytest.mark.parametrize("name", _FLOODS)
async def test_strange_and_large_texts_pass_unchanged(name: str) -> None:
    text = _FLOODS[name]()
    checked = await ContentFilter(make_policy("bare")).check(text, stage=Stage.INPUT)
    assert checked.text == text


async def test_little_is_held_back_in_a_flood() -> None:
    gate = ContentFilter(make_policy("bare")).open(stage=Stage.OUTPUT)
    out = shown(await gate.feed("海" + "\u0301" * 50_000))
    assert len(out) > 49_000


def _calls_that_release(path: Path) -> list[int]:
    """Return the lines on which a file makes a ReleasedText of anything but a literal, which is nobody's text."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and (getattr(node.func, "id", "") == "ReleasedText" or getattr(node.func, "attr", "") == "ReleasedText")
        and not all(isinstance(argument, ast.Constant) for argument in node.args)
    ]


def test_only_the_gate_makes_released_text_and_only_storage_restores_it() -> None:
    found = {
        path.relative_to(_ROOT).as_posix(): lines
        for package in ("app", "ui", "prompts")
        for path in sorted((_ROOT / package).rglob("*.py"))
        if (lines := _calls_that_release(path))
    }
    # `app.domain.verdicts` may join pieces that were released before.
    assert set(found) - {"app/safety/gate.py", "app/domain/verdicts.py"} == set(), found
    assert "app/safety/gate.py" in found


def test_the_reader_of_the_source_sees_each_way_to_make_released_text(tmp_path: Path) -> None:
    path = tmp_path / "leak.py"
    path.write_text('a = ReleasedText(x)\nb = verdicts.ReleasedText(f"{x}")\nc = ReleasedText("")\n')
    assert _calls_that_release(path) == [1, 2]


@invariant
@given(guard=filters(), text=texts, choose=st.randoms(use_true_random=False))
def test_what_was_heard_ends_with_what_it_was_cut_for_however_the_stream_was_cut(
    guard: ContentFilter, text: str, choose: random.Random
) -> None:
    async def run() -> None:
        for pieces in ([text], list(text), cut_up(text, choose)):
            gate = guard.open(stage=Stage.OUTPUT)
            events = await stream(gate, pieces)
            await gate.feed("and what comes later")
            cuts = [event.decision for event in events if isinstance(event, Cut)]
            upto = max(finding.end for finding in cuts[0].findings) if cuts else len(text)
            assert gate.heard.unsealed() == text[:upto]

    asyncio.run(run())


async def test_a_continued_stream_says_where_what_it_heard_begins() -> None:
    bad = PhraseList(name="bad", category="bad", language="en", phrases=("bad word",))
    rule = Rule(category="bad", stages=frozenset(Stage), action=Action.REFUSE)
    policy = make_policy("own", rules=[rule], lists=[bad])
    gate = ContentFilter(policy).continued(ReleasedText("x" * 3000), stage=Stage.OUTPUT)
    await gate.feed(" bad word, and more")
    assert gate.heard.start + len(gate.heard) == 3009
    assert gate.heard.unsealed().endswith("x bad word")


def test_a_sealed_text_shows_itself_to_nobody() -> None:
    sealed = SealedText("what somebody wrote")
    decision = Decision(id="d", stage=Stage.INPUT, action=Action.REFUSE, policy="p")
    checked = Checked(decision=decision, text=None, heard=sealed)
    for shown_as in (repr(sealed), str(sealed), f"{sealed}", repr(checked), repr(Case(decision, sealed))):
        assert "somebody" not in shown_as
        assert "19 characters" in shown_as
    with pytest.raises(TypeError):
        pickle.dumps(sealed)


def test_few_places_open_a_sealed_text() -> None:
    found = {
        path.relative_to(_ROOT).as_posix()
        for package in ("app", "ui", "prompts", "storage")
        for path in (_ROOT / package).rglob("*")
        if path.suffix in {".py", ".html"} and "unsealed" in path.read_text(encoding="utf-8")
    }
    assert found - {"ui/admin/review.py"} == {
        "app/domain/own_text.py",
        "app/domain/verdicts.py",
        "app/safety/evidence_box.py",
        "app/safety/tracing.py",
    }


def test_phrase_scans_fit_the_protocol() -> None:
    scan: Scan = PhraseScan(Lexicon([]))
    assert scan.safe_upto == 0
