import pytest

from app.domain import errors
from app.domain.models import Message, MessageState, Receipt, Role, new_id, now
from app.domain.verdicts import NOTHING
from app.domain.words import LANGUAGES, Language, describe, notice, sentence, waiting


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


def test_self_harm_comes_with_help_lines() -> None:
    assert "12356" in sentence("content_filter", {"category": "self_harm"}, "zh")


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
