"""For those who run the server: is it alive, can it answer, how does it do."""

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import JSONResponse, Response

from app.domain.errors import EngineStarting, EngineUnavailable
from app.domain.generation import EngineState
from app.domain.health import DetectorHealth, DetectorState, FilterState, state_of
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
        health = services.filters.site.health()
        safety = [_part(one) for one in health]
        state = state_of(health)
        if status.state is EngineState.READY and state is FilterState.CLOSED:
            guards = ", ".join(one.name for one in health if one.state is DetectorState.OPEN and not one.lets_pass)
            reason = f"The content filter lets nothing pass: the guard {guards} cannot be asked."
            closed = {"status": "closed", "reason": reason, "safety": safety}
            return JSONResponse(closed, status_code=503, headers={"Retry-After": "5"})
        if status.state is EngineState.READY:
            model = status.profile.title if status.profile else "default"
            is_degraded = state is not FilterState.OK
            return JSONResponse({"status": "ready", "model": model, "degraded": is_degraded, "safety": safety})
        error: EngineUnavailable = EngineUnavailable(status.detail)
        if status.state is not EngineState.DOWN:
            error = EngineStarting(stage=status.stage, progress=status.progress)
        reason = describe(error, "en")
        body = {
            "status": str(status.state),
            "stage": status.stage,
            "progress": status.progress,
            "reason": reason,
            "safety": safety,
        }
        return JSONResponse(body, status_code=503, headers={"Retry-After": "5"})

    @routes.get("/metrics")
    async def metrics() -> Response:
        services.stats.queue_waiting.set(services.queue.waiting)
        services.stats.queue_running.set(services.queue.running)
        services.stats.filter_does(services.filters.site.health())
        return Response(generate_latest(services.stats.registry), media_type=CONTENT_TYPE_LATEST)

    return routes


def _part(one: DetectorHealth) -> dict[str, object]:
    return {
        "name": one.name,
        "kind": one.kind,
        "state": one.state.value,
        "failures": one.failures,
        "reason": one.reason,
        "p50_ms": None if one.p50_s is None else round(1000 * one.p50_s, 3),
        "p95_ms": None if one.p95_s is None else round(1000 * one.p95_s, 3),
        "must_judge": not one.lets_pass,
    }
