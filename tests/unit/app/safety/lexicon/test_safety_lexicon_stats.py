"""Canonical entries are counted, and what the standard asks for is set against them."""

import json
from datetime import date

from app.safety.lexicon.report import stats_report
from app.safety.lexicon.stats import NOT_SAID, Adder, count
from app.safety.policy import PhraseList, Record
from app.safety.taxonomy import CLASSES

TODAY = date(2026, 11, 28)


def made(
    name: str, *phrases: str, records: tuple[Record, ...] = (), safety_class: str = "", language: str = "zh"
) -> PhraseList:
    lasting = tuple(record.text for record in records if not record.is_expired(today=TODAY))
    return PhraseList(
        name=name,
        category="ads",
        language=language,
        phrases=(*phrases, *lasting),
        records=records,
        safety_class=safety_class,
        allowed=("苹果派对",),
    )


def test_spellings_of_one_entry_count_once_and_expired_ones_not_at_all() -> None:
    records = (
        Record(text="香蕉船", added=date(2026, 1, 1), by="Ann", safety_class="A2.a"),
        Record(text="梨膏糖", added=date(2026, 3, 1), by="Ann"),
        Record(text="桃花酥", added=TODAY, by="Bob", expires=TODAY),
    )
    stats = count(
        [made("a", "苹果派", safety_class="A1.d", records=records), made("b", "蘋果 派", "plum")], today=TODAY
    )
    assert (stats.entries, stats.allowed, stats.expired, stats.without_class) == (4, 1, 1, 1)
    assert stats.lists == {"a": 3, "b": 2}
    assert stats.categories == {"ads": 4}
    assert stats.languages == {"zh": 4}
    assert {one.id: one.entries for one in stats.classes if one.entries} == {"A1.d": 2, "A2.a": 1}
    assert stats.adders == (
        Adder(name=NOT_SAID, entries=2, first=None, last=None),
        Adder(name="Ann", entries=2, first=date(2026, 1, 1), last=date(2026, 3, 1)),
    )


def test_a_pattern_is_one_entry_however_many_phrases_it_stands_for() -> None:
    phrase_list = PhraseList(
        name="a",
        category="ads",
        language="zh",
        phrases=("梨膏糖", "买苹果派", "卖苹果派"),
        patterns=("(买|卖)苹果派",),
        safety_class="A1.a",
    )
    stats = count([phrase_list], today=TODAY)
    assert (stats.entries, stats.classes[0].entries) == (2, 2)


def test_what_is_missing_is_said_for_each_class() -> None:
    report = stats_report(count([made("a", "苹果派", safety_class="A1.a")], today=TODAY), as_format="text")
    assert "GB/T 45654 asks for 10,000 in all: 9,999 are missing." in report
    assert "A1.a 199, A1.b 200" in report
    assert "A2.i 100." in report
    assert "A3.a" not in report.split("Missing by class")[1]


def test_a_list_that_is_long_enough_lacks_nothing() -> None:
    lists = [
        PhraseList(
            name=name.lower().replace(".", "-"),
            category="ads",
            language="zh",
            phrases=tuple(f"{name} {n:04} x" for n in range(600)),
            safety_class=name,
        )
        for name in CLASSES
        if name[:2] in {"A1", "A2"}
    ]
    stats = count(lists, today=TODAY)
    assert (stats.entries, stats.missing) == (10_200, 0)
    assert stats_report(stats, as_format="text").endswith("What GB/T 45654 asks for in number is there.\n")
    (missing,) = (one for one in count(lists[1:], today=TODAY).classes if one.missing)
    assert (missing.id, missing.missing) == ("A1.a", 200)


def test_programs_get_all_counts() -> None:
    data = json.loads(stats_report(count([made("a", "苹果派", safety_class="A1.a")], today=TODAY), as_format="json"))
    assert (data["entries"], data["minimum"], data["missing"]) == (1, 10_000, 9_999)
    assert len(data["classes"]) == 31
    assert data["classes"][0]["en"] == "subversion"
    assert (data["classes"][0]["entries"], data["classes"][0]["minimum"], data["classes"][0]["missing"]) == (
        1,
        200,
        199,
    )
    assert (data["classes"][-1]["id"], data["classes"][-1]["minimum"]) == ("A5.b", None)
