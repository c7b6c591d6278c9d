"""How far a load is: stages and numbers for `/health`, lines for the log. And a conversion, on the terminal."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import structlog
import typer

Report = Callable[[str, float], None]
"""Takes a stage and how far the whole load is, 0 to 1."""

_STEP = 0.1

_log = structlog.get_logger()


class LoggedProgress:
    """Passes reports on, and logs each new stage and each tenth: whoever looks at a terminal sees that it goes on."""

    def __init__(self, report: Report) -> None:
        """Nothing is logged yet."""
        self._report = report
        self._logged = ("", 0.0)

    def __call__(self, stage: str, progress: float) -> None:
        """Take a report."""
        self._report(stage, progress)
        last_stage, last = self._logged
        if stage != last_stage or progress >= last + _STEP:
            self._logged = (stage, progress)
            _log.info("model_loading", stage=stage, percent=round(100 * progress))


@contextmanager
def reported_bars(report: Report, stage: str, *, first: float, last: float) -> Iterator[None]:
    """Turn transformers' progress bars into reports between `first` and `last`; nothing is drawn."""
    from transformers.utils.logging import EmptyTqdm, set_tqdm_hook  # noqa: PLC0415 - slow; only a load needs it

    class Bar(EmptyTqdm):
        def __init__(self, items: Sequence[Any] = (), **options: Any) -> None:
            super().__init__(items, **options)  # type: ignore[no-untyped-call]
            self._items = items

        def __iter__(self) -> Iterator[Any]:
            total = len(self._items) if hasattr(self._items, "__len__") else 0
            for n, item in enumerate(self._items):
                if total:
                    report(stage, first + (last - first) * n / total)
                yield item

    previous = set_tqdm_hook(lambda _factory, args, kwargs: Bar(*args, **kwargs))
    try:
        yield
    finally:
        set_tqdm_hook(previous)


@contextmanager
def shown_bytes(size_bytes: int, *, label: str) -> Iterator[Callable[[int], None]]:
    """Yield what takes the bytes that were done: a bar on a terminal shows them, elsewhere a line for each tenth."""
    if sys.stderr.isatty():
        with typer.progressbar(length=size_bytes, label=label, file=sys.stderr) as bar:
            yield bar.update
        return
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        tenths, done = done * 10 // size_bytes, done + count
        if done * 10 // size_bytes > tenths:
            typer.echo(f"{label}: {done * 100 // size_bytes} % of {size_bytes / 1e6:,.0f} MB", err=True)

    yield advance
