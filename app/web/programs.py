"""Who a program is, on `/v1`: an account by its API key, or nobody in particular on this machine."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from app.domain.errors import InvalidApiKey
from app.domain.models import Account, AccountRole, now
from app.services.accounts import AccountDesk

_LOCAL_PROGRAM = "local-program"


def route_class(accounts: AccountDesk, *, is_open: bool) -> type[APIRoute]:
    """Return a class of routes that ask for the key before anything of the body is read.

    The account is then `request.state.account`. `is_open` lets programs on this machine in without a key.
    """

    async def program(request: Request) -> Account:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        is_local = is_open and "x-forwarded-for" not in request.headers
        if key.startswith("hn-") or not is_local:
            if scheme.lower() != "bearer" or not key:
                raise InvalidApiKey
            return await accounts.of_key(key.strip())
        return Account(id=_LOCAL_PROGRAM, name=_LOCAL_PROGRAM, role=AccountRole.GUEST, created_at=now())

    class ForPrograms(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def checked(request: Request) -> Response:
                request.state.account = await program(request)
                return await handle(request)

            return checked

    return ForPrograms
