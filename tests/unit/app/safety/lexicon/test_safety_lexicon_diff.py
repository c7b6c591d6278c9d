"""What was added, removed and changed, by what the filter takes for the same."""

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from app.domain.verdicts import Action
from app.safety.lexicon.diff import compare
from app.safety.lexicon.reading import lists_of
from app.safety.lexicon.report import diff_report
from app.safety.policy import PhraseList, Record

TODAY = date(2026, 11, 28)
OLD = PhraseList(name="a", category="ads", language="zh", phrases=("苹果派", "香蕉船"), allowed=("苹果派对",))


def told(
    old: list[PhraseList], new: list[PhraseList]
) -> tuple[list[str], list[str], list[tuple[str, tuple[str, ...]]]]:
    difference = compare(old, new, today=TODAY)
    return (
        [side.entry.text for side in difference.added],
        [side.entry.text for side in difference.removed],
        [(change.new.entry.text, change.fields) for change in difference.changed],
    )


def test_spelling_order_and_the_name_of_a_list_are_no_difference() -> None:
    assert told([OLD], [replace(OLD, name="b", phrases=("香-蕉 船", "蘋果派"))]) == ([], [], [])


def test_added_removed_and_changed_entries_are_told() -> None:
    record = Record(text="香蕉船", added=TODAY, by="Ann", safety_class="A3.e", expires=date(2027, 1, 1))
    new = replace(OLD, phrases=("苹果派", "梨膏糖", "香蕉船"), records=(record,), allowed=())
    assert told([OLD], [new]) == (["梨膏糖"], ["苹果派对"], [("香蕉船", ("class", "expires"))])
    changed = replace(OLD, category="spam", score=0.5, action=Action.FLAG, is_firm=True, safety_class="A1.a")
    fields = ("category", "class", "score", "action", "firm")
    assert told([OLD], [changed]) == ([], [], [("苹果派", fields), ("香蕉船", fields)])


def test_the_report_says_who_added_what_and_when_it_ends() -> None:
    record = Record(text="梨膏糖", added=TODAY, by="Ann", source="a stand", expires=date(2027, 1, 1), note="n")
    new = replace(OLD, category="spam", phrases=("苹果派", "梨膏糖"), records=(record,), safety_class="A1.a")
    difference = compare([OLD], [new], today=TODAY)
    assert diff_report(difference, as_format="text").splitlines() == [
        "+ 梨膏糖 (spam; A1.a; in a; added 2026-11-28 by Ann from a stand; expires 2027-01-01)",
        "- 香蕉船 (ads; in a)",
        "~ 苹果派: category ads → spam, class none → A1.a",
        "1 added, 1 removed, 1 changed",
    ]
    data = json.loads(diff_report(difference, as_format="json"))
    assert (data["added"][0]["by"], data["added"][0]["added"], data["added"][0]["note"]) == ("Ann", "2026-11-28", "n")
    assert data["changed"][0]["fields"] == ["category", "class"]
    assert (data["changed"][0]["old"]["category"], data["changed"][0]["new"]["category"]) == (["ads"], ["spam"])


def test_two_policies_are_compared_by_all_their_lists(tmp_path: Path) -> None:
    rule = '[[rules]]\ncategory = "ads"\nstages = ["input"]\naction = "flag"\n'
    inline = '[[lists]]\nname = "one"\ncategory = "ads"\nlanguage = "zh"\nphrases = ["苹果派"]\n'
    (tmp_path / "old.toml").write_text(f'name = "p"\n{rule}{inline}', encoding="utf-8")
    (tmp_path / "new.toml").write_text(f'name = "p"\n{rule}{inline.replace("苹果派", "香蕉船")}', encoding="utf-8")
    old, new = (list(lists_of(str(tmp_path / name), today=TODAY)) for name in ("old.toml", "new.toml"))
    assert told(old, new) == (["香蕉船"], ["苹果派"], [])
    assert told(list(lists_of("builtin:drugs-zh", today=TODAY)), old)[0] == ["苹果派"]


_LISTS = st.lists(st.text("甲乙ab", min_size=2, max_size=4), max_size=6).map(
    lambda words: [replace(OLD, phrases=tuple(words))]
)


@given(_LISTS, _LISTS)
def test_the_way_back_is_the_way_there_turned_round(old: list[PhraseList], new: list[PhraseList]) -> None:
    there, back = compare(old, new, today=TODAY), compare(new, old, today=TODAY)
    assert {side.entry.canonical for side in there.added} == {side.entry.canonical for side in back.removed}
    assert {side.entry.canonical for side in there.removed} == {side.entry.canonical for side in back.added}
    assert told(old, old) == ([], [], [])
