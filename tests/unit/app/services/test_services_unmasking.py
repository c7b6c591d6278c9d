"""What a question's mask stands for: read again by who asked, within the turn, and by nobody else anywhere."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.middleware.base import RequestResponseEndpoint
from starlette.responses import Response

from app.domain.errors import NotFound
from app.domain.generation import ChatMessage
from app.domain.models import Account, Role
from app.engines.scripted import Script
from app.safety.filter import ContentFilter
from app.safety.policy_file import lay_over
from app.safety.replies import CategoryReplies
from app.services.chat import ApiQuestion
from app.services.export_formats import ExportFormat
from app.services.exports import ExportDesk
from app.services.outgoing import Customs
from app.services.shares import ShareDesk
from app.web import openai_api, turn_stream
from app.web.closing import Closing
from app.web.drawing import Drawing
from tests.fakes.filters import OneFilter
from tests.fakes.house import POLICY, House, make_house, released, rule
from ui.markdown import MarkdownRenderer

PHONE, MAIL = "13812345678", "bob.li@corp.cn"
LAYER = '[[rules]]\ncategory = "personal_data"\nstages = ["input"]\naction = "mask"\nunmask = true\n'
FILTER = ContentFilter(replace(lay_over(POLICY, LAYER, name="site"), answers=()))
QUESTION = f"Call {PHONE} or write to {MAIL}?"
REPLY = "Call **⟦█1⟧**, write to `⟦█2⟧`; not ⟦█3⟧.\n\n```python\nx = '⟦█1⟧'\n```\n\nYours ⟦█"
OWN = REPLY.replace("⟦█1⟧", PHONE).replace("⟦█2⟧", MAIL)
MARKDOWN = MarkdownRenderer()


def masking_house(reply: str = REPLY, *, content_filter: ContentFilter = FILTER, **more: Any) -> House:
    return make_house(rule(".", reply), content_filter=content_filter, **more)


class Web:
    """The routes that answer is read on, for whoever `account` is."""

    def __init__(self, house: House) -> None:
        self.house, self.account = house, house.ann
        self.draw = Drawing(MARKDOWN, replies=CategoryReplies(()))
        self.app = FastAPI()
        closing = Closing()
        self.app.include_router(turn_stream.router(house.chat, markdown=MARKDOWN, draw=self.draw, closing=closing))
        self.app.include_router(
            openai_api.router(
                house,  # type: ignore[arg-type]
                replies=CategoryReplies(()),
                route_class=APIRoute,
                closing=closing,
                operator="Ops",
            )
        )

        @self.app.middleware("http")
        async def sign_in(request: Request, call_next: RequestResponseEndpoint) -> Response:
            request.state.account = self.account
            return await call_next(request)

    async def page(self, turn_id: str, *, account: Account | None = None, after: int = 0) -> list[tuple[str, Any]]:
        """Return the events that a browser gets."""
        self.account = account or self.house.ann
        async with self._client() as client:
            got = await client.get(f"/turns/{turn_id}/events", params={"after": after})
        fields = [dict(line.split(": ", 1) for line in one.split("\n")) for one in got.text.split("\n\n") if one]
        return [(one["event"], json.loads(one["data"])) for one in fields if "event" in one]

    async def program(self, question: str = QUESTION, *, is_streamed: bool) -> str:
        self.account = self.house.ann
        body = {"messages": [{"role": "user", "content": question}], "stream": is_streamed}
        async with self._client() as client:
            got = await client.post("/v1/chat/completions", json=body)
        assert got.status_code == 200, got.text
        if not is_streamed:
            return str(got.json()["choices"][0]["message"]["content"])
        chunks = [json.loads(line[6:]) for line in got.text.split("\n\n") if line.startswith("data: {")]
        return "".join(one["choices"][0]["delta"].get("content", "") for one in chunks if one["choices"])

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://t")


def shown(events: Sequence[tuple[str, Any]]) -> list[str]:
    """Return the blocks before the end, as a browser has them; text that is added to one is put behind it."""
    blocks: dict[int, str] = {}
    for name, data in events:
        if name == "block":
            blocks[data["index"]] = data["html"]
        elif name == "text":
            blocks[data["index"]] += data["text"]
    return list(blocks.values())


def has_original(*things: object) -> bool:
    return any(original in repr(things) for original in (PHONE, MAIL))


def rows(house: House) -> object:
    return house.storage._inner.state  # type: ignore[attr-defined]


async def test_who_asked_reads_it_on_the_page_and_nothing_keeps_it() -> None:
    house = masking_house()
    web = Web(house)
    with structlog.testing.capture_logs() as logs:
        asked = await house.ask(QUESTION)
        events = await web.page(asked.answer.id)
    assert asked.question.text == "Call ⟦█1⟧ or write to ⟦█2⟧?"
    end = events[-1][1]["message"]
    assert (events[-1][0], end["text"]) == ("end", OWN)
    assert end["blocks"] == MARKDOWN.render(OWN)
    assert PHONE in "".join(shown(events))
    assert MAIL in "".join(shown(events))
    saved = await house.saved(asked.answer.id)
    assert saved.text == REPLY
    assert web.draw.message(saved, "en")["text"] == REPLY
    assert "".join(web.draw.message(saved, "en")["blocks"]) == "".join(MARKDOWN.render(REPLY))  # type: ignore[arg-type]
    assert released(await house.events(asked.answer.id)) == REPLY
    turn = house.turns.get(asked.answer.id)
    assert turn is not None
    assert not has_original(rows(house), logs, turn, turn.messages, turn.log._events, house.engine.__dict__)


async def test_a_browser_that_comes_back_reads_the_same() -> None:
    house = masking_house()
    web = Web(house)
    asked = await house.ask(QUESTION)
    whole = await web.page(asked.answer.id)
    for after in (1, 4, 9, 999):
        assert (await web.page(asked.answer.id, after=after))[-1] == whole[-1]


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_the_program_that_asked_reads_it(is_streamed: bool) -> None:  # noqa: FBT001 - a parameter of the test
    house = masking_house()
    assert await Web(house).program(is_streamed=is_streamed) == OWN
    assert not has_original(rows(house))


async def test_nobody_else_reads_it() -> None:
    house = masking_house()
    web = Web(house)
    asked = await house.ask(QUESTION)
    await web.page(asked.answer.id)
    with pytest.raises(NotFound):
        await web.page(asked.answer.id, account=house.bob)
    assert house.chat.masks(house.ann, asked.answer.id)
    assert not house.chat.masks(house.bob, asked.answer.id)
    assert not house.chat.masks(house.ann, "unknown")
    customs = Customs(OneFilter(FILTER))
    exports = ExportDesk(house.storage, customs=customs, operator="Ops")
    for kind in ExportFormat:
        file = await exports.export(house.ann, asked.conversation.id, kind=kind, language="en")
        assert "█1" in file.text
        assert not has_original(file)
    shares = ShareDesk(house.storage, customs=customs, operator="Ops", is_on=True)
    _, token = await shares.make(house.ann, asked.conversation.id, days=None)
    page = await shares.open(token)
    assert "⟦█1⟧" in repr(page)
    assert not has_original(page)
    thread = await house.desk.open(house.ann, asked.conversation.id)
    assert not has_original(thread)


async def test_once_the_turn_is_forgotten_it_is_gone() -> None:
    house = masking_house()
    web = Web(house)
    asked = await house.ask(QUESTION)
    await web.page(asked.answer.id)
    house.turns._turns.clear()
    assert (await web.page(asked.answer.id))[-1][1]["message"]["text"] == REPLY


async def test_another_turn_knows_only_its_own() -> None:
    first_reply, reply = "⟦█1⟧ ⟦█2⟧", "⟦█1⟧ ⟦█2⟧ ⟦█3⟧"
    house = make_house(rule("Call", first_reply), rule("and", reply), content_filter=FILTER)
    web = Web(house)
    first = await house.ask(QUESTION)
    await web.page(first.answer.id)
    second = await house.ask("and 13987654321?", conversation_id=first.conversation.id)
    assert second.question.text == "and ⟦█3⟧?"
    events = await web.page(second.answer.id)
    assert events[-1][1]["message"]["text"] == "⟦█1⟧ ⟦█2⟧ 13987654321"
    turn = house.turns.get(second.answer.id)
    assert turn is not None
    assert [message.text for message in turn.messages][:2] == ["Call ⟦█1⟧ or write to ⟦█2⟧?", first_reply]
    again = await house.chat.again(house.ann, first.answer.id)
    assert (await web.page(again.answer.id))[-1][1]["message"]["text"] == first_reply


async def test_what_was_typed_like_a_placeholder_stays() -> None:
    house = masking_house("⟦█1⟧ and ⟦█2⟧")
    assert await Web(house).program(f"⟦█1⟧ is {PHONE}", is_streamed=True) == f"⟦█1⟧ and {PHONE}"
    history = (ChatMessage(Role.USER, "⟦█2⟧"), ChatMessage(Role.ASSISTANT, "yes ⟦█1⟧"), ChatMessage(Role.USER, PHONE))
    asked = await house.chat.ask_for_program(house.ann, ApiQuestion(messages=history))
    assert asked.question.text == "⟦█3⟧"


async def test_a_refused_answer_is_not_shown() -> None:
    house = masking_house("so ⟦█1⟧ haina-blocked-test-phrase ⟦█1⟧")
    web = Web(house)
    asked = await house.ask(QUESTION)
    events = await web.page(asked.answer.id)
    assert events[-1][1]["message"]["state"] == "blocked"
    assert not has_original(events[-1])


async def test_where_no_rule_says_so_all_is_as_it_was() -> None:
    house = masking_house(content_filter=ContentFilter(POLICY))
    web = Web(house)
    asked = await house.ask(QUESTION)
    assert asked.question.text == "Call ███ or write to ███?"
    events = await web.page(asked.answer.id)
    answer = await house.saved(asked.answer.id)
    assert answer.text == REPLY
    assert events[-1][1]["message"] == json.loads(json.dumps(web.draw.message(answer, "en")))
    assert await web.program(is_streamed=True) == await web.program(is_streamed=False) == REPLY


PIECES = st.lists(
    st.one_of(
        st.sampled_from(["⟦█1⟧", "⟦█2⟧", "⟦█9⟧", "⟦", "█", "1⟧", "\n\n", "**", "`", "```\n"]),
        st.text(alphabet="ab 中。", max_size=4),
    ),
    min_size=1,
    max_size=12,
)


@given(PIECES, st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_any_answer_in_any_pieces(pieces: list[str], seed: int) -> None:
    reply = "a" + "".join(pieces)
    own = reply.replace("⟦█1⟧", PHONE).replace("⟦█2⟧", MAIL)

    async def scenario() -> None:
        house = make_house(
            content_filter=FILTER, script=Script(rules=(rule(".", reply),), seed=seed, tokens_per_delta=(1, 3))
        )
        web = Web(house)
        assert await web.program(is_streamed=True) == own
        asked = await house.ask(QUESTION)
        end = (await web.page(asked.answer.id))[-1][1]["message"]
        assert (end["text"], end["blocks"]) == (own, list(MARKDOWN.render(own)))
        assert (await house.saved(asked.answer.id)).text == reply
        assert not has_original(rows(house))

    asyncio.run(scenario())
