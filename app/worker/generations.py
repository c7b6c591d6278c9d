"""A job at the engine → an answer over HTTP, streamed or whole. It ends with its client's connection."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from app.worker import answers
from app.worker.answers import Json, Shape
from app.worker.engine import Engine, EngineStopped, QueueFull, Ticket
from app.worker.jobs import Ended, EndReason, Event, Job, Piece, PromptScored
from app.worker.requests import Refused, queue_full, shutting_down


async def answer(request: Request, *, engine: Engine, job: Job, shape: Shape, is_stream: bool) -> Response:
    """Submit a job and return what comes of it. Raises Refused."""
    events = _Events(asyncio.get_running_loop())
    try:
        ticket = engine.submit(job, sink=events.sink)
    except QueueFull as error:
        raise queue_full(expected_wait_s=engine.expected_wait_s) from error
    except EngineStopped as error:
        raise shutting_down() from error
    generation = _Generation(engine, ticket=ticket, events=events)
    if is_stream:
        return _Stream(generation, shape=shape)
    async with generation.watched(request.receive):
        return await _whole(generation, shape=shape)


class _Events:
    """Events on their way from the engine's thread to the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: asyncio.Queue[Event] = asyncio.Queue()  # bounded by max_tokens

    def sink(self, event: Event) -> None:
        try:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, event)
        except RuntimeError:
            return  # the loop is closed: the process ends, and nobody listens

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            event = await self._queue.get()
            yield event
            if isinstance(event, Ended):
                return


class _Generation:
    """A submitted job that ends with its client's connection."""

    def __init__(self, engine: Engine, *, ticket: Ticket, events: _Events) -> None:
        self.events = events
        self.prompt_tokens = len(ticket.job.prompt_ids)
        self._engine = engine
        self._ticket = ticket

    @asynccontextmanager
    async def watched(self, receive: Receive) -> AsyncIterator[None]:
        """Cancel when the client goes away, and in any case at the end."""
        watch = asyncio.create_task(self._cancel_when_gone(receive))
        try:
            yield
        finally:
            watch.cancel()
            self._engine.cancel(self._ticket)

    async def _cancel_when_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._engine.cancel(self._ticket)


class _Stream(Response):
    """Server-sent events, ended by `data: [DONE]`."""

    media_type = "text/event-stream"

    def __init__(self, generation: _Generation, *, shape: Shape) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._generation = generation
        self._shape = shape

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope
        async with self._generation.watched(receive):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for chunk in _Chunks(self._generation, shape=self._shape):
                data = chunk if isinstance(chunk, str) else json.dumps(chunk, ensure_ascii=False)
                await send({"type": "http.response.body", "body": f"data: {data}\n\n".encode(), "more_body": True})
            await send({"type": "http.response.body", "body": b""})


class _Chunks:
    """The chunks of a stream, in order."""

    def __init__(self, generation: _Generation, *, shape: Shape) -> None:
        self._generation = generation
        self._shape = shape

    async def __aiter__(self) -> AsyncIterator[Json | str]:
        if opening := self._shape.opening():
            yield self._frame(opening, completion_tokens=0)
        async for event in self._generation.events:
            for chunk in self._of(event):
                yield chunk
        yield "[DONE]"

    def _of(self, event: Event) -> Iterator[Json]:
        shape = self._shape
        match event:
            case PromptScored():
                yield self._frame(shape.scored(event), completion_tokens=0)
            case Piece():
                # Text that is held back makes no chunk, unless its tokens are asked for.
                if event.text or shape.options.has_logprobs or shape.options.has_token_ids:
                    yield self._frame(shape.piece(event), completion_tokens=event.completion_tokens)
            case Ended(reason=EndReason.STOP | EndReason.LENGTH):
                yield self._frame(shape.ending(event), completion_tokens=event.completion_tokens)
                if shape.options.has_usage:
                    yield shape.answer.frame([], usage=_usage(event))
            case Ended():
                yield _engine_error(event).body

    def _frame(self, choice: Json, *, completion_tokens: int) -> Json:
        options = self._shape.options
        more: Json = {"usage": None} if options.has_usage else {}
        if options.has_usage_in_chunks:
            prompt_tokens = self._generation.prompt_tokens
            more["usage"] = answers.usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)
        return self._shape.answer.frame([choice], **more)


async def _whole(generation: _Generation, *, shape: Shape) -> Response:
    """Collect the events of an answer that is not streamed."""
    events: list[PromptScored | Piece] = []
    async for event in generation.events:
        if not isinstance(event, Ended):
            events.append(event)
        elif event.reason in {EndReason.STOP, EndReason.LENGTH}:
            return JSONResponse(shape.whole(events, event) | {"usage": _usage(event)})
        else:
            raise _engine_error(event)
    raise RuntimeError("the engine's events stopped without an end")


def _usage(event: Ended) -> Json:
    return answers.usage(prompt_tokens=event.prompt_tokens, completion_tokens=event.completion_tokens)


def _engine_error(event: Ended) -> Refused:
    if event.reason is EndReason.ERROR:
        return Refused(event.detail, status=HTTPStatus.INTERNAL_SERVER_ERROR, code=event.error_code)
    code = "engine_unavailable" if event.reason is EndReason.SHUTDOWN else "cancelled"
    return Refused(event.detail or event.reason, status=HTTPStatus.SERVICE_UNAVAILABLE, code=code)
