"""The console's first page: how the service does, at a glance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from app.domain.generation import EngineStatus
from app.domain.health import DetectorHealth, FilterState, state_of
from app.domain.models import Account, MessageState, now
from app.domain.ports import Engine, Filters, Storage
from app.services.accounts import require_admin
from app.services.queue import FairQueue
from app.services.stats import Recent, Stats

SHOWN_IN_LINE = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiter:
    """A turn in the queue."""

    position: int
    """1 is next."""
    account: str
    """The name."""
    waited_s: float
    eta_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """One look."""

    engine: EngineStatus
    running: int
    waiting: int
    line: Sequence[Waiter]
    """The first `SHOWN_IN_LINE` of those who wait."""
    slots: int
    recent: Recent
    answers: Mapping[MessageState, int]
    """By final state, over the last 24 hours."""
    policy: str
    detectors: Sequence[DetectorHealth]
    """The parts of the filter."""
    filter_state: FilterState


class OverviewDesk:
    """Looks."""

    def __init__(self, *, storage: Storage, engine: Engine, queue: FairQueue, stats: Stats, filters: Filters) -> None:
        """Reads only."""
        self._storage = storage
        self._engine = engine
        self._queue = queue
        self._stats = stats
        self._filters = filters

    async def look(self, admin: Account) -> Overview:
        """Return the present state.

        Raises AccessDenied for anybody but an admin.
        """
        require_admin(admin)
        places = self._queue.line()[:SHOWN_IN_LINE]
        async with self._storage.read() as unit:
            answers = await unit.messages.counts(since=now() - timedelta(days=1))
            names = {place.account_id: await unit.accounts.get(place.account_id) for place in places}
        engine = await self._engine.status()
        detectors = self._filters.site.health()
        return Overview(
            engine=engine,
            running=self._queue.running,
            waiting=self._queue.waiting,
            line=[
                Waiter(
                    position=place.position,
                    account=account.name if (account := names[place.account_id]) else place.account_id,
                    waited_s=self._queue.now() - place.began_at,
                    eta_s=self._queue.eta_s(place.position),
                )
                for place in places
            ],
            slots=engine.slots,
            recent=self._stats.recent(),
            answers=answers,
            policy=self._filters.site.policy,
            detectors=detectors,
            filter_state=state_of(detectors),
        )
