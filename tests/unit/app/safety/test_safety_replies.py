"""What people read in place of a refused text."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import InvalidPolicy
from app.domain.verdicts import Stage
from app.domain.words import LANGUAGES, Language
from app.safety.filter import ContentFilter
from app.safety.policy import make_policy
from app.safety.policy_file import load_policy, policy_path
from app.safety.replies import CategoryReplies, Reply
from app.safety.taxonomy import CATEGORIES, CLASSES
from app.safety.wording_check import require_sound

SHIPPED = load_policy().replies
REPLIES = CategoryReplies(SHIPPED)
EVERY = [*CATEGORIES, *(one.category for one in CLASSES.values()), "house_rules", ""]


def reply(category: str = "", stage: Stage | None = None, *, text: str = "words", is_shipped: bool = False) -> Reply:
    return Reply(category=category, stage=stage, zh=f"{text}。", en=text, is_shipped=is_shipped)


def said(replies: CategoryReplies, category: str, stage: Stage, *, seed: str = "") -> str:
    return replies.refusal(category=category, stage=stage, seed=seed, language="en")


@pytest.mark.parametrize("language", LANGUAGES)
def test_something_is_said_for_every_category_and_stage(language: Language) -> None:
    for category in EVERY:
        for stage in Stage:
            assert REPLIES.refusal(category=category, stage=stage, seed="x", language=language)
            assert REPLIES.brief(category=category, stage=stage, seed="x", language=language)


@given(category=st.sampled_from(EVERY), stage=st.sampled_from(Stage), seed=st.text())
def test_the_same_seed_says_the_same_and_in_both_languages_the_same_reply(
    category: str, stage: Stage, seed: str
) -> None:
    equals = REPLIES.choices(category, stage)
    spoken = [REPLIES.refusal(category=category, stage=stage, seed=seed, language=one) for one in LANGUAGES]
    again = [
        CategoryReplies(SHIPPED).refusal(category=category, stage=stage, seed=seed, language=one) for one in LANGUAGES
    ]
    assert spoken == again
    assert tuple(spoken) in {(one.en, one.zh) for one in equals}


def test_equals_are_all_said_now_and_then() -> None:
    for category in ("", "self_harm", "hate"):
        equals = REPLIES.choices(category, Stage.INPUT)
        assert len(equals) >= 2
        spoken = {said(REPLIES, category, Stage.INPUT, seed=f"decision {n}") for n in range(100)}
        assert spoken == {one.en for one in equals}


def test_the_closest_reply_is_taken_and_one_s_own_before_the_shipped() -> None:
    shipped = [reply(text="any", is_shipped=True), reply("fraud", Stage.INPUT, text="fraud", is_shipped=True)]
    own = [reply(text="own any"), reply("a2", text="group"), reply("a2_e", Stage.OUTPUT, text="class")]
    replies = CategoryReplies([*shipped, *own])
    assert said(replies, "drugs", Stage.INPUT) == "own any"
    assert said(replies, "fraud", Stage.INPUT) == said(replies, "fraud", Stage.HISTORY) == "fraud"
    assert said(replies, "fraud", Stage.OUTPUT) == "own any"
    assert said(replies, "a2_e", Stage.INPUT) == said(replies, "a2_a", Stage.OUTPUT) == "group"
    assert said(replies, "a2_e", Stage.OUTPUT) == said(replies, "a2_e", Stage.EXPORT) == "class"
    assert said(CategoryReplies([*shipped, reply("fraud", text="own")]), "fraud", Stage.INPUT) == "own"
    assert said(CategoryReplies(()), "fraud", Stage.INPUT) == ""


def test_self_harm_comes_with_help_lines_in_the_reply_and_in_brief() -> None:
    for stage in (Stage.INPUT, Stage.OUTPUT):
        for seed in map(str, range(20)):
            chinese, english = (
                (
                    REPLIES.refusal(category="self_harm", stage=stage, seed=seed, language=language),
                    REPLIES.brief(category="self_harm", stage=stage, seed=seed, language=language),
                )
                for language in ("zh", "en")
            )
            assert all("12356" in text for text in chinese)
            assert all(number in chinese[0] for number in ("tel:12356", "tel:110", "tel:120", "findahelpline.com"))
            assert all(number in text for number in ("988", "116 123") for text in english)
            assert "local emergency number" in english[0]
            assert "findahelpline.com" in english[0]


@pytest.mark.parametrize("language", LANGUAGES)
def test_in_brief_is_one_line_without_marks(language: Language) -> None:
    for category in EVERY:
        brief = REPLIES.brief(category=category, stage=Stage.INPUT, seed="x", language=language)
        assert not set("\n*[]`_") & set(brief)
        assert "tel:" not in brief
    loud = Reply(category="", stage=None, zh="好", en="Call **[12 34](tel:1234)**\nnow.\n\n- more", is_shipped=True)
    assert CategoryReplies([loud]).brief(category="", stage="input", seed="", language="en") == "Call 12 34 now."


def test_no_reply_names_its_category_a_rule_or_a_phrase_of_the_lists() -> None:
    phrases = {text.casefold() for one in load_policy().lists for text in one.phrases if one.name != "test"}
    for one in SHIPPED:
        spoken = f"{one.zh}\n{one.en}".casefold()
        assert not [phrase for phrase in phrases if phrase in spoken]
        assert "self_harm" not in spoken
        assert "-zh:" not in spoken


@pytest.mark.parametrize("name", ["builtin:general", "builtin:gb45654"])
def test_what_the_built_in_policies_say_passes_their_own_filter(name: str) -> None:
    policy = load_policy(policy_path(name))
    content_filter = ContentFilter(policy)
    require_sound(policy, content_filter=content_filter)
    assert policy.answers


def house_policy(folder: Path, text: str) -> Path:
    path = folder / "house.toml"
    lists = '[[lists]]\nname = "own"\ncategory = "house"\nlanguage = "any"\naction = "refuse"\n'
    lists += 'phrases = ["secret plan", "误会"]\n'
    path.write_text('name = "house"\n' + lists + text, encoding="utf-8")
    return path


def faults_of(path: Path) -> str:
    policy = load_policy(path)
    with pytest.raises(InvalidPolicy) as caught:
        require_sound(policy, content_filter=ContentFilter(policy))
    return str(caught.value)


def test_a_reply_or_answer_that_the_policy_would_stop_is_told_with_its_place_and_not_repeated(tmp_path: Path) -> None:
    words = '[[replies]]\ncategory = "house"\nzh = "好的"\nen = "no Secret  Plan here"\n'
    words += '[[answers]]\nname = "one"\nany = ["why"]\nzh = "秘密 secret plan"\nen = "fine"\n'
    words += '[[rules]]\ncategory = "personal_data"\nstages = ["output"]\naction = "mask"\n'
    words += '[[answers]]\nname = "two"\nany = ["why"]\nzh = "号码 11010519491231002X"\nen = "fine"\n'
    found = faults_of(house_policy(tmp_path, words))
    assert "house.toml:8: en: the policy itself would stop or mask this (own:" in found
    assert "house.toml:12: zh:" in found
    assert "house.toml:21: zh:" in found
    assert "Plan" not in found
    assert "replies.toml" in found, "a shipped reply holds 误会, which this policy refuses"


def test_a_shipped_reply_that_one_s_own_replaces_need_not_pass(tmp_path: Path) -> None:
    words = "".join(f'[[replies]]\nstage = "{stage}"\nzh = "好的"\nen = "fine"\n' for stage in ("input", "output"))
    policy = load_policy(house_policy(tmp_path, words))
    require_sound(policy, content_filter=ContentFilter(policy))


def test_a_policy_made_of_parts_has_what_it_is_given() -> None:
    assert make_policy("bare").replies == ()
    assert make_policy("bare", replies=[reply()]).id == make_policy("bare").id
