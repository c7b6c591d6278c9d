"""Processes that are measured: started here, asked over their pipes and ports, and read in `/proc`."""

import http
import http.client
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.fakes.served import ROOT

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Program:
    """A Python module as a process; use it with `with`. Its standard input's end tells it to stop."""

    def __init__(self, module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        """Start it; of our settings those in `environment` count, and no others."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HAINA_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=inherited | dict(environment or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def line(self) -> str:
        """Return the next line that it prints; the first one usually says where it listens."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def ask(self, text: str, *, timeout_s: float = 90.0) -> str:
        """Give it all of its input and return the rest of its output; it has ended then."""
        answer, _ = self._process.communicate(text, timeout=timeout_s)
        if self._process.returncode:
            raise RuntimeError(f"a process ended with {self._process.returncode}")
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=10)
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()


def is_answered(port: int, path: str) -> bool:
    """Return whether a path is answered with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
    except OSError:
        return False
    else:
        return answer.status == http.HTTPStatus.OK
    finally:
        connection.close()


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has used, all threads together, to a hundredth of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def resident_mib(pid: int) -> float:
    """Return how much memory a process has."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def has_loaded(pid: int, *, library: str) -> bool:
    """Return whether a file of this library is mapped."""
    return f"/{library}/" in Path(f"/proc/{pid}/maps").read_text()
