"""What the filter says, and the one type of text that may be shown, stored or sent.

`ReleasedText` is a plain string at run time. For the type checker it is the proof that a text went through the filter:
storage, the turn log and everything that faces a reader take nothing else. Only `app.safety.gate` makes one from a raw
string (a test reads the source for that); storage restores it from rows that hold nothing else; `joined` glues pieces.

`SealedText` is the opposite: a raw text on its way to where hits and evidence are written, or behind a placeholder of
its owner's question (`app.domain.own_text`), closed to everybody else.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import NewType

ReleasedText = NewType("ReleasedText", str)

NOTHING = ReleasedText("")
"""The empty text needs no check."""


def joined(pieces: Iterable[ReleasedText]) -> ReleasedText:
    """Return the pieces of one stream as one text: the gate released them in this order."""
    return ReleasedText("".join(pieces))


def excerpt(text: ReleasedText, start: int, end: int) -> ReleasedText:
    """Return a part of a text: what may be shown as a whole may be shown in part."""
    return ReleasedText(text[max(0, start) : end])


class SealedText:
    """A raw text for the evidence box, the hit's fingerprint, or its owner. Printing it shows its length alone."""

    __slots__ = ("__text", "start")

    def __init__(self, text: str = "", *, start: int = 0) -> None:
        """`start` is where the text begins in the whole that a decision's offsets count in."""
        self.__text = text
        self.start = start

    def unsealed(self) -> str:
        """Return the text. Few places may call this; a test reads the source for them."""
        return self.__text

    def __len__(self) -> int:
        return len(self.__text)

    def __repr__(self) -> str:
        return f"<SealedText {len(self)} characters>"

    def __reduce__(self) -> str:
        raise TypeError("a sealed text is not pickled")


NO_MASKS: Mapping[str, SealedText] = MappingProxyType({})


class Stage(StrEnum):
    """Where a text is on its way; policies differ by stage."""

    INPUT = "input"
    HISTORY = "history"
    OUTPUT = "output"
    EXPORT = "export"


class Action(IntEnum):
    """What a policy does about a finding. The larger wins, so the order of detectors never matters."""

    ALLOW = 0
    FLAG = 1
    MASK = 2
    REFUSE = 3
    HANDOFF = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One place in a text that a detector reports: the code points `[start, end)` of the original text."""

    category: str
    rule: str
    """Names the rule, never quotes it: `phrases:test-refuse`."""
    detector: str
    action: Action
    start: int
    end: int
    score: float = 1.0
    shadow: Action = Action.ALLOW
    """What rules and lists on trial would have done, where that is more than `action`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the filter decided about one text, and on which grounds. Holds no text."""

    id: str
    stage: Stage
    action: Action
    policy: str
    """`name@first-12-hex-of-sha256`, so that every decision names its exact policy."""
    findings: tuple[Finding, ...] = ()
    is_degraded: bool = False
    """True where a part of the filter failed, and the refusal is the failure's."""
    unguarded_by: tuple[str, ...] = ()
    """Guard models that could not judge all of it, where the policy lets texts pass then."""

    @property
    def category(self) -> str | None:
        """The category of the gravest finding; None where nothing was found."""
        gravest = max(self.findings, key=lambda finding: (finding.action, -finding.start), default=None)
        return gravest.category if gravest else None

    @property
    def is_refusal(self) -> bool:
        """Whether the text may not pass."""
        return self.action >= Action.REFUSE


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A whole text after the filter: `text` is masked where the policy says so, and None where it was refused."""

    decision: Decision
    text: ReleasedText | None
    heard: SealedText = field(default_factory=SealedText, compare=False)
    """What was judged, all of it: who reviews a refusal has to see what stood behind the phrase, too."""
    masks: Mapping[str, SealedText] = field(default_factory=dict, compare=False)
    """What the numbered placeholders in `text` stand for, where the policy lets the asker read it again."""

    @property
    def case(self) -> "Case":
        """The decision and what it is about, to be written down."""
        return Case(self.decision, self.heard)


@dataclass(frozen=True, slots=True)
class Case:
    """A decision, and the raw text that it is about."""

    decision: Decision
    heard: SealedText


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of a stream that may be shown."""

    text: ReleasedText


@dataclass(frozen=True, slots=True)
class Masked:
    """A piece of a stream in which something was replaced."""

    text: ReleasedText
    finding: Finding


@dataclass(frozen=True, slots=True)
class Cut:
    """The end of a stream: nothing after this passes. The text before the finding was released earlier."""

    decision: Decision


GateEvent = Text | Masked | Cut
