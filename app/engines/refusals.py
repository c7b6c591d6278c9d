"""What an engine's error answer means: its HTTP status and body become one of our errors.

An engine's own message may quote the prompt, so it is never passed on: only its code is, and a few numbers.
"""

import re
from collections.abc import Callable, Mapping

import orjson

from app.domain.errors import (
    ChatError,
    ContextLengthExceeded,
    EngineBusy,
    EngineDied,
    EngineRefused,
    EngineStarting,
    EngineUnavailable,
    GenerationTimeout,
    InvalidInput,
    OutOfMemory,
)

_DEFAULT_RETRY_S = 2.0
_MAX_RETRY_S = 3600.0
_BAD_REQUEST = (400, 422)
_BUSY = 429
_UNAVAILABLE = 503
_INTERNAL = 500
_STATUSES = range(400, 600)
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_TOO_LONG = re.compile(r"maximum context length|max_model_len|longer than the model", re.IGNORECASE)
"""vLLM and SGLang have no code for it, only these words."""
_NUMBERS = ("limit", "length", "progress", "after_s")
_NAMES = ("stage", "param")

_BY_CODE: Mapping[str, Callable[..., ChatError]] = {
    "context_length_exceeded": ContextLengthExceeded,
    "engine_starting": EngineStarting,
    "engine_unavailable": EngineUnavailable,
    "engine_died": EngineDied,
    "engine_stopped": EngineDied,
    "generation_timeout": GenerationTimeout,
    "out_of_memory": OutOfMemory,
    "invalid_request": InvalidInput,
}


def refusal(status: int, body: bytes, *, retry_after: str | None = None) -> ChatError:
    """Return the error that an engine's answer stands for; `retry_after` is the header as it came."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        content = None
    return refusal_of(content, status=status, retry_after=retry_after)


def refusal_of(content: object, *, status: int = _INTERNAL, retry_after: str | None = None) -> ChatError:
    """Return the error for a decoded error body, or for an error event within a stream.

    Source of the shapes: OpenAI `{"error": {"message", "type", "param", "code"}}`; vLLM the same with the HTTP status
    as `code`, in older versions without the outer object.
    """
    fault = content.get("error", content) if isinstance(content, dict) else None
    fault = fault if isinstance(fault, dict) else {}
    code = fault.get("code")
    if isinstance(code, int) and code in _STATUSES:
        status = code
    name = _name(code) or _name(fault.get("type"))
    data = {key: fault[key] for key in _NUMBERS if isinstance(fault.get(key), int | float)}
    data |= {key: fault[key] for key in _NAMES if _name(fault.get(key))}
    if name in _BY_CODE:
        return _BY_CODE[name](f"the engine said {name}", **data)
    if status in _BAD_REQUEST:
        message = fault.get("message")
        is_too_long = isinstance(message, str) and _TOO_LONG.search(message)
        return (ContextLengthExceeded if is_too_long else InvalidInput)(f"the engine said {status} {name}", **data)
    if status == _BUSY or name == EngineBusy.code:
        return EngineBusy("the engine is full", retry_after_s=_retry_after_s(retry_after, fault.get("retry_after_s")))
    if status == _UNAVAILABLE:
        return EngineUnavailable("the engine said 503")
    return EngineRefused(f"the engine said {status} {name}", engine_status=status)


def _name(value: object) -> str:
    """Return a code-like word, and nothing for anything that could be a sentence."""
    return value if isinstance(value, str) and _CODE.fullmatch(value) else ""


def _retry_after_s(header: str | None, field: object) -> float:
    for value in (header, field):
        if isinstance(value, str | int | float):
            try:
                seconds = float(value)
            except ValueError:  # the header's other form, a date
                continue
            if 0 <= seconds <= _MAX_RETRY_S:
                return seconds
    return _DEFAULT_RETRY_S
