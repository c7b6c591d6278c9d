"""`haina serve` as a process of its own, as people start it: real port, real database, and whatever engine is set."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[2]
_ADDRESS = re.compile(r"Haina is at (http://\S+)/")
_SETUP = re.compile(r"(http://\S+/setup\?token=\S+)")


class Served:
    """A server that can be asked, killed and started again on the same data folder."""

    def __init__(self, data_dir: Path, *, settings: Mapping[str, str] | None = None, is_in_shell: bool = False) -> None:
        """Nothing runs yet; `settings` are environment variables.

        `is_in_shell`: it has a process group of its own, all of which hears a Ctrl-C.
        """
        self._is_in_shell = is_in_shell
        self.data_dir = data_dir
        self.settings = dict(settings or {})
        self.url = ""
        self.setup_url = ""
        self.output: list[str] = []
        self._process: subprocess.Popen[str] | None = None
        self._listener: threading.Thread | None = None
        self._printed = threading.Condition()
        self._has_announced = False
        self._has_ended = False

    def start(self, *, port: int = 0, timeout_s: float = 60.0) -> Self:
        """Start, and wait until it says where it is and answers."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HAINA_")}
        environment |= {"HAINA_DATA_DIR": str(self.data_dir), "PYTHONUNBUFFERED": "1"} | self.settings
        self.url = self.setup_url = ""
        self.output = []
        self._has_announced = self._has_ended = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "app", "serve", "--port", str(port)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=self._is_in_shell,
        )
        self._listener = threading.Thread(target=self._listen, args=(self._process,), daemon=True)
        self._listener.start()
        with self._printed:
            self._printed.wait_for(lambda: self._has_announced or self._has_ended, timeout_s)
        if not self.url:
            self.stop()
            raise AssertionError("".join(self.output))
        self.wait_for("/healthz", timeout_s=timeout_s)
        return self

    def wait_for(self, path: str, *, status: int = 200, timeout_s: float = 60.0) -> bytes:
        """Ask until this status comes."""
        deadline = time.monotonic() + timeout_s
        last: object = None
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(self.url + path, timeout=5) as response:  # noqa: S310 - our own address
                    last = response.status
                    if response.status == status:
                        return bytes(response.read())
            except urllib.error.HTTPError as error:
                last = error.code
                if error.code == status:
                    return error.read()
            except OSError as error:
                last = error
            threading.Event().wait(0.05)
        raise AssertionError(f"{path}: {last}\n" + "".join(self.output[-40:]))

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """As `kill -9` does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._listener is not None:
            self._listener.join(10)

    def stop(self, by: signal.Signals = signal.SIGINT) -> int:
        """As Ctrl-C does, or a service manager; return the exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            (os.killpg if self._is_in_shell else os.kill)(self._process.pid, by)
        try:
            return self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise

    def _listen(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                with self._printed:
                    self.output.append(line)
                    if found := _SETUP.search(line):
                        self.setup_url = found[1]
                    if found := _ADDRESS.search(line):
                        self.url = found[1]
                    if line.startswith("Ctrl-C"):
                        self._has_announced = True
                        self._printed.notify_all()
        with self._printed:
            self._has_ended = True
            self._printed.notify_all()
