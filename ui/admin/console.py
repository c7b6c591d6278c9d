"""The admin console's Gradio page: one empty part, and one function that fills it.

Every page, dialog and action is one call of that function, so there is one door (`ui.admin.guard`), and neither the
page nor its `/config` holds any data. Nor do they hold words: markup is drawn for each call, from `templates/`, in the
language of whoever asks. Calls are plain POSTs: Gradio's queue, and its stream per tab, are not used.
"""

from pathlib import Path
from typing import Protocol

import gradio as gr

from app.domain.errors import NotFound
from app.services.services import Services
from ui.admin.audit import AuditPage
from ui.admin.call import Call, Fields, Reply, Visitor
from ui.admin.guard import Endpoint, for_admins
from ui.admin.hits import HitsPage
from ui.admin.keys import KeysPage
from ui.admin.markup import draw
from ui.admin.overview import OverviewPage
from ui.admin.policies import PoliciesPage, PolicyPage
from ui.admin.prompt import PromptPage
from ui.admin.prompts import PromptsPage
from ui.admin.review import ReviewPage
from ui.admin.reviews import ReviewsPage
from ui.admin.users import UsersPage

ASSETS = Path(__file__).parent / "assets"
"""The folder that the web serves at `ASSETS_PATH`."""
ASSETS_PATH = "/assets/admin"

_SHELL = '<div class="haina-console" aria-busy="true"></div>'
_ON_LOAD = (
    f'import("{ASSETS_PATH}/console.js").then(({{ start }}) => start(element.querySelector(".haina-console"), server));'
)
"""The script gets the one function through Gradio's `server`, which exists only here."""


class Page(Protocol):
    """A page of the console: what it shows, and what can be done on it, by name."""

    @property
    def handlers(self) -> "dict[str, Handler]":
        """`show` draws the page; the others do something or open a dialog."""
        ...


class Handler(Protocol):
    """A part of a page. It may raise any ChatError."""

    async def __call__(self, visitor: Visitor, fields: Fields, /) -> Reply:
        """Return what the script then does."""
        ...


class Console:
    """The pages by name."""

    def __init__(self, services: Services) -> None:
        """Each page gets the services that it needs."""
        self.pages: dict[str, Page] = {
            "frame": Frame(),
            "overview": OverviewPage(services.overview),
            "users": UsersPage(services.accounts, policies=services.policies, strikes=services.strikes),
            "keys": KeysPage(services.accounts, policies=services.policies),
            "hits": HitsPage(services.hits, accounts=services.accounts),
            "reviews": ReviewsPage(services.reviews),
            "review": ReviewPage(services.reviews, evidence=services.evidence, accounts=services.accounts),
            "policies": PoliciesPage(services.policies),
            "policy": PolicyPage(services.policies, replays=services.replays),
            "audit": AuditPage(services.audit),
            "prompts": PromptsPage(services.prompts),
            "prompt": PromptPage(services.prompts),
        }

    async def answer(self, visitor: Visitor, call: Call) -> Reply:
        """Answer a call.

        Raises NotFound for a page or an action that there is not, and whatever the action raises.
        """
        page = self.pages.get(call.page)
        handler = page.handlers.get(call.action) if page else None
        if handler is None:
            raise NotFound(kind="page")
        return await handler(visitor, call.fields)


class Frame:
    """What stands around every page: the rail."""

    pages = ("overview", "users", "keys", "hits", "reviews", "policies", "prompts", "audit")
    """In the rail's order."""

    def __init__(self) -> None:
        """There is nothing but words in it, and the admin's own name."""
        self.handlers: dict[str, Handler] = {"show": self.show}

    async def show(self, visitor: Visitor, _: Fields) -> Reply:
        """Draw it."""
        return Reply(html=draw("frame.html", language=visitor.language, pages=self.pages, me=visitor.account))


def endpoint(services: Services) -> Endpoint:
    """Return the console's one function."""
    return for_admins(Console(services).answer)


def build(services: Services) -> gr.Blocks:
    """Return the page, not yet mounted."""
    page: gr.Blocks = gr.Blocks(title="Haina", fill_width=True, analytics_enabled=False)
    with page:
        gr.HTML(
            html_template=_SHELL,
            js_on_load=_ON_LOAD,
            server_functions=[endpoint(services)],
            apply_default_css=False,
            padding=False,
        )
    return page


def head() -> str:
    """Return what the page's head needs."""
    return f'<link rel="stylesheet" href="{ASSETS_PATH}/console.css">\n'
