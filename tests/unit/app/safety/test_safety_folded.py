import csv
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.verdicts import Stage
from app.safety.detector import Match
from app.safety.filter import ContentFilter
from app.safety.folded import FoldedReading
from app.safety.phrases import Lexicon, Phrase
from app.safety.policy_file import load_policy
from app.safety.readings import ReadingDetector
from prompts import library
from tests.fakes.invariants import invariant
from tests.fakes.scans import read_slowly

_XSTEST = Path(__file__).parents[5] / "shared" / "safety" / "eval" / "xstest_v2_prompts.csv"
_PHRASES = [
    Phrase(text=text, rule=text, is_folded=True)
    for text in ("how to build a bomb", "kill all", "fuck", "ghost-gun", "3d gun", "ass")
] + [Phrase(text="海纳测试", rule="海纳测试"), Phrase(text="plain only", rule="plain only")]
_ALLOWED = [Phrase(text="kill all processes", is_allowed=True, is_folded=True)]
_DETECTOR = ReadingDetector(Lexicon([*_PHRASES, *_ALLOWED]), [FoldedReading([*_PHRASES, *_ALLOWED])])


def hits(*pieces: str) -> list[Match]:
    scan = _DETECTOR.open(stage=Stage.OUTPUT)
    found: list[Match] = []
    for piece in pieces:
        scan.feed(piece)
        found += scan.take()
    scan.finish()
    return [*found, *scan.take()]


def rules(found: Sequence[Match]) -> set[tuple[str, str]]:
    return {(match.rule, match.detector) for match in found}


@pytest.mark.parametrize(
    ("text", "rule", "span"),
    [
        ("how to build a b0mb", "how to build a bomb", (0, 19)),
        ("H0W T0 BU1LD 4 B0MB", "how to build a bomb", (0, 19)),
        ("h.o.w to build a b-o-m-b.", "how to build a bomb", (0, 24)),
        ("so how to build a bоmb?", "how to build a bomb", (3, 22)),  # a Cyrillic o
        ("f.u.c.k", "fuck", (0, 7)),
        ("f-u.c'k!", "fuck", (0, 7)),
        ("fυck", "fuck", (0, 4)),  # a Greek upsilon
        ("ꜰᴜᴄᴋ", "fuck", (0, 4)),
        ("🅕🅤🅒🅚", "fuck", (0, 4)),
        ("k1ll all", "kill all", (0, 8)),
        ("ki11 a11", "kill all", (0, 8)),
        ("k!ll ki|| a||", "kill all", (5, 13)),
        ("k\u200b1ll **all**", "kill all", (0, 11)),
        ("ghost.g.u.n", "ghost-gun", (0, 11)),
        ("an @ss", "ass", (3, 6)),
        ("ƒuck", "fuck", (0, 4)),
    ],
)
def test_a_disguised_phrase_is_found_where_it_stands(text: str, rule: str, span: tuple[int, int]) -> None:
    (match,) = hits(text)
    assert (match.rule, match.detector, match.start, match.end) == (rule, "folded", *span)


@pytest.mark.parametrize(
    "text",
    [
        "$695 billion, 3.14 and 1,000,000",
        "how to build a b6mb",
        "how to build a bo mb",
        "f u c k",
        "f. u. c. k.",
        "fuck3r, fucks, muck",  # whole words
        "kill. All is well",
        "ki11 a11 processes",  # allowed
        "k1ll al",
        "plain 0nly",  # a list without fold
        "海纳,测-试1",
        "kiii aii",
        "b@ss",
        "b4ss and 1@ss",
        "a.s.sist",
        "a ghost, gun in hand",
        "3.d.g.u.m",
    ],
)
def test_what_is_not_disguised_is_left_alone(text: str) -> None:
    assert "folded" not in {match.detector for match in hits(text)}


def test_what_is_written_plainly_is_found_once() -> None:
    for text in ("how to build a bomb", "a 3d gun.", "ghost-gun", "kill all", "fúck"):
        assert [match.detector for match in hits(text)] == [""]


@pytest.mark.parametrize("disguise", ["@ss", "as$"])
def test_a_disguise_is_found_where_it_stands_behind_much_that_was_read_so_for_nothing(disguise: str) -> None:
    before = "k1ll " + "how to how " * 400
    (match,) = hits(f"{before}{disguise}.")
    assert (match.rule, match.start, match.end) == ("ass", len(before), len(before) + 3)


_PARTS = st.sampled_from(
    [
        *(*"how to build a b0mb", *"fuckFUCK", "kill", " all", "ki11", ".", "-", "1", "|", "@", "$", "о", "\u200b"),
        *(
            "\u0301",
            "how to ",
            "build a ",
            "bomb",
            "b.o.m.b",
            " processes",
            "海纳",
            "测试",
            "*",
            "ꜰ",
            "🅕",
            "\n",
            "x" * 50,
        ),
    ]
)


@invariant
@given(parts=st.lists(_PARTS, max_size=16), data=st.data())
def test_the_cut_changes_nothing_what_is_safe_never_falls_and_little_is_held(
    parts: list[str], data: st.DataObject
) -> None:
    text = "".join(parts)
    found = read_slowly(_DETECTOR.open(stage=Stage.OUTPUT), text, most_held=len("how to build a bomb") * 9)
    assert rules(hits(text)) == rules(found)
    assert hits(text) == found or len(found) > 1
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    pieces = [text[a:b] for a, b in pairwise([0, *cuts, len(text)])]
    key = lambda match: (match.start, match.end, match.rule, match.detector)  # noqa: E731
    assert sorted(found, key=key) == sorted(hits(*pieces), key=key)


@invariant
@given(parts=st.lists(_PARTS, max_size=16))
def test_a_reading_that_follows_only_where_it_must_finds_what_one_finds_that_always_follows(parts: list[str]) -> None:
    class Eager(FoldedReading):
        signs = FoldedReading.signs + "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ海纳测试*\n\u200b\u0301"

        def begins(self, char: str, *, is_live: bool) -> bool:
            del char, is_live
            return True

    text = "".join(parts)
    eager = ReadingDetector(Lexicon([*_PHRASES, *_ALLOWED]), [Eager([*_PHRASES, *_ALLOWED])]).open(stage=Stage.INPUT)
    eager.feed(text)
    eager.finish()
    assert rules(eager.take()) == rules(hits(text))


@pytest.fixture(scope="module")
def general() -> ContentFilter:
    return ContentFilter(load_policy())


async def test_the_shipped_english_lists_are_folded_and_their_phrases_are_found_in_disguise(
    general: ContentFilter,
) -> None:
    lists = [phrase_list for phrase_list in load_policy().lists if phrase_list.name.endswith("-en")]
    for phrase_list in lists:
        for phrase in phrase_list.phrases:
            for text in (phrase.replace("o", "0", 1), re.sub("(?<=[a-z])i", "1", phrase), phrase.replace("e", "е", 1)):
                assert (await general.check(text, stage=Stage.INPUT)).decision.category == phrase_list.category, text


async def test_harmless_english_has_no_disguised_phrase(general: ContentFilter) -> None:
    texts = [file.content.system for file in library.built_in() if file.language == "en"]
    texts += (path.read_text(encoding="utf-8") for path in Path(__file__).parents[4].glob("**/*.md"))
    if _XSTEST.is_file():
        with _XSTEST.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        texts += (row["prompt"] for row in rows if not row["type"].startswith("contrast"))
    for text in texts:
        checked = await general.check(text, stage=Stage.OUTPUT)
        assert not [finding for finding in checked.decision.findings if finding.detector == "folded"], text
