"""Why a worker cannot start: one line for the operator, and exit code 3. Standard library only."""

EXIT_CODE = 3
LINE_PREFIX = "haina worker: "
"""How that line begins: other lines, of the log, may come after it."""


class StartFailed(Exception):
    """The worker cannot start, and trying again unchanged will not help."""


class LoadFailed(StartFailed):
    """The model cannot be loaded."""
