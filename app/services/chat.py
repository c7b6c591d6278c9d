"""The chat: a question goes in, a turn of its own writes the answer, readers follow its log.

One turn, from top to bottom: `ask` → filter → storage → `_run` → wait for the model → prompt → queue → engine → gate →
log → storage. Nothing leaves by another way. A question that the filter refuses may have an approved answer in the
answer bank: it passes the filter too, and the turn is over at once.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NoReturn

import structlog

from app.domain.errors import (
    AccessDenied,
    Conflict,
    ContentBlocked,
    InvalidInput,
    NotFound,
    SafetyUnavailable,
    TextTooLong,
)
from app.domain.events import Ended, Numbered
from app.domain.generation import ChatMessage
from app.domain.models import (
    PREPARED,
    Account,
    Conversation,
    Message,
    MessageState,
    Receipt,
    Role,
    Sampling,
    Template,
    TemplateVersion,
    new_id,
    now,
)
from app.domain.own_text import Masks
from app.domain.ports import Filter, Filters, Storage, Unit
from app.domain.verdicts import NO_MASKS, NOTHING, Checked, Decision, ReleasedText, SealedText, Stage
from app.domain.words import Language
from app.services.answering import Answering, refusal, told
from app.services.hits import Recorder
from app.services.stats import Stats
from app.services.strikes import Strikes, written
from app.services.titles import title_of
from app.services.turns import Turn, Turns
from prompts.render import render

MAX_CHARACTERS = 32_000
"""Of one message: far beyond any context that the models have, and little enough to be read by the filter at once."""

_TURNS_TOGETHER = 3
"""Earlier questions that are read together with the new one."""

ChosenTemplate = tuple[Template, TemplateVersion]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a person asks on the page."""

    text: str
    conversation_id: str | None = None
    """None starts a new one."""
    parent_id: str | None = None
    """The message that it follows; None is the newest one shown."""
    template: str | None = None
    """A template's name, for a new conversation."""
    variables: Mapping[str, str] = field(default_factory=dict)
    language: Language = "en"
    """In which mistakes in the template's form are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiQuestion:
    """What a program asks: the whole history comes with it."""

    messages: tuple[ChatMessage, ...]
    sampling: Sampling = field(default_factory=Sampling)
    model: str = "default"
    template: str | None = None
    template_version: int | None = None
    """None is the live one."""
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question and its answer as they were saved; the answer is still running, or blocked with its question."""

    conversation: Conversation
    question: Message
    answer: Message
    siblings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of both: the ids with the same parent, oldest first, itself included."""
    template: ChosenTemplate | None = None


@dataclass(frozen=True, slots=True)
class _Prepared:
    """An answer of the answer bank after the filter."""

    text: ReleasedText
    receipt: Receipt


class Chat:
    """Asks, answers, stops."""

    def __init__(
        self,
        *,
        storage: Storage,
        filters: Filters,
        answering: Answering,
        turns: Turns,
        stats: Stats,
        recorder: Recorder,
        strikes: Strikes,
    ) -> None:
        """`answering` runs the turns that are asked for here."""
        self._storage = storage
        self._filters = filters
        self._answering = answering
        self._turns = turns
        self._stats = stats
        self._recorder = recorder
        self._strikes = strikes

    # What people do

    async def ask(self, account: Account, question: Question) -> Asked:
        """Save the question and start its turn.

        Raises InvalidInput, TextTooLong, NotFound, Conflict, AccessDenied, Suspended, EngineBusy, StorageFailure.
        A question that the filter refuses is saved as a stub without its text, blocked, with a blocked answer, or with
        the one that the answer bank has for it.
        """
        await self._require_free(account)
        content_filter = await self._filters.over(account.policy_layers)
        text = _clean(question.text)
        conversation_id = await self._conversation_id(account, question)
        with self._turns.claim(conversation_id):
            async with self._storage.read() as unit:
                conversation, is_new = await self._conversation(unit, account, question, conversation_id)
                parent_id = question.parent_id or conversation.leaf_id
                history = await self._history(unit, conversation, parent_id)
                template = await template_of(unit, conversation)
                beside = () if is_new else await unit.messages.children(conversation_id, parent_id)
            beside_text = [*(message.text for message in history), *conversation.variables.values()]
            checked = await self._check(content_filter, text, stage=Stage.INPUT, context=history, beside=beside_text)
            system = await self._system(content_filter, account, template, conversation, language=question.language)
            checked = await _in_context(content_filter, checked, history)
            if is_new and checked.text is not None:
                # The beginning of what guards have just judged.
                title = await content_filter.check(title_of(checked.text), stage=Stage.OUTPUT, with_guards=False)
                conversation = replace(conversation, title=title.text or NOTHING)
            prepared = await _prepared(content_filter, text, checked.decision)
            asked = _asked(conversation, parent_id=parent_id, checked=checked, prepared=prepared)
            asked = replace(asked, siblings={asked.question.id: (*beside, asked.question.id)}, template=template)
            turn = _turn(
                account,
                asked,
                content_filter=content_filter,
                messages=(*system, *history, ChatMessage(Role.USER, asked.question.text)),
                title=conversation.title if is_new else None,
                masks=checked.masks,
            )
            return await self._save_and_start(account, asked, turn, checked, is_new=is_new)

    async def ask_for_program(self, account: Account, question: ApiQuestion) -> Asked:
        """Save the last question of a program's messages and start its turn.

        Raises what `ask` raises, and ContentBlocked where the filter refuses the history, or the question and the
        answer bank has nothing for it.
        """
        await self._require_free(account)
        *history, last = question.messages or (ChatMessage(Role.USER, ""),)
        if last.role is not Role.USER:
            raise InvalidInput("the last message must be the user's", param="messages")
        content_filter = await self._filters.over(account.policy_layers)
        system, version = await self._system_of_program(content_filter, account, question)
        cleared = [await self._cleared_history(content_filter, account, message) for message in history]
        text = _clean(last.text)
        beside = [message.text for message in (*system, *cleared)]
        checked = await self._check(content_filter, text, stage=Stage.INPUT, context=cleared, beside=beside)
        checked = await _in_context(content_filter, checked, cleared)
        at = now()
        conversation = Conversation(
            id=new_id(),
            owner_id=account.id,
            title=NOTHING,
            created_at=at,
            updated_at=at,
            template_version_id=version.id if version else None,
            source="api",
        )
        prepared = await _prepared(content_filter, text, checked.decision)
        asked = _asked(conversation, parent_id=None, checked=checked, prepared=prepared)
        turn = Turn(
            id=asked.answer.id,
            account_id=account.id,
            conversation_id=conversation.id,
            answer=asked.answer,
            content_filter=content_filter,
            messages=(*system, *cleared, ChatMessage(Role.USER, asked.question.text)),
            sampling=version.content.sampling.overridden_by(question.sampling) if version else question.sampling,
            model=question.model,
            template_version_id=conversation.template_version_id,
            masks=checked.masks,
            is_patient=False,
        )
        asked = await self._save_and_start(account, asked, turn, checked, is_new=True)
        if asked.answer.state is MessageState.BLOCKED:
            raise refusal(checked.decision)
        return asked

    async def again(self, account: Account, answer_id: str) -> Asked:
        """Answer the same question anew, beside the first answer."""
        return await self._answer_again(account, answer_id, is_continuing=False)

    async def go_on(self, account: Account, answer_id: str) -> Asked:
        """Continue a cut answer: a new one beside it, which begins with its text."""
        return await self._answer_again(account, answer_id, is_continuing=True)

    async def stop(self, account: Account, turn_id: str) -> None:
        """End a turn of one's own now. One that is over stays as it is.

        Raises NotFound for a turn that is unknown or somebody else's.
        """
        turn = self._turns.get(turn_id)
        if turn is None or turn.account_id != account.id:
            await self._own_answer(account, turn_id)
        else:
            turn.stop()

    async def read(self, account: Account, turn_id: str, *, after: int = 0) -> AsyncIterator[Sequence[Numbered]]:
        """Yield a turn's events after number `after`, to its end.

        A turn that this process no longer knows is told from the saved answer.
        Raises NotFound for a turn that is unknown or somebody else's.
        """
        turn = self._turns.get(turn_id)
        if turn is None or turn.account_id != account.id:
            answer = await self._own_answer(account, turn_id)
            yield [Numbered(after + 1, Ended(answer=answer))]
            return
        async for batch in turn.log.read(after):
            yield batch

    def masks(self, account: Account, turn_id: str) -> Masks:
        """Return what placeholders in the answer of a turn of one's own stand for: nothing once it is forgotten."""
        turn = self._turns.get(turn_id)
        return Masks(turn.masks) if turn is not None and turn.account_id == account.id else Masks()

    # Inside

    async def _require_free(self, account: Account) -> None:
        """Raises AccessDenied, Suspended."""
        _require_active(account)
        await self._strikes.require_free(account)

    async def _save_and_start(
        self, account: Account, asked: Asked, turn: Turn, checked: Checked, *, is_new: bool
    ) -> Asked:
        """Save question and answer, count a refusal, and begin the turn; return both as they were saved."""
        is_over = asked.answer.state.is_final
        if not is_over:
            await self._answering.admit(turn)
        async with self._storage.write() as unit:
            await _require_row(unit, account)
            if pause := await self._strikes.judge(unit, account, checked.decision):
                asked = _paused(asked, until=written(pause.ends_at))
            if is_new:
                await unit.conversations.add(replace(asked.conversation, leaf_id=None))
            await unit.messages.add(asked.question, asked.answer)
            await unit.conversations.set_leaf(asked.conversation.id, asked.answer.id, asked.answer.created_at)
            await self._recorder.write(
                unit,
                self._recorder.note(
                    checked.case,
                    account_id=account.id,
                    conversation_id=asked.conversation.id,
                    message_id=asked.question.id,
                ),
            )
            await unit.commit()
        self._stats.asked(checked.decision)
        if not is_over:
            self._answering.start(turn)
        elif asked.answer.text:
            self._tell(turn, asked.answer)
        return asked

    def _tell(self, turn: Turn, answer: Message) -> None:
        """End a turn that no engine was asked for, so that its readers are told as of any other."""
        self._turns.add(turn)
        turn.release(answer.text)
        turn.log.append(Ended(answer=answer))
        self._turns.retire(turn)

    async def _refuse(self, account: Account, checked: Checked, *, is_strike: bool = False) -> NoReturn:
        """Write down the refusal of a text that no message stands for, and raise it."""
        async with self._storage.write() as unit:
            await _require_row(unit, account)
            if is_strike:
                await self._strikes.judge(unit, account, checked.decision)
            await self._recorder.write(unit, self._recorder.note(checked.case, account_id=account.id))
            await unit.commit()
        raise refusal(checked.decision)

    async def _conversation_id(self, account: Account, question: Question) -> str:
        """Return where the question belongs: a conversation of one's own, or a new one."""
        if question.conversation_id is None:
            return new_id()
        async with self._storage.read() as unit:
            return (await own_conversation(unit, account, question.conversation_id)).id

    async def _conversation(
        self, unit: Unit, account: Account, question: Question, conversation_id: str
    ) -> tuple[Conversation, bool]:
        if question.conversation_id is not None:
            return await own_conversation(unit, account, conversation_id), False
        version_id = None
        if question.template:
            template = await unit.templates.by_name(question.template)
            if template is None:
                raise NotFound(kind="template")
            version_id = template.live_version_id
        at = now()
        return Conversation(
            id=conversation_id,
            owner_id=account.id,
            title=NOTHING,
            created_at=at,
            updated_at=at,
            template_version_id=version_id,
            variables=question.variables,
        ), True

    async def _history(self, unit: Unit, conversation: Conversation, parent_id: str | None) -> list[ChatMessage]:
        """Return the branch up to `parent_id` as the model may see it.

        Rounds that were blocked, or that have no answer at all, stay out.
        Raises NotFound where the parent is not an answer of this conversation.
        """
        if parent_id is None:
            return []
        branch = await unit.messages.branch(parent_id)
        if not branch or branch[-1].conversation_id != conversation.id or branch[-1].role is not Role.ASSISTANT:
            raise NotFound(kind="message")
        history: list[ChatMessage] = []
        for question, answer in zip(branch[::2], branch[1::2], strict=False):
            if question.text and answer.text and answer.state is not MessageState.BLOCKED:
                history += [ChatMessage(Role.USER, question.text), ChatMessage(Role.ASSISTANT, answer.text)]
        return history

    async def _system(
        self,
        content_filter: Filter,
        account: Account,
        template: ChosenTemplate | None,
        conversation: Conversation,
        *,
        language: Language = "en",
    ) -> list[ChatMessage]:
        """Return the filled-in template as a system message; what people typed into it is checked like a question."""
        if template is None:
            return []
        text = render(template[1].content, conversation.variables, language=language)
        if conversation.variables:
            checked = await self._check(content_filter, text, stage=Stage.INPUT)
            if checked.text is None:
                await self._refuse(account, checked, is_strike=True)
            text = checked.text
        return [ChatMessage(Role.SYSTEM, text)] if text else []

    async def _system_of_program(
        self, content_filter: Filter, account: Account, question: ApiQuestion
    ) -> tuple[list[ChatMessage], TemplateVersion | None]:
        if question.template is None:
            return [], None
        async with self._storage.read() as unit:
            template = await unit.templates.by_name(question.template)
            if template is None:
                raise NotFound(kind="template", param="prompt_template")
            wanted = question.template_version
            version = next(
                (
                    version
                    for version in await unit.templates.versions(template.id)
                    if (version.id == template.live_version_id if wanted is None else version.number == wanted)
                ),
                None,
            )
        if version is None:
            raise NotFound(kind="template", param="prompt_template")
        checked = await self._check(
            content_filter, render(version.content, question.variables, language="en"), stage=Stage.INPUT
        )
        if checked.text is None:
            await self._refuse(account, checked, is_strike=bool(question.variables))
        return [ChatMessage(Role.SYSTEM, checked.text)], version

    async def _cleared_history(self, content_filter: Filter, account: Account, message: ChatMessage) -> ChatMessage:
        checked = await self._check(content_filter, _clean(message.text, is_empty_fine=True), stage=Stage.HISTORY)
        if checked.text is None:
            await self._refuse(account, checked)
        return ChatMessage(message.role, checked.text)

    async def _check(
        self,
        content_filter: Filter,
        text: str,
        *,
        stage: Stage,
        context: Sequence[ChatMessage] = (),
        beside: Sequence[str] | None = None,
    ) -> Checked:
        """Judge a text; a filter that cannot judge is an error, not a pass."""
        checked = await content_filter.check(text, stage=stage, context=context, beside=beside)
        if checked.text is None:
            self._stats.cut(checked.decision)
        return _judged(checked)

    async def _answer_again(self, account: Account, answer_id: str, *, is_continuing: bool) -> Asked:
        await self._require_free(account)
        before = await self._own_answer(account, answer_id)
        with self._turns.claim(before.conversation_id):
            return await self._begin_again(account, answer_id, is_continuing=is_continuing)

    async def _begin_again(self, account: Account, answer_id: str, *, is_continuing: bool) -> Asked:
        async with self._storage.read() as unit:
            before = await unit.messages.get(answer_id)
            question = await unit.messages.get(before.parent_id or "") if before else None
            if before is None or question is None:
                raise NotFound(kind="message")
            conversation = await own_conversation(unit, account, before.conversation_id)
            history = await self._history(unit, conversation, question.parent_id)
            template = await template_of(unit, conversation)
            beside_question = await unit.messages.children(conversation.id, question.parent_id)
            beside = await unit.messages.children(conversation.id, question.id)
        if not before.state.is_final:
            raise Conflict(kind="running")
        if not can_repeat(before) or not question.text:
            raise Conflict(kind="refused")
        if is_continuing and not can_continue(before):
            raise Conflict(kind="refused" if before.state is MessageState.BLOCKED else "continue")
        content_filter = await self._filters.over(account.policy_layers)
        # It passed when it was asked; the policy may be stricter now.
        checked = await self._check(content_filter, question.text, stage=Stage.INPUT, context=history)
        if checked.text is None:
            await self._refuse(account, checked)
        system = await self._system(content_filter, account, template, conversation)
        answer = Message(
            id=new_id(),
            conversation_id=conversation.id,
            parent_id=question.id,
            role=Role.ASSISTANT,
            text=NOTHING,
            state=MessageState.RUNNING,
            created_at=now(),
            continues_id=before.id if is_continuing else None,
        )
        messages = [*system, *history, ChatMessage(Role.USER, checked.text)]
        if is_continuing:
            messages.append(ChatMessage(Role.ASSISTANT, before.text))
        asked = Asked(
            conversation=replace(conversation, leaf_id=answer.id),
            question=question,
            answer=answer,
            siblings={question.id: tuple(beside_question), answer.id: (*beside, answer.id)},
            template=template,
        )
        turn = _turn(account, asked, content_filter=content_filter, messages=tuple(messages))
        if is_continuing:
            turn.release(before.text)
        await self._answering.admit(turn)
        async with self._storage.write() as unit:
            await unit.messages.add(answer)
            await unit.conversations.set_leaf(conversation.id, answer.id, answer.created_at)
            await unit.commit()
        self._answering.start(turn)
        return asked

    async def _own_answer(self, account: Account, answer_id: str) -> Message:
        async with self._storage.read() as unit:
            answer = await unit.messages.get(answer_id)
            if answer is None or answer.role is not Role.ASSISTANT:
                raise NotFound(kind="message")
            await own_conversation(unit, account, answer.conversation_id, kind="message")
            return answer


async def template_of(unit: Unit, conversation: Conversation) -> ChosenTemplate | None:
    """Return the template that a conversation began with, and its version; None where it began without."""
    version_id = conversation.template_version_id
    version = await unit.templates.version(version_id) if version_id else None
    template = await unit.templates.get(version.template_id) if version else None
    return (template, version) if template and version else None


async def own_conversation(
    unit: Unit, account: Account, conversation_id: str, *, kind: str = "conversation", with_deleted: bool = False
) -> Conversation:
    """Return a conversation of this account.

    Raises NotFound where it is unknown or somebody else's: the two are not told apart.
    """
    conversation = await unit.conversations.get(conversation_id, with_deleted=with_deleted)
    if conversation is None or conversation.owner_id != account.id:
        raise NotFound(kind=kind)
    return conversation


def can_repeat(answer: Message) -> bool:
    """Whether its question can be answered anew: one that the filter refused was not kept."""
    if answer.is_prepared:
        return False
    return answer.state is not MessageState.BLOCKED or answer.receipt is not None


def can_continue(answer: Message) -> bool:
    """Whether an answer ended before its model was done."""
    if answer.state in {MessageState.STOPPED, MessageState.INTERRUPTED, MessageState.FAILED}:
        return bool(answer.text)
    is_cut = answer.receipt is not None and answer.receipt.finish_reason == "length"
    return answer.state is MessageState.COMPLETE and is_cut


async def _in_context(content_filter: Filter, checked: Checked, history: Sequence[ChatMessage]) -> Checked:
    """Look also at what the last turns and the question say together."""
    earlier = [message.text for message in history if message.role is Role.USER]
    return _judged(await content_filter.in_context(checked, earlier=earlier[-_TURNS_TOGETHER:]))


async def _prepared(content_filter: Filter, text: str, decision: Decision) -> _Prepared | None:
    """Return the approved answer to a question that was refused, as the filter lets it pass; None without one."""
    if not decision.is_refusal:
        return None
    answer = await content_filter.answer_bank.find(text, category=decision.category or "")
    if answer is None:
        return None
    # A person approved it: a guard has no say in whether it is told.
    checked = await content_filter.check(answer.text, stage=Stage.OUTPUT, with_guards=False)
    if checked.text is None:  # the policy is checked for this when it is read, so something is wrong with the filter
        log.error("prepared_answer_refused", answer=answer.name, policy=checked.decision.policy)
        return None
    receipt = Receipt(model=answer.name, policy=checked.decision.policy, finish_reason=PREPARED)
    return _Prepared(checked.text, receipt)


def _judged(checked: Checked) -> Checked:
    if checked.decision.is_degraded:
        raise SafetyUnavailable(decision_id=checked.decision.id)
    return checked


def _require_active(account: Account) -> None:
    if account.is_suspended:
        raise AccessDenied("suspended")


async def _require_row(unit: Unit, account: Account) -> None:
    """Give a guest a row with their first question."""
    if await unit.accounts.get(account.id) is None:
        await unit.accounts.add(account)


def _paused(asked: Asked, *, until: str) -> Asked:
    """Return the same with the pause that the refusal led to, to be told under the question."""
    question = replace(asked.question, error_data={**asked.question.error_data, "paused_until": until})
    return replace(asked, question=question)


def _clean(text: str, *, is_empty_fine: bool = False) -> str:
    """Return the text as it is kept: lone surrogates and control characters cannot be stored or shown, so they go.

    Raises InvalidInput where nothing is left, TextTooLong beyond MAX_CHARACTERS.
    """
    if len(text) > MAX_CHARACTERS:
        raise TextTooLong(limit=MAX_CHARACTERS, length=len(text), param="messages")
    kept = text.replace("\r\n", "\n").encode("utf-8", "ignore").decode()
    kept = "".join(char for char in kept if char >= " " or char in "\n\t").replace("\x7f", "")
    if not kept.strip() and not is_empty_fine:
        raise InvalidInput("empty", is_empty=True, param="messages")
    return kept


def _asked(conversation: Conversation, *, parent_id: str | None, checked: Checked, prepared: _Prepared | None) -> Asked:
    """Return the two new rows. A refused question keeps its place, not its text."""
    at = now()
    is_refused = checked.text is None
    is_blocked = is_refused and prepared is None
    question = Message(
        id=new_id(),
        conversation_id=conversation.id,
        parent_id=parent_id,
        role=Role.USER,
        text=checked.text or NOTHING,
        state=MessageState.BLOCKED if is_refused else MessageState.COMPLETE,
        created_at=at,
        finished_at=at,
        category=checked.decision.category if is_refused else None,
        error_data={"stage": str(checked.decision.stage), "decision_id": checked.decision.id} if is_refused else {},
    )
    state = MessageState.COMPLETE if prepared else MessageState.BLOCKED if is_blocked else MessageState.RUNNING
    answer = Message(
        id=new_id(),
        conversation_id=conversation.id,
        parent_id=question.id,
        role=Role.ASSISTANT,
        text=prepared.text if prepared else NOTHING,
        state=state,
        created_at=at,
        finished_at=at if is_refused else None,
        category=question.category,
        error_code=ContentBlocked.code if is_blocked else None,
        error_data=told(refusal(checked.decision)) if is_refused else {},
        receipt=prepared.receipt if prepared else None,
    )
    return Asked(conversation=replace(conversation, leaf_id=answer.id), question=question, answer=answer)


def _turn(
    account: Account,
    asked: Asked,
    *,
    content_filter: Filter,
    messages: tuple[ChatMessage, ...],
    title: ReleasedText | None = None,
    masks: Mapping[str, SealedText] = NO_MASKS,
) -> Turn:
    template, version = asked.template or (None, None)
    return Turn(
        id=asked.answer.id,
        account_id=account.id,
        conversation_id=asked.conversation.id,
        answer=asked.answer,
        content_filter=content_filter,
        messages=messages,
        sampling=version.content.sampling if version else Sampling(),
        template_version_id=asked.conversation.template_version_id,
        template=f"{template.name} v{version.number}" if template and version else "",
        title=title,
        masks=masks,
    )
