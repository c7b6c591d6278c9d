"""How the detectors of a filter do: failures, and how long they take. Kept for a process, told on request."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import Final

from app.domain.health import DetectorHealth, DetectorState

_KEPT: Final = 256
"""Calls of which the time is remembered."""
_EVERY: Final = 32
"""One text in so many has its detectors timed: the clock costs as much as a detector that finds nothing."""
_REMEMBERED_S: Final = 60.0
"""How long a detector that failed is not called sound."""


class Tally:
    """One detector's, or guard's, counts."""

    def __init__(self) -> None:
        """Nothing was asked yet."""
        self.failures = 0
        self.reason = ""
        self.failed_at = -math.inf
        self.is_failing = False
        """The last call failed."""
        self._seconds: deque[float] = deque(maxlen=_KEPT)

    def took(self, seconds: float) -> None:
        """Note how long a call took that did not fail."""
        self._seconds.append(seconds)
        self.is_failing = False

    def failed(self, reason: str, *, at: float) -> None:
        """Note that a call failed."""
        self.failures += 1
        self.reason = reason
        self.failed_at = at
        self.is_failing = True

    def percentile(self, share: float) -> float | None:
        """Return what so great a share of the last calls took at most; None where there were none."""
        ordered = sorted(self._seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None

    def health(self, *, name: str, kind: str, state: DetectorState, lets_pass: bool = False) -> DetectorHealth:
        """Return it as it is told."""
        return DetectorHealth(
            name=name,
            kind=kind,
            state=state,
            failures=self.failures,
            p50_s=self.percentile(0.5),
            p95_s=self.percentile(0.95),
            reason=self.reason if state is not DetectorState.OK else "",
            lets_pass=lets_pass,
        )


class DetectorWatch:
    """The detectors that run in this process."""

    def __init__(self, names: Iterable[str], *, clock: Callable[[], float] = monotonic) -> None:
        """`names` in the order in which they are told."""
        self._tallies = {name: Tally() for name in names}
        self._clock = clock
        self._texts = 0

    def samples_next(self) -> bool:
        """Whether the detectors of the next text are timed."""
        self._texts += 1
        return self._texts % _EVERY == 1

    def took(self, name: str, seconds: float) -> None:
        """Note how long a piece took a detector."""
        self._tally(name).took(seconds)

    def failed(self, name: str, error: str) -> None:
        """Note that a detector failed; `error` is the exception's type."""
        self._tally(name).failed(error, at=self._clock())

    def health(self) -> Sequence[DetectorHealth]:
        """Return how they all do."""
        at = self._clock()
        return [
            tally.health(
                name=name,
                kind="detector",
                state=DetectorState.FAILING if at - tally.failed_at < _REMEMBERED_S else DetectorState.OK,
            )
            for name, tally in self._tallies.items()
        ]

    def _tally(self, name: str) -> Tally:
        return self._tallies.setdefault(name, Tally())
