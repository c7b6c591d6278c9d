"""The one place where a ChatError becomes an HTTP response: words and a status, never a trace."""

import math
import re
from collections.abc import Mapping
from typing import Protocol

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response

from app.domain.errors import AccessDenied, ChatError, ContentBlocked, InvalidInput, MethodNotAllowed, NotFound
from app.domain.ports import Replies
from app.domain.verdicts import Stage
from app.domain.words import Language, describe
from app.web.language import language_of

log = structlog.get_logger()

_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
_RETRY_AFTER_S = 5
"""Where the same request may succeed later and nobody knows when."""
_SERVER_FAULT = 500
_LONGEST_PLACE = 100
_FIELD_KINDS = {
    "missing": "field_missing",
    "extra_forbidden": "field_unknown",
    "json_invalid": "body",
    "model_attributes_type": "body",
    "string_too_long": "field_long",
    "too_long": "field_long",
    "string_unicode": "field_characters",
    "text_broken": "field_characters",
    "greater_than": "field_range",
    "greater_than_equal": "field_range",
    "less_than": "field_range",
    "less_than_equal": "field_range",
    "finite_number": "field_range",
}
"""Which words say what pydantic found; where none do, the field is just wrong."""


class ErrorPage(Protocol):
    """How an error looks to somebody who opened an address in a browser."""

    def trouble(self, *, language: Language, error: str, is_missing: bool) -> str:
        """Return a page with the sentence and a way to the chat."""
        ...


class Respond:
    """Turns an error into a response, in the form that the request's reader expects."""

    def __init__(self, page: ErrorPage, *, replies: Replies) -> None:
        """`page` draws errors for people who look at them directly, `replies` say what a refusal says."""
        self._page = page
        self._replies = replies

    def __call__(self, request: Request, error: ChatError, *, status: int | None = None) -> Response:
        """Return OpenAI's form for programs, a page where one is looked at, else our own JSON."""
        status = status or status_of(error)
        headers = headers_of(error)
        if is_for_programs(request.url.path):
            return JSONResponse(openai_error(error, self._words(error, "en")), status_code=status, headers=headers)
        language = language_of(request)
        words = self._words(error, language)
        if "text/html" in request.headers.get("accept", ""):
            is_missing = status == NotFound.status
            page = self._page.trouble(language=language, error=words, is_missing=is_missing)
            return HTMLResponse(page, status_code=status, headers=headers)
        body: dict[str, object] = {"code": error.code, "message": words}
        retry_after_s = error.data.get("retry_after_s")
        if retry_after_s is not None:
            body["retry_after_s"] = retry_after_s
        return JSONResponse({"error": body}, status_code=status, headers=headers)

    def _words(self, error: ChatError, language: Language) -> str:
        if (
            isinstance(error, ContentBlocked) and "kind" not in error.data
        ):  # a comment and a note have words of their own
            return brief_reply(error, self._replies, language) or describe(error, language)
        return describe(error, language)


def brief_reply(error: ContentBlocked, replies: Replies, language: Language) -> str:
    """Return in a sentence or two what is said to somebody whose text was refused."""
    return replies.brief(
        category=str(error.data.get("category") or ""),
        stage=str(error.data.get("stage") or Stage.INPUT),
        seed=str(error.data.get("decision_id") or ""),
        language=language,
    )


def loggable(path: str) -> str:
    """Return a path without what opens something to whoever knows it: a link's token."""
    return re.sub("^(/share/).+", r"\1…", path)


def is_for_programs(path: str) -> bool:
    """Whether an address is of `/v1`."""
    return path == "/v1" or path.startswith("/v1/")


def status_of(error: ChatError) -> int:
    """Return the HTTP status: not signed in is 401, signed in but not allowed 403, locked out 429."""
    if isinstance(error, AccessDenied):
        return {"sign_in": 401, "wrong_password": 401, "locked_out": 429}.get(error.reason, error.status)
    return error.status


def headers_of(error: ChatError) -> Mapping[str, str]:
    """Return the headers that an error brings: when to try again, or which methods there are."""
    headers = {}
    retry_after_s = error.data.get("retry_after_s", _RETRY_AFTER_S if error.is_retryable else None)
    if isinstance(retry_after_s, int | float):
        headers["Retry-After"] = str(math.ceil(retry_after_s))
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = str(error.data.get("allow", ""))
    return headers


def openai_error(error: ChatError, message: str) -> dict[str, object]:
    """Return the error in OpenAI's form; what the filter refused has its `decision_id`, for an appeal."""
    status = status_of(error)
    kind = _OPENAI_TYPES.get(status) or ("server_error" if status >= _SERVER_FAULT else "invalid_request_error")
    body: dict[str, object] = {"message": message, "type": kind, "param": error.data.get("param"), "code": error.code}
    if error.code == ContentBlocked.code and "decision_id" in error.data:
        body["decision_id"] = error.data["decision_id"]
    return {"error": body}


def install(app: FastAPI, respond: Respond) -> None:
    """Register the handlers."""

    @app.exception_handler(ChatError)
    async def _chat_error(request: Request, error: ChatError) -> Response:
        if status_of(error) >= _SERVER_FAULT:
            log.warning("request_failed", code=error.code, path=loggable(request.url.path), detail=error.detail)
        return respond(request, error)

    @app.exception_handler(RequestValidationError)
    async def _validation_error(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = _quotable(".".join(map(str, first["loc"][1:])))  # the first part says where: body, query, path
        reason = _quotable(str(first["msg"]).removeprefix("Value error, "))
        kind = _field_kind(first["type"])
        if is_for_programs(request.url.path):  # in English, so with all that pydantic has to say
            return respond(request, InvalidInput(f"{place}: {reason}" if place else reason, param=place or None))
        return respond(request, InvalidInput(reason, param=place, kind=kind if place else "body"))

    @app.exception_handler(HTTPException)
    async def _http_error(request: Request, error: HTTPException) -> Response:
        response = respond(request, _of_status(error), status=error.status_code)
        response.headers.update(error.headers or {})
        return response


def _field_kind(found: str) -> str:
    is_of_type = found.endswith(("_type", "_parsing"))
    return _FIELD_KINDS.get(found, "field_type" if is_of_type else "field_wrong")


def _of_status(error: HTTPException) -> ChatError:
    """Return the error behind a status that a library chose."""
    match error.status_code:
        case 401:
            return AccessDenied("sign_in")
        case 403:
            return AccessDenied()
        case 404:
            return NotFound(kind="page")
        case 405:
            return MethodNotAllowed(allow=(error.headers or {}).get("Allow", ""))
        case status if status >= _SERVER_FAULT:
            return ChatError()
    return InvalidInput(kind="body")  # FastAPI: not UTF-8, nested too deeply, a number of too many digits


def _quotable(text: str) -> str:
    """Return what a request said of itself as an answer can hold it."""
    return text.encode("utf-8", "replace").decode()[:_LONGEST_PLACE]
