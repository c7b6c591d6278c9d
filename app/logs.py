"""The log: structlog on standard error, for people on a terminal and as JSON lines elsewhere. Never message text."""

import logging
import sys

import structlog

from app.settings import LogSettings


def configure(settings: LogSettings) -> None:
    """Set up structlog and the libraries' loggers. Call once, from the command line."""
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    is_json = settings.format == "json" or (settings.format == "auto" and not sys.stderr.isatty())
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
