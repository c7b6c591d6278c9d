"""The worker process: it listens at once, loads in the engine's thread, serves until told to stop.

The main thread has the event loop and the routes, and never touches torch. The engine's thread imports torch, loads the
models, the classifier first, and then runs the engine, so the process answers `/health` from its first moment. The
classifier, where there is one, has a thread of its own, and works while the language model still loads.

Exit codes: 0 asked to stop, 3 cannot start (one line on standard error says why), 1 the engine broke: start it anew.
"""

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import uvicorn

from app.worker.failures import EXIT_CODE, LINE_PREFIX, StartFailed
from app.worker.host import Host, Served, ServedClassifier
from app.worker.metrics import Metrics
from app.worker.progress import LoggedProgress
from app.worker.protocol import NO_MODEL, TOKEN_VARIABLE
from app.worker.server import create_app

if TYPE_CHECKING:
    from app.worker.adapter import Mode
    from app.worker.loading import Dtype, Quantize

QUEUE_LIMIT = 256
_STOP_WITHIN_S = 5

_log = structlog.get_logger()


def run_worker(
    *,
    model: str,
    host: str,
    port: int,
    dtype: "Dtype" = "auto",
    quantize: "Quantize" = "none",
    slots: int = 0,
    revision: str | None = None,
    adapter: str = "",
    adapter_mode: "Mode" = "auto",
    classifier: str = "",
    data_dir: Path,
    exit_with_parent: bool = False,
) -> int:
    """Serve a model, a classifier, or both, until SIGTERM or SIGINT, and return the exit code.

    `model` `none`: no language model. `classifier` is a folder; empty: none. `slots` 0 leaves the number to the worker.
    With `exit_with_parent` the process ends as soon as standard input does.
    """
    if exit_with_parent:
        threading.Thread(target=_exit_at_end_of_input, name="parent", daemon=True).start()
    try:
        listener = _bind(host, port)
    except OSError as error:
        return _say(f"cannot listen on {host}:{port}: {error.strerror or error}")
    except (UnicodeError, TypeError):  # an empty or overlong part, half a character
        return _say(f"cannot listen on {host!r}: it is no host's name")
    metrics = Metrics()
    models = Host()

    report = LoggedProgress(models.report)

    def load_classifier() -> ServedClassifier | None:
        if not classifier:
            return None
        from app.worker.classifier.serving import load_served_classifier  # noqa: PLC0415 - as below

        return load_served_classifier(classifier, metrics=metrics.classifier, report=report)

    def load_model() -> Served | None:
        if model == NO_MODEL:
            return None
        # Only now, in the engine's thread: importing torch takes seconds.
        from app.worker.loading import ModelChoice  # noqa: PLC0415
        from app.worker.serving import load_served  # noqa: PLC0415

        choice = ModelChoice(
            path=model,
            dtype=dtype,
            quantize=quantize,
            revision=revision,
            adapter=adapter,
            adapter_mode=adapter_mode,
            data_dir=data_dir,
        )
        return load_served(choice, slots=slots, queue_limit=QUEUE_LIMIT, metrics=metrics, report=report)

    os.environ.setdefault("TQDM_DISABLE", "1")  # no bars in a log
    _log.info("worker_listening", host=host, port=listener.getsockname()[1])
    worker = _Worker(models, metrics=metrics, load_classifier=load_classifier, load_model=load_model)
    return asyncio.run(worker.serve(listener))


class _Worker:
    """The threads and how they end: when one of them does, all do."""

    def __init__(
        self,
        host: Host,
        *,
        metrics: Metrics,
        load_classifier: Callable[[], ServedClassifier | None],
        load_model: Callable[[], Served | None],
    ) -> None:
        self._host = host
        self._load_classifier = load_classifier
        self._load_model = load_model
        self._exit_code = 0
        self._is_loaded = False
        self._threads: list[threading.Thread] = []
        app = create_app(host, metrics=metrics, token=os.environ.get(TOKEN_VARIABLE, ""))
        self._server = _Server(
            uvicorn.Config(
                app,
                http="httptools",
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=_STOP_WITHIN_S,
            )
        )

    async def serve(self, listener: socket.socket) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        self._start("engine", lambda: self._load_and_run(loop), loop=loop)
        await self._server.serve(sockets=[listener])
        self._host.close()
        await asyncio.to_thread(self._join, _STOP_WITHIN_S if self._is_loaded else 0)
        if any(thread.is_alive() for thread in self._threads):
            # In the middle of a load, or of a forward pass that hangs: neither can be interrupted, nor need it be.
            _log.info("worker_stopped", exit_code=self._exit_code)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self._exit_code)
        _log.info("worker_stopped", exit_code=self._exit_code)
        return self._exit_code

    def _stop(self) -> None:
        self._host.close()
        self._server.should_exit = True

    def _join(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _start(self, name: str, work: Callable[[], None], *, loop: asyncio.AbstractEventLoop) -> threading.Thread:
        def body() -> None:
            try:
                work()
            except StartFailed as error:
                self._exit_code = _say(str(error))
            except Exception:  # noqa: BLE001 - the thread's outermost edge: the process ends, its supervisor starts another
                _log.exception("thread_failed", thread=name)
                self._exit_code = 1
            finally:
                try:
                    loop.call_soon_threadsafe(self._stop)
                except RuntimeError:
                    _log.debug("loop_closed")  # the process is ending already

        thread = threading.Thread(target=body, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _load_and_run(self, loop: asyncio.AbstractEventLoop) -> None:
        """Be the engine's thread."""
        started_at = time.monotonic()
        running: threading.Thread | None = None
        if classifier := self._load_classifier():
            self._host.classify(classifier)
            running = self._start("classifier", classifier.batcher.run, loop=loop)
            _log.info("classifier_ready", model=classifier.name, load_s=round(time.monotonic() - started_at, 1))
        served = self._load_model()
        self._host.serve(served)
        self._is_loaded = True
        model = served.profile.id if served else NO_MODEL
        _log.info("worker_ready", model=model, load_s=round(time.monotonic() - started_at, 1))
        if served:
            served.engine.run()
        elif running:
            running.join()


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: it would raise the signal again at the end, and not exit with 0."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def _say(line: str) -> int:
    sys.stderr.write(f"{LINE_PREFIX}{line}\n")
    sys.stderr.flush()
    return EXIT_CODE


def _exit_at_end_of_input() -> None:
    """Wait for the parent to go, however it goes; then this process has nobody to work for."""
    while os.read(0, 4096):
        pass
    os._exit(0)
