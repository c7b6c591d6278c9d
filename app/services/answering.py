"""The life of a turn: wait for the model, take a slot, ask the engine, let the gate decide, close the answer.

Every turn ends exactly once, in every path, and nothing is shown that the gate did not release.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any

import structlog

from app.domain.errors import (
    ChatError,
    ContentBlocked,
    ContextLengthExceeded,
    EngineStarting,
    EngineUnavailable,
    InvalidInput,
    SafetyUnavailable,
    StorageFailure,
)
from app.domain.events import Ended, Started, Waiting
from app.domain.faults import frames_of
from app.domain.generation import (
    Delta,
    EngineState,
    EngineStatus,
    Finish,
    FinishReason,
    GenerationRequest,
    Prompt,
)
from app.domain.models import ErrorData, Message, MessageState, Receipt, Sampling, now
from app.domain.ports import Engine, Gate, Storage
from app.domain.verdicts import Case, Cut, Decision, GateEvent, Stage
from app.services.hits import Noted, Recorder
from app.services.queue import FairQueue
from app.services.stats import Stats
from app.services.turns import Journal, Turn, Turns

log = structlog.get_logger()

DEFAULT_MAX_TOKENS = 1024
_STATUS_EVERY_S = 0.5
_SAVE_TRIES = 20
_SAVE_AGAIN_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """How a generation ended."""

    state: MessageState
    receipt: Receipt | None = None
    category: str | None = None
    error: ChatError | None = None


@dataclass(slots=True, kw_only=True)
class _Written:
    """What a generation gave."""

    finish: Finish = field(default_factory=lambda: Finish(reason=FinishReason.STOP))
    cut: Decision | None = None
    """The gate's, where it ended the stream."""
    tokens: int = 0
    first_token_s: float | None = None
    total_s: float = 0.0


class Answering:
    """Runs turns."""

    def __init__(
        self,
        *,
        storage: Storage,
        engine: Engine,
        queue: FairQueue,
        turns: Turns,
        journal: Journal,
        stats: Stats,
        recorder: Recorder,
        load_patience_s: float = 1800.0,
        save_later_s: float = 5.0,
    ) -> None:
        """Nothing runs yet.

        `load_patience_s` is how long a question waits for a model that loads; `save_later_s` how long an answer that
        the database refused waits until it is offered to it again.
        """
        self._storage = storage
        self._engine = engine
        self._queue = queue
        self._turns = turns
        self._journal = journal
        self._stats = stats
        self._recorder = recorder
        self._load_patience_s = load_patience_s
        self._save_later_s = save_later_s
        self._savings: set[asyncio.Task[None]] = set()

    async def admit(self, turn: Turn) -> None:
        """Refuse before anything is saved where no engine could answer in time, or the queue is full.

        Raises EngineUnavailable, EngineStarting, EngineBusy.
        """
        self._queue.require_room()
        if turn.is_patient:
            return
        status = await self._engine.status()
        if status.state is EngineState.DOWN:
            raise EngineUnavailable(status.detail)
        if status.state is not EngineState.READY:
            raise EngineStarting(stage=status.stage, progress=status.progress)

    def start(self, turn: Turn) -> None:
        """Begin a turn whose question and answer are saved."""
        self._turns.add(turn)
        self._journal.follow(turn)
        turn.task = asyncio.create_task(self._run(turn), name=f"turn-{turn.id}")

    async def close(self) -> None:
        """Close the running answers as `interrupted`, so that the next start has nothing to mend.

        Answers that the database refused are offered to it once more; what it refuses now is lost but for its parts.
        """
        running = self._turns.running()
        for turn in running:
            if turn.generation is not None:
                turn.generation.cancel()
        await asyncio.gather(*(turn.task for turn in running if turn.task is not None), return_exceptions=True)
        for task in self._savings:
            task.cancel()
        await asyncio.gather(*self._savings, return_exceptions=True)

    async def _run(self, turn: Turn) -> None:
        """Generate, then close the answer: in this order, whatever happens, exactly once."""
        cases: list[Case] = []
        outcome = await self._outcome(turn, cases)
        self._journal.leave(turn)
        answer = _closed(turn, outcome)
        noted = [
            self._recorder.note(
                case, account_id=turn.account_id, conversation_id=answer.conversation_id, message_id=answer.id
            )
            for case in cases
        ]
        failure = await self._save(answer, noted, tries=_SAVE_TRIES)
        if failure is None:
            turn.log.append(Ended(answer=answer, title=turn.title))
            self._turns.retire(turn)
        else:  # the readers are told; the text is kept until there is room for it
            failed = replace(answer, state=MessageState.FAILED, error_code=failure.code, error_data=told(failure))
            turn.log.append(Ended(answer=failed, title=turn.title))
            saving = asyncio.create_task(self._save_later(turn, answer, noted), name=f"save-{turn.id}")
            self._savings.add(saving)
            saving.add_done_callback(self._savings.discard)
        self._stats.ended(answer)

    async def _outcome(self, turn: Turn, cases: list[Case]) -> _Outcome:
        """Run the generation as a task of its own, so that Stop ends it and not the turn."""
        generation = asyncio.create_task(self._generate(turn, cases))
        turn.generation = generation
        if turn.is_stopping:
            generation.cancel()
        try:
            await asyncio.wait({generation})
        except asyncio.CancelledError:  # the server goes down
            generation.cancel()
            await asyncio.wait({generation})
        if generation.cancelled():
            return _Outcome(state=MessageState.STOPPED if turn.is_stopping else MessageState.INTERRUPTED)
        error = generation.exception()
        if error is None:
            return generation.result()
        if isinstance(error, ContentBlocked | SafetyUnavailable):
            return _Outcome(state=MessageState.BLOCKED, category=str(error.data.get("category", "")), error=error)
        if isinstance(error, ChatError):
            return _Outcome(state=MessageState.FAILED, error=error)
        # A fault of ours. Its message may quote text, so only its kind and place are logged.
        log.error("turn_failed", turn_id=turn.id, error=type(error).__name__, frames=frames_of(error))
        return _Outcome(state=MessageState.FAILED, error=ChatError())

    async def _generate(self, turn: Turn, cases: list[Case]) -> _Outcome:
        """Ask the engine; where it went back to loading before its first word, wait for it again."""
        deadline = monotonic() + self._load_patience_s
        while True:
            pieces = len(turn.pieces)
            try:
                return await self._attempt(turn, cases)
            except EngineStarting:
                if not turn.is_patient or len(turn.pieces) > pieces or monotonic() > deadline:
                    raise
                await asyncio.sleep(_STATUS_EVERY_S)

    async def _attempt(self, turn: Turn, cases: list[Case]) -> _Outcome:
        """Wait for a slot, write the answer, say how it was made."""
        status = await self._ready(turn)
        self._queue.resize(status.slots)
        began = monotonic()
        async with self._queue.enter(turn.account_id) as place:
            async for waiting in place.wait():
                turn.wait(waiting)
            queued_s = monotonic() - began
            status = await self._ready(turn)
            prompt, request = await self._request(turn, status)
            turn.log.append(Started(model=_model_name(status), dropped_messages=prompt.dropped))
            gate = _gate(turn)
            try:
                written = await self._write(turn, request, gate)
            finally:
                cases.extend(Case(decision, gate.heard) for decision in gate.decisions)
                await gate.close()
        finish, cut = written.finish, written.cut
        receipt = Receipt(
            model=_model_name(status),
            model_revision=status.profile.revision if status.profile else "",
            quantization=status.profile.quantization if status.profile else "none",
            template_version_id=turn.template_version_id,
            template=turn.template,
            sampling=request.sampling,
            policy=turn.content_filter.policy,
            prompt_tokens=finish.prompt_tokens or prompt.tokens,
            completion_tokens=finish.completion_tokens or written.tokens,
            dropped_messages=prompt.dropped,
            queued_s=round(queued_s, 3),
            first_token_s=None if written.first_token_s is None else round(written.first_token_s, 3),
            total_s=round(written.total_s, 3),
            finish_reason="content_filter" if cut else str(finish.reason),
        )
        if cut:
            cases.append(Case(cut, gate.heard))
            self._stats.cut(cut)
            return _Outcome(state=MessageState.BLOCKED, receipt=receipt, category=cut.category, error=refusal(cut))
        return _Outcome(state=MessageState.COMPLETE, receipt=receipt)

    async def _write(self, turn: Turn, request: GenerationRequest, gate: Gate) -> _Written:
        """Let the gate decide, piece by piece, what is shown of what the engine says.

        The engine's request is closed as soon as the gate knows the end; guards may still have to judge what is held.
        """
        written = _Written()
        asked_at = monotonic()
        async with aclosing(self._engine.generate(request)) as items, aclosing(_with_verdicts(items, gate)) as steps:
            async for item in steps:
                if isinstance(item, Finish):
                    written.finish = item
                    break
                if item is None:
                    written.cut = _release(turn, gate.take())
                else:
                    written.tokens += item.tokens
                    if written.first_token_s is None:
                        written.first_token_s = monotonic() - asked_at
                        self._stats.first_token(written.first_token_s)
                    written.cut = _release(turn, await gate.feed(item.text))
                    self._stats.tokens(item.tokens)
                if gate.is_over:
                    break
        if not written.cut:
            async for events in gate.rest():
                written.cut = _release(turn, events) or written.cut
        written.total_s = monotonic() - asked_at
        return written

    async def _save(self, answer: Message, noted: Sequence[Noted], *, tries: int) -> StorageFailure | None:
        """Close the answer's row; return why not, where the database refused that often."""
        failure = StorageFailure()
        for n in range(tries):
            if n:
                await asyncio.sleep(_SAVE_AGAIN_S)
            try:
                async with self._storage.write() as unit:
                    await unit.messages.finish(
                        answer.id,
                        state=answer.state,
                        text=answer.text,
                        finished_at=answer.finished_at or now(),
                        category=answer.category,
                        error_code=answer.error_code,
                        error_data=answer.error_data,
                        receipt=answer.receipt,
                    )
                    await self._recorder.write(unit, *noted)
                    await unit.commit()
            except StorageFailure as error:
                log.warning("answer_not_saved", turn_id=answer.id, code=error.code)
                failure = error
            else:
                return None
        return failure

    async def _save_later(self, turn: Turn, answer: Message, noted: Sequence[Noted]) -> None:
        """Save an answer as soon as the database takes it, and once more when the server stops."""
        try:
            while await self._save(answer, noted, tries=1):  # noqa: ASYNC110 - nothing tells that there is room
                await asyncio.sleep(self._save_later_s)
        except asyncio.CancelledError:
            await self._save(answer, noted, tries=1)
        self._turns.retire(turn)

    async def _ready(self, turn: Turn) -> EngineStatus:
        """Wait for the model to be ready, telling the readers how far it is.

        Raises EngineUnavailable where there is no engine, EngineStarting where it takes too long.
        """
        deadline = monotonic() + self._load_patience_s
        told = None
        while True:
            status = await self._engine.status()
            if status.state is EngineState.READY:
                return status
            if status.state is EngineState.DOWN:
                raise EngineUnavailable(status.detail)
            if not turn.is_patient or monotonic() > deadline:
                raise EngineStarting(stage=status.stage, progress=status.progress)
            waiting = Waiting(stage=status.stage or "start", progress=round(status.progress, 2))
            if waiting != told:
                told = waiting
                turn.wait(waiting)
            await asyncio.sleep(_STATUS_EVERY_S)

    async def _request(self, turn: Turn, status: EngineStatus) -> tuple[Prompt, GenerationRequest]:
        """Fill in the model's defaults and fit the messages into its context."""
        profile = status.profile
        defaults = profile.defaults if profile else Sampling()
        sampling = Sampling(max_tokens=DEFAULT_MAX_TOKENS).overridden_by(defaults).overridden_by(turn.sampling)
        if sampling.seed is None:
            sampling = replace(sampling, seed=secrets.randbits(31))
        context_length = profile.context_length if profile else 4096
        wanted = sampling.max_tokens or DEFAULT_MAX_TOKENS
        prompt_format = await self._engine.prompt_format()
        if prompt_format is not None:
            prompt = await asyncio.to_thread(
                prompt_format.build, turn.messages, context_length=context_length, max_tokens=wanted
            )
        else:
            estimate = sum(len(message.text) for message in turn.messages) // 2
            prompt = Prompt(messages=turn.messages, tokens=estimate, max_tokens=wanted)
        asked_for = turn.sampling.max_tokens
        if asked_for is not None and not turn.is_patient and prompt.max_tokens < asked_for:
            raise ContextLengthExceeded(limit=context_length, length=prompt.tokens + asked_for, param="max_tokens")
        return prompt, GenerationRequest(
            id=turn.id,
            owner=turn.account_id,
            prompt_ids=prompt.ids,
            messages=prompt.messages,
            sampling=replace(sampling, max_tokens=prompt.max_tokens),
            stop_token_ids=prompt_format.stop_token_ids if prompt_format else (),
            model=turn.model,
        )


def _gate(turn: Turn) -> Gate:
    if not turn.answer.continues_id:
        return turn.content_filter.open(stage=Stage.OUTPUT, context=turn.messages)
    return turn.content_filter.continued(turn.text, stage=Stage.OUTPUT, context=turn.messages)


async def _with_verdicts(
    items: AsyncGenerator[Delta | Finish, None], gate: Gate
) -> AsyncGenerator[Delta | Finish | None, None]:
    """Yield the engine's items, and None whenever the gate has something to release though the engine is silent.

    Only while a verdict is awaited does the next item need a task of its own; closing this ends that task.
    """
    while True:
        awaited = gate.awaited
        if awaited is None:
            item = await _next(items)
        else:
            coming = asyncio.create_task(_next(items))
            try:
                while not coming.done():
                    waited_for: set[asyncio.Future[Any]] = {coming} if awaited is None else {coming, awaited}
                    await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
                    if not coming.done():
                        yield None
                        awaited = gate.awaited
                item = coming.result()
            finally:
                if not coming.done():
                    coming.cancel()
                    await asyncio.gather(coming, return_exceptions=True)
        if item is None:
            return
        yield item


async def _next(items: AsyncGenerator[Delta | Finish, None]) -> Delta | Finish | None:
    return await anext(items, None)


def refusal(decision: Decision) -> ChatError:
    """Return the error for a text that did not pass."""
    if decision.is_degraded:
        return SafetyUnavailable(decision_id=decision.id, category="unavailable")
    return ContentBlocked(category=decision.category or "", stage=str(decision.stage), decision_id=decision.id)


def _closed(turn: Turn, outcome: _Outcome) -> Message:
    return replace(
        turn.answer,
        state=outcome.state,
        text=turn.text,
        finished_at=now(),
        category=outcome.category,
        error_code=outcome.error.code if outcome.error else None,
        error_data=told(outcome.error),
        receipt=outcome.receipt,
    )


def told(error: ChatError | None) -> ErrorData:
    """Return what of an error its sentence is made of."""
    if error is None:
        return {}
    detail = {"detail": error.detail} if isinstance(error, InvalidInput) else {}
    return {name: value for name, value in (detail | error.data).items() if isinstance(value, str | int | float | bool)}


def _release(turn: Turn, events: Sequence[GateEvent]) -> Decision | None:
    """Show what the gate let through; return its decision where it cut the stream."""
    for event in events:
        if isinstance(event, Cut):
            return event.decision
        if event.text:
            turn.release(event.text)
    return None


def _model_name(status: EngineStatus) -> str:
    return status.profile.title if status.profile else "default"
