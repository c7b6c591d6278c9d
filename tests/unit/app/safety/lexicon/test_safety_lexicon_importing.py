"""What is imported passes the gate, is on trial, and says who added it; what is refused is written down."""

import csv
import io
import os
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.errors import InvalidInput
from app.domain.verdicts import Action, Stage
from app.safety.filter import ContentFilter
from app.safety.lexicon import importing
from app.safety.lexicon.corpus import Corpus, Line
from app.safety.lexicon.foreign import Foreign, Word
from app.safety.lexicon.importing import Import, Target, import_list, is_on_trial
from app.safety.lexicon.inspection import inspect
from app.safety.policy import Record, Rule, make_policy
from app.safety.policy_file import read_list
from tests.fakes.words import KnownWords

TODAY = date(2026, 11, 28)
TARGET = Target(category="ads", language="zh", source="a fruit stand", reviewer="Ann", safety_class="A3.e")
TEXTS = (Corpus(name="texts", lines=(Line(1, "前方路口交通拥堵"), Line(2, "我爱吃苹果派"))),)


def foreign(*words: str | Word) -> Foreign:
    made = (Word(text=one, line=n) if isinstance(one, str) else one for n, one in enumerate(words, 1))
    return Foreign(read_as="plain", words=tuple(made))


def imported(folder: Path, *words: str | Word, into: str | None = None, target: Target = TARGET) -> Import:
    out = None if into else folder / "fruit.toml"
    return import_list(
        foreign(*words),
        target=target,
        out=out,
        into=folder / into if into else None,
        refused_path=folder / "refused.csv",
        corpora=TEXTS,
        today=TODAY,
        words=KnownWords("路口", "交通"),
    )


def reasons(done: Import) -> list[tuple[str, str]]:
    return [(one.word.text, one.reason) for one in done.refused]


def test_accepted_words_become_a_list_that_says_who_added_them(tmp_path: Path) -> None:
    done = imported(tmp_path, "香蕉船", Word(text="梨膏糖", line=2, safety_class="A1.h", note='tags: "甜"\\'))
    phrase_list = read_list(tmp_path / "fruit.toml", today=TODAY)
    assert (phrase_list.name, phrase_list.category, phrase_list.language) == ("fruit", "ads", "zh")
    assert (phrase_list.source, phrase_list.reviewer, phrase_list.reviewed_on) == ("a fruit stand", "Ann", TODAY)
    assert phrase_list.phrases == ("香蕉船", "梨膏糖")
    assert phrase_list.safety_class == "A3.e"
    first, second = phrase_list.records
    assert first == Record(text="香蕉船", added=TODAY, by="Ann", source="a fruit stand")
    assert (second.safety_class, second.note) == ("A1.h", 'tags: "甜"\\')
    assert done.refused == ()
    assert not (tmp_path / "refused.csv").exists()


async def test_an_imported_list_is_on_trial_and_only_flags(tmp_path: Path) -> None:
    imported(tmp_path, "香蕉船")
    phrase_list = read_list(tmp_path / "fruit.toml", today=TODAY)
    assert is_on_trial(phrase_list)
    refuse = Rule(category="ads", stages=frozenset(Stage), action=Action.REFUSE)
    content_filter = ContentFilter(make_policy("p", rules=[refuse], lists=[phrase_list]))
    checked = await content_filter.check("买香蕉船", stage=Stage.INPUT)
    assert (checked.text, checked.decision.action) == ("买香蕉船", Action.FLAG)


def test_words_that_do_not_pass_are_written_down_with_reason_hits_and_proposals(tmp_path: Path) -> None:
    words: list[str | Word] = [
        "香蕉船",
        "梨",
        "李子",
        "香蕉 船",
        "卖香蕉船的",
        "口交通拥",
        Word(text="桃", line=9, refusal="no"),
        "x" * 300,
    ]
    done = imported(tmp_path, *words, Word(text="桃花酥", line=10, safety_class="Z1"))
    assert [one.text for one in done.accepted] == ["香蕉船"]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "refused.csv").read_text(encoding="utf-8"))))
    assert [row["text"] for row in rows] == [
        "梨",
        "李子",
        "香蕉 船",
        "卖香蕉船的",
        "口交通拥",
        "桃",
        "x" * 200 + "…",
        "桃花酥",
    ]
    assert [row["line"] for row in rows] == ["2", "3", "4", "5", "6", "9", "8", "10"]
    told = [row["reason"] for row in rows]
    assert told[0] == "a single character would stop too much"
    assert told[1].startswith("two Chinese characters")
    assert told[2] == "the same as line 1"
    assert told[3].startswith("not needed: it holds 香蕉船, line 1")
    assert (told[4], rows[4]["hits"], rows[4]["proposed"]) == ("hits 1 harmless line", "texts:1", "路口交通拥")
    assert (told[5], told[6], told[7]) == ("no", "longer than 200 characters", "there is no class Z1")


def test_a_word_that_hits_a_harmless_line_makes_no_other_one_needless(tmp_path: Path) -> None:
    done = imported(tmp_path, "苹果派", "大苹果派店")
    assert reasons(done) == [("苹果派", "hits 1 harmless line")]
    assert [one.text for one in done.accepted] == ["大苹果派店"]


def test_where_nothing_passes_no_list_is_written(tmp_path: Path) -> None:
    assert imported(tmp_path, "梨").accepted == ()
    assert [path.name for path in tmp_path.iterdir()] == ["refused.csv"]


def test_entries_are_added_behind_what_a_list_has_and_that_stays_as_it_is(tmp_path: Path) -> None:
    imported(tmp_path, "香蕉船")
    before = "# our fruit\n" + (tmp_path / "fruit.toml").read_text(encoding="utf-8")
    (tmp_path / "fruit.toml").write_text(before, encoding="utf-8")
    (tmp_path / "fruit.toml").chmod(0o640)
    done = imported(tmp_path, "梨膏糖", "香蕉船", "买香蕉船吧", into="fruit.toml")
    after = (tmp_path / "fruit.toml").read_text(encoding="utf-8")
    assert after.startswith(before)
    assert read_list(tmp_path / "fruit.toml", today=TODAY).phrases == ("香蕉船", "梨膏糖")
    assert [text for text, _ in reasons(done)] == ["香蕉船", "买香蕉船吧"]
    assert (tmp_path / "fruit.toml").stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fruit.toml", "refused.csv"]


def test_a_word_that_would_make_an_entry_useless_is_the_one_too_many(tmp_path: Path) -> None:
    imported(tmp_path, "大香蕉船票")
    done = imported(tmp_path, "香蕉船", "小香蕉船票", into="fruit.toml")
    assert reasons(done) == [("香蕉船", "would make 大香蕉船票 useless, which the list has: take that out first")]
    assert [one.text for one in done.accepted] == ["小香蕉船票"]


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("fruit.toml", ('action = "flag"\n', ""), "the list is not on trial"),
        ("fruit.toml", ('category = "ads"', 'category = "spam"'), "the list is for spam, zh, not ads, zh"),
        ("fruit.toml", ('language = "zh"', 'language = "en"'), "the list is for ads, en, not ads, zh"),
        ("fruit.toml", ('name = "fruit"', "name = 3"), "name: Input should be a valid string"),
        ("fruit.toml", ("[[entries]]", 'entries = [{text = "香蕉船", added = 2026-01-01, by = "x"}]\n#'), "at its end"),
        ("fruit.txt", ("", ""), "only a .toml can say who added an entry"),
        ("fruit.toml", ("香蕉船", "\0"), "a NUL byte"),
    ],
)
def test_a_list_that_words_cannot_be_added_to_stays_as_it_is(
    tmp_path: Path, name: str, change: tuple[str, str], reason: str
) -> None:
    imported(tmp_path, "香蕉船")
    written = (tmp_path / "fruit.toml").read_text(encoding="utf-8").replace(*change)
    if "at its end" in reason:
        written = written.split("\ntext =")[0] + "\n"
    (tmp_path / name).write_text(written, encoding="utf-8")
    with pytest.raises(InvalidInput, match=reason):
        imported(tmp_path, "梨膏糖", into=name)
    assert (tmp_path / name).read_text(encoding="utf-8") == written


def test_a_disk_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imported(tmp_path, "香蕉船")
    before = (tmp_path / "fruit.toml").read_bytes()

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space") as caught:
        imported(tmp_path, "梨膏糖", "梨", into="fruit.toml")
    assert caught.value.filename == str(tmp_path / "refused.csv")
    assert (tmp_path / "fruit.toml").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["fruit.toml"]


def test_what_an_earlier_import_refused_does_not_stay_beside_a_new_one(tmp_path: Path) -> None:
    imported(tmp_path, "香蕉船", "梨")
    assert (tmp_path / "refused.csv").exists()
    imported(tmp_path, "香蕉船")
    assert not (tmp_path / "refused.csv").exists()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"category": "Ads!"}, "--category"),
        ({"safety_class": "A9.z"}, "--class A9.z: there is no such class"),
        ({"source": " "}, "--source"),
        ({"reviewer": ""}, "--reviewer"),
    ],
)
def test_what_the_policy_could_not_read_is_refused_before_the_work(changes: dict[str, str], reason: str) -> None:
    sound = {"category": "ads", "language": "zh", "source": "s", "reviewer": "r", "safety_class": ""}
    assert importing.make_target(**sound).category == "ads"
    with pytest.raises(InvalidInput, match=reason):
        importing.make_target(**(sound | changes))


def test_a_place_is_looked_at_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "there.toml").write_text("", encoding="utf-8")
    importing.require_room(tmp_path / "new.toml", may_overwrite=False)
    importing.require_room(tmp_path / "there.toml", may_overwrite=True)
    for path, reason in (("there.toml", "--force"), (".", "no file can"), ("no/such.toml", "no file can")):
        with pytest.raises(InvalidInput, match=reason):
            importing.require_room(tmp_path / path, may_overwrite=False)
    for name in ("Fruit.toml", "fruit.txt", "x" * 65 + ".toml", "a_b.toml"):
        with pytest.raises(InvalidInput, match="name it as the list"):
            importing.one_of(Path(name), None)
    for out, into in ((None, None), (Path("a.toml"), Path("b.toml"))):
        with pytest.raises(InvalidInput, match="--out"):
            importing.one_of(out, into)


_LINES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)


@settings(deadline=None, max_examples=100)
@given(st.lists(_LINES.filter(bool), min_size=1, max_size=5), _LINES, st.text("\x7f\t\b\\\"'甲", max_size=5))
def test_a_list_is_read_as_it_was_written(texts: list[str], note: str, odd: str) -> None:
    records = [Record(text=text + odd, added=TODAY, by=f"a{odd}", source=note, note=note) for text in texts]
    written = importing.list_file(TARGET, name="fruit", records=records, today=TODAY)
    path = Path("/nonexistent/fruit.toml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_text", lambda *_, **__: written)
        assert list(read_list(path, today=TODAY).records) == records


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(st.text("甲乙丙ab 1", min_size=1, max_size=6).filter(str.strip), min_size=1, max_size=12))
def test_what_was_imported_passes_the_check(tmp_path: Path, words: Sequence[str]) -> None:
    corpora = (Corpus(name="texts", lines=(Line(1, "甲乙丁"), Line(2, "a1 乙丙"))),)
    out, refused = tmp_path / "fruit.toml", tmp_path / "refused.csv"
    out.unlink(missing_ok=True)
    done = import_list(
        foreign(*words),
        target=TARGET,
        out=out,
        into=None,
        refused_path=refused,
        corpora=corpora,
        today=TODAY,
        words=None,
    )
    assert len(done.accepted) + len(done.refused) == len(words)
    assert refused.exists() == bool(done.refused)
    if done.accepted:
        inspection = inspect([read_list(out, today=TODAY)], corpora=corpora, today=TODAY)
        assert inspection.remarks == ()
        assert inspection.entries == len(done.accepted)
