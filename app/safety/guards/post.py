"""A guard at its post: asked on behalf of all streams of the process, within budgets, behind a breaker."""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Final, Protocol

import structlog

from app.domain.generation import ChatMessage
from app.domain.health import DetectorHealth, DetectorState
from app.domain.verdicts import Stage
from app.safety.guards.breaker import Breaker
from app.safety.guards.classify import Classify
from app.safety.guards.client import GuardClient
from app.safety.guards.judge import Judge
from app.safety.guards.llama_guard import LlamaGuard
from app.safety.guards.moderations import Moderations
from app.safety.guards.qwen3guard import Qwen3Guard
from app.safety.guards.shieldlm import ShieldLm
from app.safety.guards.spec import LOCAL, OTHER, GuardSpec
from app.safety.guards.verdict import Guard, GuardFailure, GuardFinding, Label, Reason
from app.safety.health import Tally

MAX_CALLS: Final = 16
"""To one guard at a time; the others wait, and their wait counts."""
_IS_AWAY: Final = frozenset({"unreachable", "timeout", "status", "fault"})
"""Failures that count for the breaker. The others may be the text's doing, or our own crowd's: if they counted, whoever
knows a text that makes a guard stammer could switch it off for everybody."""
_WORD: Final = re.compile(r"[^a-z0-9]+")

log = structlog.get_logger()


class Observer(Protocol):
    """Who counts calls."""

    def __call__(self, guard: str, outcome: str, seconds: float) -> None:
        """Count one: `ok`, or why it failed."""
        ...


def _nobody(guard: str, outcome: str, seconds: float) -> None:
    del guard, outcome, seconds


class Post:
    """One guard."""

    def __init__(
        self, spec: GuardSpec, guard: Guard, *, observe: Observer = _nobody, clock: Callable[[], float] = monotonic
    ) -> None:
        """`clock` is the breaker's; budgets run on the event loop's."""
        self.spec = spec
        self._guard = guard
        self._observe = observe
        self._clock = clock
        self._breaker = Breaker(clock=clock)
        self._tally = Tally()
        self._free = asyncio.Semaphore(MAX_CALLS)
        self._labels = spec.labels

    async def ask(self, turns: Sequence[ChatMessage], *, stage: Stage) -> tuple[GuardFinding, ...]:
        """Return what the guard finds in the last turn, whatever the policy makes of it. Raises GuardFailure."""
        began = self._clock()
        is_probe = False
        try:
            is_probe = self._breaker.enter()
            found = self._in_our_words(await self._labels_of(turns, budget_s=self.spec.budget_s(stage)))
        except GuardFailure as failure:
            self._failed(failure.reason, began=began, is_probe=is_probe)
            raise
        except asyncio.CancelledError:
            self._breaker.left(is_probe=is_probe)
            raise
        except Exception as error:  # noqa: BLE001 — whatever an adapter does wrong, the guard has not judged
            # Only the type: an exception's words may quote the text.
            log.error("guard_faulty", guard=self.spec.name, error=type(error).__name__)  # noqa: TRY400 - as above
            self._failed("fault", began=began, is_probe=is_probe)
            raise GuardFailure("fault") from None
        self._breaker.succeeded()
        seconds = self._clock() - began
        self._tally.took(seconds)
        self._observe(self.spec.name, "ok", seconds)
        return found

    def health(self) -> DetectorHealth:
        """Return how it does."""
        state = self._breaker.state
        return self._tally.health(
            name=self.spec.name,
            kind=self.spec.kind,
            state=DetectorState.FAILING if state is DetectorState.OK and self._tally.is_failing else state,
            lets_pass=self.spec.on_error == "degrade",
        )

    async def close(self) -> None:
        """Close all connections; a later call opens new ones."""
        await self._guard.close()

    async def _labels_of(self, turns: Sequence[ChatMessage], *, budget_s: float) -> Sequence[Label]:
        is_in = False
        try:
            async with asyncio.timeout(budget_s), self._free:
                is_in = True
                return await self._guard.ask(turns)
        except TimeoutError:
            raise GuardFailure("timeout" if is_in else "busy") from None

    def _in_our_words(self, labels: Sequence[Label]) -> tuple[GuardFinding, ...]:
        """Map labels to categories, the highest score of each. Raises GuardFailure for a label that nobody mapped."""
        found: dict[str, GuardFinding] = {}
        for label in labels:
            name = label.name.strip().lower()
            if name not in self._labels:
                name = OTHER
            if name not in self._labels:
                raise GuardFailure("label")
            category = self._labels[name]
            if category and (category not in found or label.score > found[category].score):
                word = "other" if name == OTHER else _WORD.sub("-", name).strip("-")
                found[category] = GuardFinding(
                    category=category, rule=f"{self.spec.name}:{word}", score=round(label.score, 4)
                )
        return tuple(sorted(found.values(), key=lambda finding: finding.category))

    def _failed(self, reason: Reason, *, began: float, is_probe: bool) -> None:
        at = self._clock()
        if reason in _IS_AWAY:
            self._breaker.failed(is_probe=is_probe)
        else:
            self._breaker.left(is_probe=is_probe)
        if reason != "open":
            self._tally.failed(reason, at=at)
            log.warning("guard_failed", guard=self.spec.name, reason=reason)
        self._observe(self.spec.name, reason, at - began)


_NOWHERE: Final = "http://127.0.0.1:9/v1"
"""Port 9 refuses everybody: a guard that must judge then lets nothing pass."""


class Posts:
    """The guards of a process, each once, however many policies name it: they share its breaker and its connections."""

    def __init__(
        self,
        *,
        keys: Mapping[str, str] | None = None,
        local: tuple[str, str] | None = None,
        observe: Observer = _nobody,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`keys` are bearer tokens by guard, in place of the files that a policy names.

        `local` is where the worker of this process listens, and its token; without one nothing answers there.
        """
        self._local = local or (_NOWHERE, "")
        self._keys = dict(keys or {})
        self._observe = observe
        self._clock = clock
        self._posts: dict[GuardSpec, Post] = {}

    def of(self, spec: GuardSpec) -> Post:
        """Return the guard's post, made where it is new. Raises OSError where its key cannot be read."""
        if spec not in self._posts:
            key = self._keys.get(spec.name, "")
            if not key and spec.api_key_file is not None:
                key = spec.api_key_file.read_text(encoding="utf-8").strip()
            url, key = self._local if spec.url == LOCAL else (spec.url, key)
            client = GuardClient(url, api_key=key, model=spec.model)
            self.add(Post(spec, adapter_of(spec, client), observe=self._observe, clock=self._clock))
        return self._posts[spec]

    def add(self, post: Post) -> None:
        """Take a post that was made elsewhere."""
        self._posts[post.spec] = post

    async def close(self) -> None:
        """Close all connections."""
        for post in self._posts.values():
            await post.close()


def adapter_of(spec: GuardSpec, client: GuardClient) -> Guard:
    """Return what speaks to a guard of this kind."""
    match spec.kind:
        case "qwen3guard":
            return Qwen3Guard(client)
        case "llama_guard":
            return LlamaGuard(client)
        case "shieldlm":
            return ShieldLm(client, instructions=spec.instructions)
        case "judge":
            return Judge(client, categories=spec.labels, instructions=spec.instructions)
        case "moderations":
            return Moderations(client)
        case "classify":
            return Classify(client, labels=spec.labels)
