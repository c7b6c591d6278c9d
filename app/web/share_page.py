"""`/share/{token}`: a shared conversation as a page for anybody. No account is looked up and no cookie is set."""

from collections import Counter
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Annotated, Protocol

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse

from app.domain.errors import QuotaExceeded
from app.domain.labels import HEADER
from app.domain.models import Role
from app.domain.ports import Markdown
from app.domain.words import Language
from app.services.shares import ShareDesk, SharedPage
from app.web.language import language_of

VIEWS = 120
"""Pages a minute for one address."""
ALL_VIEWS = 1200
"""Pages a minute for all: each may cost the filter some time."""
_WINDOW_S = 60.0


class SharedHtml(Protocol):
    """How a shared conversation looks."""

    security_policy: str
    """The page's Content-Security-Policy."""

    def draw(self, shared: SharedPage, *, blocks: Sequence[Sequence[str]], language: Language) -> str:
        """Return the page; `blocks` are the HTML blocks of each message's answer, sanitised, empty for questions."""
        ...


class Pace:
    """Counts pages in windows of a minute."""

    def __init__(self, *, each: int = VIEWS, total: int = ALL_VIEWS, clock: Callable[[], float] = monotonic) -> None:
        """`clock` gives seconds."""
        self._each = each
        self._total = total
        self._clock = clock
        self._began = clock()
        self._counts: Counter[str] = Counter()

    def count(self, address: str) -> None:
        """Count one page.

        Raises QuotaExceeded where there were too many.
        """
        at = self._clock()
        if at - self._began >= _WINDOW_S:
            self._began = at
            self._counts.clear()
        if self._counts[address] >= self._each or self._counts.total() >= self._total:
            raise QuotaExceeded(retry_after_s=max(1.0, self._began + _WINDOW_S - at), kind="pages")
        self._counts[address] += 1


def router(shares: ShareDesk, *, markdown: Markdown, page: SharedHtml) -> APIRouter:
    """Return the route; `page` draws, `markdown` renders answers."""
    routes = APIRouter()
    pace = Pace()
    headers = {
        "Cache-Control": "no-store",  # what is revoked is gone at once
        "Content-Security-Policy": page.security_policy,
        "Referrer-Policy": "no-referrer",  # or a link in an answer would tell the address
        "X-Robots-Tag": "noindex, nofollow, noarchive",
        HEADER: "true",
    }

    @routes.get("/share/{token}")
    async def shared(
        request: Request, token: str, number: Annotated[int, Query(alias="page", ge=1, le=10**6)] = 1
    ) -> HTMLResponse:
        pace.count(request.client.host if request.client else "")
        found = await shares.open(token, page=number)
        blocks = [
            [] if one.role is Role.USER or not one.text else markdown.render(one.text)
            for one in found.conversation.messages
        ]
        return HTMLResponse(page.draw(found, blocks=blocks, language=language_of(request)), headers=headers)

    return routes
