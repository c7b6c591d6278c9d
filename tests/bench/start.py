"""How long a warm start takes, and how much memory web has without torch in it."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.bench.haina import Haina
from tests.bench.measurement import Effort, Row, median
from tests.bench.program import has_loaded, resident_mib


def measure(effort: Effort) -> Sequence[Row]:
    """Return the rows."""
    alive, page, memory = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for n in range(effort.of(full=6, quick=3)):
            with Haina(Path(folder) / "data", settings={"HAINA_ENGINE__URL": "scripted:"}) as haina:
                times = haina.answered_after_s("/healthz"), haina.answered_after_s("/")
                if n == 0:
                    continue  # the first start makes the database
                alive.append(times[0])
                page.append(times[1])
                memory.append(resident_mib(haina.pid))
                if has_loaded(haina.pid, library="torch"):
                    raise RuntimeError("torch is loaded in the web process")
    return [
        Row(what="web ready, warm", value=median(alive), unit="s", at_most=3.0),
        Row(what="page answered, warm, scripted engine", value=median(page), unit="s", at_most=10.0),
        Row(what="memory of web, without torch", value=median(memory), unit="MiB", at_most=300.0),
    ]
