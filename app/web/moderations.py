"""`POST /v1/moderations`: the content filter in OpenAI's shape, for programs that have a model of their own.

The categories are OpenAI's, so that clients find theirs, and the policy's own beside them. What OpenAI's shape has no
place for – action, policy, rules, places – is in `haina`. The texts are not repeated.
"""

from collections.abc import Iterable
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field

from app.domain.models import new_id
from app.domain.verdicts import Action, Decision, Stage
from app.safety.report import verdict_report
from app.safety.taxonomy import in_openai
from app.services.moderation import Moderation
from app.web.fields import Name, TextPart

MAX_TEXTS = 100
OPENAI = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm",
    "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic",
)  # fmt: skip
"""Source: https://platform.openai.com/docs/api-reference/moderations, categories of omni-moderation."""


class ModerationRequest(BaseModel):
    """The body."""

    model_config = ConfigDict(extra="forbid")
    input: str | Annotated[list[str | TextPart], Field(min_length=1, max_length=MAX_TEXTS)]
    model: Name = "default"
    """Taken and not looked at: there is one policy."""
    stage: Literal["input", "output"] = "input"
    """Whether the text is a question or an answer; policies may differ."""

    def texts(self) -> list[str]:
        """Return what is to be judged, one by one."""
        if isinstance(self.input, str):
            return [self.input]
        return [part if isinstance(part, str) else part.text for part in self.input]


def router(moderation: Moderation, *, route_class: type[APIRoute]) -> APIRouter:
    """Return the route, for those whom `route_class` lets in."""
    routes = APIRouter(prefix="/v1", route_class=route_class)

    @routes.post("/moderations")
    async def moderate(body: ModerationRequest, request: Request) -> dict[str, object]:
        judged = await moderation.judge(request.state.account, body.texts(), stage=Stage(body.stage))
        return {
            "id": f"modr-{new_id()}",
            "model": judged.policy,
            "results": [_result(decision, categories=judged.categories) for decision in judged.decisions],
        }

    return routes


def _result(decision: Decision, *, categories: Iterable[str]) -> dict[str, object]:
    found: dict[str, float] = {}
    for finding in decision.findings:
        if finding.action > Action.ALLOW:
            for name in (finding.category, *in_openai(finding.category)):
                found[name] = max(found.get(name, 0.0), finding.score)
    names = [*OPENAI, *sorted({*categories, *found} - set(OPENAI))]
    return {
        "flagged": decision.action > Action.ALLOW,
        "categories": {name: name in found for name in names},
        "category_scores": {name: found.get(name, 0.0) for name in names},
        "category_applied_input_types": {name: ["text"] for name in names},
        "haina": {"decision_id": decision.id, **verdict_report(decision)},
    }
