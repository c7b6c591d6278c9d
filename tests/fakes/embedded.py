"""The embedded model, converted once for all test runs on this machine."""

from pathlib import Path

import pytest

from app.worker.embedded import ensure_converted, find_gguf
from tests.fakes.served import ROOT

CACHE = ROOT / "data" / "tests"


def data_dir_with_model(folder: Path) -> Path:
    """Return a fresh data folder in which the model is converted already; skip where its wheel is not installed."""
    try:
        gguf = find_gguf()
    except Exception as error:  # noqa: BLE001 - whatever keeps it away, there is no model
        pytest.skip(f"the embedded model is not installed: {error}")
    ensure_converted(data_dir=CACHE, report=lambda _stage, _progress: None, gguf=gguf)
    data_dir = folder / "data"
    data_dir.mkdir()
    (data_dir / "models").symlink_to(CACHE / "models")
    return data_dir
