"""Addresses that nobody has: Gradio's mount at `/` would take them all, with routes that are none of ours.

So what its two pages ask for is listed here, and all else is answered in words: 404, or 405 where a route of ours takes
another method.
"""

from collections.abc import Sequence

from starlette.datastructures import URLPath
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import Receive, Scope, Send

from app.domain.errors import MethodNotAllowed, NotFound

_METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")
_PAGE_PATHS = {"/", "/config", "/theme.css", "/favicon.ico", "/robots.txt"}
_PAGE_FOLDERS = ("/assets/", "/static/", "/svelte/")
_CHAT_CALLS = ("startup-events", "heartbeat/", "app_id", "info", "file=", "stream/")
"""What the chat page's shell may ask for; it has no functions, so nothing else is answered."""
_CALLS = "/gradio_api/"
_CONSOLE = "/admin"


class Unknown(BaseRoute):
    """The route of everything that is neither ours nor a page's; stands between our routes and Gradio's mounts."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        """`routes` are ours."""
        self._routes = tuple(routes)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match what the pages do not need."""
        if scope["type"] != "http" or _is_of_a_page(scope["path"], scope["method"]):
            return Match.NONE, {}
        return Match.FULL, {}

    def url_path_for(self, name: str, /, **path_params: object) -> URLPath:
        """Raise NoMatchFound: there is no address here."""
        raise NoMatchFound(name, path_params)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - the route's form
        """Raise MethodNotAllowed or NotFound."""
        allowed = [method for method in _METHODS if self._is_ours({**scope, "method": method})]
        if allowed:
            raise MethodNotAllowed(allow=", ".join(allowed))
        raise NotFound(kind="page")

    def _is_ours(self, scope: Scope) -> bool:
        return any(route.matches(scope)[0] is Match.FULL for route in self._routes)


def _is_of_a_page(path: str, method: str) -> bool:
    if path == _CONSOLE or path.startswith(f"{_CONSOLE}/"):
        path = path.removeprefix(_CONSOLE) or "/"
        if path.startswith(_CALLS):  # the doorkeeper lets admins only come so far
            return True
    if method not in {"GET", "HEAD"}:
        return False
    call = path.removeprefix(_CALLS) if path.startswith(_CALLS) else None
    return path in _PAGE_PATHS or path.startswith(_PAGE_FOLDERS) or (call is not None and call.startswith(_CHAT_CALLS))
