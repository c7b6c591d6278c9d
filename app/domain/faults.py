"""Where a fault of ours happened, for the log: files and lines, and nothing of what the fault says.

A fault's message may quote what somebody wrote, so only its kind and place are logged.
"""

_LAST = 6


def frames_of(error: BaseException) -> list[str]:
    """Return the last frames of an error as `file.py:12`, the innermost last."""
    frames, trace = [], error.__traceback__
    while trace is not None:
        frames.append(f"{trace.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}")
        trace = trace.tb_next
    return frames[-_LAST:]
