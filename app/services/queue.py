"""The queue in front of the engine: fair among accounts, bounded, and honest about one's place.

Accounts take turns: whoever waits with one question is not behind another one's twenty, and who holds no slot comes
before who holds one. A place is given up in every
path out of `async with`, so a slot can never leak.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Self

from app.domain.errors import EngineBusy
from app.domain.events import Waiting


class FairQueue:
    """`slots` places at the engine, given out in rounds: one to each waiting account, then again from the first."""

    def __init__(
        self, *, slots: int = 1, waiting_limit: int = 512, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """At most `waiting_limit` wait; beyond that, `EngineBusy`."""
        self.slots = slots
        self.waiting_limit = waiting_limit
        self.running = 0
        self._waiting: dict[str, deque[Place]] = {}
        self._holding: Counter[str] = Counter()
        self._served: dict[str, int] = {}
        """By account: which grant was its last."""
        self._grants = 0
        self._clock = clock
        self._mean_run_s = 20.0

    def now(self) -> float:
        """Return the queue's time, in seconds."""
        return self._clock()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting.values()))

    def resize(self, slots: int) -> None:
        """Follow the engine's number of slots; those that run already go on."""
        if slots != self.slots:
            self.slots = max(1, slots)
            self._grant()

    def enter(self, account_id: str) -> "Place":
        """Take a place; use it with `async with`.

        Raises EngineBusy where the queue is full.
        """
        self.require_room()
        return Place(self, account_id)

    def require_room(self) -> None:
        """Raises EngineBusy where the queue is full."""
        if self.waiting >= self.waiting_limit:
            raise EngineBusy("queue full", retry_after_s=max(1.0, self.eta_s(self.waiting)))

    def join(self, place: "Place") -> None:
        """Put a place at the end of its account's line."""
        self._waiting.setdefault(place.account_id, deque()).append(place)
        self._grant()

    def leave(self, place: "Place") -> None:
        """Give a slot back, or a place in the line up."""
        if place.granted_at is not None:
            self.running -= 1
            self._holding[place.account_id] -= 1
            self._mean_run_s += 0.2 * (self._clock() - place.granted_at - self._mean_run_s)
        else:
            line = self._waiting[place.account_id]
            line.remove(place)
            if not line:
                del self._waiting[place.account_id]
        if not self._holding[place.account_id] and place.account_id not in self._waiting:
            del self._holding[place.account_id]  # who is gone is forgotten
            self._served.pop(place.account_id, None)
        self._grant()

    def _grant(self) -> None:
        while self.running < self.slots and self._waiting:
            account_id = self._round()[0]
            place = self._waiting[account_id].popleft()
            if not self._waiting[account_id]:
                del self._waiting[account_id]
            self.running += 1
            self._holding[account_id] += 1
            self._grants += 1
            self._served[account_id] = self._grants
            place.granted_at = self._clock()
            place.changed.set()
        for position, place in enumerate(self.line(), start=1):
            if place.position != position:
                place.position = position
                place.changed.set()

    def _round(self) -> list[str]:
        """Return the waiting accounts: those that hold fewest slots first, then those that were served longest ago."""
        return sorted(self._waiting, key=lambda account: (self._holding[account], self._served.get(account, 0)))

    def line(self) -> list["Place"]:
        """Return those who wait, in the order in which they will be served."""
        rounds: list[list[Place]] = []
        for account_id in self._round():
            for round_number, place in enumerate(self._waiting[account_id]):
                if round_number == len(rounds):
                    rounds.append([])
                rounds[round_number].append(place)
        return [place for one_round in rounds for place in one_round]

    def eta_s(self, position: int) -> float:
        """Return how long a place at this position is expected to wait."""
        return self._mean_run_s * position / self.slots


class Place:
    """A place in the queue, then a slot at the engine."""

    def __init__(self, queue: FairQueue, account_id: str) -> None:
        """Made by `FairQueue.enter`."""
        self.account_id = account_id
        self.position = 0
        self.began_at = queue.now()
        self.granted_at: float | None = None
        self.changed = asyncio.Event()
        self._queue = queue

    async def __aenter__(self) -> Self:
        self._queue.join(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._queue.leave(self)

    async def wait(self) -> AsyncIterator[Waiting]:
        """Yield the position each time that it changes; end when the slot is ours."""
        while self.granted_at is None:
            self.changed.clear()
            yield Waiting(position=self.position, eta_s=self._queue.eta_s(self.position))
            await self.changed.wait()
