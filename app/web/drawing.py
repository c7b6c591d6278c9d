"""Domain objects as the page takes them: plain JSON, words in the reader's language, answers as HTML blocks."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from app.domain.errors import ContentBlocked
from app.domain.generation import EngineState, EngineStatus
from app.domain.health import FilterState
from app.domain.models import Account, Conversation, Message, MessageState, Receipt, Review, ReviewState, Role
from app.domain.own_text import OwnText
from app.domain.ports import Markdown, Replies
from app.domain.verdicts import Stage
from app.domain.words import Language, category_name, notice, pause, waiting
from app.services.chat import ChosenTemplate, can_continue, can_repeat
from app.services.conversations import Thread
from app.services.prompt_library import Shelf

_KEPT_ANSWERS = 2000
_SHORT = 8
"""Characters of a decision's id that people read to each other."""
NO_REVIEWS: Mapping[str, Review] = {}


class Drawing:
    """Draws; keeps the HTML of the answers that were read last, since a final answer never changes."""

    def __init__(self, markdown: Markdown, *, replies: Replies) -> None:
        """`markdown` renders answers, `replies` are shown in place of what was refused."""
        self._markdown = markdown
        self._replies = replies
        self._blocks: OrderedDict[str, Sequence[str]] = OrderedDict()

    def message(
        self,
        message: Message,
        language: Language,
        *,
        siblings: Sequence[str] = (),
        is_outside_context: bool = False,
        reviews: Mapping[str, Review] = NO_REVIEWS,
        own: OwnText | None = None,
    ) -> dict[str, object]:
        """Return a message. A blocked answer shows a reply in place of what was written.

        `own` is its text for its owner alone, who reads the turn as it runs; nothing of it is kept.
        """
        text = message.text if own is None else own
        is_answer = message.role is Role.ASSISTANT
        is_blocked = message.state is MessageState.BLOCKED
        reply = self._reply(message, language) if is_answer and is_blocked else ""
        return {
            "id": message.id,
            "parent_id": message.parent_id,
            "role": message.role.value,
            "state": message.state.value,
            "text": reply if is_blocked else text,
            "blocks": self._shown(message, reply, own=own) if is_answer else [],
            "is_prepared": bool(reply) or message.is_prepared,
            "created_at": message.created_at.isoformat(),
            "notice": notice(message, language),
            "category": category_name(message.category, language) or None,
            "actions": _actions(message),
            "review": _review_of(message, reviews, language),
            "siblings": list(siblings) or [message.id],
            "outside_context": is_outside_context,
            "receipt": _receipt(message.receipt) if message.receipt and not message.is_prepared else None,
        }

    def _reply(self, message: Message, language: Language) -> str:
        """Return what is said in place of a refused text; none where the filter failed: that has words of its own."""
        if message.error_code not in {None, ContentBlocked.code}:
            return ""
        return self._replies.refusal(
            category=message.category or "",
            stage=str(message.error_data.get("stage") or (Stage.OUTPUT if message.receipt else Stage.INPUT)),
            seed=str(message.error_data.get("decision_id") or message.id),
            language=language,
        )

    def _shown(self, message: Message, reply: str, *, own: OwnText | None) -> Sequence[str]:
        """Return the HTML of an answer, or of what is said in its place."""
        if message.state is MessageState.BLOCKED:
            return self._markdown.render(reply) if reply else []
        if own is not None:  # never among the answers that are kept: others may read them, or its owner later
            return self._markdown.render(own) if own else []
        return self._html(message)

    def thread(self, thread: Thread, language: Language) -> dict[str, object]:
        """Return a conversation with its shown branch."""
        return {
            "conversation": conversation(thread.conversation, language, template=thread.template),
            "messages": self.messages(thread, language),
        }

    def messages(self, thread: Thread, language: Language) -> list[dict[str, object]]:
        """Return the shown branch."""
        history = [one for one in thread.messages if one.text and one.state is not MessageState.BLOCKED]
        outside = {one.id for one in history[: thread.outside_context]}
        return [
            self.message(
                one,
                language,
                siblings=thread.siblings.get(one.id, ()),
                is_outside_context=one.id in outside,
                reviews=thread.reviews,
            )
            for one in thread.messages
        ]

    def _html(self, answer: Message) -> Sequence[str]:
        if not answer.text:
            return []
        if not answer.state.is_final:
            return self._markdown.render(answer.text)
        blocks = self._blocks.pop(answer.id, None) or self._markdown.render(answer.text)
        self._blocks[answer.id] = blocks
        if len(self._blocks) > _KEPT_ANSWERS:
            self._blocks.popitem(last=False)
        return blocks


def conversation(one: Conversation, language: Language, *, template: ChosenTemplate | None = None) -> dict[str, object]:
    """Return a conversation for the list."""
    return {
        "id": one.id,
        "title": one.title,
        "created_at": one.created_at.isoformat(),
        "updated_at": one.updated_at.isoformat(),
        "template": {
            "name": template[0].name,
            "title": in_language(template[0].title, language),
            "number": template[1].number,
        }
        if template
        else None,
    }


def review(decision_id: str, one: Review | None) -> dict[str, object]:
    """Return how far the review of a refusal is: `state` is None where nobody looks at it yet."""
    is_told = one is not None and (one.is_appealed or one.state is not ReviewState.OPEN)
    return {
        "decision_id": decision_id,
        "short": decision_id[:_SHORT],
        "can_ask": one is None or not one.is_appealed,
        "state": one.state.value if one is not None and is_told else None,
        "note": one.note if one is not None else "",
    }


def account(one: Account | None) -> dict[str, object] | None:
    """Return who is signed in."""
    return {"name": one.name, "role": one.role.value} if one else None


def status(
    one: EngineStatus,
    language: Language,
    *,
    running: int,
    waiting_turns: int,
    filter_state: FilterState = FilterState.OK,
) -> dict[str, object]:
    """Return the engine's state, with words while it is not ready, and the filter's."""
    profile = one.profile
    words = ""
    if one.state in {EngineState.STARTING, EngineState.LOADING}:
        words = waiting(position=0, eta_s=None, stage="load", progress=one.progress, language=language)
    elif one.state is EngineState.DOWN:
        words = "The model is not reachable." if language == "en" else "暂时连不上模型。"
    return {
        "ready": one.state is EngineState.READY,
        "state": one.state.value,
        "stage": one.stage,
        "progress": round(one.progress, 3),
        "message": words,
        "slots": one.slots,
        "running": running,
        "waiting": waiting_turns,
        "filter": filter_state.value,
        "model": {
            "id": profile.id,
            "title": profile.title,
            "is_embedded": profile.is_embedded,
            "context_length": profile.context_length,
            "license_url": profile.license_url,
            "source_url": profile.source_url,
        }
        if profile
        else None,
    }


_OWN_NAMES = {"en": "English", "zh": "中文"}


def templates(shelves: Sequence[Shelf], language: Language) -> list[dict[str, object]]:
    """Return the templates as the picker offers them: those in the reader's language first."""
    return [template(one, language) for one in sorted(shelves, key=lambda one: one.template.language != language)]


def template(shelf: Shelf, language: Language) -> dict[str, object]:
    """Return a template; one that is written in another language says so."""
    content = shelf.live.content
    title = in_language(shelf.template.title, language)
    if shelf.template.language != language:
        title = f"{title} · {_OWN_NAMES.get(shelf.template.language, shelf.template.language)}"
    return {
        "name": shelf.template.name,
        "title": title,
        "description": in_language(shelf.template.description, language),
        "language": shelf.template.language,
        "tags": list(shelf.template.tags),
        "version_id": shelf.live.id,
        "number": shelf.live.number,
        "variables": [
            {
                "name": one.name,
                "label": in_language(one.label, language) or one.name,
                "kind": one.kind.value,
                "default": one.default,
                "choices": list(one.choices),
                "required": one.is_required,
            }
            for one in content.variables
        ],
        "examples": list(content.examples),
    }


def in_language(words: Mapping[str, str], language: Language) -> str:
    """Return the words in this language, or in any."""
    return words.get(language) or next(iter(words.values()), "")


def _review_of(message: Message, reviews: Mapping[str, Review], language: Language) -> dict[str, object] | None:
    """Return the review of a refused question or answer; a failure of the filter has none.

    What stands in the place of an answer to a refused question has none either: the question has it.
    """
    decision_id = str(message.error_data.get("decision_id", ""))
    is_answer_judged = message.receipt is not None and message.error_code == ContentBlocked.code
    is_judged = message.role is Role.USER or is_answer_judged
    if message.state is not MessageState.BLOCKED or not is_judged or not decision_id:
        return None
    return review(decision_id, reviews.get(decision_id)) | {"pause": pause(message, language)}


def _actions(message: Message) -> list[str]:
    if message.role is not Role.ASSISTANT or not message.state.is_final:
        return []
    can_do = {"again": can_repeat(message), "continue": can_continue(message)}
    return [action for action, can in can_do.items() if can]


def _receipt(receipt: Receipt) -> dict[str, object]:
    sampling = receipt.sampling
    return {
        "model": receipt.model,
        "model_revision": receipt.model_revision,
        "quantization": receipt.quantization,
        "template": receipt.template or None,
        "prompt_tokens": receipt.prompt_tokens,
        "completion_tokens": receipt.completion_tokens,
        "queued_s": receipt.queued_s,
        "first_token_s": receipt.first_token_s,
        "total_s": receipt.total_s,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "seed": sampling.seed,
        "policy": receipt.policy,
        "finish_reason": receipt.finish_reason,
    }
