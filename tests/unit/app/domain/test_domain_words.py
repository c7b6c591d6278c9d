import re
from pathlib import Path

import pytest

from app.domain import errors
from app.domain.models import (
    PREPARED,
    Message,
    MessageState,
    Receipt,
    Role,
    Sampling,
    TemplateDraft,
    Variable,
    new_id,
    now,
)
from app.domain.verdicts import NOTHING
from app.domain.words import LANGUAGES, Language, category_name, describe, notice, sentence, waiting
from prompts import library


def every_error(kind: type[errors.ChatError] = errors.ChatError) -> list[type[errors.ChatError]]:
    return [kind, *(inner for child in kind.__subclasses__() for inner in every_error(child))]


def make(kind: type[errors.ChatError]) -> errors.ChatError:
    if issubclass(kind, errors.QuotaExceeded | errors.EngineBusy):
        return kind(retry_after_s=3.0)
    return kind()


def message(state: MessageState, **more: object) -> Message:
    values = {"id": new_id(), "conversation_id": new_id(), "parent_id": None, "role": Role.ASSISTANT, "text": NOTHING}
    return Message(**values, state=state, created_at=now(), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", [kind for kind in every_error() if kind.__module__ == "app.domain.errors"])
def test_every_error_has_words_of_its_own(kind: type[errors.ChatError], language: Language) -> None:
    words = describe(make(kind), language)
    assert words
    assert "{" not in words
    if kind is not errors.ChatError:
        assert words != describe(errors.ChatError(), language), f"{kind.__name__} falls back to the general sentence"


def test_different_causes_read_differently() -> None:
    causes = [
        errors.EngineBusy(retry_after_s=5),
        errors.EngineStarting(stage="weights", progress=0.45),
        errors.EngineDied(),
        errors.GenerationTimeout(after_s=60),
        errors.StorageFull(),
        errors.StorageBusy(),
        errors.TextTooLong(limit=10, length=20),
        errors.InvalidInput(is_empty=True),
    ]
    assert len({describe(cause, "en") for cause in causes}) == len(causes)
    assert "45 %" in describe(causes[1], "zh")


@pytest.mark.parametrize("kind", [kind for kind in every_error() if kind.__module__ == "app.domain.errors"])
def test_no_error_says_that_something_was_kept_or_sent(kind: type[errors.ChatError]) -> None:
    words = describe(make(kind), "en") + describe(make(kind), "zh")
    assert not any(claim in words for claim in ("kept", "sent", "已保存", "没有丢失", "未发送"))


def test_under_a_failed_answer_it_is_said_that_the_question_was_kept() -> None:
    failed = message(MessageState.FAILED, error_code="engine_died")
    assert (notice(failed, "en") or "").endswith("Your question was kept.")
    assert (notice(failed, "zh") or "").endswith("问题已保存。")


def test_a_newer_database_wants_a_newer_program_and_an_older_one_an_upgrade() -> None:
    newer, older = (errors.SchemaOutdated(found=found, expected="0002") for found in ("0003", "0001"))
    assert "newer Haina" in describe(newer, "en")
    assert "db upgrade" not in describe(newer, "en") + describe(newer, "zh")
    assert "db upgrade" in describe(older, "en")


def test_a_backup_that_is_none_is_not_to_be_restored_again() -> None:
    assert "db restore" in describe(errors.StorageCorrupt(), "en")
    assert "db restore" not in describe(errors.StorageCorrupt(kind="backup"), "en")


def raised_kinds() -> set[str]:
    """The kinds that the program gives to an InvalidInput, as its source has them."""
    root = Path(__file__).resolve().parents[4]
    files = [file for folder in ("app", "ui", "prompts") for file in (root / folder).rglob("*.py")]
    return {
        kind
        for file in files
        for raised in re.findall(r"InvalidInput\((?:[^()]|\([^()]*\))*\)", file.read_text(encoding="utf-8"))
        for kind in re.findall(r'kind="(\w+)"', raised)
    }


@pytest.mark.parametrize("kind", sorted(raised_kinds()))
def test_every_kind_of_wrong_input_has_words_in_chinese_without_its_english_detail(kind: str) -> None:
    error = errors.InvalidInput("an English detail", kind=kind, param="x", limit=1)
    assert "English" not in describe(error, "zh")
    assert "English" not in describe(error, "en")


def test_what_is_wrong_with_a_template_is_said_in_chinese() -> None:
    variable = Variable(name="topic", label={"en": "Topic"})
    wrong = {
        "系统提示词用了变量“nowhere”，但没有声明": TemplateDraft(system="About {{nowhere}}."),
        "变量“topic”已声明，但系统提示词没有用到": TemplateDraft(system="About it.", variables=(variable,)),
        "“system”不能为空": TemplateDraft(system=""),
        "“sampling.temperature”超出了允许的范围": TemplateDraft(system="x", sampling=Sampling(temperature=9)),
        "{{ 后面必须是变量名和 }}": TemplateDraft(system="About {{ and nothing."),
    }
    for words, draft in wrong.items():
        with pytest.raises(errors.InvalidInput) as caught:
            library.check(draft)
        assert words in describe(caught.value, "zh")
        assert caught.value.detail in describe(caught.value, "en")


@pytest.mark.parametrize("language", LANGUAGES)
def test_under_what_was_written_in_advance_it_is_said_so_and_no_category_is_named(language: Language) -> None:
    question = notice(message(MessageState.BLOCKED, category="self_harm", error_code="content_filter"), language)
    receipt = Receipt(model="m", finish_reason="content_filter")
    answer = notice(message(MessageState.BLOCKED, category="self_harm", receipt=receipt), language)
    prepared = notice(message(MessageState.COMPLETE, receipt=Receipt(model="x", finish_reason=PREPARED)), language)
    assert question == prepared != answer
    for words in (question, answer):
        assert words
        assert ("Written in advance" if language == "en" else "预先写好") in words
        assert category_name("self_harm", language) not in words
    broken = message(MessageState.BLOCKED, error_code="safety_unavailable")
    assert notice(broken, language) == sentence("safety_unavailable", {}, language)


@pytest.mark.parametrize("state", [MessageState.BLOCKED, MessageState.FAILED, MessageState.INTERRUPTED])
def test_an_answer_that_did_not_complete_says_so(state: MessageState) -> None:
    assert notice(message(state, category="test"), "en")


def test_a_failed_answer_says_later_what_it_said_at_first() -> None:
    failed = message(MessageState.FAILED, error_code="generation_timeout", error_data={"after_s": 60.0})
    assert "60 s" in (notice(failed, "en") or "")


def test_a_complete_answer_needs_no_notice_unless_its_length_cut_it() -> None:
    assert notice(message(MessageState.COMPLETE), "zh") is None
    assert notice(message(MessageState.COMPLETE, receipt=Receipt(model="m", finish_reason="stop")), "zh") is None
    assert notice(message(MessageState.COMPLETE, receipt=Receipt(model="m", finish_reason="length")), "zh")


def test_the_queue_line_names_place_and_time() -> None:
    assert waiting(position=3, eta_s=40, stage="", progress=0, language="en").endswith("3 in the queue, about 40 s")
    assert waiting(position=0, eta_s=None, stage="weights", progress=0.45, language="zh") == "正在加载模型，45 %"
