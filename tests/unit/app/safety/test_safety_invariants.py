"""The filter's invariants that belong to no single part: disguises, folding, hostile texts, what the log says."""

import asyncio
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from app.domain.errors import SafetyUnavailable
from app.domain.verdicts import Action, Cut, ReleasedText, Stage
from app.safety.assessment.obfuscation import KINDS, refused_phrases
from app.safety.detector import Detector, Match, Scan
from app.safety.filter import ContentFilter
from app.safety.guards.verdict import GuardFailure, Label
from app.safety.normalise import fold
from app.safety.personal_data import TEST_NUMBER
from app.safety.policy import PhraseList, Rule, make_policy
from app.safety.policy_file import load_policy
from tests.fakes.guards import DEAD, UNSAFE, FakeGuard, guard_spec, guarded_policy, posts_of
from tests.fakes.house import make_house, rule
from tests.fakes.invariants import invariant

GENERAL = load_policy()
FILTER = ContentFilter(GENERAL)
PHRASES = refused_phrases(GENERAL)
UNDONE = (
    "full_width", "mixed_case", "styled_letters", "accents", "combining_marks", "zero_width", "variation_selectors",
    "bidi_marks", "separators", "line_breaks", "markdown", "traditional", "spaced", "html_entities", "html_tags",
)  # fmt: skip
"""The disguises that the filter sees through, whatever the phrase."""


@invariant
@given(
    phrase=st.sampled_from(PHRASES),
    kind=st.sampled_from(UNDONE),
    seed=st.integers(0, 1 << 30),
    before=st.sampled_from(["", "看 ", "so: ", "。", "\n\n> "]),
    after=st.sampled_from(["", " 吧", ", yes", "。", "\n"]),
)
def test_each_refused_phrase_is_found_in_each_disguise(
    phrase: str, kind: str, seed: int, before: str, after: str
) -> None:
    text = before + KINDS[kind](phrase, random.Random(seed)) + after
    assert FILTER.check_at_once(text, stage=Stage.INPUT).text is None


@invariant
@given(text=st.text(st.characters(codec=None), max_size=40))
def test_folding_twice_is_folding_once_and_each_character_folds_by_itself(text: str) -> None:
    folded = "".join(map(fold, text))
    assert "".join(map(fold, folded)) == folded
    assert folded.startswith("".join(map(fold, text[: len(text) // 2])))


class Raising:
    """A detector that fails at a text of three characters and more, quoting all that it read."""

    name = "raising"

    def open(self, *, stage: Stage) -> Scan:
        del stage
        return RaisingScan()


class RaisingScan:
    def __init__(self) -> None:
        self.text = ""

    def feed(self, text: str) -> None:
        self.text += text
        if len(self.text) >= 3:
            raise ValueError(f"cannot read {self.text}")

    def finish(self) -> None:
        """Nothing to do."""

    @property
    def safe_upto(self) -> int:
        return len(self.text)

    def take(self) -> Sequence[Match]:
        return []


class Quoting(FakeGuard):
    """A guard whose failures quote what it was asked."""

    async def _judged(self, text: str) -> Sequence[Label]:
        if DEAD in text:
            raise RuntimeError(text)
        if "丙丙" in text:
            raise GuardFailure("reply") from ValueError(text)
        return await super()._judged(text)


@contextmanager
def everything_logged() -> Iterator[list[str]]:
    """Collect what structlog and any library say, from debug on, exceptions with their whole trace."""
    lines: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(logging.Formatter("%(name)s %(message)s").format(record))

    root, collector = logging.getLogger(), Collector(logging.DEBUG)
    level = root.level
    root.addHandler(collector)
    root.setLevel(logging.DEBUG)
    try:
        with capture_logs() as logs:
            yield lines
        lines += map(repr, logs)
    finally:
        root.removeHandler(collector)
        root.setLevel(level)


_SECRETS = st.text("甲乙丙丁戊己庚辛壬癸∀∃∂∇∑∏", min_size=6, max_size=24)
"""Of characters that no log line of ours is written in."""
_OWN = PhraseList(name="own", category="own", language="any", phrases=("甲乙",))
_RULE = Rule(category="own", stages=frozenset(Stage), action=Action.REFUSE)
_PLAIN = ContentFilter(make_policy("own", rules=[_RULE], lists=[_OWN]))
_RAISING: list[Detector] = [Raising()]
_FAILING = ContentFilter(make_policy("own"), detectors=_RAISING)
_DETECTORS = _PLAIN.detectors(stage=Stage.OUTPUT)
_PLANTS = st.sampled_from(["", TEST_NUMBER, "haina-blocked-test-phrase", "haina-flagged-test-phrase", UNSAFE, DEAD])


def _guarded() -> ContentFilter:
    spec = guard_spec()
    guard = Quoting()
    return ContentFilter(guarded_policy(spec, rules=[_RULE]), detectors=_DETECTORS, posts=posts_of((spec, guard)))


def _require_none_of(text: str, lines: Sequence[str]) -> None:
    said = "\n".join(lines)
    for at in range(len(text) - 5):
        assert text[at : at + 6] not in said


@invariant
@given(secret=_SECRETS, plant=_PLANTS, after=_SECRETS, which=st.sampled_from(["plain", "failing", "guarded"]))
def test_no_six_characters_of_a_judged_text_are_in_any_log(secret: str, plant: str, after: str, which: str) -> None:
    made = {"plain": lambda: _PLAIN, "failing": lambda: _FAILING, "guarded": _guarded}[which]()

    async def run() -> None:
        for stage in (Stage.INPUT, Stage.OUTPUT):
            checked = await made.check(secret + plant + after, stage=stage)
            repr(checked)
            await made.in_context(checked, earlier=[secret])
        gate = made.continued(ReleasedText(secret), stage=Stage.OUTPUT)
        for char in plant + after:
            await gate.feed(char)
        await gate.finish()
        await gate.close()

    with everything_logged() as lines:
        asyncio.run(run())
    assert which != "failing" or any("detector_failed" in line for line in lines)
    _require_none_of(secret, lines)
    _require_none_of(after, lines)


@invariant
@given(
    question=_SECRETS,
    answer=_SECRETS,
    plant=_PLANTS,
    after=_SECRETS,
    which=st.sampled_from(["plain", "failing", "guarded"]),
)
def test_no_six_characters_of_a_conversation_are_in_any_log(
    question: str, answer: str, plant: str, after: str, which: str
) -> None:
    made = {"plain": lambda: _PLAIN, "failing": lambda: _FAILING, "guarded": _guarded}[which]()
    said = answer + plant + after
    errors: list[str] = []

    async def run() -> None:
        house = make_house(rule("", said), content_filter=made)
        for asked_text in (question + plant, "?"):
            try:
                asked = await house.ask(asked_text)
            except SafetyUnavailable as error:
                errors.append(f"{error!r} {error.data}")
                continue
            if not asked.answer.state.is_final:
                await house.answer(asked)

    with everything_logged() as lines:
        asyncio.run(run())
    for text in (question, answer, after):
        _require_none_of(text, [*lines, *errors])


_N = 100_000
HOSTILE: dict[str, Callable[[], str]] = {
    "a megabyte": lambda: "一段很长的话, and English. " * 52_000,
    "a megabyte without a break": lambda: "a" * 1_000_000,
    "combining marks": lambda: "e" + "\u0301" * _N,
    "combining marks in a phrase": lambda: "".join(char + "\u0489" * (_N // 6) for char in "海纳测试禁语"),
    "lone surrogates": lambda: "\ud83d" * _N + "\ude00" * _N,
    "tag characters": lambda: "".join(chr(0xE0020 + at % 96) for at in range(_N)),
    "variation selectors": lambda: "a\ufe0f\U000e0100" * _N,
    "overrides": lambda: "\u202e" * _N + "abc",
    "overrides that end": lambda: "\u202eab\u202c" * (_N // 4),
    "isolates": lambda: "\u2067" * _N + "\u2069" * _N,
    "unclosed tags": lambda: "<b" * _N,
    "opened tags": lambda: "<b>" * _N,
    "unclosed comments": lambda: "<!--" * _N,
    "unclosed entities": lambda: "&#x6d77" * _N,
    "beginnings of entities": lambda: "&" * _N,
    "long entities": lambda: "&#" + "0" * _N + "28023;",
    "unclosed links": lambda: "[a](" * _N,
    "stars": lambda: "*" * _N,
    "separators": lambda: "海" + "-" * _N + "纳",
    "digits": lambda: "1" * _N + " 1" * _N,
    "addresses": lambda: "a@" * _N + "a." * _N,
    "role marks": lambda: "<|im_" * _N,
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_text_is_judged_and_what_is_refused_after_it_is_found(name: str) -> None:
    text = HOSTILE[name]()
    gate = FILTER.open(stage=Stage.OUTPUT)
    events = [*await gate.feed(text), *await gate.feed("\n\n看海纳测试禁语。"), *await gate.finish()]
    assert isinstance(events[-1], Cut)
    assert not events[-1].decision.is_degraded
    assert events[-1].decision.category == "test"
