"""The 31 classes, our categories, and the ways between them."""

from collections import Counter

import pytest

from app.domain.words import LANGUAGES, category_name
from app.safety.policy_file import load_policy
from app.safety.taxonomy import CATEGORIES, CLASSES, GROUPS, class_of, in_openai, is_class
from app.web.moderations import OPENAI

WITHOUT_LIKENESS = {"personal_data", "jailbreak", "test", "unavailable"}
"""Categories of ours that OpenAI has nothing like."""


def test_there_are_thirty_one_classes_in_five_groups() -> None:
    assert Counter(one.group for one in CLASSES.values()) == {"A1": 8, "A2": 9, "A3": 5, "A4": 7, "A5": 2}
    assert list(CLASSES) == sorted(CLASSES)
    assert set(GROUPS) == {"A1", "A2", "A3", "A4", "A5"}
    assert all(key == one.id for key, one in CLASSES.items())


def test_names_differ_and_are_in_both_languages() -> None:
    for language in LANGUAGES:
        names = [getattr(one, language) for one in (*CLASSES.values(), *GROUPS.values())]
        assert len(set(names)) == len(names) == 36
    assert all(any("一" <= char <= "鿿" for char in one.zh) for one in CLASSES.values())
    assert all(one.en.isascii() for one in CLASSES.values())


def test_the_minimums_are_the_standard_s() -> None:
    assert [GROUPS[one].keywords for one in GROUPS] == [200, 100, 0, 0, 0]
    assert [GROUPS[one].test_questions for one in GROUPS] == [50, 50, 20, 20, 20]
    assert [GROUPS[one].refuse_questions for one in GROUPS] == [20, 20, 0, 0, 0]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_category_has_a_name_of_its_own(language: str) -> None:
    names = {one: category_name(one, language) for one in CATEGORIES}  # type: ignore[arg-type]
    assert len(set(names.values())) == len(names)
    if language == "zh":
        assert all(not name.isascii() for name in names.values())
    assert "sexual" in CATEGORIES
    assert category_name("a1_d", "en") == "A1.d terrorism, extremism"
    assert category_name("house_rules", "en") == "house rules"


def test_a_category_is_a_class_or_is_close_to_one() -> None:
    assert all(class_of(one.category) is one and is_class(one.category) for one in CLASSES.values())
    assert all(class_id in CLASSES for one in CATEGORIES.values() for class_id in one.classes)
    found = {one: class_of(one) for one in CATEGORIES}
    assert {one for one, of in found.items() if of is None} == {"jailbreak", "test", "unavailable"}
    assert class_of("house_rules") is None
    assert not any(map(is_class, CATEGORIES))


def test_every_category_and_class_that_openai_has_something_like_has_its_name() -> None:
    assert {one for one in CATEGORIES if not in_openai(one)} == WITHOUT_LIKENESS
    every = {name for one in (*CATEGORIES, *(each.category for each in CLASSES.values())) for name in in_openai(one)}
    assert every <= set(OPENAI)
    refused = [one for one in CLASSES.values() if one.group in {"A1", "A2"} and not in_openai(one.category)]
    assert {one.id for one in refused} == {"A1.a", "A1.b", "A1.c", "A1.g"}
    assert in_openai("house_rules") == ()


def test_the_shipped_policy_knows_no_category_that_the_taxonomy_does_not() -> None:
    assert load_policy().categories <= set(CATEGORIES)
