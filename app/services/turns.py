"""Turns that run, their logs of numbered events, and the journal that saves running answers.

A log is read from any number, by any number of readers, while it grows and for a while after it ended.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from app.domain.errors import Conflict, StorageFailure
from app.domain.events import Ended, Numbered, Released, TurnEvent, Waiting
from app.domain.generation import ChatMessage
from app.domain.models import Message, Sampling
from app.domain.ports import AnswerPart, Filter, Storage
from app.domain.verdicts import ReleasedText, SealedText, joined

log = structlog.get_logger()


class TurnLog:
    """The events of one turn, numbered from 1. Appending wakes the readers; reading never holds up the turn."""

    def __init__(self) -> None:
        """Start empty."""
        self._events: list[TurnEvent] = []
        self._readers: set[asyncio.Future[None]] = set()
        """Those who wait for the next event."""
        self.is_ended = False

    def append(self, event: TurnEvent) -> None:
        """Add an event. Nothing may follow `Ended`."""
        if self.is_ended:
            raise RuntimeError("a turn ends once")
        self._events.append(event)
        self.is_ended = isinstance(event, Ended)
        for reader in self._readers:
            _wake(reader)

    async def read(self, after: int = 0, *, beat_s: float = 15.0) -> AsyncIterator[Sequence[Numbered]]:
        """Yield what came after number `after`, in batches as large as they have grown meanwhile; end after `Ended`.

        Where nothing comes for `beat_s` seconds an empty batch does, so that a reader can show that it lives.
        """
        n = max(0, after)
        while True:
            batch = [Numbered(n + offset + 1, event) for offset, event in enumerate(self._events[n:])]
            if batch:
                n += len(batch)
                yield batch
            elif self.is_ended:
                return
            else:
                await self._wait(beat_s)
                if len(self._events) == n and not self.is_ended:
                    yield []

    async def _wait(self, seconds: float) -> None:
        """Wait for the next event, at most so long."""
        loop = asyncio.get_running_loop()
        reader: asyncio.Future[None] = loop.create_future()
        alarm = loop.call_later(seconds, _wake, reader)
        self._readers.add(reader)
        try:
            await reader
        finally:
            alarm.cancel()
            self._readers.discard(reader)


def _wake(reader: "asyncio.Future[None]") -> None:
    if not reader.done():
        reader.set_result(None)


@dataclass(slots=True, kw_only=True)
class Turn:
    """A running turn: what was asked, and how far it is."""

    id: str
    account_id: str
    conversation_id: str
    answer: Message
    """The row as it was added, still running."""
    content_filter: Filter
    """The one that was in force when it began: it judges the answer too."""
    messages: tuple[ChatMessage, ...]
    """For the model: system, history, question, and the text to be continued."""
    sampling: Sampling
    """What the asker and the template want; the model's defaults are not filled in yet."""
    model: str = "default"
    template_version_id: str | None = None
    template: str = ""
    """Its name and number."""
    title: ReleasedText | None = None
    """The conversation's new title, told with the end."""
    masks: Mapping[str, SealedText] = field(default_factory=dict)
    """What placeholders in its question stand for, for the asker's eyes. Here and nowhere else; gone with the turn."""
    is_patient: bool = True
    """Whether to wait while the model loads (the page does, programs get an error)."""
    log: TurnLog = field(default_factory=TurnLog)
    task: asyncio.Task[None] | None = None
    generation: asyncio.Task[object] | None = None
    is_stopping: bool = False
    pieces: list[ReleasedText] = field(default_factory=list)
    """What was released so far."""

    def release(self, text: ReleasedText) -> None:
        """Show a piece of the answer."""
        self.pieces.append(text)
        self.log.append(Released(text))

    def wait(self, event: Waiting) -> None:
        """Tell the readers where the turn stands, before it starts."""
        self.log.append(event)

    def stop(self) -> None:
        """End the generation at once; the turn then ends as `stopped`."""
        self.is_stopping = True
        if self.generation is not None:
            self.generation.cancel()

    @property
    def text(self) -> ReleasedText:
        """All that was released so far."""
        return joined(self.pieces)


class Turns:
    """The turns of this process, by id: those that run, and those that ended within the last `keep_s` seconds."""

    def __init__(self, *, keep_s: float = 60.0) -> None:
        """Ended turns stay for readers that come back; later ones read the saved answer."""
        self._keep_s = keep_s
        self._turns: dict[str, Turn] = {}
        self._claimed: set[str] = set()
        """Conversations in which a turn is being begun."""

    def add(self, turn: Turn) -> None:
        """Register a turn that is about to run."""
        self._turns[turn.id] = turn

    def get(self, turn_id: str) -> Turn | None:
        """Return a turn of this process; None where it is unknown or long over."""
        return self._turns.get(turn_id)

    def _is_running_in(self, conversation_id: str) -> bool:
        return any(turn.conversation_id == conversation_id and not turn.log.is_ended for turn in self._turns.values())

    @contextlib.contextmanager
    def claim(self, conversation_id: str) -> Iterator[None]:
        """Hold a conversation while a turn is being begun in it: two tabs that ask at once begin one turn, not two.

        Raises Conflict where an answer is running there, or about to.
        """
        if conversation_id in self._claimed or self._is_running_in(conversation_id):
            raise Conflict(kind="running")
        self._claimed.add(conversation_id)
        try:
            yield
        finally:
            self._claimed.discard(conversation_id)

    def stop_all(self, account_id: str) -> None:
        """End all turns of an account now."""
        for turn in self.running():
            if turn.account_id == account_id:
                turn.stop()

    def running(self) -> list[Turn]:
        """Return those that have not ended."""
        return [turn for turn in self._turns.values() if not turn.log.is_ended]

    def retire(self, turn: Turn) -> None:
        """Forget an ended turn after a while."""
        asyncio.get_running_loop().call_later(self._keep_s, self._turns.pop, turn.id, None)


class Journal:
    """Saves the pieces of all running answers together, every `every_s` seconds, in one transaction.

    A crash loses at most that much. Where the database refuses, the pieces wait; the answers go on.
    """

    def __init__(self, storage: Storage, *, every_s: float = 0.25) -> None:
        """`run` does the work."""
        self._storage = storage
        self._every_s = every_s
        self._saved: dict[str, tuple[int, int]] = {}
        self._open: dict[str, Turn] = {}

    def follow(self, turn: Turn) -> None:
        """Save this turn's pieces from now on."""
        self._open[turn.id] = turn
        self._saved[turn.id] = (0, 0)

    def leave(self, turn: Turn) -> None:
        """Save no more of it: the answer is about to be closed as a whole."""
        self._open.pop(turn.id, None)
        self._saved.pop(turn.id, None)

    async def run(self) -> None:
        """Flush for ever."""
        while True:
            await asyncio.sleep(self._every_s)
            with contextlib.suppress(StorageFailure):
                await self.flush()

    async def flush(self) -> None:
        """Save what came since the last time.

        Raises StorageFailure; nothing is forgotten then.
        """
        parts, marks = [], {}
        for turn in self._open.values():
            n, seen = self._saved[turn.id]
            if len(turn.pieces) > seen:
                text = joined(turn.pieces[seen:])
                parts.append(AnswerPart(turn.id, n, text))
                marks[turn.id] = (n + 1, len(turn.pieces))
        if not parts:
            return
        try:
            async with self._storage.write() as unit:
                await unit.messages.add_parts([part for part in parts if part.message_id in self._open])
                await unit.commit()
        except StorageFailure as error:
            log.warning("answer_parts_not_saved", code=error.code, turns=len(parts))
            raise
        self._saved.update({turn_id: mark for turn_id, mark in marks.items() if turn_id in self._open})
