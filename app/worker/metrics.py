"""What the worker counts. Names that vLLM has for the same thing are vLLM's, so that its dashboards fit."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_WINDOWS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """One worker's figures, in a registry of their own: two may live in one process."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.jobs = Counter("vllm:request_success", "Requests that ended", ["finished_reason"], registry=registry)
        self.refused = Counter("haina_worker_refused", "Requests refused because the queue was full", registry=registry)
        self.prompt_tokens = Counter("vllm:prompt_tokens", "Tokens prefilled", registry=registry)
        self.generation_tokens = Counter("vllm:generation_tokens", "Tokens generated", registry=registry)
        self.first_token_s = _histogram("vllm:time_to_first_token_seconds", "Arrival to first token", registry)
        self.queue_s = _histogram("vllm:request_queue_time_seconds", "Arrival to slot", registry)
        self.job_s = _histogram("vllm:e2e_request_latency_seconds", "Arrival to end", registry)
        self.step_s = Histogram(
            "haina_worker_step_seconds", "One turn of one request", ["kind"], buckets=_SECONDS, registry=registry
        )
        self._running = Gauge("vllm:num_requests_running", "Requests that hold a slot", registry=registry)
        self._waiting = Gauge("vllm:num_requests_waiting", "Requests that wait for a slot", registry=registry)
        self.classifier = ClassifierMetrics(registry)

    def watch(self, *, running: Callable[[], int], waiting: Callable[[], int]) -> None:
        """Say where to read the present numbers."""
        self._running.set_function(running)
        self._waiting.set_function(waiting)

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)


class ClassifierMetrics:
    """What the classifier counts. vLLM has no figures of its own for this."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "haina_classifier_requests", "Requests that ended: done, failed, cancelled", ["outcome"], registry=registry
        )
        self.refused = Counter(
            "haina_classifier_refused", "Requests refused because the queue was full", registry=registry
        )
        self.tokens = Counter("haina_classifier_tokens", "Tokens read, overlaps included", registry=registry)
        self.request_s = _histogram("haina_classifier_request_seconds", "Arrival to end", registry)
        self.batch_s = _histogram("haina_classifier_batch_seconds", "One forward pass", registry)
        self.batch_windows = Histogram(
            "haina_classifier_batch_windows", "Windows in a batch", buckets=_WINDOWS, registry=registry
        )
        self._requests = Gauge("haina_classifier_requests_open", "Requests that wait or run", registry=registry)
        self._windows = Gauge("haina_classifier_windows_open", "Their windows without a score", registry=registry)

    def watch(self, *, requests: Callable[[], int], windows: Callable[[], int]) -> None:
        """Say where to read the present numbers."""
        self._requests.set_function(requests)
        self._windows.set_function(windows)


def _histogram(name: str, text: str, registry: CollectorRegistry) -> Histogram:
    return Histogram(name, text, buckets=_SECONDS, registry=registry)
