"""What a benchmark gives: rows of a table, each with the figure that is wanted, if one is."""

import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

Choice = TypeVar("Choice")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure."""

    what: str
    value: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def wanted(self) -> str:
        """The bound, in words."""
        if self.at_most is not None:
            return f"≤ {_figure(self.at_most, self.unit)}"
        return "" if self.at_least is None else f"≥ {_figure(self.at_least, self.unit)}"

    @property
    def is_met(self) -> bool | None:
        """Whether the figure is as wanted; None where nothing is."""
        if self.at_most is not None:
            return self.value <= self.at_most
        return None if self.at_least is None else self.value >= self.at_least

    def __str__(self) -> str:
        mark = {True: "✓", False: "✗", None: ""}[self.is_met]
        return f"| {self.what} | {_figure(self.value, self.unit)} | {self.wanted} | {mark} |"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much of a benchmark is run."""

    is_quick: bool = False

    def of(self, *, full: Choice, quick: Choice) -> Choice:
        """Return one of the two."""
        return quick if self.is_quick else full


Benchmark = Callable[[Effort], Sequence[Row]]


def median(values: Sequence[float]) -> float:
    """Return the middle; not a number where there is none."""
    return statistics.median(values) if values else float("nan")


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the value that so many of a hundred do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else float("nan")


def table(title: str, rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    return "\n".join([f"| {title} | measured | wanted | |", "| --- | ---: | ---: | --- |", *map(str, rows)])


def machine() -> str:
    """Return the day, the processor and how busy it was: others' work shows in every figure."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    load = os.getloadavg()[0]
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC · {os.cpu_count()} × {model} · {platform.system()} · "
        f"Python {platform.python_version()} · load average before it {load:.1f}"
    )


def _figure(value: float, unit: str) -> str:
    digits = 0 if abs(value) >= 100 or value == int(value) else 1 if abs(value) >= 10 else 2  # three that count
    return f"{value:,.{digits}f}{' ' if unit else ''}{unit}"
