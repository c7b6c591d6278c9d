"""The log: structlog on standard error, for people on a terminal and as JSON lines elsewhere. Never message text."""

import logging
import sys
from typing import Literal

import structlog

from app.settings import LogSettings


def configure(settings: LogSettings) -> None:
    """Set up structlog and the libraries' loggers. Call once, from the command line."""
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    is_json = format_of(settings) == "json"
    renderer = structlog.processors.JSONRenderer() if is_json else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")


def format_of(settings: LogSettings) -> Literal["console", "json"]:
    """Return the format that is set, or the one that suits our standard error."""
    if settings.format != "auto":
        return settings.format
    return "console" if sys.stderr is not None and sys.stderr.isatty() else "json"
