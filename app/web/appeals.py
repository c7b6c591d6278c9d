"""Asking for a review of what was refused to oneself: `POST /api/appeals` for the page, `/v1/safety/appeals`."""

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict

from app.domain.models import Review
from app.services.appeals import AppealDesk
from app.web import drawing
from app.web.doorkeeper import account_of
from app.web.fields import Id, Text


class Appeal(BaseModel):
    """The body."""

    model_config = ConfigDict(extra="forbid")
    decision_id: Id
    comment: Text = ""


def page_router(appeals: AppealDesk) -> APIRouter:
    """Return the page's route."""
    routes = APIRouter(prefix="/api")

    @routes.post("/appeals", status_code=201)
    async def appeal(request: Request, body: Appeal) -> dict[str, object]:
        review = await appeals.appeal(account_of(request), body.decision_id, comment=body.comment)
        return drawing.review(body.decision_id, review)

    return routes


def program_router(appeals: AppealDesk, *, route_class: type[APIRoute]) -> APIRouter:
    """Return the routes of `/v1`, for those whom `route_class` lets in."""
    routes = APIRouter(prefix="/v1/safety", route_class=route_class)

    @routes.post("/appeals", status_code=201)
    async def appeal(request: Request, body: Appeal) -> dict[str, object]:
        return _card(await appeals.appeal(request.state.account, body.decision_id, comment=body.comment))

    @routes.get("/appeals/{decision_id}")
    async def outcome(request: Request, decision_id: str) -> dict[str, object]:
        return _card(await appeals.get(request.state.account, decision_id))

    return routes


def _card(review: Review) -> dict[str, object]:
    return {
        "object": "safety.appeal",
        "decision_id": review.decision_id,
        "state": review.state.value,
        "created": int(review.created_at.timestamp()),
        "comment": review.comment,
        "decided": int(review.decided_at.timestamp()) if review.decided_at else None,
        "note": review.note or None,
    }
