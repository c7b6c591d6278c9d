"""Stands around everything: headers on every response, no fault gets out, open streams end with the server.

uvicorn logs what an application raises with its whole trace, and Starlette raises on what it has answered already. So
nothing is raised from here: a fault is logged by kind and place, and answered in words.
"""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.domain.errors import ChatError, ServerStopping
from app.domain.faults import frames_of
from app.web.closing import Closing
from app.web.errors import Respond, loggable

log = structlog.get_logger()

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; object-src 'none'; "
        "base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
    ),  # Gradio's templates need inline and eval; nothing may come from, or go to, elsewhere
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Porch:
    """The outermost layer. Pure ASGI, as the doorkeeper."""

    def __init__(self, app: ASGIApp, *, respond: Respond, closing: Closing) -> None:
        """`respond` words the faults; `closing` tells when the server goes down."""
        self._app = app
        self._respond = respond
        self._closing = closing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and see that it ends well."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with ExitStack() as stack:
            response = _Response(send, on_stream=lambda: stack.enter_context(self._closing.streaming()))
            try:
                await self._app(scope, receive, response.send)
            except asyncio.CancelledError:
                if not self._closing.has_begun:
                    raise
                await self._end(ServerStopping(), scope, receive, response)
            except Exception as error:  # noqa: BLE001 - the outermost edge: a fault of ours becomes a sentence
                log.error(  # noqa: TRY400 - the trace may quote what somebody wrote
                    "request_faulted", path=loggable(scope["path"]), error=type(error).__name__, frames=frames_of(error)
                )
                await self._end(ChatError(), scope, receive, response)
            else:
                if self._closing.has_begun:
                    await response.end_stream()

    async def _end(self, error: ChatError, scope: Scope, receive: Receive, response: "_Response") -> None:
        """Answer where nothing was answered yet. A stream ends; a reader of anything else sees that it broke off."""
        if not response.has_begun:
            await self._respond(Request(scope), error)(scope, receive, response.send)
        elif isinstance(error, ServerStopping):
            await response.end_stream()


class _Response:
    """What goes back, and how far it is."""

    def __init__(self, send: Send, *, on_stream: Callable[[], object]) -> None:
        self._send = send
        self._on_stream = on_stream
        self._is_stream = False
        self.has_begun = False
        self._has_ended = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            self.has_begun = True
            if headers.get("content-type", "").startswith("text/event-stream"):
                self._is_stream = True
                self._on_stream()
        elif message["type"] == "http.response.body" and not message.get("more_body"):
            self._has_ended = True
        await self._send(message)

    async def end_stream(self) -> None:
        """Close an open stream of events, so that its reader sees an end and comes back later."""
        if self._is_stream and not self._has_ended:
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})
