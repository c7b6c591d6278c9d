"""A scripted engine that knows no tokens: it cuts each reply at random places, down to single characters."""

import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

from app.domain.generation import Delta, Finish, FinishReason, GenerationRequest
from app.domain.models import Role
from app.engines.scripted import Rule, Script, ScriptedEngine


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What is said to a question."""

    text: str
    seam: int | None = None
    """Where the first part ends, as a model's does that ran out of room; a request to continue gets the rest."""
    halfway: Callable[[], Awaitable[None]] | None = None
    """Called when half of it has been taken."""


class ChoppingEngine(ScriptedEngine):
    """`replies` by question; any other question gets the script's."""

    def __init__(self, script: Script | None = None, *, seed: int = 0, slots: int = 8) -> None:
        super().__init__(script, slots=slots)
        self.replies: dict[str, Reply] = {}
        self._draw = random.Random(seed)

    async def _answer(self, request: GenerationRequest, rule: Rule) -> AsyncGenerator[Delta | Finish, None]:
        question = next((each.text for each in reversed(request.messages) if each.role is Role.USER), "")
        reply = self.replies.get(question)
        if reply is None:
            async for item in super()._answer(request, rule):
                yield item
            return
        text, reason = reply.text, FinishReason.STOP
        if reply.seam is not None:
            is_continued = request.messages[-1].role is Role.ASSISTANT
            text = text[reply.seam :] if is_continued else text[: reply.seam]
            reason = FinishReason.STOP if is_continued else FinishReason.LENGTH
        longest = self._draw.choice((1, 2, 5, 40))
        place = done = 0
        while place < len(text):
            await self._sleep(0)
            if reply.halfway is not None and place <= len(text) // 2 < place + longest:
                await reply.halfway()
            end = place + self._draw.randint(1, longest)
            yield Delta(text[place:end], 1)
            place, done = end, done + 1
        yield Finish(reason=reason, prompt_tokens=1, completion_tokens=done)
