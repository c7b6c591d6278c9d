"""What a guard says: labels of its own; and how it fails. A reply that is not understood is a failure, never `safe`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from app.domain.generation import ChatMessage

Reason = Literal["unreachable", "timeout", "busy", "status", "request", "reply", "label", "fault", "open"]
"""Nobody listens; silent beyond the budget; no free place within it; an HTTP error; one that blames the request (a
text too long for its context); rubbish; a label that nobody mapped; a fault of ours; failed too often to be asked."""

CONTROVERSIAL: Final = 0.5
"""The score of what a guard calls controversial; unsafe is 1."""


class GuardFailure(Exception):
    """A guard did not judge. Holds one word, and no text: a guard's own words may quote what it was asked about."""

    def __init__(self, reason: Reason) -> None:
        """`reason` is for the log, the metrics and the health."""
        super().__init__(reason)
        self.reason: Reason = reason


@dataclass(frozen=True, slots=True)
class Label:
    """What a guard found, in its own words."""

    name: str
    score: float = 1.0
    """How sure it is, from 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardFinding:
    """What a guard found, in ours."""

    category: str
    rule: str
    """`guard:violent`: the guard's name, and a label of the policy's mapping, never a word of the guard's reply."""
    score: float


class Guard(Protocol):
    """A kind of guard: how it is asked, and how its reply is read."""

    async def ask(self, turns: Sequence[ChatMessage]) -> Sequence[Label]:
        """Judge the last of these turns, the others being its context; nothing found is an empty sequence.

        Turns alternate and begin with the user's. Raises GuardFailure.
        """
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...
