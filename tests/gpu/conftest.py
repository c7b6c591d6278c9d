"""What only a GPU can show: `make gpu-check`. Figures are printed as a table for docs/measurements.md.

`HAINA_GPU_MODELS=/models/Baichuan2-7B-Chat,/models/Baichuan2-13B-Chat` names real models to be tried as well.
`HAINA_GPU_CHECK_DEVICE=cpu` runs the same checks without a GPU: to see that they run.
"""

from datetime import UTC, datetime

import pytest
import torch

from tests.gpu.choice import DEVICE, Note

_FIGURES: list[tuple[str, str]] = []


def pytest_sessionstart() -> None:
    """End at once where there is nothing to check."""
    if DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.exit("no GPU that torch can use: nothing was checked", returncode=3)


@pytest.fixture
def note() -> Note:
    """Keep a figure for the table."""
    return lambda what, figure: _FIGURES.append((what, figure))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    if _FIGURES:
        lines = [
            f"## {datetime.now(UTC):%Y-%m-%d} · {_machine()}",
            "",
            "`make gpu-check`",
            "",
            "| | |",
            "| --- | ---: |",
        ]
        lines += [f"| {what} | {figure} |" for what, figure in _FIGURES]
        terminalreporter.write_line("\n" + "\n".join(lines))


def _machine() -> str:
    name = torch.cuda.get_device_name(0) if DEVICE == "cuda" else "CPU"
    return f"{name} · torch {torch.__version__}"
