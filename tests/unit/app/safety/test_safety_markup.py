from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.verdicts import Action, Cut, Stage
from app.safety.detector import Match
from app.safety.filter import ContentFilter
from app.safety.markup import MAX_HELD, MarkupReading
from app.safety.normalise import MASK
from app.safety.phrases import Lexicon, Phrase
from app.safety.policy import PhraseList, Rule, make_policy
from app.safety.readings import ReadingDetector
from tests.fakes.invariants import invariant
from tests.fakes.scans import read_slowly

_PHRASES = [Phrase(text=text, rule=text) for text in ("海纳测试", "make a bomb", "ab")]
_LEXICON = Lexicon([*_PHRASES, Phrase(text="海纳测试版", is_allowed=True)])
_DETECTOR = ReadingDetector(_LEXICON, [MarkupReading(_LEXICON)])


def hits(*pieces: str) -> list[Match]:
    scan = _DETECTOR.open(stage=Stage.OUTPUT)
    found: list[Match] = []
    for piece in pieces:
        scan.feed(piece)
        found += scan.take()
    scan.finish()
    return [*found, *scan.take()]


@pytest.mark.parametrize(
    "text",
    [
        "&#28023;纳测试",
        "海&#32435;测试",
        "海纳测&#x8bd5;",
        "海纳测&#35797;",
        "海纳测&#35797",
        "海&#32435测试",
        "&#28023;&#32435;&#27979;&#35797;",
        "&#X6D77;&#x7eb3;&#27979;&#35797;",
        "海<b></b>纳测试",
        "海</b>纳<!-- 这里 -->测<i class='x' title=\"a&b\">试",
        "海<br/>纳测试",
        "海](x)纳测试",
        "海](http://example.com/a?b=c&d 'title')纳测试",
        "海]()纳测试",
        "海**](x)**纳测试",
        "mak<b>e a bo</b>mb",
        "make<br>a<br>bomb",
        "make&nbsp;a&#32;bomb",
        "m&#97;ke a b&#111;m&#98;",
        "make a [bo](x)mb",
        "mak[e] a bomb",
        "\u202e试测纳海",
        "\u202e试测纳海\u202c",
        "海\u202e试测纳\u202c",
        "\u202ebmob a ekam\n",
        "海<b\nclass=x>纳测试",
    ],
)
def test_what_is_shown_as_the_phrase_is_found_whole(text: str) -> None:
    (match,) = [match for match in hits(f"看 {text}") if match.detector == "markup"]
    assert match.start == 2
    assert match.end >= len(text.rstrip("\n\u202c")) + 2


@pytest.mark.parametrize(
    "text",
    [
        "海纳测试",
        "海 < 纳测试 > 0",
        "海<1>测试",
        "海纳 & 测试",
        "AT&T; R&D; a&b;",
        "if (a < b && c > d) { ab2[0] = 1; }",
        "海&#9999999999;纳测试x",
        "海<https://example.com>测试",
        "海(x)纳",
        "海](x\n)纳x",
        "海<b " + "x" * MAX_HELD + ">纳测试",
        "make</b>a bomb",
        "海<b></b>纳测试版",
        "make<p>",
        "\u202e海纳测试\u202c",
        "纳海",
    ],
)
def test_what_is_shown_otherwise_is_not(text: str) -> None:
    assert "markup" not in {match.detector for match in hits(f"看 {text}")}


def test_what_is_no_tag_after_all_is_read_as_it_is_written() -> None:
    for text in ("海<b &#28023;&#32435;测试", "海<b 海<i></i>纳测试", "海](x 海&#32435;测试", "&am&#28023;纳测试"):
        assert "markup" in {match.detector for match in hits(text)}, text


async def test_a_masked_span_has_whole_signs() -> None:
    rule = Rule(category="own", stages=frozenset(Stage), action=Action.MASK)
    own = PhraseList(name="own", category="own", language="any", phrases=("海纳测试",))
    guard = ContentFilter(make_policy("own", rules=[rule], lists=[own]))
    for text in ("&#28023;纳测&#35797;", "\u202e试测纳海\u202c", "海\u202e试测纳\u202c", "\u202e海x\u202c纳测试"):
        assert (await guard.check(f"看{text}吧", stage=Stage.OUTPUT)).text == f"看{MASK}吧"
        gate = guard.open(stage=Stage.OUTPUT)
        events = [event for char in f"看{text}吧" for event in await gate.feed(char)]
        assert "".join(event.text for event in events if not isinstance(event, Cut)) == f"看{MASK}吧"


def test_a_sign_is_found_where_it_stands_behind_many_that_hid_nothing() -> None:
    before = "make &#32;a " * 400
    (match,) = hits(f"{before}make a b&#111;mb")
    assert (match.start, match.end, match.detector) == (len(before), len(before) + len("make a b&#111;mb"), "markup")


_PARTS = st.sampled_from(
    [
        *("海", "纳", "测", "试", "版", "make", " a ", "bomb", "bo", "mb", "a", "b", " ", "\n", "*", "。", "\u200b"),
        *(
            "&",
            "&#",
            "&#28023;",
            "&#32435",
            "&#x8bd5;",
            "&amp;",
            "&nbsp;",
            ";",
            "#",
            "x",
            "<",
            "<b",
            "<b>",
            "</b>",
            ">",
        ),
        *(
            "<br>",
            "<!--",
            "-->",
            "[",
            "]",
            "](",
            "(",
            ")",
            "](x)",
            "\u202e",
            "\u202c",
            "x" * 99,
            "<a@b>",
            '"',
            "'",
            "=",
        ),
    ]
)


@invariant
@given(parts=st.lists(_PARTS, max_size=16), data=st.data())
def test_the_cut_changes_nothing_what_is_safe_never_falls_and_little_is_held(
    parts: list[str], data: st.DataObject
) -> None:
    text = "".join(parts)
    found = read_slowly(_DETECTOR.open(stage=Stage.OUTPUT), text)
    assert all(match.start < match.end <= len(text) for match in found)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    for pieces in ([text], [text[a:b] for a, b in pairwise([0, *cuts, len(text)])]):
        assert sorted(map(repr, hits(*pieces))) == sorted(map(repr, found))


@pytest.mark.parametrize(
    "flood", ["&", "&#", "<", "<b", "<a>", "[", "](", "](x", "\u202e", "\u202e海", "海<b", "海](", "海["]
)
def test_a_flood_is_held_no_longer_than_a_sign(flood: str) -> None:
    scan = _DETECTOR.open(stage=Stage.OUTPUT)
    for _ in range(3000 // len(flood)):
        scan.feed(flood)
    scan.feed("。" * (MAX_HELD + 1))
    assert scan.safe_upto >= 3000 // len(flood) * len(flood)


def test_nothing_is_held_outside_a_phrase_but_an_entity() -> None:
    scan = _DETECTOR.open(stage=Stage.OUTPUT)
    text = '<div class="x"><p>你好 [链接](http://example.com) x < y</p></div>'
    for fed, char in enumerate(text, 1):
        scan.feed(char)
        assert scan.safe_upto == fed or text[fed - 1] in "ma"
