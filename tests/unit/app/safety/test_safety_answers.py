"""The answer bank: who gets an approved answer, and which."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.safety.answers import Answer, PhraseAnswerBank
from app.safety.policy_file import load_policy
from app.safety.taxonomy import CATEGORIES, CLASSES

SHIPPED = load_policy().answers


def answer(name: str, **more: object) -> Answer:
    return Answer(name=name, zh=f"{name}。", en=name, **more)  # type: ignore[arg-type]


async def found(bank: PhraseAnswerBank, question: str, *, category: str = "drugs") -> str | None:
    prepared = await bank.find(question, category=category)
    return prepared.text if prepared else None


async def test_any_needs_one_all_needs_each_and_together_both() -> None:
    bank = PhraseAnswerBank(
        [
            answer("both", all=("red", "blue"), any=("one", "two")),
            answer("all", all=("red", "blue")),
            answer("any", any=("one",)),
        ]
    )
    assert await found(bank, "red two blue") == "both"
    assert await found(bank, "blue red") == "all"
    assert await found(bank, "red one") == "any"
    assert await found(bank, "red two") is None
    assert await found(bank, "") is None


async def test_an_answer_is_for_its_categories_a_group_for_its_classes_and_none_for_all() -> None:
    bank = PhraseAnswerBank(
        [
            answer("drugs", any=("why",), categories=frozenset({"drugs"})),
            answer("group", any=("why",), categories=frozenset({"a2"})),
            answer("rest", any=("why",)),
        ]
    )
    assert await found(bank, "why", category="drugs") == "drugs"
    assert await found(bank, "why", category="a2_i") == "group"
    assert await found(bank, "why", category="a1_a") == "rest"
    assert (
        await found(
            PhraseAnswerBank([answer("drugs", any=("why",), categories=frozenset({"drugs"}))]), "why", category="hate"
        )
        is None
    )
    assert await found(PhraseAnswerBank(()), "why") is None


async def test_the_answer_is_in_the_language_of_the_question() -> None:
    bank = PhraseAnswerBank([answer("one", any=("help", "帮帮"))])
    assert await found(bank, "help me") == "one"
    assert await found(bank, "请帮帮我") == "one。"
    assert await found(bank, "help 我") == "one。"


async def test_phrases_are_found_as_everywhere_else() -> None:
    bank = PhraseAnswerBank([answer("one", any=("my friend", "我朋友"))])
    for question in ("MY  Friend", "ｍｙ ｆｒｉｅｎｄ", "我-朋-友", "我\u200b朋友", "x" * 5000 + " my friend"):
        assert await found(bank, question), question
    for question in ("my friendship", "mommy friend", "my. friend"):
        assert await found(bank, question) is None, question


@given(phrases=st.lists(st.sampled_from(["ab", "cd", "ef", "gh"]), unique=True), of=st.permutations(["ab", "cd", "ef"]))
def test_what_suits_depends_on_what_is_there_and_not_on_the_order(phrases: list[str], of: list[str]) -> None:
    here = frozenset(phrases)
    assert answer("x", all=tuple(of)).suits(here) is (here >= {"ab", "cd", "ef"})
    assert answer("x", any=tuple(of)).suits(here) is bool(here & {"ab", "cd", "ef"})


@pytest.mark.parametrize("name", [one.name for one in SHIPPED])
async def test_each_shipped_answer_is_given_for_each_of_its_phrases_unless_an_earlier_one_is(name: str) -> None:
    bank = PhraseAnswerBank(SHIPPED)
    (one,) = (each for each in SHIPPED if each.name == name)
    earlier = {each.name for each in SHIPPED[: SHIPPED.index(one)]}
    assert one.categories <= {*CATEGORIES, *(each.category for each in CLASSES.values())}
    for phrase in one.any:
        for category in one.categories:
            prepared = await bank.find(f"… {phrase} …", category=category)
            assert prepared
            expected = one.text("en" if phrase.isascii() else "zh")
            assert prepared.name in earlier or (prepared.name, prepared.text) == (name, expected)
