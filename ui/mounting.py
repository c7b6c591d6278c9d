"""Mounts the two Gradio pages on the web application: the console first, since the chat's mount at `/` takes the rest.

Two pages and two mounts, because one Gradio page hides nothing from those who may open it.
"""

from typing import Any

import gradio as gr
from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse

from app.domain.models import Account
from app.services.services import Services
from ui.admin import console
from ui.chat import page as chat
from ui.theme import css_variables, gradio_theme

ADMIN_PATH = "/admin"
IDLE_S = 3600.0
"""How long a queue that nobody uses sleeps between two looks."""
MAX_UPLOAD = "1mb"
"""Neither page takes files; Gradio has an upload route all the same."""


def mount(app: FastAPI, *, services: Services) -> FastAPI:
    """Return the same application with both pages; `request.state.account` must be set in front of them."""
    app.add_route(ADMIN_PATH, _to_console, include_in_schema=False)
    console_page, chat_page = console.build(services), chat.build()
    for page in (console_page, chat_page):
        rest_queue(page)
    gr.mount_gradio_app(
        app,
        console_page,
        ADMIN_PATH,
        auth_dependency=admin_of,
        theme=gradio_theme(),
        css=css_variables(),
        head=console.head(),
        **_closed(),
    )
    gr.mount_gradio_app(
        app, chat_page, "/", auth_dependency=visitor_of, **(_closed() | chat.mount_arguments().as_keywords())
    )
    return app


def rest_queue(page: gr.Blocks) -> None:
    """Let a page's queue sleep: no page uses it, and Gradio 6.31 looks into an empty one a thousand times a second."""
    queue = page._queue  # noqa: SLF001 - there is no public way
    queue.sleep_when_free = queue.progress_update_sleep_when_free = IDLE_S


def _to_console(_: Request) -> RedirectResponse:
    """Add the slash: without it the mount at `/` would take the request."""
    return RedirectResponse(f"{ADMIN_PATH}/")


def admin_of(request: Request) -> str | None:
    """Return the admin's id; for anybody else None, and Gradio answers 401."""
    account = getattr(request.state, "account", None)
    return account.id if isinstance(account, Account) and account.is_admin else None


def visitor_of(_: Request) -> str:
    """Let everybody see the chat's shell: nothing is in it, and its script sends to `/login` whoever may not chat.

    The same name for all, because Gradio writes it into the page.
    """
    return "visitor"


def _closed() -> dict[str, Any]:
    """Return what keeps Gradio quiet: no traces, no links, nothing kept in the browser, no files from the disk."""
    return {
        "footer_links": [],
        "run_history": False,
        "show_error": False,
        "ssr_mode": False,
        "max_file_size": MAX_UPLOAD,
        "enable_monitoring": False,
        "pwa": False,
        "mcp_server": False,
    }
