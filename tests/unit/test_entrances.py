"""Every way in and out of the server, and where its text is judged. A new route fails here until somebody has said it.

What may be shown is a type (`ReleasedText`, see `app.domain.verdicts`); here it is also tried: rows that no filter of
ours would have let in are read through every route that shows conversations to anybody outside of the chat.
"""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import get_type_hints

import httpx
import pytest
import structlog
from fastapi import FastAPI
from itsdangerous import URLSafeTimedSerializer

from app.domain import events, models, ports, verdicts
from app.domain.models import Account, Conversation, Message, MessageState, Role, Share, now
from app.domain.ports import Filter
from app.domain.verdicts import ReleasedText
from app.safety.replies import CategoryReplies
from app.services.accounts import AccountDesk
from app.services.export_formats import ExportFormat
from app.services.exports import ExportDesk
from app.services.outgoing import Customs, Outgoing, OutgoingMessage
from app.services.services import Services
from app.services.shares import ShareDesk
from app.web.application import Door, Front, create
from app.web.closing import Closing
from app.web.doorkeeper import GUEST_COOKIE
from tests.fakes.filters import OneFilter, broken
from tests.fakes.house import FILTER
from tests.fakes.memory_storage import MemoryStorage
from ui.forms import HtmlForms
from ui.markdown import MarkdownRenderer
from ui.shared import HtmlShared

BAD = "haina-blocked-test-phrase"
SECRET = "0123456789abcdef" * 2
JUDGED = {
    # The question, the history, the template's blanks and the answer: in `services.chat` and `services.answering`.
    "POST /api/turns": "Chat.ask",
    "POST /api/turns/{turn_id}/again": "Chat.again",
    "POST /api/turns/{turn_id}/continue": "Chat.go_on",
    "POST /v1/chat/completions": "Chat.ask_for_program",
    "GET /turns/{turn_id}/events": "Chat.read: what the gate released",
    # What people and reviewers say about a refusal: in `services.appeals` and `services.reviews`.
    "POST /api/appeals": "AppealDesk: a comment",
    "POST /v1/safety/appeals": "AppealDesk: a comment",
    "GET /v1/safety/appeals/{decision_id}": "ReviewDesk: a note, judged when it was written",
    "POST /v1/moderations": "Moderation.judge: nothing is stored, no text comes back",
    # The owner reads what was judged when it was stored.
    "GET /api/conversations": "ConversationDesk.page: stored titles",
    "GET /api/conversations/{conversation_id}": "ConversationDesk.open: stored messages",
    "PATCH /api/conversations/{conversation_id}": "ConversationDesk.rename, show_branch",
    "POST /api/conversations/{conversation_id}/restore": "ConversationDesk.restore: a stored title",
    "GET /api/shares": "ShareDesk.page: stored titles",
    "POST /api/shares": "ShareDesk.make: a stored title",
    "GET /api/templates": "PromptLibrary: judged when a version is saved",
    # What leaves is judged anew.
    "GET /api/conversations/{conversation_id}/export": "Customs.clear",
    "GET /share/{token}": "Customs.clear",
}
"""By route: who judges the text that goes through it."""
WITHOUT_TEXT = {
    "DELETE /api/conversations/{conversation_id}", "DELETE /api/shares/{share_id}", "POST /api/turns/{turn_id}/stop",
    "GET /api/me", "GET /api/status", "GET /v1/models", "GET /healthz", "GET /readyz", "GET /metrics", "GET /login",
    "POST /login", "POST /logout", "GET /setup", "POST /setup",
}  # fmt: skip


@dataclass
class Entrance:
    """The web application over rows in memory, without Gradio's pages."""

    app: FastAPI
    guest: dict[str, str]

    async def get(self, path: str, *, is_owner: bool = True) -> httpx.Response:
        transport = httpx.ASGITransport(self.app)
        cookies = self.guest if is_owner else {}
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver", cookies=cookies) as client:
            return await client.get(path, headers={"Accept": "text/html, application/json"})


async def make_entrance(*messages: str, title: str = "t", content_filter: Filter = FILTER) -> Entrance:
    """Return the application with a guest's conversation of these messages, shared under the token `token`."""
    storage = MemoryStorage()
    await _fill(storage, messages, title=title)
    filters = OneFilter(content_filter)
    customs = Customs(filters)
    real = {
        "accounts": AccountDesk(storage),
        "exports": ExportDesk(storage, customs=customs, operator="Ops"),
        "filters": filters,
        "shares": ShareDesk(storage, customs=customs, operator="Ops", is_on=True),
    }
    services = Services(**(dict.fromkeys(one.name for one in fields(Services)) | real))  # type: ignore[arg-type]
    html = HtmlForms()
    front = Front(
        markdown=MarkdownRenderer(),
        replies=CategoryReplies(()),
        forms=html,
        trouble=html,
        shared=HtmlShared(),
        assets={},
        mount=lambda app: app,
    )
    door = Door(
        secret_key=SECRET,
        has_guests=True,
        is_open_to_programs=True,
        is_secure=False,
        operator="Ops",
        hosts=("testserver",),
    )
    app = create(services, front=front, door=door, running=_nothing, closing=Closing())
    return Entrance(app=app, guest={GUEST_COOKIE: str(URLSafeTimedSerializer(SECRET, salt="guest").dumps("g"))})


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield


async def _fill(storage: MemoryStorage, texts: Sequence[str], *, title: str) -> None:
    at = now()
    conversation = Conversation(
        id="c", owner_id="g", title=ReleasedText(title), created_at=at, updated_at=at, leaf_id=f"m{len(texts) - 1}"
    )
    async with storage.write() as unit:
        await unit.accounts.add(Account(id="g", name="guest-g", role=models.AccountRole.GUEST, created_at=at))
        await unit.conversations.add(conversation)
        for n, text in enumerate(texts):
            await unit.messages.add(
                Message(
                    id=f"m{n}",
                    conversation_id="c",
                    parent_id=f"m{n - 1}" if n else None,
                    role=Role.ASSISTANT if n % 2 else Role.USER,
                    text=ReleasedText(text),
                    state=MessageState.COMPLETE,
                    created_at=at,
                )
            )
        share = Share(
            id="s",
            token_hash=sha256(b"token").hexdigest(),
            owner_id="g",
            conversation_id="c",
            leaf_id=f"m{len(texts) - 1}",
            title=ReleasedText(title),
            created_at=at,
        )
        await unit.shares.add(share)
        await unit.commit()


OUTSIDE = [*(f"/api/conversations/c/export?format={kind}" for kind in ExportFormat), "/share/token"]
"""Where texts leave the chat."""


async def test_of_every_route_it_is_known_where_its_text_is_judged() -> None:
    app = (await make_entrance("q", "a")).app
    included = [getattr(route, "original_router", None) for route in app.routes]
    found = {
        f"{method} {route.path}"
        for router in included
        if router is not None
        for route in router.routes
        for method in route.methods - {"HEAD"}
    }
    assert found == JUDGED.keys() | WITHOUT_TEXT
    assert not JUDGED.keys() & WITHOUT_TEXT


def test_whatever_a_reader_gets_takes_released_text_only() -> None:
    """The dataclasses between the filter and the readers: a text that is not released does not type-check."""
    expected = {
        models.Message: {"text"},
        models.Conversation: {"title"},
        models.Share: {"title"},
        ports.AnswerPart: {"text"},
        events.Released: {"text"},
        verdicts.Text: {"text"},
        verdicts.Masked: {"text"},
        OutgoingMessage: {"text", "model"},
        Outgoing: {"title"},
    }
    for kind, names in expected.items():
        hints = get_type_hints(kind)
        assert {one.name for one in fields(kind) if hints[one.name] is ReleasedText} == names, kind


def test_only_customs_makes_what_leaves() -> None:
    root = Path(__file__).resolve().parents[2]
    makers = {
        path.relative_to(root).as_posix()
        for package in ("app", "ui", "storage", "prompts")
        for path in (root / package).rglob("*.py")
        if re.search(r"\bOutgoing(Message)?\(", path.read_text(encoding="utf-8"))
    }
    assert makers == {"app/services/outgoing.py"}


def test_only_the_way_to_its_owner_makes_and_takes_own_text() -> None:
    root = Path(__file__).resolve().parents[2]
    named = {
        (path.relative_to(root).as_posix(), found)
        for package in ("app", "ui", "storage", "prompts")
        for path in (root / package).rglob("*.py")
        for found in re.findall(r"\bOwnText\(|\bOwnText\b|\.unmask\(", path.read_text(encoding="utf-8"))
    }
    made = "app/domain/own_text.py"
    assert named == {
        (made, "OwnText("), (made, "OwnText"), (made, ".unmask("), ("app/web/drawing.py", "OwnText"),
        ("app/web/turn_stream.py", ".unmask("), ("app/web/openai_api.py", ".unmask("),
    }  # fmt: skip


@pytest.mark.parametrize("path", OUTSIDE)
async def test_what_should_never_have_been_stored_does_not_leave(path: str) -> None:
    entrance = await make_entrance("fine", f"so {BAD}", f"{BAD}?", "good &#104;aina-blocked-test-phrase", title=BAD)
    answer = await entrance.get(path)
    assert answer.status_code == 200
    assert "fine" in answer.text
    assert "blocked" not in answer.text
    assert answer.text.replace("\\", "").count("[withheld by the content filter]") >= 4


@pytest.mark.parametrize("path", OUTSIDE)
async def test_where_the_filter_fails_no_text_leaves(path: str) -> None:
    entrance = await make_entrance("fine words", "fine answer", title="fine title", content_filter=broken())
    with structlog.testing.capture_logs() as logs:
        answer = await entrance.get(path)
    assert logs
    assert "fine" not in repr(logs)
    assert "token" not in repr(logs)  # who reads the log shall not read what is shared
    assert answer.status_code == 503
    assert "fine" not in answer.text
    assert "content filter cannot work" in answer.text
    assert int(answer.headers["retry-after"]) > 0


async def test_nothing_hostile_comes_alive_on_the_shared_page() -> None:
    hostile = (
        "</div></article><script>alert(1)</script><img src=x onerror=alert(1)>\u202e {{ 7777 * 7 }} [x](javascript:x)"
    )
    entrance = await make_entrance(hostile, hostile, title=hostile)
    answer = await entrance.get("/share/token", is_owner=False)
    assert answer.status_code == 200
    assert answer.text.count("&lt;script&gt;alert(1)") >= 3
    assert "<script>alert" not in answer.text
    assert "<img" not in answer.text
    assert "54439" not in answer.text
    assert 'href="javascript:' not in answer.text


async def test_the_shared_page_is_for_anybody_and_for_no_index() -> None:
    entrance = await make_entrance("q", "a")
    answer = await entrance.get("/share/token", is_owner=False)
    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-robots-tag"].startswith("noindex")
    assert answer.headers["x-haina-ai-generated"] == "true"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    missing = await entrance.get("/share/other", is_owner=False)
    assert missing.status_code == 404
    assert "noindex" in missing.text
    assert "set-cookie" not in missing.headers


async def test_an_export_is_for_its_owner() -> None:
    entrance = await make_entrance("q", "a", title="去杭州")
    answer = await entrance.get(OUTSIDE[0])
    assert answer.headers["content-disposition"].endswith("filename*=UTF-8''haina-%E5%8E%BB%E6%9D%AD%E5%B7%9E.md")
    assert answer.headers["x-haina-ai-generated"] == "true"
    assert (await entrance.get(OUTSIDE[0], is_owner=False)).status_code == 404
    assert (await entrance.get("/api/conversations/c/export?format=pdf")).status_code == 400
