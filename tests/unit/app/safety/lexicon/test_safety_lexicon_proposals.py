"""Phrases are proposed where a hit lies across words; each would excuse what it is said to excuse."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.safety.lexicon.proposals import Hit, JiebaWords, Words, propose
from app.safety.phrases import Lexicon, Phrase, PhraseScan
from tests.fakes.words import KnownWords

FAKE = KnownWords("路口", "交通", "交通信号", "妈妈", "阳台", "独立", "黄片", "做", "爱心", "kill", "then", "process")


class TestWords:
    """Every implementation does this."""

    @pytest.fixture(params=[lambda: FAKE, JiebaWords], ids=["fake", "jieba"])
    def words(self, request: pytest.FixtureRequest) -> Words:
        made: Words = request.param()
        return made

    @pytest.mark.parametrize("text", ["路口交通信号灯", "他妈妈在阳台独立做爱心", "kill a process 😀!", "\u200b\n", ""])
    def test_words_cover_the_text_and_stay_within_it(self, words: Words, text: str) -> None:
        spans = words.cut(text)
        assert all(0 <= start < end <= len(text) for start, end in spans)
        assert {at for start, end in spans for at in range(start, end)} == set(range(len(text)))

    def test_a_word_within_a_longer_one_is_told_too(self, words: Words) -> None:
        assert {(0, 2), (2, 4)} <= set(words.cut("路口交通信号"))


def hit(text: str, entry: str) -> Hit:
    return Hit(text, text.index(entry), text.index(entry) + len(entry))


def proposed(entry: str, *texts: str, words: Words = FAKE) -> list[tuple[str, int]]:
    return [(one.text, one.excuses) for one in propose([hit(text, entry) for text in texts], words=words)]


def test_the_words_on_the_edges_of_a_hit_are_proposed() -> None:
    assert proposed("口交", "前方路口交通拥堵", "路口交通信号灯") == [("路口交通", 2)]
    assert proposed("他妈", "这是他妈妈") == [("他妈妈", 1)]
    assert proposed("台独", "阳台独立") == [("阳台独立", 1)]


def test_where_a_hit_is_a_word_its_neighbours_are_proposed() -> None:
    assert proposed("黄片", "吃三黄片", "三黄片，两盒") == [("三黄片", 2)]
    assert proposed("kill", "then kill a process") == [("kill a", 1)]
    assert proposed("kill", "then kill, a process", "we then kill it") == [("then kill", 2)]


def test_a_phrase_excuses_only_the_hits_that_lie_within_it() -> None:
    text = "三黄片，蛋黄片"
    found = propose([Hit(text, 1, 3), Hit(text, 5, 7)], words=FAKE)
    assert [(one.text, one.excuses) for one in found] == [("三黄片", 1), ("蛋黄片", 1)]
    assert propose([Hit(text, 5, 7), Hit(text, 1, 3)], words=FAKE) == found


def test_nothing_is_proposed_across_punctuation_or_for_nothing() -> None:
    assert proposed("黄片", "，黄片。") == []
    assert propose([], words=FAKE) == ()


def test_jieba_proposes_what_a_person_would() -> None:
    words = JiebaWords()
    assert proposed("口交", "在路口交通信号灯前", "路口交通拥堵", words=words) == [("路口交通", 2)]
    assert proposed("做爱", "周末一起做爱心义卖", words=words) == [("做爱心", 1)]
    assert proposed("黄片", "医生开了三黄片和润喉糖", words=words) == [("三黄片", 1)]


def finds(text: str, phrases: Sequence[Phrase]) -> bool:
    scan = PhraseScan(Lexicon(phrases))
    scan.feed(text)
    scan.finish()
    return bool(scan.take())


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.text("路口交通信号妈阳台独立 ，", min_size=1, max_size=12), max_size=6),
    st.sampled_from(["口交", "台独", "他妈"]),
)
def test_the_filter_lets_pass_what_a_proposal_is_said_to_excuse(texts: list[str], entry: str) -> None:
    planted = [f"{text}{entry}{text[::-1]}" for text in texts]
    hits = [Hit(text, len(before), len(before) + 2) for text, before in zip(planted, texts, strict=True)]
    for proposal in propose(hits, words=FAKE):
        allowed = Phrase(text=proposal.text, is_allowed=True)
        assert finds(proposal.text, [Phrase(text=entry)])
        assert not finds(proposal.text, [Phrase(text=entry), allowed])
        assert 1 <= proposal.excuses <= sum(proposal.text in text for text in planted)
