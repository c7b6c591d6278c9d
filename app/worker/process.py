"""The worker process: it listens at once, loads in the engine's thread, serves until told to stop.

Two threads: the main one with the event loop and the routes; the engine's, which alone touches torch. It imports torch,
loads the model and then runs the engine, so the process answers `/health` from its first moment.

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
from app.worker.metrics import Metrics
from app.worker.progress import LoggedProgress
from app.worker.protocol import TOKEN_VARIABLE
from app.worker.server import Host, Served, create_app

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
    data_dir: Path,
    exit_with_parent: bool = False,
) -> int:
    """Serve a model until SIGTERM or SIGINT, and return the exit code.

    `slots` 0 leaves the number to the worker. With `exit_with_parent` the process ends as soon as standard input does.
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

    def load() -> Served:
        os.environ.setdefault("TQDM_DISABLE", "1")  # no bars in a log
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
        report = LoggedProgress(models.report)
        return load_served(choice, slots=slots, queue_limit=QUEUE_LIMIT, metrics=metrics, report=report)

    _log.info("worker_listening", host=host, port=listener.getsockname()[1])
    worker = _Worker(models, metrics=metrics, load=load)
    return asyncio.run(worker.serve(listener))


class _Worker:
    """The two threads and how they end."""

    def __init__(self, host: Host, *, metrics: Metrics, load: Callable[[], Served]) -> None:
        self._host = host
        self._load = load
        self._exit_code = 0
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
        thread = threading.Thread(target=self._engine_thread, args=(loop,), name="engine", daemon=True)
        thread.start()
        await self._server.serve(sockets=[listener])
        self._host.close()
        await asyncio.to_thread(thread.join, _STOP_WITHIN_S if self._host.served else 0)
        if thread.is_alive():
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

    def _engine_thread(self, loop: asyncio.AbstractEventLoop) -> None:
        started_at = time.monotonic()
        try:
            served = self._load()
            self._host.serve(served)
            _log.info("worker_ready", model=served.profile.id, load_s=round(time.monotonic() - started_at, 1))
            served.engine.run()
        except StartFailed as error:
            self._exit_code = _say(str(error))
        except Exception:  # noqa: BLE001 - the thread's outermost edge: the process ends, its supervisor starts another
            _log.exception("engine_failed")
            self._exit_code = 1
        finally:
            try:
                loop.call_soon_threadsafe(self._stop)
            except RuntimeError:
                _log.debug("loop_closed")  # the process is ending already


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
