"""Puts questions to the filter, and to an engine behind it, and notes what became of each.

With an engine a question takes the way of a chat: the filter's check of the question, the engine, the gate over the
answer. There is no system prompt, and nothing is left to chance: temperature 0, a fixed seed.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from app.domain.errors import EngineStarting, EngineUnavailable, InvalidInput, SafetyUnavailable
from app.domain.generation import ChatMessage, EngineState, Finish, GenerationRequest
from app.domain.models import Role, Sampling, new_id
from app.domain.ports import Engine, Filter, PromptFormat
from app.domain.verdicts import Action, Cut, Decision, Finding, ReleasedText, Stage, joined
from app.safety.assessment.bank import Bank, Question
from app.safety.assessment.refusals import is_refusal
from app.safety.taxonomy import SafetyClass, class_of

MAX_TOKENS: Final = 256
"""Of an answer: whether it refuses is known by then."""
_CONTEXT_LENGTH: Final = 4096

Progress = Callable[[int, int], None]
"""Told how many questions of how many are done."""
ClassOf = Callable[[Finding], SafetyClass | None]
"""Says which class of GB/T 45654 something that was found is of."""


def _by_category(finding: Finding) -> SafetyClass | None:
    return class_of(finding.category)


class Refuser(StrEnum):
    """Who refused."""

    QUESTION = "question"
    """The filter, before any engine was asked."""
    ANSWER = "answer"
    """The filter, over the engine's answer."""
    ENGINE = "engine"
    """The engine itself, by its words: a heuristic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a question."""

    bank: str
    question: Question
    refuser: Refuser | None
    is_marked: bool
    """The filter found something in question or answer that the policy lets pass, flagged or masked."""
    rules: tuple[str, ...] = ()
    """What the filter found, question first."""
    classes: frozenset[str] = frozenset()
    """The classes of GB/T 45654 of what the filter found, in question or answer."""
    is_asked: bool = False
    """The engine answered, whatever it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An engine that is ready to be examined. Make one with `Candidate.of`."""

    engine: Engine
    prompt_format: PromptFormat | None
    model: str
    context_length: int
    slots: int

    @classmethod
    async def of(cls, engine: Engine) -> "Candidate":
        """Ask an engine what it is. Raises EngineUnavailable, EngineStarting."""
        status = await engine.status()
        if status.state is EngineState.DOWN:
            raise EngineUnavailable(status.detail)
        if status.state is not EngineState.READY:
            raise EngineStarting(stage=status.stage, progress=status.progress)
        profile = status.profile
        return cls(
            engine=engine,
            prompt_format=await engine.prompt_format(),
            model=profile.title if profile else "default",
            context_length=profile.context_length if profile else _CONTEXT_LENGTH,
            slots=max(1, status.slots),
        )

    def request(self, question: ReleasedText) -> GenerationRequest:
        """Return the request for an answer. Raises ContextLengthExceeded."""
        messages = (ChatMessage(Role.USER, question),)
        if self.prompt_format is None:
            return GenerationRequest(id=new_id(), owner="assessment", messages=messages, sampling=_sampling(MAX_TOKENS))
        prompt = self.prompt_format.build(messages, context_length=self.context_length, max_tokens=MAX_TOKENS)
        return GenerationRequest(
            id=new_id(),
            owner="assessment",
            prompt_ids=prompt.ids,
            sampling=_sampling(prompt.max_tokens),
            stop_token_ids=self.prompt_format.stop_token_ids,
        )


async def examine(
    banks: Sequence[Bank],
    *,
    content_filter: Filter,
    candidate: Candidate | None = None,
    safety_class: ClassOf = _by_category,
    progress: Progress | None = None,
) -> list[Result]:
    """Return what became of each question, in the order of the banks; without a candidate the filter is alone.

    `safety_class` knows more than the categories where it is a policy's `class_of`.

    Raises EngineUnavailable and its kinds, InvalidInput where the engine cannot take a question, SafetyUnavailable
    where a part of the filter fails: its refusals would be no measure.
    """
    items = [(bank.name, question) for bank in banks for question in bank.questions]
    free = asyncio.Semaphore(candidate.slots if candidate else 1)
    done = 0

    async def put(bank: str, question: Question) -> Result:
        nonlocal done
        async with free:
            result = await _put(
                question, bank=bank, content_filter=content_filter, candidate=candidate, safety_class=safety_class
            )
        done += 1
        if progress:
            progress(done, len(items))
        return result

    tasks = [asyncio.create_task(put(bank, question)) for bank, question in items]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _put(
    question: Question, *, bank: str, content_filter: Filter, candidate: Candidate | None, safety_class: ClassOf
) -> Result:
    checked = await content_filter.check(question.text, stage=Stage.INPUT)
    decisions = [checked.decision]
    refuser = Refuser.QUESTION if checked.text is None else None
    if checked.text is not None and candidate:
        try:
            answer, about_it = await _answer(checked.text, content_filter=content_filter, candidate=candidate)
        except InvalidInput as error:
            raise InvalidInput(f"{bank}: the engine cannot take a question: {error.detail or error.code}") from error
        decisions += about_it
        if answer is None:
            refuser = Refuser.ANSWER
        elif is_refusal(answer):
            refuser = Refuser.ENGINE
    if any(decision.is_degraded or decision.unguarded_by for decision in decisions):
        raise SafetyUnavailable("a part of the filter failed, so nothing can be measured")
    findings = [finding for decision in decisions for finding in decision.findings]
    return Result(
        bank=bank,
        question=question,
        refuser=refuser,
        is_marked=any(Action.ALLOW < decision.action < Action.REFUSE for decision in decisions),
        rules=tuple(finding.rule for finding in findings),
        classes=frozenset(found.id for found in map(safety_class, findings) if found),
        is_asked=candidate is not None and checked.text is not None,
    )


async def _answer(
    question: ReleasedText, *, content_filter: Filter, candidate: Candidate
) -> tuple[ReleasedText | None, Sequence[Decision]]:
    """Return what the gate let through of an answer, None where it cut it; and what it decided."""
    gate = content_filter.open(stage=Stage.OUTPUT, context=(ChatMessage(Role.USER, question),))
    pieces: list[ReleasedText] = []
    try:
        async with aclosing(candidate.engine.generate(candidate.request(question))) as items:
            async for item in items:
                for event in await gate.finish() if isinstance(item, Finish) else await gate.feed(item.text):
                    if isinstance(event, Cut):
                        return None, [event.decision]
                    pieces.append(event.text)
                if isinstance(item, Finish):
                    break
        return joined(pieces), gate.decisions
    finally:
        await gate.close()


def _sampling(max_tokens: int) -> Sampling:
    return Sampling(temperature=0.0, seed=0, max_tokens=max_tokens)
