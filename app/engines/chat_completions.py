"""An engine that takes messages and builds its prompts itself: a hosted API, or any `/v1/chat/completions`."""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from app.domain.errors import InvalidInput
from app.domain.generation import Delta, EngineStatus, Finish, GenerationRequest
from app.domain.ports import PromptFormat
from app.engines.answer_stream import read_answer
from app.engines.sampling_fields import sampling_fields
from app.engines.sse_client import SseClient
from app.engines.status_probe import StatusProbe


class ChatCompletionsEngine:
    """A client of `/v1/chat/completions`."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str = "",
        model: str = "default",
        timeout_s: float = 60.0,
        slots: int = 0,
        is_local: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """As CompletionsEngine; there is no prompt format, so no tokenizer either."""
        self._client = SseClient(url, api_key=api_key, timeout_s=timeout_s, is_local=is_local)
        self._probe = StatusProbe(self._client, model=model, slots=slots, clock=clock)

    async def status(self) -> EngineStatus:
        """Return the present state, not older than a second."""
        return await self._probe.status()

    async def prompt_format(self) -> PromptFormat | None:
        """Return None. Raises EngineUnavailable while the model is not ready."""
        await self._probe.profile()
        return None

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Delta | Finish, None]:
        """Yield deltas, then one Finish. Raises InvalidInput where there are no messages; see the port for the rest."""
        if not request.messages:
            raise InvalidInput("this engine takes messages", param="messages")
        payload = await self._payload(request)
        events = self._client.events("chat/completions", payload, request_id=request.id)
        async with aclosing(read_answer(events, text_of=_text_of)) as answer:
            async for item in answer:
                yield item

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def _payload(self, request: GenerationRequest) -> dict[str, object]:
        return {
            "model": await self._probe.model_name(request.model),
            "messages": [{"role": message.role, "content": message.text} for message in request.messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            **sampling_fields(request),
        }


def _text_of(choice: dict[str, Any]) -> object:
    delta = choice.get("delta")
    if delta is None:
        return None
    return delta.get("content") if isinstance(delta, dict) else False  # False is no text: the reader refuses it
