"""What the other detectors let pass of a text, held until the guards have judged it.

Guards see what a reader would see: masks are in place already, and of what another detector refused they hear nothing.
The text is cut into windows (`app.safety.guards.windows`). Each guard is asked about one window after the other, one
call at a time, and acted on in the order of the text: so what is released, and why, depends on the text and on the
verdicts, not on how fast either came.

    window ── every strict guard lets it pass ──> out
    window ── one refuses, or cannot judge ─────> the end: nothing from its beginning on goes out

Guards that are fast hold nothing back; theirs is the end when it comes.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from app.domain.generation import ChatMessage
from app.domain.verdicts import Action, Decision, Finding, Stage
from app.safety.detector import Match
from app.safety.guards.conversation import conversation
from app.safety.guards.post import Post
from app.safety.guards.verdict import GuardFailure, GuardFinding
from app.safety.guards.windows import REACH_ANSWER, REACH_WHOLE, Windows

_MAX_FLAGS: Final = 100
Judge = Callable[[Match], Finding | None]
"""What the policy makes of a match; None where that is nothing."""
Verdict = Sequence[GuardFinding] | GuardFailure


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that is held, or the mask that stands for some."""

    text: str
    mask: Finding | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A guard ended the text."""

    at: int
    """Where the window begins: findings of others before it stand."""
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A guard that must judge could not."""

    at: int
    end: int
    guard: str


Ending = Refused | Failed | Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    start: int
    end: int
    """Of the original text."""
    upto: int
    """Its end in the text as it is shown."""
    text: str
    """What a guard is shown: the window, and what stands before it."""
    is_blank: bool


class _Watch:
    """One guard over one text: its windows in a line, one call at a time."""

    def __init__(self, post: Post, *, stage: Stage, context: Sequence[ChatMessage], wake: Callable[[], None]) -> None:
        self.post = post
        self.done: deque[tuple[_Window, Verdict]] = deque()
        self._stage = stage
        self._context = context
        self._wake = wake
        self._line: deque[_Window] = deque()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_busy(self) -> bool:
        return bool(self._line)

    def ask(self, window: _Window) -> None:
        self._line.append(window)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name=f"guard-{self.post.spec.name}")

    def cancel(self) -> None:
        self._line.clear()
        self.done.clear()
        if self._task is not None:
            self._task.cancel()

    async def gone(self) -> None:
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            while self._line:
                window = self._line[0]
                verdict = await self._judge(window)
                self._line.popleft()
                self.done.append((window, verdict))
                self._wake()
        finally:  # whatever ended this task from outside, nobody waits for it for ever
            while self._line:
                self.done.append((self._line.popleft(), GuardFailure("fault")))
                self._wake()

    async def _judge(self, window: _Window) -> Verdict:
        if window.is_blank:
            return ()
        turns = conversation(self._context, window.text, is_answer=self._stage is Stage.OUTPUT)
        try:
            return await self.post.ask(turns, stage=self._stage)
        except GuardFailure as failure:
            return failure


class Hold:
    """One text."""

    def __init__(
        self,
        posts: Sequence[Post],
        *,
        stage: Stage,
        context: Sequence[ChatMessage] = (),
        shown: str = "",
        shown_length: int = 0,
        judge: Judge,
    ) -> None:
        """`shown` is the end of what the reader has already, `shown_length` the length of all of it."""
        self._watches = [_Watch(post, stage=stage, context=context, wake=self._wake) for post in posts]
        is_answer = stage is Stage.OUTPUT
        strict = [watch for watch in self._watches if not is_answer or watch.post.spec.mode == "strict"]
        self._strict = strict
        self._fast = [watch for watch in self._watches if watch not in strict]
        self._judge = judge
        self._windows = Windows(place=shown_length, is_answer=is_answer)
        self._reach = REACH_ANSWER if is_answer else REACH_WHOLE
        self._recent = shown[-self._reach :]
        self._open = ""
        """Of the window that is open."""
        self._opened_at = self._read_upto = shown_length
        """Of the original text: where the open window begins, and where what was added ends."""
        self._approved_upto = shown_length
        self._pieces: deque[tuple[Piece, int]] = deque()
        """What is held, and where in the text as it is shown each piece ends."""
        self._shown_upto = shown_length
        self._last: Decision | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._has_news = False
        self._flagged: set[tuple[object, ...]] = set()
        self.flags: list[Finding] = []
        """What guards found that lets the text pass."""
        self.unguarded_by: list[str] = []
        """Guards that could not judge a part that passed."""
        self.ending: Ending | None = None
        """Why the text ended early; nothing comes after it."""

    def add_text(self, text: str, *, at: int) -> None:
        """Take a piece of the text; `at` is where it begins in the original."""
        done = 0
        for place in self._windows.feed(text):
            size = place - self._shown_upto
            self._hold(Piece(text[done : done + size]), upto=at + done + size)
            done += size
            self._close(upto=place)
        if done < len(text):
            self._hold(Piece(text[done:]), upto=at + len(text))

    def add_mask(self, text: str, finding: Finding) -> None:
        """Take what stands for a span."""
        ends = self._windows.feed_whole(text)
        self._hold(Piece(text, finding), upto=finding.end)
        if ends:
            self._close(upto=self._shown_upto)

    def add_cut(self, decision: Decision) -> None:
        """Another detector ended the text. Whole windows are still judged; what is left of one goes out no more."""
        self._last = decision
        self._open = ""

    def finish(self) -> None:
        """Take note that nothing more comes: the rest is a window too."""
        if self._open:
            self._close(upto=self._shown_upto)

    def take(self) -> list[Piece]:
        """Return what may go out now, and see whether the text has ended (`ending`)."""
        self._has_news = False
        pieces: list[Piece] = []
        for watch in self._fast:
            while watch.done and self.ending is None:
                self._act([(watch.post, *watch.done.popleft())])
        if self.ending is None:
            self._approve()
            while self._pieces and (not self._strict or self._pieces[0][1] <= self._approved_upto):
                pieces.append(self._pieces.popleft()[0])
        if self.ending is None and self._last is not None and not any(watch.is_busy for watch in self._strict):
            self.ending = self._last
        if self.ending is not None:
            self.cancel()
        return pieces

    def _approve(self) -> None:
        """Go on to the last window about which every strict guard has said something, or to the end."""
        while self._strict and self.ending is None and all(watch.done for watch in self._strict):
            verdicts = [(watch.post, *watch.done.popleft()) for watch in self._strict]
            self._act(verdicts)
            if self.ending is None:
                self._approved_upto = verdicts[0][1].upto

    @property
    def awaited(self) -> asyncio.Future[None] | None:
        """Done as soon as another verdict is there; None where none is waited for."""
        if self.ending is not None or not (self._has_news or any(watch.is_busy for watch in self._watches)):
            return None
        waiter = self._waiter or asyncio.get_running_loop().create_future()
        self._waiter = waiter
        if self._has_news:
            self._wake()
        return waiter

    def cancel(self) -> None:
        """Ask no more: calls that are out are cancelled."""
        for watch in self._watches:
            watch.cancel()
        self._pieces.clear()
        self._wake()

    async def close(self) -> None:
        """Cancel, and wait until nothing of it runs."""
        self.cancel()
        for watch in self._watches:
            await watch.gone()

    def _hold(self, piece: Piece, *, upto: int) -> None:
        self._shown_upto += len(piece.text)
        self._read_upto = upto
        self._open += piece.text
        self._pieces.append((piece, self._shown_upto))

    def _close(self, *, upto: int) -> None:
        """Cut the open window off, and put it in every guard's line."""
        self._recent = (self._recent + self._open)[-self._reach :]
        window = _Window(
            start=self._opened_at,
            end=self._read_upto,
            upto=upto,
            text=self._recent,
            is_blank=not self._open.strip(),
        )
        self._open = ""
        self._opened_at = self._read_upto
        for watch in self._watches:
            watch.ask(window)

    def _act(self, verdicts: Sequence[tuple[Post, _Window, Verdict]]) -> None:
        """Do what the policy says about a window: a refusal first, then a failure, then flags."""
        findings = [
            finding
            for post, window, verdict in verdicts
            if not isinstance(verdict, GuardFailure)
            for one in verdict
            if (finding := self._finding(one, post=post, window=window))
        ]
        at = verdicts[0][1].start
        if any(finding.action >= Action.REFUSE for finding in findings):
            self.ending = Refused(at=at, findings=tuple(findings))
            return
        for post, _, verdict in verdicts:
            if isinstance(verdict, GuardFailure):
                if post.spec.on_error == "refuse":
                    self.ending = Failed(at=at, end=verdicts[0][1].end, guard=post.spec.name)
                    return
                if post.spec.name not in self.unguarded_by:
                    self.unguarded_by.append(post.spec.name)
        for finding in findings:
            # A guard reads the answer so far, so it finds the same thing in every window that follows: told once.
            key = finding.rule, finding.action, finding.shadow
            if key not in self._flagged and len(self.flags) < _MAX_FLAGS:
                self._flagged.add(key)
                self.flags.append(finding)

    def _finding(self, one: GuardFinding, *, post: Post, window: _Window) -> Finding | None:
        match = Match(
            category=one.category,
            rule=one.rule,
            start=window.start,
            end=window.end,
            score=one.score,
            detector=post.spec.name,
        )
        return self._judge(match)

    def _wake(self) -> None:
        self._has_news = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        self._waiter = None
