"""`/api/…`: how a conversation leaves the chat: as a file, or by a link. For its owner."""

import re
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from app.domain.labels import HEADER
from app.domain.models import Share
from app.services.export_formats import ExportFormat
from app.services.services import Services
from app.web.doorkeeper import account_of
from app.web.fields import Id
from app.web.language import language_of


class NewShare(BaseModel):
    """A link that is wanted."""

    model_config = ConfigDict(extra="forbid")
    conversation_id: Id
    days: Literal[7, 30] | None = None
    """How long it opens something; None: until it is revoked."""


def router(services: Services) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/api")

    @routes.get("/conversations/{conversation_id}/export")
    async def export(
        request: Request,
        conversation_id: str,
        kind: Annotated[ExportFormat, Query(alias="format")] = ExportFormat.MARKDOWN,
    ) -> Response:
        file = await services.exports.export(
            account_of(request), conversation_id, kind=kind, language=language_of(request)
        )
        headers = {"Content-Disposition": attachment(file.name), "Cache-Control": "no-store", HEADER: "true"}
        return Response(file.text.encode(), media_type=file.media_type, headers=headers)

    @routes.get("/shares")
    async def shares(request: Request, conversation_id: Annotated[Id, Query()] = "") -> dict[str, object]:
        found = await services.shares.page(account_of(request), conversation_id=conversation_id)
        return {"shares": [_share(one) for one in found]}

    @routes.post("/shares", status_code=201)
    async def share(request: Request, body: NewShare) -> dict[str, object]:
        made, token = await services.shares.make(account_of(request), body.conversation_id, days=body.days)
        return {"share": _share(made), "path": f"/share/{token}"}

    @routes.delete("/shares/{share_id}", status_code=204)
    async def revoke(request: Request, share_id: str) -> Response:
        await services.shares.revoke(account_of(request), share_id)
        return Response(status_code=204)

    return routes


def attachment(name: str) -> str:
    """Return a Content-Disposition: the name as RFC 5987 spells it, and in ASCII for those who do not know that."""
    plain = re.sub(r"-*([-.])", r"\1", re.sub(r"[^A-Za-z0-9.-]", "", name))
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _share(one: Share) -> dict[str, object]:
    return {
        "id": one.id,
        "conversation_id": one.conversation_id,
        "title": one.title,
        "created_at": one.created_at.isoformat(),
        "expires_at": one.expires_at.isoformat() if one.expires_at else None,
    }
