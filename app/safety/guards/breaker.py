"""A breaker: a guard that fails again and again is left alone for a while, and then tried with one call."""

from collections.abc import Callable
from typing import Final

from app.domain.health import DetectorState
from app.safety.guards.verdict import GuardFailure

FAILURES: Final = 5
"""In a row, until it opens."""
PAUSE_S: Final = 30.0
"""How long it stays open."""


class Breaker:
    """For one guard, shared by all streams. Every `enter` is followed by one of `succeeded`, `failed`, `left`."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        """Closed: everybody may ask."""
        self._clock = clock
        self._in_a_row = 0
        self._opened_at: float | None = None
        self._is_probing = False

    @property
    def state(self) -> DetectorState:
        """`open` while nobody may ask; when the pause is over it counts as failing, until the one call is back."""
        if self._opened_at is not None and self._clock() - self._opened_at < PAUSE_S:
            return DetectorState.OPEN
        return DetectorState.FAILING if self._in_a_row else DetectorState.OK

    def enter(self) -> bool:
        """Begin a call; return whether it is the probe. Raises GuardFailure where it must not be made."""
        if self._opened_at is None:
            return False
        if self._is_probing or self._clock() - self._opened_at < PAUSE_S:
            raise GuardFailure("open")
        self._is_probing = True
        return True

    def succeeded(self) -> None:
        """The guard judged: close."""
        self._in_a_row = 0
        self._opened_at = None
        self._is_probing = False

    def failed(self, *, is_probe: bool) -> None:
        """Count; the last of `FAILURES`, or the probe, opens it. What was asked before it opened changes nothing."""
        if is_probe:
            self._is_probing = False
        elif self._opened_at is not None:
            return
        self._in_a_row += 1
        if is_probe or self._in_a_row >= FAILURES:
            self._opened_at = self._clock()

    def left(self, *, is_probe: bool) -> None:
        """The caller went away, or never got through: that says nothing about the guard."""
        if is_probe:
            self._is_probing = False
