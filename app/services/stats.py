"""What happens, in numbers: counters for Prometheus, and the last minutes for the console."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median
from time import monotonic

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from app.domain.health import DetectorHealth, DetectorState
from app.domain.models import Message
from app.domain.verdicts import Decision

_WINDOW_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """The last minute."""

    tokens_per_s: float
    first_token_s: float | None
    """Median; None where there was none."""
    answers: int


class Stats:
    """Counts. Names follow Prometheus' conventions; there is no label that a visitor could choose."""

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        """Each has a registry of its own, so that two applications in one process do not mix."""
        self.registry = CollectorRegistry()
        self._clock = clock
        self._began = clock()
        self._tokens: deque[tuple[float, int]] = deque()
        self._first_tokens: deque[tuple[float, float]] = deque()
        self._answers: deque[float] = deque()
        self._token_counter = Counter("haina_tokens", "Tokens shown to readers", registry=self.registry)
        self._question_counter = Counter(
            "haina_questions", "Questions by the filter's action", ["action"], registry=self.registry
        )
        self._answer_counter = Counter("haina_answers", "Answers by final state", ["state"], registry=self.registry)
        self._first_token = Histogram(
            "haina_first_token_seconds",
            "From leaving the queue to the first token",
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
            registry=self.registry,
        )
        self._cut_counter = Counter(
            "haina_cuts", "Texts that the filter refused", ["category", "stage"], registry=self.registry
        )
        self._guard_counter = Counter(
            "haina_guard_calls",
            "Calls of guard models by outcome: ok, or why they failed",
            ["guard", "outcome"],
            registry=self.registry,
        )
        self._guard_seconds = Histogram(
            "haina_guard_seconds",
            "How long guard models took to judge",
            ["guard"],
            buckets=(0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 5),
            registry=self.registry,
        )
        self._detector_state = Gauge(
            "haina_detector_state",
            "Parts of the filter: 0 ok, 1 failing, 2 a breaker is open",
            ["detector"],
            registry=self.registry,
        )
        self._detector_failures = Gauge(
            "haina_detector_failures", "Failures since the start", ["detector"], registry=self.registry
        )
        self.queue_waiting = Gauge("haina_queue_waiting", "Turns that wait for a slot", registry=self.registry)
        self.queue_running = Gauge("haina_queue_running", "Turns that hold a slot", registry=self.registry)

    def asked(self, decision: Decision) -> None:
        """Count a question."""
        self._question_counter.labels(decision.action.name.lower()).inc()

    def cut(self, decision: Decision) -> None:
        """Count a text that was refused."""
        self._cut_counter.labels(decision.category or "", decision.stage.value).inc()

    def guard_called(self, guard: str, outcome: str, seconds: float) -> None:
        """Count a call of a guard model."""
        self._guard_counter.labels(guard, outcome).inc()
        if outcome == "ok":
            self._guard_seconds.labels(guard).observe(seconds)

    def filter_does(self, health: Iterable[DetectorHealth]) -> None:
        """Take over how the filter's parts do."""
        for one in health:
            self._detector_state.labels(one.name).set(list(DetectorState).index(one.state))
            self._detector_failures.labels(one.name).set(one.failures)

    def first_token(self, seconds: float) -> None:
        """Count the time to a first token."""
        self._first_token.observe(seconds)
        self._first_tokens.append((self._clock(), seconds))

    def tokens(self, count: int) -> None:
        """Count tokens, at most one entry each tenth of a second."""
        self._token_counter.inc(count)
        at = self._clock()
        if self._tokens and at - self._tokens[-1][0] < 0.1:  # noqa: PLR2004 - the resolution
            last_at, last = self._tokens[-1]
            self._tokens[-1] = (last_at, last + count)
        else:
            self._tokens.append((at, count))
            self._forget(at)

    def ended(self, answer: Message) -> None:
        """Count an answer."""
        self._answer_counter.labels(answer.state.value).inc()
        self._answers.append(self._clock())

    def recent(self) -> Recent:
        """Return the last minute's figures."""
        at = self._clock()
        self._forget(at)
        window = min(_WINDOW_S, max(1.0, at - self._began))
        first = [seconds for _, seconds in self._first_tokens]
        return Recent(
            tokens_per_s=sum(count for _, count in self._tokens) / window,
            first_token_s=median(first) if first else None,
            answers=len(self._answers),
        )

    def _forget(self, at: float) -> None:
        for series in (self._tokens, self._first_tokens):
            while series and series[0][0] < at - _WINDOW_S:
                series.popleft()
        while self._answers and self._answers[0] < at - _WINDOW_S:
            self._answers.popleft()
