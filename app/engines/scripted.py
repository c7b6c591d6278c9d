"""An engine that answers by script: for demonstrations without a model, for tests, and behind the benchmark's server.

It takes messages, so there is no prompt format. It says of itself that it is a script.
"""

import asyncio
import random
import re
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from app.domain.errors import (
    ChatError,
    ContextLengthExceeded,
    EngineBusy,
    EngineDied,
    EngineRefused,
    EngineStarting,
    EngineUnavailable,
    GenerationTimeout,
    InvalidInput,
    OutOfMemory,
)
from app.domain.generation import (
    Delta,
    EngineState,
    EngineStatus,
    Finish,
    FinishReason,
    GenerationRequest,
    ModelProfile,
)
from app.domain.models import Role, Sampling
from app.domain.ports import PromptFormat
from app.engines.demo_replies import DEMO_EN, DEMO_ZH

SLOTS = 256
MODEL = "scripted"
_REMEMBERED = 1000
_CONTEXT_LENGTH = 4096
_HAN = re.compile(r"[\u3400-\u9fff]")
_TOKEN = re.compile(r"\s*(?:\w{1,8}|[^\w\s])|\s+", re.ASCII)
"""Cuts a text into pieces about as long as a model's tokens (a Han character is one); joined they are the text."""


class Fault(StrEnum):
    """What a rule may do instead of answering."""

    BUSY = "busy"
    STARTING = "starting"
    UNAVAILABLE = "unavailable"
    REFUSED = "refused"
    INVALID = "invalid"
    TOO_LONG = "too_long"
    OUT_OF_MEMORY = "out_of_memory"
    TIMEOUT = "timeout"
    DIED = "died"


_FAULTS: dict[Fault, Callable[[], ChatError]] = {
    Fault.BUSY: lambda: EngineBusy(retry_after_s=3.0),
    Fault.STARTING: lambda: EngineStarting(stage="weights", progress=0.5),
    Fault.UNAVAILABLE: EngineUnavailable,
    Fault.REFUSED: lambda: EngineRefused(engine_status=500),
    Fault.INVALID: InvalidInput,
    Fault.TOO_LONG: lambda: ContextLengthExceeded(limit=_CONTEXT_LENGTH, length=_CONTEXT_LENGTH + 1),
    Fault.OUT_OF_MEMORY: OutOfMemory,
    Fault.TIMEOUT: lambda: GenerationTimeout(after_s=1.0),
    Fault.DIED: EngineDied,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What to answer to a question in which `pattern` is found."""

    pattern: re.Pattern[str]
    reply: str
    fault: Fault | None = None
    """Raised after `fault_after` tokens."""
    fault_after: int = 0
    hang_after: int | None = None
    """Fall silent for good after this many tokens."""
    first_token_s: float = 0.0
    """How long the first token takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """Rules, tried in order over the newest question, and the pace of the answer."""

    rules: tuple[Rule, ...] = ()
    default: str | None = None
    """Where no rule fits; None: a text about itself, in the question's language."""
    tokens_per_s: float = 0.0
    """0: as fast as they are taken."""
    tokens_per_delta: tuple[int, int] = (1, 1)
    """The least and the most; drawn anew for each delta."""
    seed: int = 0
    """Of what is drawn, so that a run can be repeated."""

    def rule_for(self, question: str) -> Rule:
        """Return the first rule that fits, or one for the default reply."""
        for rule in self.rules:
            if rule.pattern.search(question):
                return rule
        reply = self.default
        if reply is None:
            reply = DEMO_ZH if _HAN.search(question) else DEMO_EN
        return Rule(pattern=re.compile(""), reply=reply)


@dataclass(slots=True)
class _Tally:
    running: int = 0
    waiting: int = 0
    cancelled: deque[str] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    requests: deque[GenerationRequest] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))


class ScriptedEngine:
    """An Engine without a model. `ready` may be cleared: it is loading then, until somebody sets it."""

    def __init__(
        self,
        script: Script | None = None,
        *,
        slots: int = SLOTS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`clock` and `sleep` are replaced by tests that do not want to wait."""
        self._script = script or Script()
        self._slots = slots
        self._clock = clock
        self._sleep = sleep
        self._free = asyncio.Semaphore(slots)
        self._tally = _Tally()
        self.ready = asyncio.Event()
        self.ready.set()

    @property
    def running(self) -> int:
        """How many generations hold a slot."""
        return self._tally.running

    @property
    def cancelled(self) -> list[str]:
        """The ids of requests whose generator was closed before its Finish: the last thousand, oldest first."""
        return list(self._tally.cancelled)

    @property
    def requests(self) -> list[GenerationRequest]:
        """The last thousand requests, oldest first."""
        return list(self._tally.requests)

    async def status(self) -> EngineStatus:
        """Return READY, or LOADING while `ready` is not set."""
        if not self.ready.is_set():
            return EngineStatus(state=EngineState.LOADING, stage="weights", progress=0.5, slots=self._slots)
        profile = ModelProfile(
            id=MODEL,
            title="Scripted",
            prompt_format=None,
            context_length=_CONTEXT_LENGTH,
            defaults=Sampling(temperature=0.0),
        )
        return EngineStatus(
            state=EngineState.READY,
            slots=self._slots,
            running=self._tally.running,
            waiting=self._tally.waiting,
            models=(MODEL,),
            profile=profile,
        )

    async def prompt_format(self) -> PromptFormat | None:
        """Return None: it takes messages. Raises EngineStarting while it is not ready."""
        self._require_ready()
        return None

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Delta | Finish, None]:
        """Yield the reply of the first rule that fits; ids are not read, so they meet the rules as an empty question.

        Raises the rule's fault, EngineStarting while it is not ready.
        """
        self._require_ready()
        self._tally.requests.append(request)
        rule = self._script.rule_for(_question(request))
        is_done = False
        try:
            async with self._slot(), aclosing(self._answer(request, rule)) as items:
                async for item in items:
                    is_done = isinstance(item, Finish)
                    yield item
        except (GeneratorExit, asyncio.CancelledError):
            if not is_done:
                self._tally.cancelled.append(request.id)
            raise

    async def close(self) -> None:
        """Nothing to release."""

    async def _answer(self, request: GenerationRequest, rule: Rule) -> AsyncGenerator[Delta | Finish, None]:
        tokens, reason = _cut(rule.reply, request.sampling)
        rate = self._script.tokens_per_s
        starts_at = self._clock() + rule.first_token_s
        done = 0
        for piece in self._pieces(tokens, rule):
            due_at = starts_at + (done + len(piece)) / rate if rate else starts_at
            # Also without a delay: other tasks get their turn between two tokens.
            await self._sleep(max(0.0, due_at - self._clock()))
            yield Delta("".join(piece), len(piece))
            done += len(piece)
        if rule.hang_after is not None:
            await asyncio.Event().wait()
        if rule.fault is not None:
            error = _FAULTS[rule.fault]()
            raise error
        prompt_tokens = len(request.prompt_ids) or sum(len(_TOKEN.findall(each.text)) for each in request.messages)
        yield Finish(reason=reason, prompt_tokens=prompt_tokens, completion_tokens=done)

    def _pieces(self, tokens: list[str], rule: Rule) -> Iterator[list[str]]:
        limits = [rule.hang_after, rule.fault_after if rule.fault else None]
        tokens = tokens[: min((limit for limit in limits if limit is not None), default=len(tokens))]
        draw = random.Random(self._script.seed)  # noqa: S311 - where a text is cut is no secret
        start = 0
        while start < len(tokens):
            length = draw.randint(*self._script.tokens_per_delta)
            yield tokens[start : start + length]
            start += length

    @asynccontextmanager
    async def _slot(self) -> AsyncGenerator[None, None]:
        self._tally.waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._tally.waiting -= 1
        self._tally.running += 1
        try:
            yield
        finally:
            self._tally.running -= 1
            self._free.release()

    def _require_ready(self) -> None:
        if not self.ready.is_set():
            raise EngineStarting(stage="weights", progress=0.5)


def _question(request: GenerationRequest) -> str:
    return next((each.text for each in reversed(request.messages) if each.role is Role.USER), "")


def _cut(reply: str, sampling: Sampling) -> tuple[list[str], FinishReason]:
    """Return the reply's tokens up to the first stop text or `max_tokens`, and which of the two it was."""
    ends = [at for stop in sampling.stop if stop and (at := reply.find(stop)) >= 0]
    tokens = _TOKEN.findall(reply[: min(ends, default=len(reply))])
    if sampling.max_tokens is not None and len(tokens) > sampling.max_tokens:
        return tokens[: sampling.max_tokens], FinishReason.LENGTH
    return tokens, FinishReason.STOP
