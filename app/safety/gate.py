"""The gate: the one place where a raw text becomes a ReleasedText.

It feeds every scan, lets out what all of them have decided, and acts on what they found in the order of the text, not
in the order of discovery: so events and decisions are the same however the stream was cut. A refusal lets out the text
before it and nothing after. Whatever goes wrong inside is a refusal too.

    OPEN ── match to be masked ──> OPEN     the mask in place of the span
    OPEN ── match to be refused ─> CLOSED   Cut
    OPEN ── a detector fails ────> CLOSED   Cut, is_degraded; nothing that was held back goes out
    OPEN ── finish ──────────────> CLOSED   the rest

Where the policy names guard models, all of this comes out through a hold (`app.safety.guards.hold`): pieces go on once
their window has been judged, and a guard may end the text where it finds something, or where it fails.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Final

import structlog

from app.domain.generation import ChatMessage
from app.domain.models import new_id
from app.domain.verdicts import (
    NO_MASKS,
    Action,
    Checked,
    Cut,
    Decision,
    Finding,
    GateEvent,
    Masked,
    ReleasedText,
    SealedText,
    Stage,
    Text,
    joined,
)
from app.safety.detector import Detector, Match, Scan
from app.safety.guards.hold import Failed, Hold, Refused
from app.safety.guards.post import Post
from app.safety.health import DetectorWatch
from app.safety.normalise import MASK
from app.safety.placeholders import Placeholders
from app.safety.policy import Policy

_SLICE: Final = 2000
"""Characters between two chances for other tasks: a few milliseconds."""
MAX_FINDINGS: Final = 100
"""How many findings that let the text pass a decision keeps. All are acted on."""

log = structlog.get_logger()


class ScanFailed(Exception):
    """A scan contradicts itself."""


@dataclass(slots=True)
class MaskedSpan:
    """What one mask stands for: spans that overlap share it."""

    start: int
    end: int
    may_return: bool
    """Whether the policy lets who wrote it read it again, all of it."""


class StreamGate:
    """A text on its way to a reader (or to the model). One task feeds it."""

    def __init__(
        self,
        detectors: Sequence[Detector],
        *,
        policy: Policy,
        stage: Stage,
        shown: str = "",
        shown_length: int = 0,
        posts: Sequence[Post] = (),
        context: Sequence[ChatMessage] = (),
        watch: DetectorWatch | None = None,
    ) -> None:
        """`shown` is the end of what the reader has already, `shown_length` the length of all of it.

        `posts` are the guards to ask, `context` what was said before, which only they read; `watch` counts failures.
        """
        self._policy = policy
        self._stage = stage
        self._id = new_id()
        self._scans: list[tuple[str, Scan]] = []
        self._origin = max(0, shown_length - len(shown))
        """Where in the whole text the scans began."""
        self._shown_upto = self._origin + len(shown)
        self._fed_upto = self._origin
        self._safe_upto = self._origin
        self._text_from = self._origin
        self._text = ""
        """What is held back, from `_text_from` on."""
        self._heard: list[str] = []
        """All pieces, as they came."""
        self._heard_upto: int | None = None
        """Where what may be kept of them ends; None is not known yet."""
        self._masked_upto = 0
        self.masked: list[MaskedSpan] = []
        """By mask, in the order of the text. May be ahead of the events: guards hold those."""
        self._returnable: set[Finding] = set()
        self._found: list[Finding] = []
        """Not acted on yet, for something before them is undecided."""
        self._passed: list[Finding] = []
        self._watch = watch
        self._is_timed = watch is not None and watch.samples_next()
        self._hold = (
            Hold(
                posts,
                stage=stage,
                context=context,
                shown=shown,
                shown_length=shown_length,
                judge=self._finding_of_guard,
            )
            if posts
            else None
        )
        self._events = _Events()
        self._is_closed = False
        self._prime(detectors, shown=shown)

    async def feed(self, text: str) -> Sequence[GateEvent]:
        """Take a piece and return what is now free. Lets other tasks run during a long one. Never raises."""
        for start in range(0, len(text), _SLICE):
            if start:
                await asyncio.sleep(0)
            if not self._is_closed:
                self._read(text[start : start + _SLICE])
        return self.take()

    def take(self) -> Sequence[GateEvent]:
        """Return what became free since the last call: guards judge while nothing is fed."""
        if self._hold is not None and not self._events.is_cut:
            self._take_from(self._hold)
        return self._events.take()

    async def rest(self) -> AsyncIterator[Sequence[GateEvent]]:
        """End the text; yield what becomes free as guards judge it, to the last of it or a `Cut`."""
        if not self._is_closed:
            self._read("", is_last=True)
            self._is_closed = True
            if self._hold is not None and not self._events.is_cut:
                self._hold.finish()
        while True:
            events = self.take()
            if events:
                yield events
            awaited = self.awaited
            if awaited is None:
                return
            await awaited

    async def finish(self) -> Sequence[GateEvent]:
        """Return the rest, or a `Cut`, when all guards have judged or are out of time. Never raises."""
        events: list[GateEvent] = []
        async for some in self.rest():
            events += some
        return events

    @property
    def awaited(self) -> "asyncio.Future[None] | None":
        """Done as soon as a guard has judged more, so that `take` has something; None where none is asked."""
        return None if self._hold is None or self._events.is_cut else self._hold.awaited

    @property
    def is_over(self) -> bool:
        """Whether the end is known, so that nothing more needs to be fed; `finish` tells it."""
        return self._is_closed or self._events.is_cut

    async def close(self) -> None:
        """Cancel the calls that are out. Whoever does not go on to the end of a text calls it; it may come twice."""
        if self._hold is not None:
            await self._hold.close()

    def take_whole(self, text: str) -> Sequence[GateEvent]:
        """Take a whole text at once, for those who have no loop to let others run in, nor guards. Never raises."""
        if not self._is_closed:
            self._read(text)
        if not self._is_closed:
            self._read("", is_last=True)
            self._is_closed = True
        return self._events.take()

    @property
    def decisions(self) -> Sequence[Decision]:
        """The one decision about this text, if there is anything to record; a `Cut` carries it itself, so none then."""
        decision = self.decision
        return () if self._events.is_cut or not (decision.findings or decision.unguarded_by) else (decision,)

    @property
    def heard(self) -> SealedText:
        """The raw text so far; after a `Cut` what was read up to the end of what it was cut for, and nothing behind."""
        upto = None if self._heard_upto is None else self._heard_upto - self._origin
        return SealedText("".join(self._heard)[:upto], start=self._origin)

    @property
    def decision(self) -> Decision:
        """The decision so far, its id the same from beginning to end."""
        return self._decide(self._passed)

    def _prime(self, detectors: Sequence[Detector], *, shown: str) -> None:
        name = "open"
        try:
            for detector in detectors:
                name = detector.name
                self._scans.append((name, detector.open(stage=self._stage)))
        except Exception as error:  # noqa: BLE001 — whatever a detector does wrong, nothing passes
            self._fail(name, error)
            return
        if shown:
            self._read(shown)

    def _read(self, piece: str, *, is_last: bool = False) -> None:
        if piece:
            self._text += piece
            self._heard.append(piece)
            self._fed_upto += len(piece)
        name = ""
        try:
            safe_upto = self._fed_upto
            for name, scan in self._scans:
                safe_upto = min(safe_upto, self._ask(scan, piece=piece, is_last=is_last, detector=name))
            self._safe_upto = safe_upto
            self._release()
        except Exception as error:  # noqa: BLE001 — whatever a detector does wrong, nothing passes
            self._fail(name, error)

    def _ask(self, scan: Scan, *, piece: str, is_last: bool, detector: str) -> int:
        """Let a scan read on; return up to where it has decided. Raises ScanFailed where that cannot be."""
        began = perf_counter() if self._is_timed else 0.0
        if is_last:
            scan.finish()
        else:
            scan.feed(piece)
        if self._is_timed and self._watch is not None:
            self._watch.took(detector, perf_counter() - began)
        for match in scan.take():
            self._judge(match, detector=detector)
        upto = self._origin + scan.safe_upto
        if not self._safe_upto <= upto <= self._fed_upto or (is_last and upto < self._fed_upto):
            raise ScanFailed("safe_upto")
        return upto

    def _judge(self, match: Match, *, detector: str) -> None:
        """Turn a match into a finding, if the policy does something about it."""
        start, end = self._origin + match.start, self._origin + match.end
        if not self._safe_upto <= start < end <= self._fed_upto:
            raise ScanFailed("offsets")
        action, trial = self._actions(match)
        if (action is Action.ALLOW and trial is Action.ALLOW) or end <= self._shown_upto:
            return
        finding = _finding(match, action=action, trial=trial, detector=match.detector or detector, origin=self._origin)
        self._found.append(finding)
        if action is Action.MASK and match.action is None:  # what a list or a detector masks by itself stays masked
            may_return = self._policy.may_return(match.category, stage=self._stage, score=match.score)
            (self._returnable.add if may_return else self._returnable.discard)(finding)

    def _actions(self, match: Match) -> tuple[Action, Action]:
        """Return what the policy does about a match, and what it would do if what is on trial were in force."""
        action, trial = match.action, Action.ALLOW
        if action is None:
            by_rules = self._policy.action(match.category, stage=self._stage, score=match.score)
            on_trial = self._policy.trial(match.category, stage=self._stage, score=match.score)
            action, trial = min(by_rules, match.at_most), min(on_trial, match.at_most)
        if match.is_shadow:
            return Action.ALLOW, max(action, trial)
        return action, trial

    def _release(self) -> None:
        """Act on what is decided, from left to right, and let out the text between."""
        if self._found:
            due = sorted((f for f in self._found if f.start < self._safe_upto), key=_in_order)
            self._found = [f for f in self._found if f.start >= self._safe_upto]
            for finding in due:
                if finding.action >= Action.REFUSE:
                    self._let_out(finding.start)
                    together = [other for other in due if other.start == finding.start]
                    self._cut(self._decide([*self._passed, *together]))
                    return
                if len(self._passed) < MAX_FINDINGS:
                    self._passed.append(finding)
                if finding.action is Action.MASK:
                    self._mask(finding)
        self._let_out(self._safe_upto)

    def _let_out(self, upto: int) -> None:
        """Release the text up to a place; what was shown or masked before is not repeated."""
        start = max(self._text_from, self._shown_upto, self._masked_upto)
        if start < upto:
            text = self._text[start - self._text_from : upto - self._text_from]
            if self._hold is None:
                self._events.add_text(text)
            else:
                self._hold.add_text(text, at=start)
        if self._text_from < upto:
            self._text = self._text[upto - self._text_from :]
            self._text_from = upto

    def _mask(self, finding: Finding) -> None:
        """Put one mask in place of a span; spans that overlap share it."""
        may_return = finding in self._returnable
        if finding.start >= self._masked_upto:
            self.masked.append(MaskedSpan(finding.start, finding.end, may_return))
            self._let_out(finding.start)
            if self._hold is None:
                self._events.add_mask(finding)
            else:
                self._hold.add_mask(MASK, finding)
        else:
            span = self.masked[-1]
            span.end, span.may_return = max(span.end, finding.end), span.may_return and may_return
        self._masked_upto = max(self._masked_upto, finding.end)

    def _decide(self, findings: Iterable[Finding], *, is_degraded: bool = False) -> Decision:
        kept = tuple(findings)
        if self._hold is not None and self._hold.flags:
            kept = tuple(sorted({*kept, *self._hold.flags}, key=_in_order))
        return Decision(
            id=self._id,
            stage=self._stage,
            action=max((finding.action for finding in kept), default=Action.ALLOW),
            policy=self._policy.id,
            findings=kept,
            is_degraded=is_degraded,
            unguarded_by=() if self._hold is None else tuple(self._hold.unguarded_by),
        )

    def _fail(self, detector: str, error: Exception) -> None:
        # Only the type: an exception's words may quote the text.
        log.error("detector_failed", detector=detector, error=type(error).__name__, policy=self._policy.id)
        if self._watch is not None:
            self._watch.failed(detector, type(error).__name__)
        failure = _failure(detector, start=self._text_from, end=self._fed_upto)
        self._cut(self._decide([*self._passed, failure], is_degraded=True))

    def _cut(self, decision: Decision) -> None:
        self._heard_upto = max(finding.end for finding in decision.findings)
        if self._hold is None:
            self._events.add_cut(decision)
        else:
            self._hold.add_cut(decision)
        self._close_scans()

    def _close_scans(self) -> None:
        self._is_closed = True
        self._text = ""
        self._scans.clear()
        self._found.clear()

    def _take_from(self, hold: Hold) -> None:
        """Release what the guards have let pass, and end the text where one of them, or a detector, ended it."""
        for piece in hold.take():
            if piece.mask is None:
                self._events.add_text(piece.text)
            else:
                self._events.add_mask(piece.mask)
        match hold.ending:
            case None:
                return
            case Refused(at=at, findings=found):
                decision = self._decide([*(finding for finding in self._passed if finding.start < at), *found])
            case Failed(at=at, end=end, guard=guard):
                before = [finding for finding in self._passed if finding.start < at]
                decision = self._decide([*before, _failure(guard, start=at, end=end)], is_degraded=True)
            case Decision() as of_detector:
                decision = self._decide(of_detector.findings, is_degraded=of_detector.is_degraded)
        self._heard_upto = max(finding.end for finding in decision.findings)
        self._events.add_cut(decision)
        self._close_scans()

    def _finding_of_guard(self, match: Match) -> Finding | None:
        """Return what the policy makes of a guard's finding. A guard cannot say where, so nothing of it is masked."""
        action, trial = (Action.FLAG if one is Action.MASK else one for one in self._actions(match))
        if action is Action.ALLOW and trial is Action.ALLOW:
            return None
        return _finding(match, action=action, trial=trial, detector=match.detector, origin=0)


class _Events:
    """What the next call hands out, in as few events as possible."""

    def __init__(self) -> None:
        self._events: list[GateEvent] = []
        self._pieces: list[str] = []
        self.is_cut = False

    def add_text(self, text: str) -> None:
        self._pieces.append(text)

    def add_mask(self, finding: Finding) -> None:
        self._flush()
        self._events.append(Masked(ReleasedText(MASK), finding))

    def add_cut(self, decision: Decision) -> None:
        self._flush()
        self._events.append(Cut(decision))
        self.is_cut = True

    def take(self) -> Sequence[GateEvent]:
        self._flush()
        events, self._events = self._events, []
        return events

    def _flush(self) -> None:
        if self._pieces:
            self._events.append(Text(ReleasedText("".join(self._pieces))))
            self._pieces = []


async def check(gate: StreamGate, *, text: str, beside: Iterable[str] | None = None) -> Checked:
    """Send a whole text through a fresh gate.

    With `beside` masks are numbered where the policy lets what they stand for return to who wrote it, by no number that
    stands in these texts as one.
    """
    placeholders = None if beside is None else Placeholders(taken=(text, *beside))
    try:
        return _checked(gate, [*await gate.feed(text), *await gate.finish()], heard=text, placeholders=placeholders)
    finally:
        await gate.close()


def check_at_once(gate: StreamGate, *, text: str) -> Checked:
    """Do the same without a loop: for short texts."""
    return _checked(gate, gate.take_whole(text), heard=text)


def _checked(
    gate: StreamGate, events: Sequence[GateEvent], *, heard: str, placeholders: Placeholders | None = None
) -> Checked:
    sealed = SealedText(heard)
    pieces: list[ReleasedText] = []
    spans = iter(gate.masked)
    for event in events:
        if isinstance(event, Cut):
            return Checked(decision=event.decision, text=None, heard=sealed)
        pieces.append(event.text)
        if isinstance(event, Masked):
            span = next(spans)
            if placeholders is not None and span.may_return:
                number = placeholders.of(heard[span.start : span.end], start=span.start)
                pieces[-1] = event.text if number is None else ReleasedText(number)
    masks = NO_MASKS if placeholders is None else placeholders.sealed
    return Checked(decision=gate.decision, text=joined(pieces), heard=sealed, masks=masks)


def _finding(match: Match, *, action: Action, trial: Action, detector: str, origin: int) -> Finding:
    return Finding(
        category=match.category,
        rule=match.rule,
        detector=detector,
        action=action,
        start=origin + match.start,
        end=origin + match.end,
        score=match.score,
        shadow=trial if trial > action else Action.ALLOW,
    )


def _failure(detector: str, *, start: int, end: int) -> Finding:
    return Finding(
        category="unavailable",
        rule=f"unavailable:{detector}",
        detector=detector,
        action=Action.REFUSE,
        start=start,
        end=end,
    )


def _in_order(finding: Finding) -> tuple[int, int, int, str, str]:
    """From left to right; at one place the gravest first, then the longest; then anything that is always the same."""
    return finding.start, -finding.action, -finding.end, finding.detector, finding.rule
