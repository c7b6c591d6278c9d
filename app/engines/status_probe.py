"""An engine's state over HTTP, asked at most once a second however many pages want to know."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.domain.errors import ChatError, EngineRefused, EngineStarting, EngineUnavailable
from app.domain.generation import EngineState, EngineStatus, ModelProfile
from app.engines.model_card import read_cards
from app.engines.sse_client import Reply, SseClient

FRESH_S = 1.0
DEFAULT_SLOTS = 4
_TIMEOUT_S = 3.0
_OK = 200
_NOT_FOUND = (404, 405)


class _Health(BaseModel):
    """What our worker tells; everything may be missing."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    state: EngineState = EngineState.READY
    stage: str = ""
    progress: float = Field(default=0.0, ge=0, le=1)
    detail: str = ""
    slots: int = Field(default=0, ge=0)
    running: int = Field(default=0, ge=0)
    waiting: int = Field(default=0, ge=0)


class StatusProbe:
    """Asks `/health` and `/v1/models`, and remembers."""

    def __init__(
        self, client: SseClient, *, model: str = "default", slots: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`model` is the default model's name, `default` the first that the engine lists.

        `slots` counts for an engine that does not tell; 0 stands for four.
        """
        self._client = client
        self._model = model
        self._slots = slots or DEFAULT_SLOTS
        self._clock = clock
        self._lock = asyncio.Lock()
        self._known: EngineStatus | None = None
        self._known_at = 0.0

    async def status(self) -> EngineStatus:
        """Return the state, not older than a second; never raises."""
        async with self._lock:
            if self._known is None or self._clock() - self._known_at >= FRESH_S:
                self._known = await self._ask()
                self._known_at = self._clock()
            return self._known

    async def profile(self) -> ModelProfile:
        """Return the default model's profile. Raises EngineStarting or EngineUnavailable while there is none."""
        status = await self.status()
        if status.profile is not None:
            return status.profile
        if status.state in {EngineState.STARTING, EngineState.LOADING}:
            raise EngineStarting(stage=status.stage, progress=status.progress)
        raise EngineUnavailable(status.detail)

    async def model_name(self, wanted: str) -> str:
        """Return the name by which the engine knows a model."""
        if wanted != "default":
            return wanted
        if self._model != "default":
            return self._model
        # What was known a while ago will do: a generation does not wait for a probe.
        if self._known is not None and self._known.profile is not None:
            return self._known.profile.id
        return (await self.profile()).id

    async def _ask(self) -> EngineStatus:
        try:
            reply = await self._client.get("health", timeout_s=_TIMEOUT_S, is_at_root=True)
            health = _health(reply)
            status = EngineStatus(**(health.model_dump() | {"slots": health.slots or self._slots}))
            if status.state is not EngineState.READY:
                return status
            return await self._with_models(status)
        except EngineStarting:
            return EngineStatus(state=EngineState.STARTING, slots=self._slots)
        except ChatError as error:
            return EngineStatus(state=EngineState.DOWN, detail=error.detail, slots=self._slots)

    async def _with_models(self, status: EngineStatus) -> EngineStatus:
        reply = await self._client.get("models", timeout_s=_TIMEOUT_S)
        if reply.status != _OK:
            raise EngineRefused(f"the engine answered the model list with {reply.status}", engine_status=reply.status)
        profiles = read_cards(reply.body)
        named = {profile.id: profile for profile in profiles}
        profile = next(iter(profiles), None) if self._model == "default" else named.get(self._model)
        if profile is None:
            raise EngineRefused(f"the engine does not list the model {self._model}", engine_status=_OK)
        return replace(status, models=tuple(named), profile=profile)


def _health(reply: Reply) -> _Health:
    """Read an answer of `/health`: our worker's JSON, vLLM's empty body, or a hosted API that has no such route."""
    if reply.status in _NOT_FOUND or (reply.status == _OK and not reply.body.strip()):
        return _Health()
    try:
        return _Health.model_validate_json(reply.body)
    except ValidationError as error:
        if reply.status == _OK:  # some answer "OK" or a page: alive is all that it says
            return _Health()
        raise EngineUnavailable(f"the engine answered its health with {reply.status}") from error
