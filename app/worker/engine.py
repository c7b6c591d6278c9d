"""The engine: one thread, many jobs. It knows queues, turns and endings; tensors are the runner's (`runner.py`).

    submit ─▶ waiting ─▶ a slot: prefill, chunk by chunk ─▶ decode, token by token ─▶ Ended, exactly once
                 └──────────────── cancel, from anywhere ────────────────────────────────▲

One round does one chunk of the oldest prefill, then one token of every job that decodes. A newcomer with a long prompt
so delays the others by one chunk at most, and a job that was cancelled never gets another turn.

`submit`, `cancel`, `stop` and the counters may be called from any thread; everything else is the engine thread's.
"""

import threading
import time
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from app.worker.detokenizer import Decoder, Detokenizer, StopStrings
from app.worker.jobs import Ended, EndReason, Job, Piece, PromptScored, Sink, TokenScore
from app.worker.metrics import Metrics

_log = structlog.get_logger()


class QueueFull(Exception):
    """As many jobs wait as may wait."""


class EngineStopped(Exception):
    """The engine takes no more jobs."""


class JobFailed(Exception):
    """A runner's error that ends one job and leaves the others alone."""

    def __init__(self, detail: str, *, code: str) -> None:
        super().__init__(detail)
        self.code = code


class EngineBroken(Exception):
    """A runner's error after which nothing works any more: the process has to end."""


class Sequence(Protocol):
    """One job's place in the model: its keys and values, its random numbers."""

    prompt_scores: tuple[TokenScore, ...]
    """Filled by the prefill where the job wants it."""

    def prefill(self) -> bool:
        """Take the next chunk of the prompt; True when it was the last."""
        ...

    def step(self) -> TokenScore:
        """Choose the next token."""
        ...


class Runner(Protocol):
    """Makes sequences. Its methods, and theirs, raise JobFailed, EngineBroken, or any error of that one job."""

    def open(self, job: Job) -> Sequence: ...  # noqa: D102


@dataclass(slots=True, eq=False)
class Ticket:
    """A submitted job; hand it back to cancel."""

    job: Job
    sink: Sink
    submitted_at: float = field(default_factory=time.monotonic)
    is_cancelled: bool = False


@dataclass(slots=True, eq=False)
class _Slot:
    """A job that runs."""

    ticket: Ticket
    detokenizer: Detokenizer
    stop_strings: StopStrings
    sequence: Sequence | None = None
    """Made in the first turn: making it may fail, and that failure is the job's."""
    is_prefilled: bool = False
    tokens: int = 0

    def read(self, token_id: int, *, is_hidden: bool, is_last: bool) -> tuple[str, str | None]:
        """Return the text that a token sets free, and the stop string that it completes."""
        new = "" if is_hidden else self.detokenizer.push(token_id)
        if is_last:
            new += self.detokenizer.finish()
        text, met = self.stop_strings.push(new)
        if is_last and met is None:
            text += self.stop_strings.finish()
        return text, met


class Engine:
    """See the module. `run` is the thread's body; it returns after `stop`, and raises EngineBroken."""

    def __init__(
        self,
        runner: Runner,
        *,
        decoder: Decoder,
        hidden_ids: Collection[int],
        slots: int,
        queue_limit: int,
        metrics: Metrics,
    ) -> None:
        self.slots = slots
        self._runner = runner
        self._decoder = decoder
        self._hidden_ids = hidden_ids
        self._capacity = slots + queue_limit
        self._metrics = metrics
        self._changed = threading.Condition()
        self._waiting: deque[Ticket] = deque()
        self._running: list[_Slot] = []
        self._is_stopping = False
        self._mean_job_s = 1.0
        metrics.watch(running=lambda: self.running, waiting=lambda: self.waiting)

    @property
    def running(self) -> int:
        """How many jobs hold a slot."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many jobs wait for one."""
        return len(self._waiting)

    @property
    def expected_wait_s(self) -> float:
        """How long a newcomer is likely to wait for a slot."""
        return self._mean_job_s * (self.waiting + 1) / self.slots

    def submit(self, job: Job, *, sink: Sink) -> Ticket:
        """Queue a job. Raises QueueFull, EngineStopped; then the sink is never called."""
        ticket = Ticket(job=job, sink=sink)
        with self._changed:
            if self._is_stopping:
                raise EngineStopped
            if len(self._waiting) + len(self._running) >= self._capacity:
                self._metrics.refused.inc()
                raise QueueFull
            self._waiting.append(ticket)
            self._changed.notify()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """End a job soon: no further token is made for it. Harmless once it has ended."""
        ticket.is_cancelled = True
        with self._changed:
            self._changed.notify()

    def stop(self) -> None:
        """End all jobs with `shutdown` and let `run` return."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()

    def run(self) -> None:
        """Serve until `stop`. Whatever happens here, every job gets its end."""
        reason, detail = EndReason.ERROR, "the engine's thread ended"
        try:
            while self._wait_for_work():
                self._round()
            reason, detail = EndReason.SHUTDOWN, "the worker is shutting down"
        except EngineBroken as error:
            detail = str(error)
            raise
        finally:
            self._end_all(reason, detail=detail)

    def _wait_for_work(self) -> bool:
        with self._changed:
            while not (self._is_stopping or self._waiting or self._running):
                self._changed.wait()
            return not self._is_stopping

    def _round(self) -> None:
        self._sweep()
        self._admit()
        newcomer = next((slot for slot in self._running if not slot.is_prefilled), None)
        if newcomer:
            self._turn(newcomer)
        for slot in [slot for slot in self._running if slot.is_prefilled]:
            if self._is_stopping:
                return
            self._turn(slot)
            self._sweep()

    def _sweep(self) -> None:
        """End what was cancelled, in the queue too."""
        for slot in [slot for slot in self._running if slot.ticket.is_cancelled]:
            self._end(slot, EndReason.CANCELLED)
        with self._changed:
            cancelled = [ticket for ticket in self._waiting if ticket.is_cancelled]
            for ticket in cancelled:
                self._waiting.remove(ticket)
        for ticket in cancelled:
            self._emit_end(ticket, EndReason.CANCELLED)

    def _admit(self) -> None:
        while len(self._running) < self.slots:
            with self._changed:
                if not self._waiting:
                    return
                ticket = self._waiting.popleft()
                # A ticket is in exactly one of the two lists whenever the lock is free: the counts stay true.
                slot = _Slot(
                    ticket=ticket,
                    detokenizer=Detokenizer(
                        self._decoder, hidden_ids=self._hidden_ids, prompt_ids=ticket.job.prompt_ids
                    ),
                    stop_strings=StopStrings(ticket.job.stop),
                )
                self._running.append(slot)
            self._metrics.queue_s.observe(time.monotonic() - ticket.submitted_at)

    def _turn(self, slot: _Slot) -> None:
        """Give one job its turn: a chunk or a token. Its errors are its own."""
        if slot.ticket.is_cancelled or slot not in self._running:
            return
        started_at = time.monotonic()
        try:
            sequence = slot.sequence = slot.sequence or self._runner.open(slot.ticket.job)
            kind = "decode" if slot.is_prefilled else "prefill"
            if slot.is_prefilled:
                self._decode(slot, sequence)
            else:
                self._prefill(slot, sequence)
            self._metrics.step_s.labels(kind).observe(time.monotonic() - started_at)
        except EngineBroken:
            raise
        except JobFailed as error:
            self._end(slot, EndReason.ERROR, error_code=error.code, detail=str(error))
        except Exception as error:  # noqa: BLE001 - whatever fails in one job must leave its neighbours alone
            _log.exception("job_failed", job_id=slot.ticket.job.id)
            self._end(slot, EndReason.ERROR, error_code="internal_error", detail=type(error).__name__)

    def _prefill(self, slot: _Slot, sequence: Sequence) -> None:
        job = slot.ticket.job
        if not sequence.prefill():
            return
        slot.is_prefilled = True
        self._metrics.prompt_tokens.inc(len(job.prompt_ids))
        if job.wants_prompt_logprobs:
            slot.ticket.sink(PromptScored(sequence.prompt_scores))
        if job.max_tokens == 0:
            self._end(slot, EndReason.LENGTH)

    def _decode(self, slot: _Slot, sequence: Sequence) -> None:
        job = slot.ticket.job
        token = sequence.step()
        slot.tokens += 1
        self._metrics.generation_tokens.inc()
        if slot.tokens == 1:
            self._metrics.first_token_s.observe(time.monotonic() - slot.ticket.submitted_at)
        is_stop_token = token.id in job.stop_token_ids
        is_last = is_stop_token or slot.tokens == job.max_tokens
        text, met = slot.read(token.id, is_hidden=is_stop_token, is_last=is_last)
        slot.ticket.sink(Piece(text, (token,), slot.tokens))
        if met is not None:
            self._end(slot, EndReason.STOP, stop_reason=met)
        elif is_stop_token:
            self._end(slot, EndReason.STOP, stop_reason=token.id)
        elif is_last:
            self._end(slot, EndReason.LENGTH)

    def _end(self, slot: _Slot, reason: EndReason, **details: object) -> None:
        with self._changed:
            self._running.remove(slot)
        self._emit_end(slot.ticket, reason, tokens=slot.tokens, **details)

    def _emit_end(self, ticket: Ticket, reason: EndReason, *, tokens: int = 0, **details: object) -> None:
        """Every job comes here once: it was taken out of the one list that held it just before."""
        took_s = time.monotonic() - ticket.submitted_at
        self._mean_job_s += 0.1 * (took_s - self._mean_job_s)
        self._metrics.jobs.labels(reason).inc()
        self._metrics.job_s.observe(took_s)
        _log.info("job_ended", job_id=ticket.job.id, reason=reason, completion_tokens=tokens, took_s=round(took_s, 3))
        ticket.sink(
            Ended(reason=reason, prompt_tokens=len(ticket.job.prompt_ids), completion_tokens=tokens, **details)  # type: ignore[arg-type]
        )

    def _end_all(self, reason: EndReason, *, detail: str) -> None:
        with self._changed:
            self._is_stopping = True
            waiting, running = list(self._waiting), list(self._running)
            self._waiting.clear()
            self._running.clear()
        for slot in running:
            self._emit_end(slot.ticket, reason, tokens=slot.tokens, error_code="engine_stopped", detail=detail)
        for ticket in waiting:
            self._emit_end(ticket, reason, error_code="engine_stopped", detail=detail)
