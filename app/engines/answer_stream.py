"""From the events of a completion to deltas and one finish; both OpenAI shapes end here."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import orjson

from app.domain.errors import EngineDied, EngineRefused
from app.domain.generation import Delta, Finish, FinishReason
from app.engines.refusals import refusal_of

TextOf = Callable[[dict[str, Any]], object]
"""Takes a choice and returns its text; None where there is none."""

_DONE = b"[DONE]"
_REASONS = {
    "stop": FinishReason.STOP,
    "eos": FinishReason.STOP,
    "eos_token": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
}


async def read_answer(
    events: AsyncGenerator[list[bytes], None], *, text_of: TextOf
) -> AsyncGenerator[Delta | Finish, None]:
    """Yield the deltas of a stream and its Finish; closes `events` in every case.

    Raises EngineDied where the stream breaks off, EngineRefused where it is not what it should be, and what an error
    event stands for.
    """
    reader = _AnswerReader(text_of)
    async with aclosing(events):
        async for batch in events:
            for data in batch:
                if data == _DONE:
                    yield reader.finish()
                    return
                delta = reader.read(data)
                if delta is not None:
                    yield delta
    yield reader.finish()


class _AnswerReader:
    """Reads events, one by one, and keeps what the Finish will say."""

    def __init__(self, text_of: TextOf) -> None:
        self._text_of = text_of
        self._reason: FinishReason | None = None
        self._prompt_tokens = 0
        self._completion_tokens = 0

    def read(self, data: bytes) -> Delta | None:
        try:
            event = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise EngineRefused("an event is not JSON", engine_status=200) from error
        if not isinstance(event, dict):
            raise _unreadable("event")
        if event.get("error") is not None:
            raise refusal_of(event)
        before = self._completion_tokens
        self._take_usage(event.get("usage"))
        choices = event.get("choices")
        if not isinstance(choices, list):
            raise _unreadable("choices")
        if not choices:
            return None
        choice = choices[0]
        if not isinstance(choice, dict):
            raise _unreadable("choice")
        self._take_reason(choice.get("finish_reason"))
        tokens = self._completion_tokens - before
        ids = choice.get("token_ids")
        if tokens == 0 and isinstance(ids, list):
            tokens = len(ids)
            self._completion_tokens += tokens
        text = self._text_of(choice)
        if not isinstance(text, str | None):
            raise _unreadable("text")
        return Delta(text or "", tokens) if text or tokens > 0 else None

    def finish(self) -> Finish:
        if self._reason is None:
            raise EngineDied("the stream ended before the answer did")
        return Finish(reason=self._reason, prompt_tokens=self._prompt_tokens, completion_tokens=self._completion_tokens)

    def _take_usage(self, usage: object) -> None:
        if usage is None:
            return
        if not isinstance(usage, dict):
            raise _unreadable("usage")
        for name in ("prompt_tokens", "completion_tokens"):
            value = usage.get(name)
            if value is not None:
                if not isinstance(value, int) or value < 0:
                    raise _unreadable("usage")
                setattr(self, f"_{name}", value)

    def _take_reason(self, reason: object) -> None:
        if reason is None:
            return
        if not isinstance(reason, str) or reason not in _REASONS:
            # `abort`, `content_filter`, `error`: the text is not the answer that was asked for.
            raise EngineRefused("the engine broke the answer off", engine_status=200)
        self._reason = _REASONS[reason]


def _unreadable(part: str) -> EngineRefused:
    return EngineRefused(f"an event's {part} is not what it should be", engine_status=200)
