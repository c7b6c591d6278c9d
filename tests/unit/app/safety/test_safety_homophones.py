from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.verdicts import Action, Stage
from app.safety.detector import Match
from app.safety.filter import ContentFilter
from app.safety.homophones import HomophoneDetector, sounds
from app.safety.phrases import Phrase
from app.safety.policy import PhraseList, Rule, make_policy
from app.safety.policy_file import load_policy
from prompts import library
from tests.fakes.invariants import invariant

_PHRASES = [
    Phrase(text=text, rule=text, category="c", has_homophones=True) for text in ("制作炸弹", "冰毒", "测试语", "how")
]
_DETECTOR = HomophoneDetector(
    [*_PHRASES, Phrase(text="制作炸蛋", is_allowed=True, has_homophones=True), Phrase(text="别的短语", rule="x")]
)


def hits(*pieces: str) -> list[Match]:
    scan = _DETECTOR.open(stage=Stage.INPUT)
    found: list[Match] = []
    for piece in pieces:
        scan.feed(piece)
        found += scan.take()
    scan.finish()
    return [*found, *scan.take()]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("制做炸弹", 3),
        ("如何只作炸弹吗", 5),
        ("制-作 榨**弹", 7),
        ("測试语", 2),
        ("制作制作榨弹", 5),
        ("厕\u200b是语", 3),
        ("制-----作-----榨-----弹", 18),
    ],
)
def test_what_sounds_like_a_phrase_is_a_hint_at_its_last_character(text: str, place: int) -> None:
    (match,) = hits(text)
    assert (match.start, match.end, match.at_most) == (place, place + 1, Action.FLAG)


@pytest.mark.parametrize(
    "text", ["制作炸弹", "怎么制作炸蛋", "病毒", "制作。炸蛋的", "别的段语", "制作x榨弹", "制----------作榨弹", "测试"]
)
def test_the_phrase_itself_what_is_allowed_and_what_is_short_are_no_hints(text: str) -> None:
    assert hits(text) == []


@invariant
@given(
    parts=st.lists(
        st.sampled_from([*"制做作炸弹蛋榨测厕试是语雨", " ", "-", "。", "x", "\u200b", "*", "- - -"]), max_size=20
    ),
    data=st.data(),
)
def test_the_cut_changes_nothing_and_nothing_is_held(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    scan = _DETECTOR.open(stage=Stage.OUTPUT)
    found: list[Match] = []
    for fed, char in enumerate(text, 1):
        scan.feed(char)
        assert scan.safe_upto == fed
        new = list(scan.take())
        assert all((match.start, match.end) == (fed - 1, fed) for match in new)
        found += new
    scan.finish()
    found += scan.take()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    assert found == hits(text) == hits(*(text[a:b] for a, b in pairwise([0, *cuts, len(text)])))


def test_the_table_has_each_common_character_once() -> None:
    sound = sounds()
    assert len(sound) > 20_900
    assert sound["弹"] == sound["蛋"] != sound["毯"]
    assert sound["旅"] == sound["屡"]
    assert all(sound[syllable] == syllable for syllable in sound.values())


@pytest.mark.parametrize("action", [Action.REFUSE, Action.MASK, Action.FLAG, Action.ALLOW])
async def test_a_hint_is_never_more_than_flagged(action: Action) -> None:
    rule = Rule(category="own", stages=frozenset(Stage), action=action)
    own = PhraseList(name="own", category="own", language="zh", phrases=("制作炸弹",), has_homophones=True)
    checked = await ContentFilter(make_policy("own", rules=[rule], lists=[own])).check("制做榨弹吗", stage=Stage.OUTPUT)
    assert checked.text == "制做榨弹吗"
    assert checked.decision.action is min(action, Action.FLAG)
    assert {finding.detector for finding in checked.decision.findings} <= {"homophones"}


async def test_harmless_chinese_has_no_hints() -> None:
    general = ContentFilter(load_policy())
    texts = [file.content.system for file in library.built_in() if file.language == "zh"]
    texts += (path.read_text(encoding="utf-8") for path in Path(__file__).parents[4].glob("ui/**/*.md"))
    texts += ["怎么做炸蛋？", "如何制作炸蛋面", "明月几时有，把酒问青天。不知天上宫阙，今夕是何年。", "冰度是什么"]
    for text in texts:
        checked = await general.check(text, stage=Stage.OUTPUT)
        assert not [finding for finding in checked.decision.findings if finding.detector == "homophones"], text
