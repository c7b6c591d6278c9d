"""`/login`, `/logout`, `/setup`: forms that work without a script, over sessions of our own."""

from typing import Annotated, Protocol
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from app.domain.errors import ChatError, NotFound
from app.domain.words import Language, describe
from app.services.accounts import SESSION_DAYS, AccountDesk, SignedIn
from app.web.doorkeeper import SESSION_COOKIE
from app.web.errors import headers_of, status_of
from app.web.fields import Text
from app.web.language import language_of


class Forms(Protocol):
    """How the two forms look."""

    def sign_in(self, *, language: Language, error: str, name: str, next_path: str) -> str:
        """Return the page with the sign-in form."""
        ...

    def set_up(self, *, language: Language, error: str, name: str, token: str) -> str:
        """Return the page on which the first admin is made."""
        ...


def router(accounts: AccountDesk, *, forms: Forms, is_secure: bool) -> APIRouter:  # noqa: C901 - flat
    """Return the routes; `is_secure` marks the cookie for HTTPS only."""
    routes = APIRouter()

    @routes.get("/login")
    async def sign_in_form(request: Request) -> Response:
        wanted = _inner_path(request.query_params.get("next", "/"))
        return HTMLResponse(forms.sign_in(language=language_of(request), error="", name="", next_path=wanted))

    @routes.post("/login")
    async def sign_in(
        request: Request,
        name: Annotated[Text, Form()] = "",
        password: Annotated[Text, Form()] = "",
        next_path: Annotated[Text, Form(alias="next")] = "/",
    ) -> Response:
        language = language_of(request)
        address = request.client.host if request.client else ""
        agent = request.headers.get("user-agent", "")
        try:
            signed_in = await accounts.sign_in(name, password=password, address=address, user_agent=agent)
        except ChatError as error:
            page = forms.sign_in(
                language=language, error=describe(error, language), name=name, next_path=_inner_path(next_path)
            )
            return HTMLResponse(page, status_code=status_of(error), headers=headers_of(error))
        return _welcome(signed_in, _inner_path(next_path))

    @routes.post("/logout")
    async def sign_out(request: Request) -> Response:
        if token := request.cookies.get(SESSION_COOKIE):
            await accounts.sign_out(token)
        response = RedirectResponse("/", status_code=303)
        response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="lax", secure=is_secure)
        return response

    @routes.get("/setup")
    async def set_up_form(request: Request, token: str = "") -> Response:
        if await accounts.setup_token() is None:
            raise NotFound(kind="page")
        return HTMLResponse(forms.set_up(language=language_of(request), error="", name="", token=token))

    @routes.post("/setup")
    async def set_up(
        request: Request,
        token: Annotated[Text, Form()] = "",
        name: Annotated[Text, Form()] = "",
        password: Annotated[Text, Form()] = "",
    ) -> Response:
        language = language_of(request)
        agent = request.headers.get("user-agent", "")
        try:
            signed_in = await accounts.set_up(token, name=name, password=password, user_agent=agent)
        except NotFound:
            raise
        except ChatError as error:
            page = forms.set_up(language=language, error=describe(error, language), name=name, token=token)
            return HTMLResponse(page, status_code=status_of(error), headers=headers_of(error))
        return _welcome(signed_in, "/admin")

    def _welcome(signed_in: SignedIn, path: str) -> Response:
        response = RedirectResponse(path, status_code=303)
        response.set_cookie(
            SESSION_COOKIE,
            signed_in.token,
            max_age=SESSION_DAYS * 86400,
            httponly=True,
            samesite="lax",
            secure=is_secure,
        )
        return response

    return routes


def _inner_path(path: str) -> str:
    """Return the path where it is one of ours, else `/`: a sign-in form must not send people elsewhere."""
    parts = urlsplit(path)
    is_inner = path.startswith("/") and not path.startswith(("//", "/\\")) and not parts.netloc and "\\" not in path
    return path if is_inner and path.isprintable() else "/"
