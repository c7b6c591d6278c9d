"""The worker's routes, in OpenAI's and vLLM's protocol. No torch: it listens while the model still loads.

A client that goes away cancels its request, whether that waits, is in its prefill or runs.
"""

import asyncio
import hmac
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from app.worker import answers, generations
from app.worker.answers import Answer, AnswerOptions, ChatShape, CompletionShape, Json
from app.worker.bodies import read_body
from app.worker.classifier import classification
from app.worker.host import Host, Served, ServedClassifier
from app.worker.metrics import Metrics
from app.worker.protocol import ChatBody, ClassifyBody, CompletionBody, DetokenizeBody, TokenizeBody
from app.worker.requests import Refused, chat_job, completion_job


def create_app(host: Host, *, metrics: Metrics, token: str = "") -> ASGIApp:
    """Return the application. With a token everything but `/health` asks for it."""
    routes = _Routes(host, metrics=metrics)
    app = Starlette(
        routes=[
            Route("/v1/completions", routes.completions, methods=["POST"]),
            Route("/v1/chat/completions", routes.chat_completions, methods=["POST"]),
            Route("/tokenize", routes.tokenize, methods=["POST"]),
            Route("/detokenize", routes.detokenize, methods=["POST"]),
            Route("/classify", routes.classify, methods=["POST"]),
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
        body = await read_body(request, CompletionBody)
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
        return await generations.answer(
            request, engine=served.engine, job=job, shape=shape, is_stream=bool(body.stream)
        )

    async def chat_completions(self, request: Request) -> Response:
        """`POST /v1/chat/completions`."""
        body = await read_body(request, ChatBody)
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
        return await generations.answer(
            request, engine=served.engine, job=job, shape=shape, is_stream=bool(body.stream)
        )

    async def tokenize(self, request: Request) -> Response:
        """`POST /tokenize`."""
        body = await read_body(request, TokenizeBody)
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
        body = await read_body(request, DetokenizeBody)
        served = self._served(body.model)
        if any(not 0 <= token < served.vocab_size for token in body.tokens):
            raise Refused("a token id is not in the vocabulary", param="tokens")
        return JSONResponse({"prompt": served.vocabulary.decode(body.tokens)})

    async def classify(self, request: Request) -> Response:
        """`POST /classify`."""
        body = await read_body(request, ClassifyBody)
        classifier = self._classifier(body.model)
        return JSONResponse(await classification.answer(request, body=body, classifier=classifier))

    async def models(self, _: Request) -> Response:
        """`GET /v1/models`: without those that still load; the language model first."""
        host = self._host
        cards = [answers.model_card(host.served.profile, created=host.served.created)] if host.served else []
        if host.classifier:
            cards.append(classification.card(host.classifier))
        return JSONResponse({"object": "list", "data": cards})

    async def tokenizer(self, _: Request) -> Response:
        """`GET /tokenizer.json`: for a web process that builds prompts itself."""
        return Response(self._served(None).vocabulary.json, media_type="application/json")

    async def health(self, _: Request) -> Response:
        """`GET /health`: 200 only where every request would be taken."""
        host = self._host
        body: Json = {"classifier": classification.health(host.classifier)} if host.classifier else {}
        if host.state != "ready":
            body |= {"state": host.state, "stage": host.stage, "progress": round(host.progress, 3)}
            return JSONResponse(body, status_code=HTTPStatus.SERVICE_UNAVAILABLE)
        body["state"] = "ready"
        if host.served:
            engine = host.served.engine
            body |= {"slots": engine.slots, "running": engine.running, "waiting": engine.waiting}
            body |= {"model": host.served.profile.id, "adapter": host.served.profile.adapter}
        return JSONResponse(body)

    async def metrics(self, _: Request) -> Response:
        """`GET /metrics`."""
        return Response(self._metrics.render(), media_type="text/plain; version=0.0.4")

    def _served(self, model: str | None) -> Served:
        """Return the language model. Raises Refused where it is not ready, or another one is asked for."""
        host = self._host
        if host.served is None or host.state != "ready":
            raise self._absent("model")
        _require_name(host.served.profile.id, asked=model)
        return host.served

    def _classifier(self, model: str | None) -> ServedClassifier:
        """Return the classifier, which may be ready before the language model is. Raises Refused as `_served` does."""
        host = self._host
        if host.classifier is None:
            raise self._absent("classifier")
        _require_name(host.classifier.name, asked=model)
        return host.classifier

    def _absent(self, kind: str) -> Refused:
        state = self._host.state
        if state == "ready":
            return Refused(f"this worker has no {kind}", status=HTTPStatus.NOT_FOUND, code="model_not_found")
        code = "engine_starting" if state == "loading" else "engine_unavailable"
        return Refused(f"the {kind} is {state}", status=HTTPStatus.SERVICE_UNAVAILABLE, code=code)


def _require_name(name: str, *, asked: str | None) -> None:
    """Raise Refused where another model is asked for."""
    if asked not in {None, "", "default", name}:
        raise Refused(
            f"the model {asked} does not exist", status=HTTPStatus.NOT_FOUND, code="model_not_found", param="model"
        )


def _options(body: CompletionBody | ChatBody, *, has_logprobs: bool, echo: str | None = None) -> AnswerOptions:
    stream = body.stream_options
    return AnswerOptions(
        has_logprobs=has_logprobs,
        has_token_ids=bool(body.return_token_ids),
        has_usage=bool(stream and stream.include_usage),
        has_usage_in_chunks=bool(stream and stream.continuous_usage_stats),
        echo=echo,
    )


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
