"""How the gate sees whatever looks for something in a text.

A detector is shared and keeps nothing; a scan reads one text. What makes streams safe is `safe_upto`: each scan says up
to which place it has decided for ever, and the gate shows nothing beyond the smallest of these places.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from app.domain.verdicts import Action, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A place that a detector recognised, before a policy says what it means. Offsets are those of the fed text."""

    category: str
    rule: str
    """Names the rule, never quotes the text."""
    start: int
    end: int
    action: Action | None = None
    """What is done in every stage; None leaves it to the policy's rules."""
    score: float = 1.0
    """How sure the detector is, from 0 to 1; a policy's rules have thresholds."""
    detector: str = ""
    """Where it was found in another reading of the text, the reading's name."""
    is_shadow: bool = False
    """Of a list on trial: recorded, and nothing else."""
    at_most: Action = Action.HANDOFF
    """The gravest that may be done about it, whatever a rule says: a hint only flags."""


class Scan(Protocol):
    """One text, piece by piece. Whatever it raises becomes a refusal."""

    def feed(self, text: str) -> None:
        """Take the next piece; the pieces may be cut anywhere between code points."""
        ...

    def finish(self) -> None:
        """Take note that nothing more comes: `safe_upto` is then the length of the text."""
        ...

    @property
    def safe_upto(self) -> int:
        """Never falls. Every match that starts before it was, or is now, handed out by `take`."""
        ...

    def take(self) -> Sequence[Match]:
        """Return the matches that became final, each once."""
        ...


class Detector(Protocol):
    """Something that finds matches."""

    @property
    def name(self) -> str:
        """As findings name it."""
        ...

    def open(self, *, stage: Stage) -> Scan:
        """Start a text."""
        ...
