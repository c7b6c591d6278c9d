"""A guard in this process that judges by trigger words, and takes as long as it is told: in turns of the event loop."""

import asyncio
from collections.abc import Callable, Sequence

from app.domain.generation import ChatMessage
from app.domain.verdicts import Action, Stage
from app.safety.guards.post import Post, Posts
from app.safety.guards.spec import GuardSpec
from app.safety.guards.verdict import GuardFailure, Label
from app.safety.policy import Policy, Rule, make_policy

UNSAFE = "qqunsafe"
CONTROVERSIAL = "qqdoubt"
RUBBISH = "qqrubbish"
HANG = "qqhang"
SLOW = "qqslow"
BROKEN = "qqbroken"
DEAD = "qqdead"
"""Trigger words, here and at the fake server: what the guard does about a text in which one stands."""


class FakeGuard:
    """A guard. `latency` is asked for each call how many turns of the loop it takes."""

    def __init__(self, *, latency: Callable[[], int] = lambda: 0, dies_after: int | None = None) -> None:
        """From call `dies_after` on, nobody listens."""
        self.asked: list[Sequence[ChatMessage]] = []
        self.running = 0
        self.most_running = 0
        self.cancelled = 0
        self.is_closed = False
        self._latency = latency
        self._dies_after = dies_after

    async def ask(self, turns: Sequence[ChatMessage]) -> Sequence[Label]:
        """Judge."""
        self.asked.append(turns)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            for _ in range(self._latency()):
                await asyncio.sleep(0)
            return await self._judged(turns[-1].text)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    async def close(self) -> None:
        """Note it."""
        self.is_closed = True

    async def _judged(self, text: str) -> Sequence[Label]:
        if DEAD in text or (self._dies_after is not None and len(self.asked) > self._dies_after):
            raise GuardFailure("unreachable")
        if BROKEN in text:
            raise GuardFailure("status")
        if RUBBISH in text:
            raise GuardFailure("reply")
        if HANG in text:
            await asyncio.Event().wait()
        if UNSAFE in text:
            return [Label("Violent")]
        if CONTROVERSIAL in text:
            return [Label("Violent", 0.5)]
        return []


def guard_spec(**changes: object) -> GuardSpec:
    """Return a guard's spec; nothing listens at its address."""
    fields: dict[str, object] = {
        "name": "guard",
        "kind": "qwen3guard",
        "url": "http://127.0.0.1:9/v1",
        "categories": (("*", "violence"),),
    }
    return GuardSpec(**(fields | changes))  # type: ignore[arg-type]


def guarded_policy(*specs: GuardSpec, rules: Sequence[Rule] = (), **more: object) -> Policy:
    """Return a policy that refuses violence and flags what is doubtful."""
    own = [
        Rule(category="violence", stages=frozenset(Stage), action=Action.REFUSE, threshold=0.75),
        Rule(category="violence", stages=frozenset(Stage), action=Action.FLAG),
    ]
    return make_policy("guarded", rules=[*own, *rules], guards=specs or (guard_spec(),), **more)  # type: ignore[arg-type]


def posts_of(*pairs: tuple[GuardSpec, FakeGuard], clock: Callable[[], float] | None = None) -> Posts:
    """Return posts at which these guards stand."""
    posts = Posts()
    for spec, guard in pairs:
        posts.add(Post(spec, guard, **({"clock": clock} if clock else {})))  # type: ignore[arg-type]
    return posts
