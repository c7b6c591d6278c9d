"""The one place where a ChatError becomes an HTTP response: words and a status, never a trace."""

import math

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from app.domain.errors import AccessDenied, ChatError, InvalidInput, NotFound
from app.domain.words import describe
from app.web.language import language_of

log = structlog.get_logger()

_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


def status_of(error: ChatError) -> int:
    """Return the HTTP status: not signed in is 401, signed in but not allowed 403, locked out 429."""
    if isinstance(error, AccessDenied):
        return {"sign_in": 401, "locked_out": 429}.get(error.reason, error.status)
    return error.status


def openai_error(error: ChatError, message: str) -> dict[str, object]:
    """Return the error in OpenAI's form."""
    status = status_of(error)
    kind = _OPENAI_TYPES.get(status) or ("server_error" if status >= 500 else "invalid_request_error")  # noqa: PLR2004
    return {"error": {"message": message, "type": kind, "param": error.data.get("param"), "code": error.code}}


def respond(request: Request, error: ChatError) -> Response:
    """Turn an error into JSON, in the form that the route's readers expect."""
    headers = {}
    retry_after_s = error.data.get("retry_after_s")
    if isinstance(retry_after_s, int | float):
        headers["Retry-After"] = str(math.ceil(retry_after_s))
    status = status_of(error)
    if request.url.path.startswith("/v1"):
        return JSONResponse(openai_error(error, describe(error, "en")), status_code=status, headers=headers)
    words = describe(error, language_of(request))
    body: dict[str, object] = {"code": error.code, "message": words}
    if retry_after_s is not None:
        body["retry_after_s"] = retry_after_s
    return JSONResponse({"error": body}, status_code=status, headers=headers)


def install(app: FastAPI) -> None:
    """Register the handlers."""

    @app.exception_handler(ChatError)
    async def _chat_error(request: Request, error: ChatError) -> Response:
        if status_of(error) >= 500:  # noqa: PLR2004
            log.warning("request_failed", code=error.code, path=request.url.path, detail=error.detail)
        return respond(request, error)

    @app.exception_handler(RequestValidationError)
    async def _validation_error(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "body")
        message = str(first["msg"]).removeprefix("Value error, ")
        return respond(request, InvalidInput(f"{place}: {message}" if place else message, param=place or None))

    @app.exception_handler(HTTPException)
    async def _http_error(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:  # noqa: PLR2004
            return respond(request, NotFound(kind="page"))
        return JSONResponse(
            {"error": {"code": f"http_{error.status_code}", "message": str(error.detail)}},
            status_code=error.status_code,
            headers=dict(error.headers or {}),
        )

    @app.exception_handler(Exception)
    async def _fault(request: Request, error: Exception) -> Response:
        # A fault of ours: its message may quote what somebody wrote, so only its kind is logged.
        log.error("request_faulted", path=request.url.path, error=type(error).__name__)
        return respond(request, ChatError())
