"""The classifier's thread: many requests, each of texts in windows, run together. Tensors are the model's (`model.py`).

    submit ─▶ waiting ─▶ a batch: the next request's next window, and of all requests what is about as long
                 ▲  └────────────────── cancel, stop ───────────────▶ the future ends, exactly once
                 └── windows left ──┘

Each batch begins with the request that has waited longest for its turn, so a long text does not hold up short ones: a
newcomer waits for one batch for each request before it. A request that was cancelled never gets another batch.

`submit`, `stop`, the counters and the futures' `cancel` may be used from any thread.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from app.worker.classifier.windows import Window
from app.worker.engine import EngineBroken, EngineStopped, JobFailed, QueueFull
from app.worker.metrics import ClassifierMetrics

Probabilities = tuple[float, ...]
"""Of all labels, in the model's order."""
Scores = tuple[Probabilities, ...]
"""Of a request's texts, in its order: for each label the largest of the text's windows."""
QUEUE_WINDOWS = 1024
"""How many windows may wait, as they are counted: of one request no more than `_MOST_COUNTED`."""
_MOST_COUNTED = 64
"""A very long text takes turns with the others like any other request, so it does not shut them out either."""
_MOST_WINDOWS = 64
_WASTE = 1.5
"""How many tokens a batch may have, padding included, for each that is read."""

_log = structlog.get_logger()


class Scorer(Protocol):
    """Runs a batch. Raises JobFailed, EngineBroken, or any error of that batch."""

    can_batch: bool
    most_tokens: int
    """In one batch, padding included."""

    def score(self, windows: Sequence[Window]) -> list[Probabilities]: ...  # noqa: D102


@dataclass(slots=True, eq=False)
class _Request:
    """What was submitted: windows that wait, and what is known of each text."""

    future: Future[Scores]
    waiting: deque[tuple[int, Window]]
    """With the number of their text; longest last."""
    best: list[Probabilities | None]
    left: int
    """Windows without a score."""
    submitted_at: float = field(default_factory=time.monotonic)

    def take(self, text: int, scores: Probabilities) -> None:
        """Take a window's scores."""
        known = self.best[text]
        self.best[text] = scores if known is None else tuple(map(max, known, scores))
        self.left -= 1


@dataclass(slots=True)
class _Piece:
    """A window in a batch."""

    request: _Request
    text: int
    window: Window


class Batcher:
    """See the module. `run` is the thread's body; it returns after `stop`, and raises EngineBroken."""

    def __init__(self, scorer: Scorer, *, metrics: ClassifierMetrics, queue_windows: int = QUEUE_WINDOWS) -> None:
        self._scorer = scorer
        self._metrics = metrics
        self._queue_windows = queue_windows
        self._changed = threading.Condition()
        self._requests: deque[_Request] = deque()
        """Those with windows that wait, the next one first."""
        self._open: dict[int, _Request] = {}
        """Those that have not ended, by `id`."""
        self._is_stopping = False
        self._mean_window_s = 0.1
        metrics.watch(requests=lambda: self.requests, windows=lambda: self.windows)

    @property
    def requests(self) -> int:
        """How many requests wait or run."""
        return len(self._open)

    @property
    def windows(self) -> int:
        """How many of their windows have no score yet."""
        with self._changed:
            return sum(request.left for request in self._open.values())

    @property
    def expected_wait_s(self) -> float:
        """How long what waits is likely to take."""
        return self._mean_window_s * (self.windows + 1)

    def require_room(self) -> None:
        """Raise QueueFull where a request would be refused however short it is: before work is put into it."""
        with self._changed:
            self._require_room(1)

    def submit(self, texts: Sequence[Sequence[Window]]) -> Future[Scores]:
        """Queue texts, each as its windows. Raises QueueFull, EngineStopped; ValueError where there is nothing to read.

        The future may be cancelled as long as it is not done. It raises JobFailed, EngineStopped.
        """
        if not texts or not all(texts):
            raise ValueError("a request without a text, or a text without a window")
        pieces = sorted(
            ((text, window) for text, windows in enumerate(texts) for window in windows), key=lambda one: len(one[1])
        )
        request = _Request(future=Future(), waiting=deque(pieces), best=[None] * len(texts), left=len(pieces))
        with self._changed:
            if self._is_stopping:
                raise EngineStopped
            self._require_room(len(pieces))
            self._open[id(request)] = request
            self._requests.append(request)
            self._changed.notify()
        request.future.add_done_callback(lambda _: self._forget(request))
        return request.future

    def stop(self) -> None:
        """End all requests with EngineStopped and let `run` return."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()

    def run(self) -> None:
        """Serve until `stop`. Whatever happens here, every future ends."""
        try:
            while batch := self._next_batch():
                self._run(batch)
        finally:
            self._end_all()

    def _require_room(self, windows: int) -> None:
        waiting = sum(min(request.left, _MOST_COUNTED) for request in self._open.values())
        if self._open and waiting + min(windows, _MOST_COUNTED) > self._queue_windows:
            self._metrics.refused.inc()
            raise QueueFull

    def _next_batch(self) -> list[_Piece]:
        """Wait for work; return nothing when it is time to stop."""
        with self._changed:
            while not (self._is_stopping or self._requests):
                self._changed.wait()
            if self._is_stopping:
                return []
            return self._gathered()

    def _gathered(self) -> list[_Piece]:
        """Take the windows of a batch: one of each request in turn, as long as they are about as long as the first."""
        first = self._requests[0]
        batch: list[_Piece] = []
        longest = real = 0
        has_grown = True
        while has_grown:
            has_grown = False
            for request in tuple(self._requests):
                if not request.waiting:
                    continue
                length = len(request.waiting[0][1])
                padded = (len(batch) + 1) * max(longest, length)
                is_fitting = (
                    self._scorer.can_batch
                    and len(batch) < _MOST_WINDOWS
                    and padded <= min(self._scorer.most_tokens, _WASTE * (real + length))
                )
                if batch and not is_fitting:
                    continue
                text, window = request.waiting.popleft()
                batch.append(_Piece(request, text, window))
                longest, real, has_grown = max(longest, length), real + length, True
        self._requests.popleft()
        if first.waiting:
            self._requests.append(first)  # behind the others: they have waited longer now
        for request in [request for request in self._requests if not request.waiting]:
            self._requests.remove(request)
        return batch

    def _run(self, batch: list[_Piece]) -> None:
        started_at = time.monotonic()
        try:
            rows = self._scorer.score([piece.window for piece in batch])
        except EngineBroken:
            raise
        except Exception as error:  # noqa: BLE001 - whatever fails in one request must leave its neighbours alone
            if len(batch) == 1:
                self._fail(batch[0].request, error)
                return
            for piece in batch:  # whose fault it is shows when each runs by itself
                if not piece.request.future.done():
                    self._run([piece])
            return
        took_s = time.monotonic() - started_at
        self._mean_window_s += 0.1 * (took_s / len(batch) - self._mean_window_s)
        self._metrics.batch_s.observe(took_s)
        self._metrics.batch_windows.observe(len(batch))
        self._metrics.tokens.inc(sum(len(piece.window) for piece in batch))
        for piece, row in zip(batch, rows, strict=True):
            if not all(map(math.isfinite, row)):
                self._fail(piece.request, JobFailed("the model gave numbers that are none", code="invalid_numbers"))
                continue
            with self._changed:
                piece.request.take(piece.text, row)
            if not piece.request.left:
                self._finish(piece.request)

    def _finish(self, request: _Request) -> None:
        if _may_end(request.future):
            request.future.set_result(tuple(best for best in request.best if best is not None))

    def _fail(self, request: _Request, error: Exception) -> None:
        if not _may_end(request.future):
            return
        if not isinstance(error, JobFailed):
            _log.error("classification_failed", error=type(error).__name__)  # its words might repeat the text
            error = JobFailed(type(error).__name__, code="internal_error")
        request.future.set_exception(error)

    def _forget(self, request: _Request) -> None:
        """Every request comes here once, whoever ended it."""
        future = request.future
        outcome = "cancelled" if future.cancelled() else "failed" if future.exception() else "done"
        with self._changed:
            self._open.pop(id(request), None)
            if request in self._requests:
                self._requests.remove(request)
        self._metrics.requests.labels(outcome).inc()
        self._metrics.request_s.observe(time.monotonic() - request.submitted_at)

    def _end_all(self) -> None:
        with self._changed:
            self._is_stopping = True
            left = list(self._open.values())
        for request in left:
            if _may_end(request.future):
                request.future.set_exception(EngineStopped())


def _may_end(future: Future[Scores]) -> bool:
    """Whether it has not ended yet; if so, it cannot be cancelled any more."""
    return not future.done() and future.set_running_or_notify_cancel()
