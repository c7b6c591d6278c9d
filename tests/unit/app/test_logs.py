import io
import sys

import pytest

from app import bootstrap, logs
from app.settings import LogSettings, load_settings


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("chosen", "errors", "expected"),
    [
        ("auto", Terminal(), "console"),
        ("auto", io.StringIO(), "json"),
        ("auto", None, "json"),
        ("json", Terminal(), "json"),
        ("console", io.StringIO(), "console"),
    ],
)
def test_people_on_a_terminal_get_lines_that_they_can_read_from_the_worker_too(
    monkeypatch: pytest.MonkeyPatch, chosen: str, errors: io.StringIO | None, expected: str
) -> None:
    monkeypatch.setenv("HAINA_LOG__FORMAT", chosen)
    monkeypatch.setattr(sys, "stderr", errors)
    settings = load_settings()
    assert logs.format_of(settings.log) == expected
    supervisor = bootstrap._supervisor(settings)
    assert supervisor._environment["HAINA_LOG__FORMAT"] == expected  # its standard error is a pipe to us


def test_a_format_that_is_set_is_taken_as_it_is() -> None:
    assert logs.format_of(LogSettings(format="json")) == "json"
