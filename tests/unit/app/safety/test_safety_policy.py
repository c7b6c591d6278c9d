from datetime import date
from pathlib import Path

import pytest

from app.domain.errors import InvalidPolicy
from app.domain.verdicts import Action, Finding, Stage
from app.safety.phrases import squeeze
from app.safety.policy import PhraseList, Rule, make_policy
from app.safety.policy_file import load_policy, policy_path
from app.safety.taxonomy import CLASSES

_RULE = """
[[rules]]
category = "drugs"
stages = ["input"]
action = "refuse"
"""
_LIST = """
[[lists]]
name = "own"
category = "drugs"
language = "en"
phrases = ["one two", "three four"]
"""


def write(folder: Path, text: str, *, name: str = "policy.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def faults(folder: Path, text: str) -> list[str]:
    with pytest.raises(InvalidPolicy) as caught:
        load_policy(write(folder, text))
    return list(caught.value.faults)


def test_the_built_in_policy_acts_in_every_stage_on_each_category_and_has_both_languages() -> None:
    policy = load_policy()
    categories = {
        "violence",
        "weapons",
        "self_harm",
        "sexual",
        "sexual_minors",
        "drugs",
        "fraud",
        "crime",
        "malware",
        "hate",
    }
    for category in categories:
        assert {policy.action(category, stage=stage) for stage in Stage} == {Action.REFUSE}
        lists = [phrase_list for phrase_list in policy.lists if phrase_list.category == category]
        assert {phrase_list.language for phrase_list in lists} == {"en", "zh"}
        assert all(10 <= len(phrase_list.phrases) <= 30 for phrase_list in lists)
        assert all(phrase_list.source and phrase_list.reviewer and phrase_list.reviewed_on for phrase_list in lists)
    assert {policy.action("personal_data", stage=stage) for stage in Stage} == {Action.MASK}


def test_shipped_phrases_are_long_enough_to_be_specific() -> None:
    shipped = [text for phrase_list in load_policy().lists for text in phrase_list.phrases]
    assert min(len(squeeze(text)) for text in shipped) >= 4


def test_a_shipped_allowed_phrase_excuses_no_shipped_phrase_as_a_whole() -> None:
    lists = load_policy().lists
    denied = {squeeze(text) for phrase_list in lists for text in phrase_list.phrases}
    assert not denied & {squeeze(text) for phrase_list in lists for text in phrase_list.allowed}


def test_the_id_names_what_decides_and_nothing_else(tmp_path: Path) -> None:
    first = load_policy(write(tmp_path, 'name = "mine"\n' + _RULE + _LIST))
    moved = load_policy(write(tmp_path, 'name = "mine"\n# later\n' + _LIST.replace('"one two", ', "") + _RULE))
    same = load_policy(
        write(
            tmp_path, 'name = "mine"\n' + _LIST.replace('"one two", "three four"', '"THREE  four", "one two"') + _RULE
        )
    )
    other = load_policy(write(tmp_path, 'name = "mine"\n' + _RULE.replace("refuse", "flag") + _LIST))
    assert first.id.startswith("mine@")
    assert len(first.id) == len("mine@") + 12
    assert first.id == same.id
    assert len({first.id, moved.id, other.id}) == 3


def test_lists_are_read_from_toml_text_and_the_shipped_ones(tmp_path: Path) -> None:
    header = 'name = "a"\ncategory = "drugs"\nlanguage = "en"\nsource = "me"\ndate = 2026-01-02\nreviewer = "you"\n'
    write(tmp_path, header + 'phrases = ["one two"]\n', name="a.toml")
    text = "# name: b\n# category: drugs\n# language: zh\n# source: me\n# date: 2026-01-02\n# reviewer: you\n"
    write(tmp_path, text + "\n第一条\n# a note\n+第一条消息\n", name="b.txt")
    policy = load_policy(write(tmp_path, 'name = "p"\nfiles = ["a.toml", "b.txt", "builtin:drugs-en"]\n' + _RULE))
    lists = {phrase_list.name: phrase_list for phrase_list in policy.lists}
    assert lists["a"].phrases == ("one two",)
    assert lists["b"].phrases == ("第一条",)
    assert lists["b"].allowed == ("第一条消息",)
    assert lists["b"].reviewed_on == date(2026, 1, 2)
    assert lists["drugs-en"].phrases


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('name = "p"\nfils = []\n', "policy.toml:2: fils: there is no such key"),
        ('name = "p"\n' + _LIST + _RULE.replace("refuse", "refuze"), "policy.toml:12: rules.1.action: Input should be"),
        ('name = "p"\n' + _LIST + _RULE.replace('"input"', '"inputs"'), "policy.toml:11: rules.1.stages.1: Input sh"),
        ('name = "p"\n' + _LIST + _RULE + "level = 3\n", "policy.toml:13: rules.1.level: there is no such key"),
        ('name = "p"\n' + _LIST + _RULE + _RULE, "policy.toml:14: a second rule for drugs in input"),
        ('name = "p"\n' + _LIST + _RULE + "threshold = 2\n", "policy.toml:13: rules.1.threshold: Input should be"),
        ('name = "p"\n' + _RULE.replace("drugs", "drogs"), "policy.toml:3: nothing finds the category drogs"),
        ('name = "p"\n' + _LIST, "policy.toml: list own: no rule speaks of the category drugs"),
        ('name = "p"\n' + _RULE + _LIST + _LIST, "policy.toml: a second list named own"),
        ('name = "p"\n' + _RULE + _LIST.replace('"own"', '"test"'), "policy.toml: a second list named test"),
        ('name = "p"\n' + _RULE + _LIST.replace("three four", "x"), "policy.toml:12: list own, entry 2: a single char"),
        ('name = "p"\n' + _RULE + _LIST.replace("three four", "-"), "policy.toml:12: list own, entry 2: empty, or"),
        (
            'name = "p"\n' + _RULE + _LIST.replace("three four", "ONE two"),
            "policy.toml:12: list own, entry 2: the same",
        ),
        ('name = "p"\n' + _RULE + _LIST.replace("three four", "x" * 201), "policy.toml:12: list own, entry 2: longer"),
        (
            'name = "p"\n' + _RULE + _LIST + 'allow = ["one-two", "one two"]',
            "policy.toml:13: list own, entry 4: the sa",
        ),
        ('name = "p"\n[[lists]]\nname = "x"\nlanguage = "en"\n', "policy.toml:2: lists.1: the list is empty"),
        ('name = "p"\nname = "q"\n', "policy.toml: Cannot overwrite a value (at line 2, column 11)"),
        ('name = "p"\nfiles = ["builtin:nothing"]\n', "policy.toml:2: there is no list builtin:nothing; there are"),
        ("rules = []\n", "policy.toml: name: is required"),
    ],
)
def test_a_faulty_policy_is_refused_with_the_place_and_the_reason(tmp_path: Path, text: str, expected: str) -> None:
    found = faults(tmp_path, text)
    assert any(fault.startswith(expected) for fault in found), found


def test_the_gravest_rule_whose_threshold_is_reached_decides(tmp_path: Path) -> None:
    flag = _RULE.replace("refuse", "flag") + "threshold = 0.2\n"
    policy = load_policy(write(tmp_path, 'name = "p"\n' + _LIST + _RULE + flag))
    reached = [policy.action("drugs", stage=Stage.INPUT, score=score) for score in (0.1, 0.2, 0.49, 0.5, 1.0)]
    assert reached == [Action.ALLOW, Action.FLAG, Action.FLAG, Action.REFUSE, Action.REFUSE]
    alone = load_policy(write(tmp_path, 'name = "p"\n' + _LIST + _RULE))
    assert alone.id != policy.id
    assert alone.id != load_policy(write(tmp_path, 'name = "p"\n' + _LIST + _RULE + "threshold = 0.6\n")).id


def test_a_list_file_must_say_where_it_comes_from(tmp_path: Path) -> None:
    write(tmp_path, 'name = "a"\ncategory = "drugs"\nlanguage = "en"\nphrases = ["one two"]\n', name="a.toml")
    found = faults(tmp_path, 'name = "p"\nfiles = ["a.toml"]\n' + _RULE)
    assert found == ["a.toml: source: is required", "a.toml: date: is required", "a.toml: reviewer: is required"]


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    text = 'name = "p"\n' + _RULE + _LIST.replace("three four", "x").replace("one two", "y")
    assert len(faults(tmp_path, text)) == 2


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidPolicy, match="there is no such file"):
        load_policy(tmp_path / "absent.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "\xff"')
    with pytest.raises(InvalidPolicy, match="not UTF-8"):
        load_policy(tmp_path / "latin.toml")
    with pytest.raises(InvalidPolicy):
        load_policy(tmp_path)


def test_a_policy_of_its_own_still_has_the_test_phrases() -> None:
    names = [phrase_list.name for phrase_list in make_policy("bare").lists]
    assert names == ["test", "test-flag"]


def test_rule_ids_name_list_and_phrase_without_quoting_it() -> None:
    own = PhraseList(name="own", category="hate", language="en", phrases=("some vile words",))
    rule = Rule(category="hate", stages=frozenset(Stage), action=Action.REFUSE)
    (phrase,) = (p for p in make_policy("p", rules=[rule], lists=[own]).phrases() if p.category == "hate")
    assert phrase.rule.startswith("own:")
    assert "vile" not in phrase.rule


def test_a_pattern_stands_for_one_of_each_of_its_alternatives(tmp_path: Path) -> None:
    lists = _LIST.replace('phrases = ["one two", "three four"]', 'patterns = ["(buy|get) (it |)now", "get it now"]')
    policy = load_policy(write(tmp_path, 'name = "p"\n' + _RULE + lists + "score = 0.6\n"))
    assert policy.lists[-1].phrases == ("buy it now", "buy now", "get it now", "get now")
    assert {phrase.score for phrase in policy.phrases() if phrase.category == "drugs"} == {0.6}
    for pattern, reason in (("(a|b", "brackets"), ("(a(b|c))", "brackets"), ("(aa|bb)" * 10, "more than 1000")):
        faulty = lists.replace("(buy|get) (it |)now", pattern)
        assert any(reason in fault for fault in faults(tmp_path, 'name = "p"\n' + _RULE + faulty)), pattern


_ENTRIES = """
[[lists.entries]]
text = "five six"
added = 2026-01-02
by = "Ann"
source = "ticket 12"
class = "A3.e"
expires = 2026-06-01
note = "spring"

[[lists.entries]]
text = "seven eight"
added = 2026-01-03
by = "Bob"
"""


def test_entries_say_who_added_them_and_are_not_searched_any_more_when_they_have_expired(tmp_path: Path) -> None:
    path = write(tmp_path, 'name = "p"\n' + _RULE + _LIST + 'class = "A1.h"\n' + _ENTRIES)
    (before,) = load_policy(path, today=date(2026, 5, 31)).lists[2:]
    (after,) = load_policy(path, today=date(2026, 6, 1)).lists[2:]
    assert before.phrases == ("one two", "three four", "five six", "seven eight")
    assert after.phrases == ("one two", "three four", "seven eight")
    assert before.records == after.records
    first, second = before.records
    assert (first.by, first.source, first.safety_class, first.note) == ("Ann", "ticket 12", "A3.e", "spring")
    assert (second.added, second.safety_class, second.expires) == (date(2026, 1, 3), "", None)
    assert (before.safety_class, before.path) == ("A1.h", path)


def test_who_added_a_phrase_decides_nothing(tmp_path: Path) -> None:
    plain = _LIST.replace('"three four"]', '"three four", "five six", "seven eight"]')
    told = 'class = "A1.h"\nreview_by = 2026-01-01\nshort_ok = ["x"]\nredundant_ok = ["x"]\n'
    day = date(2026, 5, 31)
    ids = {
        load_policy(write(tmp_path, 'name = "p"\n' + _RULE + text), today=day).id
        for text in (plain, _LIST + _ENTRIES, _LIST + told + _ENTRIES)
    }
    assert len(ids) == 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (('class = "A3.e"', 'class = "A3.z"'), "policy.toml:19: lists.1.entries.1.class: "),
        (("expires = 2026-06-01", 'expires = "soon"'), "policy.toml:20: lists.1.entries.1.expires: Input should be"),
        (('by = "Ann"\n', ""), "policy.toml:14: lists.1.entries.1.by: is required"),
        (('by = "Bob"', 'by = ""'), "policy.toml:26: lists.1.entries.2.by: "),
        (("seven eight", "ONE two"), "policy.toml:24: list own, entry 4: the same as entry 1"),
    ],
)
def test_a_faulty_entry_is_refused_with_the_reason(tmp_path: Path, change: tuple[str, str], expected: str) -> None:
    lasting = _ENTRIES.replace(*change).replace("2026-06-01", "2099-06-01")
    found = faults(tmp_path, 'name = "p"\n' + _RULE + _LIST + lasting)
    assert any(fault.startswith(expected) for fault in found), found


def test_a_policy_that_goes_by_class_puts_lists_in_the_category_of_their_class(tmp_path: Path) -> None:
    lists = "".join(
        f'[[lists]]\nname = "{name}"\nlanguage = "en"\nphrases = ["{name} words"]\n{header}\n'
        for name, header in (
            ("one", 'category = "drugs"\nclass = "A1.h"'),
            ("two", 'class = "A2.c"'),
            ("three", 'category = "a3_b"'),
            ("four", 'category = "self_harm"\nclass = "A4.a"'),
        )
    )
    rules = "".join(
        f'[[rules]]\ncategory = "{category}"\nstages = ["input"]\naction = "{action}"\n'
        for category, action in (
            ("a1", "refuse"),
            ("a2", "flag"),
            ("a2_c", "refuse"),
            ("a3_b", "flag"),
            ("self_harm", "handoff"),
        )
    )
    policy = load_policy(write(tmp_path, 'name = "p"\nby_class = true\n' + lists + rules))
    categories = {one.name: one.category for one in policy.lists}
    assert [categories[name] for name in ("one", "two", "three", "four")] == ["a1_h", "a2_c", "a3_b", "self_harm"]
    actions = [
        policy.action(category, stage=Stage.INPUT) for category in ("a1_a", "a1_h", "a2_a", "a2_c", "a3_b", "self_harm")
    ]
    assert actions == [Action.REFUSE, Action.REFUSE, Action.FLAG, Action.REFUSE, Action.FLAG, Action.HANDOFF]
    assert policy.action("a1", stage=Stage.INPUT) is Action.ALLOW, "a group is no category"
    without = lists.replace('category = "drugs"\nclass = "A1.h"', 'category = "drugs"')
    (fault,) = faults(tmp_path, 'name = "p"\nby_class = true\n' + without + rules)[:1]
    assert fault == "policy.toml: list one: this policy goes by class, and it does not name one"


def test_the_class_of_a_finding_is_its_list_s_or_its_category_s(tmp_path: Path) -> None:
    named = _LIST.replace('category = "drugs"', 'category = "drugs"\nclass = "A4.a"')
    policy = load_policy(write(tmp_path, 'name = "p"\n' + _RULE + named))
    by_list, by_category, of_nothing = (
        policy.class_of(Finding(category=category, rule=rule, detector="x", action=Action.FLAG, start=0, end=1))
        for category, rule in (("drugs", "own:1"), ("personal_data", "email:x"), ("house", "house:1"))
    )
    assert (by_list and by_list.id, by_category and by_category.id, of_nothing) == ("A4.a", "A4.f", None)
    plain = load_policy(write(tmp_path, 'name = "p"\n' + _RULE + _LIST))
    assert plain.id == policy.id, "a class decides nothing by itself"


def test_the_profile_of_the_standard_acts_on_every_class_but_those_of_a5() -> None:
    policy = load_policy(policy_path("builtin:gb45654"))
    for one in CLASSES.values():
        in_, out = (policy.action(one.category, stage=stage) for stage in (Stage.INPUT, Stage.OUTPUT))
        expected = {"A1": Action.REFUSE, "A2": Action.REFUSE, "A3": Action.FLAG, "A4": Action.FLAG, "A5": Action.ALLOW}[
            one.group
        ]
        if one.id in {"A4.e", "A4.f"}:
            expected = Action.MASK
        assert (in_, out) == (expected, expected), one.id
    unsure = [policy.action("a2_a", stage=stage, score=0.6) for stage in (Stage.INPUT, Stage.HISTORY, Stage.OUTPUT)]
    assert unsure == [Action.FLAG, Action.FLAG, Action.REFUSE]
    assert {policy.action(name, stage=stage) for name in ("self_harm", "sexual_minors") for stage in Stage} == {
        Action.HANDOFF
    }
    shipped = {one.name: one for one in policy.lists}
    assert shipped["terror-zh"].category == "a1_d"
    assert shipped["hate-gender-en"].category == "a2_e"
    assert shipped["self-harm-zh"].category == "self_harm"


def test_every_shipped_list_of_phrases_but_jailbreaks_names_its_class_and_every_policy_has_them_all() -> None:
    lists = [one for one in load_policy().lists if one.phrases and one.category not in {"test", "jailbreak"}]
    assert [one.name for one in lists if not one.safety_class] == []
    covered = {one.safety_class for one in lists}
    assert {f"A2.{letter}" for letter in "abcdefghi"} <= covered
    of_standard = load_policy(policy_path("builtin:gb45654"))
    assert [one.name for one in of_standard.lists] == [one.name for one in load_policy().lists]


def test_a_built_in_policy_goes_by_its_name_and_another_is_told_with_those_that_there_are() -> None:
    assert policy_path("") is None
    assert policy_path("x/y.toml") == Path("x/y.toml")
    assert load_policy(policy_path("builtin:general")).id == load_policy().id
    with pytest.raises(InvalidPolicy, match="there is no policy builtin:x; there are builtin:gb45654, builtin:general"):
        policy_path("builtin:x")


_REPLY = '[[replies]]\ncategory = "drugs"\nzh = "好"\nen = "fine"\n'
_ANSWER = '[[answers]]\nname = "one"\nany = ["why not"]\nzh = "好"\nen = "fine"\n'


def test_replies_and_answers_are_read_here_and_from_files(tmp_path: Path) -> None:
    write(tmp_path, _ANSWER + _REPLY.replace("fine", "from a file"), name="words.toml")
    own = _REPLY + 'stage = "output"\n' + _ANSWER.replace('"one"', '"two"')
    policy = load_policy(write(tmp_path, 'name = "p"\nwording = ["words.toml"]\n' + _RULE + _LIST + own))
    assert [(one.en, one.stage, one.place) for one in policy.replies if not one.is_shipped] == [
        ("fine", Stage.OUTPUT, "policy.toml:14"),
        ("from a file", None, "words.toml:6"),
    ]
    assert [(one.name, one.place) for one in policy.answers] == [("two", "policy.toml:19"), ("one", "words.toml:1")]
    assert sum(one.is_shipped for one in policy.replies) > 20


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (_REPLY.replace("drugs", "drogs"), "policy.toml:2: nothing finds the category drogs"),
        (_REPLY + 'stage = "question"\n', "policy.toml:6: replies.1.stage: Input should be"),
        (_REPLY.replace('zh = "好"\n', ""), "policy.toml:2: replies.1.zh: is required"),
        (_REPLY.replace("fine", "  "), "policy.toml:5: replies.1.en: the text is empty"),
        (_REPLY.replace("fine", "a\\u0007"), "policy.toml:5: replies.1.en: the text holds control characters"),
        (_REPLY.replace("fine", "x" * 2001), "policy.toml:5: replies.1.en: String should have at most"),
        (_REPLY + _REPLY + "colour = 1\n", "policy.toml:10: replies.2.colour: there is no such key"),
        (_ANSWER.replace("why not", "x"), "policy.toml:2: answer one: a single character"),
        (_ANSWER.replace('any = ["why not"]\n', ""), "policy.toml:2: answers.1: an answer needs phrases"),
        (_ANSWER + _ANSWER, "policy.toml:7: a second answer named one"),
        (_ANSWER + 'categories = ["drogs"]\n', "policy.toml:2: nothing finds the category drogs"),
        ('wording = ["builtin:nothing"]\n', "policy.toml:2: there is no wording builtin:nothing; there are answers, r"),
        (_LIST.replace('category = "drugs"', 'class = "A9.z"'), "policy.toml:5: lists.1.class: there is no such class"),
    ],
)
def test_faulty_wording_is_refused_with_the_place_and_the_reason(tmp_path: Path, text: str, expected: str) -> None:
    found = faults(tmp_path, 'name = "p"\n' + text)
    assert any(fault.startswith(expected) for fault in found), found
