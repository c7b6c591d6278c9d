"""For those who run the server: is it alive, can it answer, how does it do."""

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import JSONResponse, Response

from app.domain.errors import EngineStarting, EngineUnavailable
from app.domain.generation import EngineState
from app.domain.words import describe
from app.services.services import Services


def router(services: Services) -> APIRouter:
    """Return `/healthz`, `/readyz` and `/metrics`."""
    routes = APIRouter()

    @routes.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @routes.get("/readyz")
    async def readyz() -> Response:
        status = await services.engine.status()
        if status.state is EngineState.READY:
            return JSONResponse({"status": "ready", "model": status.profile.title if status.profile else "default"})
        error: EngineUnavailable = EngineUnavailable(status.detail)
        if status.state is not EngineState.DOWN:
            error = EngineStarting(stage=status.stage, progress=status.progress)
        reason = describe(error, "en")
        body = {"status": str(status.state), "stage": status.stage, "progress": status.progress, "reason": reason}
        return JSONResponse(body, status_code=503, headers={"Retry-After": "5"})

    @routes.get("/metrics")
    async def metrics() -> Response:
        services.stats.queue_waiting.set(services.queue.waiting)
        services.stats.queue_running.set(services.queue.running)
        return Response(generate_latest(services.stats.registry), media_type=CONTENT_TYPE_LATEST)

    return routes
