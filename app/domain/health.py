"""How the parts of the content filter do: what `/readyz`, the metrics and the pages are told. No text, no settings."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class DetectorState(StrEnum):
    """Whether a part of the filter can be relied on now."""

    OK = "ok"
    FAILING = "failing"
    """Its last call failed, or it failed within the last minute."""
    OPEN = "open"
    """A guard that failed so often that it is not asked for a while."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorHealth:
    """One detector, or one guard model."""

    name: str
    kind: str
    """`detector`, or a guard's kind: `qwen3guard`, …"""
    state: DetectorState
    failures: int
    """Since the start."""
    p50_s: float | None = None
    """Of the last calls; None where none was timed yet. Of a detector, a call is one piece of a stream."""
    p95_s: float | None = None
    reason: str = ""
    """Of the last failure, one word: `timeout`, `unreachable`, …"""
    lets_pass: bool = False
    """A guard that, while it fails, lets texts pass that nobody judged (`on_error = "degrade"`)."""

    @property
    def is_guard(self) -> bool:
        """Whether it is a model that is asked over HTTP."""
        return self.kind != "detector"


class FilterState(StrEnum):
    """What the filter's health means to a reader."""

    OK = "ok"
    DEGRADED = "degraded"
    """Texts pass that a guard should have judged, or a part failed a moment ago."""
    CLOSED = "closed"
    """Nothing passes: a guard that must judge is not asked for a while."""


def state_of(health: Sequence[DetectorHealth]) -> FilterState:
    """Return the gravest that follows from the parts."""
    if any(one.state is DetectorState.OPEN and not one.lets_pass for one in health):
        return FilterState.CLOSED
    if any(one.state is not DetectorState.OK for one in health):
        return FilterState.DEGRADED
    return FilterState.OK
