"""`/api/…`: what the chat page asks and does, as JSON; each route answers for the caller's own account only."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from app.domain.errors import InvalidInput
from app.domain.health import state_of
from app.domain.models import Conversation
from app.services.chat import Asked, Question
from app.services.services import Services
from app.web import drawing
from app.web.doorkeeper import account_of
from app.web.drawing import Drawing
from app.web.fields import Id, Text
from app.web.language import language_of


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ChosenTemplate(_Body):
    """A template with its blanks filled in."""

    name: Text = Field(max_length=100)
    variables: dict[Text, Text] = Field(default={}, max_length=100)


class NewTurn(_Body):
    """A question."""

    text: str
    conversation_id: Id | None = None
    parent_id: Id | None = None
    template: ChosenTemplate | None = None


class ConversationChange(_Body):
    """A new title, or another branch to be shown."""

    title: str | None = None
    leaf_id: Id | None = None


def router(services: Services, draw: Drawing) -> APIRouter:  # noqa: C901 - one function a route, none of them deep
    """Return the page's routes."""
    routes = APIRouter(prefix="/api")

    @routes.get("/me")
    async def me(request: Request) -> dict[str, object]:
        account = request.state.account
        return {
            "account": drawing.account(account),
            "can_chat": account is not None,
            "sign_in_url": "/login",
            "language": language_of(request),
            "can_share": services.shares.is_on,
        }

    @routes.get("/status")
    async def status(request: Request) -> dict[str, object]:
        return drawing.status(
            await services.engine.status(),
            language_of(request),
            running=services.queue.running,
            waiting_turns=services.queue.waiting,
            filter_state=state_of(services.filters.site.health()),
        )

    @routes.get("/conversations")
    async def conversations(
        request: Request, query: Annotated[Text, Query(max_length=200)] = "", before: datetime | None = None
    ) -> dict[str, object]:
        if before is not None and not _is_moment(before):
            raise InvalidInput("before needs a time zone", param="before", kind="field_wrong")
        found, has_more = await services.conversations.page(account_of(request), query=query, before=before)
        templates = await services.conversations.templates_of(found)
        language = language_of(request)
        drawn = [drawing.conversation(one, language, template=templates.get(one.id)) for one in found]
        return {"conversations": drawn, "more": has_more}

    @routes.get("/conversations/{conversation_id}")
    async def conversation(request: Request, conversation_id: str) -> dict[str, object]:
        thread = await services.conversations.open(account_of(request), conversation_id)
        return draw.thread(thread, language_of(request))

    @routes.patch("/conversations/{conversation_id}")
    async def change(request: Request, conversation_id: str, body: ConversationChange) -> dict[str, object]:
        account, language = account_of(request), language_of(request)
        if body.leaf_id is not None:
            thread = await services.conversations.show_branch(account, conversation_id, message_id=body.leaf_id)
            return draw.thread(thread, language)
        return await _conversation(
            request, await services.conversations.rename(account, conversation_id, title=body.title or "")
        )

    @routes.delete("/conversations/{conversation_id}", status_code=204)
    async def delete(request: Request, conversation_id: str) -> Response:
        await services.conversations.delete(account_of(request), conversation_id)
        return Response(status_code=204)

    @routes.post("/conversations/{conversation_id}/restore")
    async def restore(request: Request, conversation_id: str) -> dict[str, object]:
        return await _conversation(request, await services.conversations.restore(account_of(request), conversation_id))

    @routes.get("/templates")
    async def templates(request: Request) -> dict[str, object]:
        account_of(request)
        return {"templates": drawing.templates(await services.prompts.shelf(), language_of(request))}

    @routes.post("/turns", status_code=201)
    async def ask(request: Request, body: NewTurn) -> dict[str, object]:
        asked = await services.chat.ask(
            account_of(request),
            Question(
                text=body.text,
                conversation_id=body.conversation_id,
                parent_id=body.parent_id,
                template=body.template.name if body.template else None,
                variables=body.template.variables if body.template else {},
                language=language_of(request),
            ),
        )
        return await _asked(request, asked)

    @routes.post("/turns/{turn_id}/stop", status_code=204)
    async def stop(request: Request, turn_id: str) -> Response:
        await services.chat.stop(account_of(request), turn_id)
        return Response(status_code=204)

    @routes.post("/turns/{turn_id}/again", status_code=201)
    async def again(request: Request, turn_id: str) -> dict[str, object]:
        return await _asked(request, await services.chat.again(account_of(request), turn_id))

    @routes.post("/turns/{turn_id}/continue", status_code=201)
    async def go_on(request: Request, turn_id: str) -> dict[str, object]:
        return await _asked(request, await services.chat.go_on(account_of(request), turn_id))

    async def _conversation(request: Request, one: Conversation) -> dict[str, object]:
        templates = await services.conversations.templates_of([one])
        return drawing.conversation(one, language_of(request), template=templates.get(one.id))

    async def _asked(request: Request, asked: Asked) -> dict[str, object]:
        language = language_of(request)
        return {
            "turn_id": asked.answer.id,
            "conversation": drawing.conversation(asked.conversation, language, template=asked.template),
            **{
                name: draw.message(one, language, siblings=asked.siblings.get(one.id, ()))
                for name, one in (("question", asked.question), ("answer", asked.answer))
            },
        }

    return routes


def _is_moment(time: datetime) -> bool:
    """Whether a time has a zone, and is one in UTC too."""
    try:
        return time.tzinfo is not None and bool(time.astimezone(UTC))
    except OverflowError:
        return False
