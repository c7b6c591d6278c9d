"""How large a request may be. Refused while it arrives, whatever its headers say: nothing large is ever kept."""

from contextlib import suppress

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.domain.errors import RequestTooLarge
from app.web.errors import Respond, is_for_programs

MIB = 1 << 20
PAGE_LIMIT = MIB
"""A question has at most 32,000 characters, a template 20,000."""
PROGRAM_LIMIT = 8 * MIB
"""A program sends the whole history: far more text than any model here reads."""


class BodyLimit:
    """Counts what is read. Pure ASGI, as the doorkeeper."""

    def __init__(self, app: ASGIApp, *, respond: Respond) -> None:
        """`respond` words the refusal."""
        self._app = app
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; answer 413 in place of whatever the application makes of half a body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        limit = PROGRAM_LIMIT if is_for_programs(scope["path"]) else PAGE_LIMIT
        length = request.headers.get("content-length", "")
        if length.isascii() and length.isdigit() and (len(length) > len(str(limit)) or int(length) > limit):
            await self._refuse(request, receive, send, limit=limit)
            return
        body = _Counted(receive, send, limit=limit)
        with suppress(_TooLarge):  # where nobody between made an answer of it
            await self._app(scope, body.receive, body.send)
        if body.is_too_large and not body.is_answered:
            await self._refuse(request, receive, send, limit=limit)

    async def _refuse(self, request: Request, receive: Receive, send: Send, *, limit: int) -> None:
        refusal = self._respond(request, RequestTooLarge(limit_mib=limit // MIB))
        await refusal(request.scope, receive, send)


class _TooLarge(Exception):
    pass


class _Counted:
    """A request's body as it is read; once it is too large, nothing that the application says goes out."""

    def __init__(self, receive: Receive, send: Send, *, limit: int) -> None:
        self._receive = receive
        self._send = send
        self._left = limit
        self.is_answered = False

    @property
    def is_too_large(self) -> bool:
        return self._left < 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self.is_too_large:
            raise _TooLarge
        return message

    async def send(self, message: Message) -> None:
        if not self.is_too_large:
            self.is_answered = True
            await self._send(message)
