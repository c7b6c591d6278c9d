"""The gate: each kind of fault is told with its place, and what passes hits nothing and says nothing twice."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.safety.lexicon.corpus import Corpus, Line, builtin_corpora
from app.safety.lexicon.inspection import Example, Inspection, Reason, Remark, inspect
from app.safety.lexicon.reading import policy_lists, read_lists
from app.safety.phrases import Lexicon, Phrase, PhraseScan
from app.safety.policy import PhraseList, Record
from app.safety.policy_file import read_list
from tests.fakes.words import KnownWords

TODAY = date(2026, 11, 28)
HEADER = 'name = "own"\ncategory = "ads"\nlanguage = "zh"\nsource = "me"\ndate = 2026-01-02\nreviewer = "you"\n'


def corpus(*lines: str, name: str = "texts", is_golden: bool = False) -> Corpus:
    return Corpus(name=name, lines=tuple(Line(n, text) for n, text in enumerate(lines, 1)), is_golden=is_golden)


def looked_at(
    folder: Path, text: str, *, corpora: Sequence[Corpus] = (), budget_percent: float = 0.1, name: str = "own.toml"
) -> Inspection:
    (folder / name).write_text(text, encoding="utf-8")
    lists = [read_list(folder / name, today=TODAY)]
    words = KnownWords("路口", "交通", "交警")
    return inspect(lists, corpora=corpora, today=TODAY, budget_percent=budget_percent, words=words)


def told(inspection: Inspection) -> list[tuple[Reason, int | None, str]]:
    return [(one.reason, one.line, one.entry.text if one.entry else "") for one in inspection.remarks]


def test_the_shipped_lists_pass_their_own_gate() -> None:
    inspection = inspect(policy_lists(None, today=TODAY), corpora=builtin_corpora(), today=TODAY)
    assert inspection.remarks == ()
    assert inspection.share_percent == 0
    assert inspection.entries > 2000


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('phrases = [\n"苹果派",\n"苹",\n]', (Reason.SHORT, 9, "苹")),
        ('phrases = [\n"苹果派",\n"a",\n]', (Reason.SHORT, 9, "a")),
        ('phrases = [\n"苹果派",\n"苹-果",\n]', (Reason.SHORT, 9, "苹-果")),
        ('phrases = [\n"苹果派",\n"a梨",\n]', (Reason.SHORT, 9, "a梨")),
        ('phrases = [\n"苹果派",\n"——",\n]', (Reason.EMPTY, 9, "——")),
        ('phrases = [\n"苹果派",\n"' + "梨" * 201 + '",\n]', (Reason.LONG, 9, "梨" * 201)),
        ('phrases = [\n"苹果派",\n"蘋果 派",\n]', (Reason.TWICE, 9, "蘋果 派")),
        ('phrases = [\n"苹果派",\n"卖苹果派的",\n]', (Reason.REDUNDANT, 9, "卖苹果派的")),
        ('phrases = ["苹果派"]\nallow = [\n"苹果派",\n]', (Reason.EXCUSED, 7, "苹果派")),
        ('phrases = ["苹果派"]\nallow = ["派", \n"梨子"]', (Reason.SHORT, 8, "派")),
        ('phrases = ["苹果派",\n"a' + "-" * 20 + 'b"]', (Reason.NEVER, 8, "a" + "-" * 20 + "b")),
        ('phrases = ["苹果派"]\nshort_ok = ["苹果"]', (Reason.PERMISSION, None, "")),
        ('phrases = ["苹果派"]\nredundant_ok = ["苹果"]', (Reason.PERMISSION, None, "")),
        ('phrases = ["苹果派"]\nreview_by = 2026-11-28', (Reason.REVIEW, None, "")),
        (
            'phrases = ["苹果派"]\n[[entries]]\ntext = "香蕉船"\nadded = 2026-01-01\nby = "me"\nexpires = 2026-11-28',
            (Reason.EXPIRED, 9, "香蕉船"),
        ),
        (
            'phrases = ["苹果派"]\n[[entries]]\ntext = "苹果派"\nadded = 2026-01-01\nby = "me"',
            (Reason.TWICE, 9, "苹果派"),
        ),
        ('patterns = ["(卖|买)苹果派"]\nphrases = ["苹果派"]', (Reason.REDUNDANT, 7, "卖苹果派")),
    ],
)
def test_each_kind_of_fault_is_told_with_its_line(
    tmp_path: Path, body: str, expected: tuple[Reason, int | None, str]
) -> None:
    inspection = looked_at(tmp_path, HEADER + body)
    assert told(inspection) == [expected]
    assert inspection.faults == 1
    assert inspection.remarks[0].path == tmp_path / "own.toml"


@pytest.mark.parametrize(
    "body",
    [
        'phrases = ["苹果", "苹果派对"]\nshort_ok = ["蘋果"]\nredundant_ok = ["苹果派对"]',
        'phrases = ["ab", "12"]',
        'phrases = ["ass", "assassin creed"]',  # whole words: the one is not in the other
        'phrases = ["黄片商", "三黄片商店"]\nallow = ["三黄片商"]',  # excused there, so both are needed
        'phrases = ["苹果", "苹果派"]\nshort_ok = ["苹果"]\nhomophones = true',  # the longer one is also heard
        'phrases = ["苹果派"]\nreview_by = 2026-11-29',
        'phrases = ["苹果派"]\nallow = ["苹果派"]\nfirm = true',
        'patterns = ["(卖|买)(苹果派|苹果派对)"]',  # one of its phrases holds another, as a whole it is of use
        'phrases = ["卖香蕉船"]\n[[entries]]\ntext = "香蕉船"\nadded = 2026-01-01\nby = "me"\nexpires = 2026-12-01',
    ],
)
def test_what_is_sound_is_not_remarked_on(tmp_path: Path, body: str) -> None:
    assert told(looked_at(tmp_path, HEADER + body)) == []


def test_a_text_file_is_looked_at_like_any_other(tmp_path: Path) -> None:
    text = "# name: own\n# category: ads\n# language: zh\n# source: me\n# date: 2026-01-02\n# reviewer: you\n"
    body = "# short_ok: 苹果, 香蕉\n# class: A3.e\n\n苹果\n香蕉\n梨子\n+梨子汁\n"
    assert told(looked_at(tmp_path, text + body, name="own.txt")) == [(Reason.SHORT, 12, "梨子")]


def test_a_list_within_a_policy_needs_a_header_too_and_has_its_lines(tmp_path: Path) -> None:
    rule = '[[rules]]\ncategory = "ads"\nstages = ["input"]\naction = "flag"\n'
    inline = '[[lists]]\nname = "{}"\ncategory = "ads"\nlanguage = "zh"\nphrases = ["苹果派", "苹果"]\n'
    (tmp_path / "p.toml").write_text(
        'name = "p"\n' + rule + inline.format("one") + inline.format("two"), encoding="utf-8"
    )
    lists, remarks = read_lists((), policy=tmp_path / "p.toml", today=TODAY)
    assert remarks == ()
    inspection = inspect(lists, corpora=(), today=TODAY)
    assert [one.words for one in inspection.remarks[:2]] == ["the header lacks source, date, reviewer"] * 2
    assert told(inspection)[2:] == [(Reason.SHORT, 10, "苹果"), (Reason.SHORT, 15, "苹果")]


def test_keys_may_stand_in_any_order(tmp_path: Path) -> None:
    assert told(looked_at(tmp_path, 'phrases = [\n"苹果派",\n"苹果"]\n' + HEADER)) == [(Reason.SHORT, 3, "苹果")]


def test_two_lists_of_one_name_are_told() -> None:
    one = PhraseList(name="a", category="ads", language="zh", source="s", reviewer="r", reviewed_on=TODAY)
    assert [remark.words for remark in inspect([one, one], corpora=(), today=TODAY).remarks] == [
        "a second list named a"
    ]


TEXTS = corpus("前方路口交通拥堵", "路口交通灯", "绕开路口交警", "天气很好", *(f"第{n}天" for n in range(96)))


def test_false_hits_over_the_budget_are_faults_with_examples_and_proposals(tmp_path: Path) -> None:
    body = HEADER + 'short_ok = ["口交"]\nphrases = [\n"口交",\n"苹果派",\n]'
    inspection = looked_at(tmp_path, body, corpora=[TEXTS], budget_percent=2.9)
    assert inspection.share_percent == 3
    assert told(inspection) == [(Reason.BUDGET, None, ""), (Reason.FALSE_HIT, 9, "口交")]
    remark = inspection.remarks[1]
    assert (remark.hits, inspection.faults) == (3, 2)
    assert remark.examples[0] == Example("texts", 1, "前方路口交通拥堵")
    assert [(one.text, one.excuses) for one in remark.proposals] == [("路口交通", 2), ("路口交警", 1)]
    within = looked_at(tmp_path, body, corpora=[TEXTS], budget_percent=3)
    assert (told(within), within.faults) == ([(Reason.FALSE_HIT, 9, "口交")], 0)


def test_not_one_golden_line_may_be_hit_whatever_the_budget(tmp_path: Path) -> None:
    golden = corpus("路口交通怎么走？", name="golden", is_golden=True)
    body = HEADER + 'phrases = ["路口交通怎"]'
    inspection = looked_at(tmp_path, body, corpora=[TEXTS, golden], budget_percent=0)
    assert [(one.reason, one.is_fault) for one in inspection.remarks] == [(Reason.FALSE_HIT, True)]
    assert "1 of them golden" in inspection.remarks[0].words
    assert inspection.share_percent == 0
    both = looked_at(tmp_path, HEADER + 'phrases = ["路口交通"]', corpora=[TEXTS, golden], budget_percent=100)
    assert [(one.reason, one.is_fault, one.hits) for one in both.remarks] == [(Reason.FALSE_HIT, True, 3)]


def test_what_is_allowed_is_no_false_hit_unless_the_list_is_firm(tmp_path: Path) -> None:
    body = HEADER + 'short_ok = ["口交"]\nphrases = ["口交"]\nallow = ["路口交通", "路口交警"]\n'
    assert told(looked_at(tmp_path, body, corpora=[TEXTS])) == []
    (budget, firm) = looked_at(tmp_path, body + "firm = true", corpora=[TEXTS]).remarks
    assert (budget.reason, firm.proposals) == (Reason.BUDGET, ())
    assert "firm" in firm.words


def test_entries_are_searched_in_disguise_and_by_sound_where_the_list_says_so(tmp_path: Path) -> None:
    texts = corpus("he sold a b0mb here", "制作炸蛋很香")
    english = HEADER + 'phrases = ["sold a bomb"]\n'
    heard = HEADER + 'phrases = ["制作炸弹"]\n'
    assert told(looked_at(tmp_path, english, corpora=[texts])) == []
    assert told(looked_at(tmp_path, heard, corpora=[texts])) == []
    for body, key, way in (
        (english, "fold = true", "hits 1"),
        (heard, "homophones = true", "hits 1 harmless line (homo"),
    ):
        remark = looked_at(tmp_path, body + key, corpora=[texts]).remarks[-1]
        assert remark.reason is Reason.FALSE_HIT
        assert remark.words.startswith(way)


def test_an_entry_with_false_hits_makes_no_other_one_needless(tmp_path: Path) -> None:
    body = HEADER + 'short_ok = ["口交"]\nphrases = ["口交", "口交易货"]'
    assert [reason for reason, _, _ in told(looked_at(tmp_path, body, corpora=[TEXTS]))] == [
        Reason.BUDGET,
        Reason.FALSE_HIT,
    ]


def test_a_file_that_cannot_be_used_is_a_remark_and_the_others_are_read(tmp_path: Path) -> None:
    (tmp_path / "good.toml").write_text(HEADER + 'phrases = ["苹果派"]', encoding="utf-8")
    (tmp_path / "bad.toml").write_text(HEADER + 'phrases = ["苹果派"]\nfolds = true', encoding="utf-8")
    (tmp_path / "gbk.txt").write_bytes("香蕉买卖".encode("gbk"))
    (tmp_path / "empty.txt").write_bytes(b"")
    names = [str(tmp_path / name) for name in ("good.toml", "bad.toml", "gbk.txt", "empty.txt")]
    lists, remarks = read_lists([*names, "builtin:traps-zh"], policy=None, today=TODAY)
    assert [one.name for one in lists] == ["own", "traps-zh"]
    words = [remark.words for remark in remarks]
    assert words[0] == "bad.toml:8: folds: there is no such key"
    assert "GBK" in words[1]
    assert words[2].endswith("the file is empty")
    assert all(isinstance(one, Remark) and one.is_fault for one in remarks)


def found(text: str, entries: Sequence[str], allowed: Sequence[str]) -> bool:
    phrases = [Phrase(text=one) for one in entries] + [Phrase(text=one, is_allowed=True) for one in allowed]
    scan = PhraseScan(Lexicon(phrases))
    scan.feed(text)
    scan.finish()
    return bool(scan.take())


_WORDS = st.lists(st.text("甲乙丙ab ", min_size=2, max_size=5).filter(lambda text: len(text.strip()) > 1), max_size=6)


@settings(deadline=None, max_examples=400)
@given(_WORDS, st.lists(st.text("甲乙丙a", min_size=2, max_size=5), max_size=3), st.text("甲乙丙ab ", max_size=30))
def test_without_what_is_needless_as_much_is_found(entries: list[str], allowed: list[str], text: str) -> None:
    phrase_list = PhraseList(name="a", category="ads", language="any", phrases=tuple(entries), allowed=tuple(allowed))
    needless = {
        id(remark.entry): remark.entry.text
        for remark in inspect([replace(phrase_list, short_ok=tuple(entries))], corpora=(), today=TODAY).remarks
        if remark.entry
        and remark.reason in {Reason.TWICE, Reason.REDUNDANT, Reason.EXCUSED, Reason.NEVER}
        and not remark.entry.is_allowed
    }
    rest = list(entries)
    for word in needless.values():
        rest.reverse()  # the second of two that are the same is the one that is told
        rest.remove(word)
        rest.reverse()
    assert found(text, rest, allowed) == found(text, entries, allowed)


@settings(deadline=None, max_examples=100)
@given(_WORDS, st.lists(st.text("甲乙丙ab ", min_size=1, max_size=12), min_size=1, max_size=5))
def test_a_line_is_hit_where_the_filter_finds_something_in_it(entries: list[str], lines: list[str]) -> None:
    phrase_list = PhraseList(name="a", category="ads", language="any", phrases=tuple(entries), short_ok=tuple(entries))
    score = inspect([phrase_list], corpora=[corpus(*lines)], today=TODAY).corpora[0]
    assert score.hit == sum(found(line, entries, ()) for line in lines)


def test_records_tell_the_class_of_an_entry() -> None:
    record = Record(text="苹果派", added=TODAY, by="me", expires=TODAY)
    phrase_list = PhraseList(name="a", category="ads", language="zh", records=(record,))
    (header, expired) = inspect([phrase_list], corpora=(), today=TODAY).remarks
    assert (header.reason, expired.reason) == (Reason.HEADER, Reason.EXPIRED)
