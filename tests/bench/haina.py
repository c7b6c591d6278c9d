"""`haina serve` as it is measured: started on a free port, with its moments noted."""

import re
from collections.abc import Mapping
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Self

from tests.bench.program import Program, is_answered

_ADDRESS = re.compile(r"Haina is at http://[^:]+:(\d+)/")


class Haina:
    """A running server; use it with `with`. Its database is `haina.db` in the data folder."""

    def __init__(self, data_dir: Path, *, settings: Mapping[str, str]) -> None:
        """Start it; `settings` are environment variables, beside which no others of ours count."""
        self.database = data_dir / "haina.db"
        self._began = monotonic()
        given = {"HAINA_DATA_DIR": str(data_dir), "HAINA_LOG__LEVEL": "error", "PYTHONUNBUFFERED": "1"}
        self._program = Program("app", "serve", "--port", "0", environment=given | dict(settings))
        while not (found := _ADDRESS.search(line := self._program.line())):
            if self._program.has_ended:
                raise RuntimeError(f"haina serve ended: {line}")
        self.port = int(found[1])

    @property
    def pid(self) -> int:
        return self._program.pid

    def answered_after_s(self, path: str, *, timeout_s: float = 110.0) -> float:
        """Return when, counted from the start, this path was first answered with 200."""
        while monotonic() < self._began + timeout_s:
            if is_answered(self.port, path):
                return monotonic() - self._began
            sleep(0.01)
        raise TimeoutError(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._program.__exit__(kind, error, trace)
