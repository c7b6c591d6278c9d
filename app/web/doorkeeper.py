"""Stands in front of every route: whose request it is, and whether another site sent it.

Pure ASGI, because Starlette's BaseHTTPMiddleware would copy every chunk of a stream through a queue of its own.
"""

from collections.abc import Collection
from urllib.parse import urlsplit

from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.domain.errors import AccessDenied, ChatError, InvalidInput, NotFound
from app.domain.models import Account, new_id
from app.services.accounts import GUEST_DAYS, AccountDesk
from app.web.errors import Respond

SESSION_COOKIE = "haina_session"
GUEST_COOKIE = "haina_guest"
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
_OPEN_PATHS = (
    "/healthz",
    "/readyz",
    "/metrics",
    "/assets/",
    "/v1/",
    "/theme.css",
    "/static/",
    "/favicon.ico",
    "/share/",
)
"""Nobody is looked up for these: they are the same for all, or bring a key of their own."""


class Doorkeeper:
    """Puts the account into `request.state.account` (None where nobody is signed in and guests are not let in)."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        accounts: AccountDesk,
        signer: URLSafeTimedSerializer,
        has_guests: bool,
        is_secure: bool,
        hosts: Collection[str],
        respond: Respond,
    ) -> None:
        """`is_secure` marks the cookies for HTTPS only; `hosts` are the names that are answered, `*` for all."""
        self._app = app
        self._hosts = {host.lower() for host in hosts}
        self._respond = respond
        self._accounts = accounts
        self._signer = signer
        self._has_guests = has_guests
        self._is_secure = is_secure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            self._require_known_host(request)
            _require_same_origin(request)
            new_guest = await self._identify(request)
            _require_page_access(request)
        except AccessDenied as error:
            if error.reason == "sign_in" and _wants_page(request) and request.url.path.startswith("/admin"):
                response = RedirectResponse("/login?next=/admin", status_code=303)
                await response(scope, receive, send)
            else:
                await self._respond(request, error)(scope, receive, send)
        except ChatError as error:
            await self._respond(request, error)(scope, receive, send)
        else:
            await self._app(scope, receive, _with_cookie(send, self._guest_cookie(new_guest)))

    def _require_known_host(self, request: Request) -> None:
        """Refuse a name that is not ours: a site that points its own name here would be of our origin.

        Raises InvalidInput, and NotFound for a path that no database could even be asked for.
        """
        host = request.headers.get("host", "").lower()
        name = host if host.endswith("]") else host.rsplit(":", 1)[0]
        if "*" not in self._hosts and name not in self._hosts:
            raise InvalidInput("the Host header names another server", kind="host")
        if "\x00" in request.url.path:
            raise NotFound(kind="page")

    async def _identify(self, request: Request) -> str | None:
        """Set the request's account; return the id of a guest who has just come."""
        request.state.account = None
        if request.url.path.startswith(_OPEN_PATHS):
            return None
        if token := request.cookies.get(SESSION_COOKIE):
            request.state.account = await self._accounts.of_session(token)
        if request.state.account is not None or not self._has_guests:
            return None
        guest_id = self._guest_id(request.cookies.get(GUEST_COOKIE, ""))
        new_guest = None
        # The page brings the cookie: its first requests come together, and each would make a guest of its own.
        if guest_id is None and (request.url.path == "/" or request.url.path.startswith("/api/")):
            guest_id = new_guest = new_id()
        if guest_id is not None:
            guest = await self._accounts.guest(guest_id)
            request.state.account = None if guest.is_suspended else guest
        return new_guest

    def _guest_id(self, cookie: str) -> str | None:
        try:
            return str(self._signer.loads(cookie, max_age=GUEST_DAYS * 86400)) if cookie else None
        except BadSignature:
            return None

    def _guest_cookie(self, guest_id: str | None) -> str | None:
        if guest_id is None:
            return None
        value = self._signer.dumps(guest_id)
        secure = "; Secure" if self._is_secure else ""
        return f"{GUEST_COOKIE}={value}; Path=/; Max-Age={GUEST_DAYS * 86400}; HttpOnly; SameSite=Lax{secure}"


def account_of(connection: HTTPConnection) -> Account:
    """Return who is asking.

    Raises AccessDenied where nobody is signed in.
    """
    account = getattr(connection.state, "account", None)
    if not isinstance(account, Account):
        raise AccessDenied("sign_in")
    return account


def _require_same_origin(request: Request) -> None:
    """Refuse what another site's page sends: the cookie would come with it.

    Raises AccessDenied.
    """
    if request.method in _SAFE_METHODS:
        return
    origin = request.headers.get("origin")
    if origin and origin != "null" and urlsplit(origin).netloc == request.headers.get("host"):
        return
    if origin is None and request.headers.get("sec-fetch-site") in {None, "same-origin", "none"}:
        return
    raise AccessDenied("origin")


def _require_page_access(request: Request) -> None:
    """Keep the console for admins.

    Raises AccessDenied.
    """
    path = request.url.path
    if path == "/admin" or path.startswith("/admin/"):
        account = request.state.account
        if account is None or not account.is_admin:
            raise AccessDenied("forbidden" if account and account.role == "user" else "sign_in")


def _wants_page(request: Request) -> bool:
    return request.method == "GET" and "text/html" in request.headers.get("accept", "")


def _with_cookie(send: Send, cookie: str | None) -> Send:
    async def send_with_cookie(message: Message) -> None:
        if cookie and message["type"] == "http.response.start":
            MutableHeaders(scope=message).append("Set-Cookie", cookie)
        await send(message)

    return send_with_cookie
