"""From the events of a completion to deltas and one finish; both OpenAI shapes end here."""

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Any

import orjson

from app.domain.errors import ChatError, EngineDied, EngineRefused
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
    """Yield a delta for each batch of events that has text, and the Finish; closes `events` in every case.

    Raises EngineDied where the stream breaks off, EngineRefused where it is not what it should be, and what an error
    event stands for.
    """
    reader = _AnswerReader(text_of)
    async with aclosing(events):
        async for batch in events:
            for item in reader.read(batch):
                yield item
            if reader.is_done:
                return
    yield reader.finish()


class _AnswerReader:
    """Reads events and keeps what the Finish will say."""

    def __init__(self, text_of: TextOf) -> None:
        self.is_done = False
        self._text_of = text_of
        self._reason: FinishReason | None = None
        self._prompt_tokens = 0
        self._completion_tokens = 0

    def read(self, batch: Sequence[bytes]) -> Iterator[Delta | Finish]:
        """Yield what came together as one delta, then the Finish where it is there; a fault after what came before."""
        before = self._completion_tokens
        texts: list[str] = []
        fault: ChatError | None = None
        for data in batch:
            if data == _DONE:
                self.is_done = True
                break
            try:
                texts.append(self._text(data))
            except ChatError as error:
                fault = error
                break
        text, tokens = "".join(texts), self._completion_tokens - before
        if text or tokens > 0:
            yield Delta(text, tokens)
        if fault is not None:
            raise fault
        if self.is_done:
            yield self.finish()

    def _text(self, data: bytes) -> str:
        """Return the text of one event, and count its tokens."""
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
            return ""
        choice = choices[0]
        if not isinstance(choice, dict):
            raise _unreadable("choice")
        self._take_reason(choice.get("finish_reason"))
        ids = choice.get("token_ids")
        if self._completion_tokens == before and isinstance(ids, list):
            self._completion_tokens += len(ids)
        text = self._text_of(choice)
        if not isinstance(text, str | None):
            raise _unreadable("text")
        return text or ""

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
