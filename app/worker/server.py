"""The worker's routes, in OpenAI's and vLLM's protocol. No torch: it listens while the model still loads.

A client that goes away cancels its request, whether that waits, is in its prefill or runs.
"""

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from app.domain.generation import ModelProfile
from app.domain.ports import PromptFormat
from app.worker import answers
from app.worker.answers import Answer, AnswerOptions, ChatShape, CompletionShape, Json, Shape
from app.worker.engine import Engine, EngineStopped, QueueFull, Ticket
from app.worker.jobs import Ended, EndReason, Event, Job, Piece, PromptScored
from app.worker.metrics import Metrics
from app.worker.protocol import ChatBody, CompletionBody, DetokenizeBody, TokenizeBody
from app.worker.requests import Refused, chat_job, completion_job
from app.worker.vocabulary import Vocabulary

MAX_BODY_BYTES = 8 * 1024 * 1024

_Body = TypeVar("_Body", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A model that is ready."""

    engine: Engine
    vocabulary: Vocabulary
    vocab_size: int
    profile: ModelProfile
    prompt_format: PromptFormat | None
    created: int


class Host:
    """What this process serves: nothing yet, or a model. Written by the engine's thread, read by the routes."""

    def __init__(self) -> None:
        self.state = "loading"
        self.stage = "libraries"
        self.progress = 0.0
        self.served: Served | None = None

    def report(self, stage: str, progress: float) -> None:
        """Take note of how far the load is."""
        self.stage, self.progress = stage, progress

    def serve(self, served: Served) -> None:
        """Take requests from now on."""
        self.served = served
        self.stage, self.progress, self.state = "", 1.0, "ready"

    def close(self) -> None:
        """Take no more requests."""
        self.state = "stopping"
        if self.served:
            self.served.engine.stop()


def create_app(host: Host, *, metrics: Metrics, token: str = "") -> ASGIApp:
    """Return the application. With a token everything but `/health` asks for it."""
    routes = _Routes(host, metrics=metrics)
    app = Starlette(
        routes=[
            Route("/v1/completions", routes.completions, methods=["POST"]),
            Route("/v1/chat/completions", routes.chat_completions, methods=["POST"]),
            Route("/tokenize", routes.tokenize, methods=["POST"]),
            Route("/detokenize", routes.detokenize, methods=["POST"]),
            Route("/v1/models", routes.models),
            Route("/tokenizer.json", routes.tokenizer),
            Route("/health", routes.health),
            Route("/metrics", routes.metrics),
        ],
        exception_handlers={
            Refused: _refused,
            ClientDisconnect: _gone,
            HTTPStatus.NOT_FOUND: _no_route,
            HTTPStatus.METHOD_NOT_ALLOWED: _no_route,
            Exception: _failed,
        },
    )
    return _TokenCheck(app, token=token) if token else app


class _Routes:
    def __init__(self, host: Host, *, metrics: Metrics) -> None:
        self._host = host
        self._metrics = metrics

    async def completions(self, request: Request) -> Response:
        """`POST /v1/completions`."""
        body = await _read(request, CompletionBody)
        served = self._served(body.model)
        # A long text takes a while: other requests go on meanwhile.
        job = await asyncio.to_thread(
            completion_job, body, profile=served.profile, vocabulary=served.vocabulary, vocab_size=served.vocab_size
        )
        echo = None
        if body.echo:
            echo = body.prompt if isinstance(body.prompt, str) else served.vocabulary.decode(body.prompt)
        shape = CompletionShape(
            job=job,
            vocabulary=served.vocabulary,
            answer=Answer(
                kind="text_completion", model=served.profile.id, prefix="cmpl", request_id=body.request_id or ""
            ),
            options=_options(body, has_logprobs=body.logprobs is not None, echo=echo),
            own_stop_ids=frozenset(served.profile.stop_token_ids),
        )
        return await self._answer(request, served=served, job=job, shape=shape, is_stream=bool(body.stream))

    async def chat_completions(self, request: Request) -> Response:
        """`POST /v1/chat/completions`."""
        body = await _read(request, ChatBody)
        served = self._served(body.model)
        job = await asyncio.to_thread(
            chat_job,
            body,
            profile=served.profile,
            prompt_format=served.prompt_format,
            vocab_size=served.vocab_size,
        )
        shape = ChatShape(
            job=job,
            vocabulary=served.vocabulary,
            answer=Answer(
                kind="chat.completion.chunk" if body.stream else "chat.completion",
                model=served.profile.id,
                prefix="chatcmpl",
                request_id=body.request_id or "",
            ),
            options=_options(body, has_logprobs=bool(body.logprobs)),
            own_stop_ids=frozenset(served.profile.stop_token_ids),
        )
        return await self._answer(request, served=served, job=job, shape=shape, is_stream=bool(body.stream))

    async def tokenize(self, request: Request) -> Response:
        """`POST /tokenize`."""
        body = await _read(request, TokenizeBody)
        served = self._served(body.model)
        ids = await asyncio.to_thread(served.vocabulary.encode, body.prompt, add_special_tokens=body.add_special_tokens)
        names = [served.vocabulary.token(token) for token in ids] if body.return_token_strs else None
        return JSONResponse(
            {
                "count": len(ids),
                "max_model_len": served.profile.context_length,
                "tokens": ids,
                "token_strs": names,
            }
        )

    async def detokenize(self, request: Request) -> Response:
        """`POST /detokenize`."""
        body = await _read(request, DetokenizeBody)
        served = self._served(body.model)
        if any(not 0 <= token < served.vocab_size for token in body.tokens):
            raise Refused("a token id is not in the vocabulary", param="tokens")
        return JSONResponse({"prompt": served.vocabulary.decode(body.tokens)})

    async def models(self, _: Request) -> Response:
        """`GET /v1/models`: empty while the model loads."""
        served = self._host.served
        cards = [answers.model_card(served.profile, created=served.created)] if served else []
        return JSONResponse({"object": "list", "data": cards})

    async def tokenizer(self, _: Request) -> Response:
        """`GET /tokenizer.json`: for a web process that builds prompts itself."""
        return Response(self._served(None).vocabulary.json, media_type="application/json")

    async def health(self, _: Request) -> Response:
        """`GET /health`: 200 only where a request would be taken."""
        host = self._host
        if host.served is None or host.state != "ready":
            body: Json = {"state": host.state, "stage": host.stage, "progress": round(host.progress, 3)}
            return JSONResponse(body, status_code=HTTPStatus.SERVICE_UNAVAILABLE)
        engine = host.served.engine
        return JSONResponse(
            {
                "state": "ready",
                "slots": engine.slots,
                "running": engine.running,
                "waiting": engine.waiting,
                "model": host.served.profile.id,
                "adapter": host.served.profile.adapter,
            }
        )

    async def metrics(self, _: Request) -> Response:
        """`GET /metrics`."""
        return Response(self._metrics.render(), media_type="text/plain; version=0.0.4")

    def _served(self, model: str | None) -> Served:
        host = self._host
        if host.served is None or host.state != "ready":
            raise Refused(
                f"the model is {host.state}",
                status=HTTPStatus.SERVICE_UNAVAILABLE,
                code="engine_starting" if host.state == "loading" else "engine_unavailable",
            )
        if model not in {None, "", "default", host.served.profile.id}:
            raise Refused(
                f"the model {model} does not exist",
                status=HTTPStatus.NOT_FOUND,
                code="model_not_found",
                param="model",
            )
        return host.served

    async def _answer(self, request: Request, *, served: Served, job: Job, shape: Shape, is_stream: bool) -> Response:
        events = _Events(asyncio.get_running_loop())
        try:
            ticket = served.engine.submit(job, sink=events.sink)
        except QueueFull as error:
            self._metrics.refused.inc()
            raise Refused(
                "too many requests wait",
                status=HTTPStatus.TOO_MANY_REQUESTS,
                code="rate_limit_exceeded",
                retry_after_s=served.engine.expected_wait_s,
            ) from error
        except EngineStopped as error:
            raise Refused(
                "the worker is shutting down", status=HTTPStatus.SERVICE_UNAVAILABLE, code="engine_unavailable"
            ) from error
        generation = _Generation(served.engine, ticket=ticket, events=events)
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


def _options(body: CompletionBody | ChatBody, *, has_logprobs: bool, echo: str | None = None) -> AnswerOptions:
    stream = body.stream_options
    return AnswerOptions(
        has_logprobs=has_logprobs,
        has_token_ids=bool(body.return_token_ids),
        has_usage=bool(stream and stream.include_usage),
        has_usage_in_chunks=bool(stream and stream.continuous_usage_stats),
        echo=echo,
    )


async def _read(request: Request, kind: type[_Body]) -> _Body:
    """Read and check a body. Raises Refused, which names the first field that is wrong."""
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MAX_BODY_BYTES:
            raise Refused("the body is too large", status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    try:
        return kind.model_validate_json(bytes(content))
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        param = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            raise Refused(f"unknown field: {param}", code="unknown_parameter", param=param) from error
        raise Refused(f"{param}: {fault['msg']}" if param else fault["msg"], param=param or None) from error


class _TokenCheck:
    """Refuses who does not know the token."""

    def __init__(self, app: ASGIApp, *, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/health":
            given = Headers(scope=scope).get("authorization", "").encode()
            if not hmac.compare_digest(given, self._expected):
                refusal = Refused("the worker's token is missing or wrong", status=401, code="invalid_api_key")
                await refusal.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _refused(_: Request, error: Exception) -> Response:
    return error.response() if isinstance(error, Refused) else await _failed(_, error)


async def _no_route(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", HTTPStatus.NOT_FOUND)
    return Refused(f"no such route: {request.method} {request.url.path}", status=status).response()


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody reads it


async def _failed(_: Request, error: Exception) -> Response:
    return Refused(type(error).__name__, status=HTTPStatus.INTERNAL_SERVER_ERROR, code="internal_error").response()
