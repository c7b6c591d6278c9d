"""`haina worker` as it is measured: alone on a free port, with the embedded model."""

import http.client
import socket
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Self

from app.domain.generation import ChatMessage, Prompt
from app.domain.models import Role
from app.domain.ports import PromptFormat
from prompts.formats.registry import load_format
from prompts.formats.tokenizer import Tokenizer
from tests.bench.program import Program, is_answered

TOKEN = "bench"
_CONTEXT_LENGTH = 2048


class Worker:
    """A worker that is ready; use it with `with`. It asks for `TOKEN`."""

    def __init__(self, data_dir: Path, *, slots: int, timeout_s: float = 110.0) -> None:
        """Start it and wait until its model is loaded."""
        self.port = free_port()
        self._program = Program(
            *("app", "worker", "--port", str(self.port), "--slots", str(slots)),
            environment={"HAINA_DATA_DIR": str(data_dir), "HAINA_LOG__LEVEL": "error", "HAINA_WORKER_TOKEN": TOKEN},
        )
        try:
            self._wait(timeout_s)
            self._format = self._prompt_format()
        except BaseException:
            self._program.__exit__(None, None, None)
            raise

    def prompt(self, question: str, *, max_tokens: int) -> Prompt:
        """Return what web would make of a question."""
        return self._format.build(
            (ChatMessage(Role.USER, question),), context_length=_CONTEXT_LENGTH, max_tokens=max_tokens
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._program.__exit__(kind, error, trace)

    def _wait(self, timeout_s: float) -> None:
        deadline = monotonic() + timeout_s
        while not is_answered(self.port, "/health"):
            if self._program.has_ended:
                raise RuntimeError("haina worker ended")
            if monotonic() > deadline:
                raise TimeoutError("/health")
            sleep(0.05)

    def _prompt_format(self) -> PromptFormat:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", "/tokenizer.json", headers={"Authorization": f"Bearer {TOKEN}"})
        tokenizer = Tokenizer.from_json(connection.getresponse().read().decode())
        connection.close()
        return load_format(None, tokenizer)


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
