"""Keeps a local worker alive: starts it, passes its messages on, starts it again when it ends.

For the web process: no torch here. The worker listens on a free loopback port with a random token and ends with this
process, however that ends: its standard input is a pipe whose other end only we hold. It has a session of its own, so
that what a terminal sends to the whole group reaches us alone, and we end it in our order.
"""

import asyncio
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO

import structlog

from app.worker.failures import LINE_PREFIX
from app.worker.protocol import TOKEN_VARIABLE

WORKER_COMMAND = (sys.executable, "-m", "app", "worker")
_STOP_WITHIN_S = 10.0
_HEALTHY_AFTER_S = 60.0

_log = structlog.get_logger()


class SupervisorState(StrEnum):
    """What the supervisor is doing. Whether the worker can answer is the worker's `/health` to say."""

    STOPPED = "stopped"
    RUNNING = "running"
    RESTARTING = "restarting"
    """The worker ended by itself; the next start is due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorStatus:
    """The supervisor at one moment."""

    state: SupervisorState
    pid: int | None = None
    restarts: int = 0
    last_exit_code: int | None = None
    """Below 0: the signal that ended it; 3: it cannot start as it is configured."""
    last_error: str = ""
    """Why the worker ended, in the last line that it wrote about it."""


class Supervisor:
    """One worker process, always. `start` and `stop` once each; it never gives up in between."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        command: Sequence[str] = WORKER_COMMAND,
        environment: Mapping[str, str] | None = None,
        first_delay_s: float = 0.5,
        longest_delay_s: float = 30.0,
        healthy_after_s: float = _HEALTHY_AFTER_S,
        errors: BinaryIO | None = None,
    ) -> None:
        """`arguments` go behind the command: `--model`, `--dtype`, …; host, port and the rest are added here.

        `environment` goes over ours. `errors` takes what the worker writes to its standard error; left out, it goes
        to ours.
        """
        self.token = secrets.token_urlsafe(32)
        self._port = _free_port()
        self._command = [*command, *arguments, "--host", "127.0.0.1", "--port", str(self._port), "--exit-with-parent"]
        self._environment = dict(environment or {})
        self._first_delay_s = first_delay_s
        self._longest_delay_s = longest_delay_s
        self._healthy_after_s = healthy_after_s
        self._errors = errors
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._state = SupervisorState.STOPPED
        self._restarts = 0
        self._last_exit_code: int | None = None
        self._last_error = ""

    @property
    def url(self) -> str:
        """The worker's address, as an engine's URL: it does not change when the worker is restarted."""
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def status(self) -> SupervisorStatus:
        """The state now."""
        is_alive = self._process is not None and self._process.returncode is None
        return SupervisorStatus(
            state=self._state,
            pid=self._process.pid if self._process and is_alive else None,
            restarts=self._restarts,
            last_exit_code=self._last_exit_code,
            last_error=self._last_error,
        )

    async def start(self) -> None:
        """Start the worker; it is not ready yet when this returns. Raises OSError where the command cannot run."""
        await self._spawn()
        self._task = asyncio.create_task(self._keep(), name="worker-supervisor")

    async def stop(self) -> None:
        """End the worker: asked first, killed when it does not listen."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        self._state = SupervisorState.STOPPED
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        copy = asyncio.create_task(self._pass_on(process))  # or a full pipe would keep it from ending
        try:
            async with asyncio.timeout(_STOP_WITHIN_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        await copy
        _log.info("worker_ended", exit_code=process.returncode)

    async def _keep(self) -> None:
        delay_s = self._first_delay_s
        while True:
            started_at = time.monotonic()
            await self._watch()
            if time.monotonic() - started_at >= self._healthy_after_s:
                delay_s = self._first_delay_s
            self._state = SupervisorState.RESTARTING
            _log.warning("worker_died", exit_code=self._last_exit_code, restart_in_s=delay_s)
            await asyncio.sleep(delay_s)
            delay_s = min(self._longest_delay_s, delay_s * 2)
            self._restarts += 1
            try:
                await self._spawn()
            except OSError as error:  # no memory or no process left: that may pass
                self._process = None
                self._last_error = str(error)

    async def _spawn(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # a terminal's Ctrl-C is for us: running answers are closed before the worker ends
            env=os.environ | self._environment | {TOKEN_VARIABLE: self.token},
        )
        self._state = SupervisorState.RUNNING
        _log.info("worker_started", pid=self._process.pid, port=self._port)

    async def _watch(self) -> None:
        """Pass the worker's messages on until it ends."""
        process = self._process
        if process is None:
            return
        self._last_error = _reason(await self._pass_on(process))
        self._last_exit_code = await process.wait()

    async def _pass_on(self, process: asyncio.subprocess.Process) -> bytes:
        """Copy standard error to ours, and return the end of it."""
        if process.stderr is None:
            return b""
        errors = self._errors or sys.stderr.buffer
        last = b""
        while part := await process.stderr.read(65536):
            errors.write(part)
            errors.flush()
            last = (last + part)[-4096:]
        return last


def _reason(errors: bytes) -> str:
    """Return the line in which a worker says why it cannot start, else the last one."""
    lines = [line.strip() for line in errors.decode(errors="replace").splitlines() if line.strip()]
    said = [line for line in lines if line.startswith(LINE_PREFIX)] or lines
    return said[-1] if said else ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
