"""The console's first page: how the service does, at a glance."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from app.domain.generation import EngineStatus
from app.domain.models import Account, MessageState, now
from app.domain.ports import Engine, Filter, Storage
from app.services.accounts import require_admin
from app.services.queue import FairQueue
from app.services.stats import Recent, Stats


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """One look."""

    engine: EngineStatus
    running: int
    waiting: int
    slots: int
    recent: Recent
    answers: Mapping[MessageState, int]
    """By final state, over the last 24 hours."""
    policy: str


class OverviewDesk:
    """Looks."""

    def __init__(
        self, *, storage: Storage, engine: Engine, queue: FairQueue, stats: Stats, content_filter: Filter
    ) -> None:
        """Reads only."""
        self._storage = storage
        self._engine = engine
        self._queue = queue
        self._stats = stats
        self._filter = content_filter

    async def look(self, admin: Account) -> Overview:
        """Return the present state.

        Raises AccessDenied for anybody but an admin.
        """
        require_admin(admin)
        async with self._storage.read() as unit:
            answers = await unit.messages.counts(since=now() - timedelta(days=1))
        engine = await self._engine.status()
        return Overview(
            engine=engine,
            running=self._queue.running,
            waiting=self._queue.waiting,
            slots=engine.slots,
            recent=self._stats.recent(),
            answers=answers,
            policy=self._filter.policy,
        )
