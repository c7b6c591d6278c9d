"""The ASGI application: routes first, then the Gradio pages, and the doorkeeper in front of all."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from itsdangerous import URLSafeTimedSerializer
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from app.domain.ports import Markdown, Replies
from app.services.services import Services
from app.web import (
    appeals,
    errors,
    moderations,
    openai_api,
    operations,
    page_api,
    programs,
    share_page,
    sharing,
    sign_in,
    turn_stream,
)
from app.web.body_limit import BodyLimit
from app.web.closing import Closing
from app.web.doorkeeper import Doorkeeper
from app.web.drawing import Drawing
from app.web.errors import ErrorPage, Respond
from app.web.porch import Porch
from app.web.share_page import SharedHtml
from app.web.sign_in import Forms
from app.web.unknown import Unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """What is drawn: made in `ui`, put in by the bootstrap."""

    markdown: Markdown
    replies: Replies
    """What is said in place of what the filter refused."""
    forms: Forms
    trouble: ErrorPage
    shared: SharedHtml
    assets: Mapping[str, Path]
    """Folders of scripts, styles and icons; each is served at `/assets/NAME`."""
    mount: Callable[[FastAPI], FastAPI]
    """Mounts the Gradio pages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Who may come in, and how."""

    secret_key: str
    has_guests: bool
    is_open_to_programs: bool
    """Programs on this machine need no API key."""
    is_secure: bool
    """Cookies only over HTTPS."""
    operator: str
    """Whose service it is, in labels."""
    hosts: tuple[str, ...]
    """Host headers that are answered; `*` answers all. On loopback this stops a site that points its name here."""


def create(
    services: Services,
    *,
    front: Front,
    door: Door,
    running: Callable[[], AbstractAsyncContextManager[None]],
    closing: Closing,
) -> FastAPI:
    """Return the application; `running` starts and stops what runs beside the requests, `closing` ends those."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with running():
            yield

    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    draw = Drawing(front.markdown, replies=front.replies)
    respond = Respond(front.trouble, replies=front.replies)
    app.include_router(operations.router(services))
    for_programs = programs.route_class(services.accounts, is_open=door.is_open_to_programs)
    app.include_router(
        openai_api.router(
            services, replies=front.replies, route_class=for_programs, closing=closing, operator=door.operator
        )
    )
    app.include_router(moderations.router(services.moderation, route_class=for_programs))
    app.include_router(appeals.program_router(services.appeals, route_class=for_programs))
    app.include_router(appeals.page_router(services.appeals))
    app.include_router(page_api.router(services, draw))
    app.include_router(sharing.router(services))
    app.include_router(share_page.router(services.shares, markdown=front.markdown, page=front.shared))
    app.include_router(turn_stream.router(services.chat, markdown=front.markdown, draw=draw, closing=closing))
    app.include_router(sign_in.router(services.accounts, forms=front.forms, is_secure=door.is_secure))
    for name, folder in front.assets.items():
        app.mount(f"/assets/{name}", _Assets(directory=folder))
    app.router.routes.append(Unknown(app.router.routes))
    app = front.mount(app)
    errors.install(app, respond)
    for route in app.router.routes:
        if isinstance(route, Mount) and isinstance(route.app, FastAPI):  # Gradio's, which has words of its own
            errors.install(route.app, respond)
    app.add_middleware(
        Doorkeeper,
        accounts=services.accounts,
        signer=URLSafeTimedSerializer(door.secret_key, salt="guest"),
        has_guests=door.has_guests,
        is_secure=door.is_secure,
        hosts=door.hosts,
        respond=respond,
    )
    app.add_middleware(BodyLimit, respond=respond)
    app.add_middleware(Porch, respond=respond, closing=closing)  # the last one added is the outermost
    return app


class _Assets(StaticFiles):
    """Asked for again at each load, so that an upgrade never mixes old scripts with new ones."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response
