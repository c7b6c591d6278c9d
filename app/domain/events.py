"""The numbered events of a turn. Readers attach at a number and may come and go; the turn does not notice.

    (Waiting* Started)* Released* Ended

A turn starts anew only where its engine went back to loading before the first word. `Ended` comes exactly once, in
every path. Text appears in `Released` only, so only what passed the filter becomes one.
"""

from dataclasses import dataclass

from app.domain.models import Message
from app.domain.verdicts import ReleasedText


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """In the queue, or the model is still loading (`stage` and `progress` are set then)."""

    position: int = 0
    """1 is next."""
    eta_s: float | None = None
    stage: str = ""
    progress: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The engine has been asked."""

    model: str
    dropped_messages: int = 0


@dataclass(frozen=True, slots=True)
class Released:
    """A piece of the answer."""

    text: ReleasedText


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The answer is final; `answer` is the row as it was saved."""

    answer: Message
    title: ReleasedText | None = None
    """The conversation's title, where this turn made it."""


TurnEvent = Waiting | Started | Released | Ended


@dataclass(frozen=True, slots=True)
class Numbered:
    """An event and its place in the turn's log, from 1."""

    n: int
    event: TurnEvent
