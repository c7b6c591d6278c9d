"""`GET /turns/{id}/events`: a turn's log as server-sent events, rendered block by block, for the page.

An event's id is its place in the log, so a browser that lost the line goes on where it was (`Last-Event-ID`).
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

import orjson
from fastapi import APIRouter, Request
from starlette.responses import StreamingResponse

from app.domain.events import Ended, Numbered, Released, Started, Waiting
from app.domain.own_text import Masks
from app.domain.ports import BlockText, Markdown, MarkdownStream
from app.domain.verdicts import ReleasedText, joined
from app.domain.words import Language, waiting
from app.services.chat import Chat
from app.web.closing import Closing
from app.web.doorkeeper import account_of
from app.web.drawing import Drawing
from app.web.language import language_of

_PLACE_DIGITS = 9


def router(chat: Chat, *, markdown: Markdown, draw: Drawing, closing: Closing) -> APIRouter:
    """Return the route; `draw` draws the final message, `closing` ends what is open."""
    routes = APIRouter()

    @routes.get("/turns/{turn_id}/events")
    async def events(request: Request, turn_id: str, after: str = "") -> StreamingResponse:
        account = account_of(request)
        position = _place(request.headers.get("last-event-id", "")) or _place(after)
        language = language_of(request)

        masks = chat.masks(account, turn_id)
        reader = _Reader(markdown.stream(), language=language, draw=draw, after=position, masks=masks)
        batches = chat.read(account, turn_id)
        first = await anext(batches)  # an unknown turn is a 404, not a broken stream
        return StreamingResponse(
            reader.read(first, batches, closing=closing),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    return routes


class _Reader:
    """One browser's view of one turn."""

    def __init__(
        self,
        stream: MarkdownStream,
        *,
        language: Language,
        draw: Drawing,
        after: int,
        masks: Masks,
    ) -> None:
        self._stream = stream
        self._language = language
        self._draw = draw
        self._after = after
        self._masks = masks
        self._unmasking = masks.stream()

    async def read(
        self, first: Sequence[Numbered], batches: AsyncIterator[Sequence[Numbered]], *, closing: Closing
    ) -> AsyncIterator[bytes]:
        """Yield the events that this browser has not seen; the markdown before them is only gone through.

        Where the server goes down there is no `end`: the browser comes back for it.
        """
        async with aclosing(batches):  # type: ignore[type-var]
            yield self._encode(first)
            async for batch in closing.until(batches):
                data = self._encode(batch)
                if data:
                    yield data

    def _encode(self, batch: Sequence[Numbered]) -> bytes:
        if not batch:
            return b": beat\n\n"
        out: list[bytes] = []
        text: list[ReleasedText] = []
        n = 0
        for numbered in batch:
            event = numbered.event
            if isinstance(event, Released):
                if text and n == self._after:  # what was seen ends here: from here on it is sent
                    out += self._blocks(text, n)
                    text = []
                text.append(event.text)
                n = numbered.n
                continue
            if text:
                out += self._blocks(text, n)
                text = []
            n = numbered.n
            if isinstance(event, Ended):  # who comes back late still gets the end, and in it all that was held back
                out.append(b"id: %d\n" % max(n, self._after + 1) + self._end(event))
            elif n > self._after:
                out.append(b"id: %d\n" % n + self._other(event))
        if text:
            out += self._blocks(text, n)
        return b"".join(out)

    def _blocks(self, text: list[ReleasedText], n: int) -> list[bytes]:
        changes = self._stream.feed(self._unmasking.feed(joined(text)))
        if n <= self._after:
            return []
        events = [
            _event("text", {"index": change.index, "text": change.text})
            if isinstance(change, BlockText)
            else _event("block", {"index": change.index, "html": change.html})
            for change in changes
        ]
        # Only the last one carries the number: who loses the line between two of them gets them all again.
        return [*events[:-1], b"id: %d\n" % n + events[-1]] if events else []

    def _other(self, event: Waiting | Started) -> bytes:
        if isinstance(event, Waiting):
            words = waiting(
                position=event.position,
                eta_s=event.eta_s,
                stage=event.stage,
                progress=event.progress,
                language=self._language,
            )
            return _event(
                "waiting",
                {
                    "position": event.position,
                    "eta_s": event.eta_s,
                    "stage": event.stage,
                    "progress": event.progress,
                    "message": words,
                },
            )
        return _event("started", {"model": event.model, "dropped_messages": event.dropped_messages})

    def _end(self, event: Ended) -> bytes:
        own = self._masks.unmask(event.answer.text) if self._masks else None
        message = self._draw.message(event.answer, self._language, own=own)
        return _event("end", {"message": message, "title": event.title})


def _place(number: str) -> int:
    """Return the place in the log that a browser was told; what is none counts as the beginning."""
    return int(number) if number.isascii() and number.isdigit() and len(number) <= _PLACE_DIGITS else 0


def _event(name: str, data: dict[str, object]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(data))
