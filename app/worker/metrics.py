"""What the worker counts. Names that vLLM has for the same thing are vLLM's, so that its dashboards fit."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


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

    def watch(self, *, running: Callable[[], int], waiting: Callable[[], int]) -> None:
        """Say where to read the present numbers."""
        self._running.set_function(running)
        self._waiting.set_function(waiting)

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)


def _histogram(name: str, text: str, registry: CollectorRegistry) -> Histogram:
    return Histogram(name, text, buckets=_SECONDS, registry=registry)
