"""What the page is told about answers that are not the model's."""

from app.domain.models import PREPARED, Message, MessageState, Receipt, Role, new_id, now
from app.domain.verdicts import NOTHING, ReleasedText
from app.domain.words import Language
from app.safety.policy_file import load_policy
from app.safety.replies import CategoryReplies
from app.web.drawing import Drawing
from ui.markdown import MarkdownRenderer

DRAW = Drawing(MarkdownRenderer(), replies=CategoryReplies(load_policy().replies))


def answer(**more: object) -> Message:
    values = {"id": new_id(), "conversation_id": new_id(), "parent_id": new_id(), "created_at": now()}
    return Message(**{**values, "role": Role.ASSISTANT, "text": NOTHING, **more})  # type: ignore[arg-type]


def drawn(message: Message, language: Language = "en") -> tuple[str, str, bool]:
    one = DRAW.message(message, language)
    return str(one["text"]), "".join(one["blocks"]), bool(one["is_prepared"])  # type: ignore[arg-type]


def test_a_refused_question_is_met_with_a_reply_that_stays_the_same() -> None:
    error = {"category": "self_harm", "stage": "input", "decision_id": "d"}
    one = answer(state=MessageState.BLOCKED, category="self_harm", error_code="content_filter", error_data=error)
    text, html, is_prepared = drawn(one, "zh")
    assert is_prepared
    assert "12356" in text
    assert 'href="tel:12356"' in html
    assert drawn(one, "zh") == (text, html, True)
    assert "988" in drawn(one, "en")[0]
    assert DRAW.message(one, "zh")["receipt"] is None


def test_what_was_released_of_a_cut_answer_is_not_shown() -> None:
    receipt = Receipt(model="m", finish_reason="content_filter")
    cut = answer(state=MessageState.BLOCKED, category="test", text=ReleasedText("Before it: "), receipt=receipt)
    text, html, is_prepared = drawn(cut)
    assert (text, is_prepared) == (
        "The answer held a test phrase for the content filter, so it was stopped here. The filter works.",
        True,
    )
    assert "Before" not in html
    assert DRAW.message(cut, "en")["receipt"]
    assert DRAW.message(cut, "en")["actions"] == ["again"]


def test_an_approved_answer_is_marked_and_shows_no_receipt_of_a_model() -> None:
    receipt = Receipt(model="why", finish_reason=PREPARED)
    one = DRAW.message(answer(state=MessageState.COMPLETE, text=ReleasedText("**Because.**"), receipt=receipt), "en")
    assert (one["text"], one["is_prepared"], one["receipt"], one["actions"]) == ("**Because.**", True, None, [])
    assert one["notice"] == "Written in advance, not by the model."
    plain = answer(state=MessageState.COMPLETE, text=ReleasedText("x"), receipt=Receipt(model="m"))
    assert not DRAW.message(plain, "en")["is_prepared"]


def test_a_filter_that_failed_says_so_and_a_blocked_question_says_nothing() -> None:
    failed = answer(state=MessageState.BLOCKED, error_code="safety_unavailable")
    assert drawn(failed) == ("", "", False)
    assert "cannot work just now" in str(DRAW.message(failed, "en")["notice"])
    assert drawn(answer(role=Role.USER, state=MessageState.BLOCKED, category="self_harm"))[0] == ""
