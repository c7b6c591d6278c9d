"""The scripted engine over HTTP: `/v1/completions`, `/v1/chat/completions`, `/v1/models`, `/health`.

    python -m app.engines.scripted_server --port 8001 --tokens-per-s 20

For benchmarks, where the engine must cost next to nothing, and as the other end in the tests of the HTTP clients.
Prompt ids are not read.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from typing import Annotated, Any, Literal

import orjson
import uvloop
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.domain.errors import ChatError, EngineDied, InvalidInput
from app.domain.generation import ChatMessage, Delta, Finish, GenerationRequest
from app.domain.models import Role, Sampling, new_id
from app.engines.script_file import load_script
from app.engines.scripted import ScriptedEngine

_ENGINE = web.AppKey("engine", ScriptedEngine)
_MAX_BODY_BYTES = 1 << 23


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _StreamOptions(_Body):
    include_usage: bool = False
    continuous_usage_stats: bool = False


class _Message(_Body):
    role: Role
    content: str


class _Request(_Body):
    """A completion as both routes take it; how the next token is chosen means nothing to a script."""

    stream: Literal[True]
    stream_options: _StreamOptions = _StreamOptions()
    model: str = "default"
    prompt: tuple[int, ...] | str = ()
    messages: tuple[_Message, ...] = ()
    max_tokens: Annotated[int, Field(gt=0)] | None = None
    stop: tuple[str, ...] = ()


def scripted_app(engine: ScriptedEngine) -> web.Application:
    """Return the application. Serve it with `serve_scripted`, so that a client that leaves ends its generation."""
    app = web.Application(client_max_size=_MAX_BODY_BYTES)
    app[_ENGINE] = engine
    app.router.add_get("/health", _health)
    app.router.add_get("/v1/models", _models)
    app.router.add_post("/v1/completions", _generate)
    app.router.add_post("/v1/chat/completions", _generate)
    return app


@asynccontextmanager
async def serve_scripted(
    engine: ScriptedEngine, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncGenerator[str, None]:
    """Serve until the block is left; yields the API's address. Port 0 takes a free one."""
    runner = web.AppRunner(scripted_app(engine), handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield f"http://{host}:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


async def _health(request: web.Request) -> web.Response:
    status = await request.app[_ENGINE].status()
    names = ("state", "stage", "progress", "slots", "running", "waiting")
    return _json({name: getattr(status, name) for name in names})


async def _models(request: web.Request) -> web.Response:
    profile = (await request.app[_ENGINE].status()).profile
    if profile is None:
        return _json({"object": "list", "data": []})
    about = {"title": profile.title, "defaults": {"temperature": profile.defaults.temperature}}
    card = {"id": profile.id, "object": "model", "max_model_len": profile.context_length, "haina": about}
    return _json({"object": "list", "data": [card]})


async def _generate(request: web.Request) -> web.StreamResponse:
    is_chat = request.path.endswith("/chat/completions")
    try:
        body = _Request.model_validate_json(await request.read())
    except ValidationError as error:
        return _refused(InvalidInput(f"{error.error_count()} fields are wrong"))
    sampling = Sampling(max_tokens=body.max_tokens, stop=body.stop)
    asked = GenerationRequest(
        id=request.headers.get("X-Request-Id") or new_id(),
        owner="",
        prompt_ids=body.prompt if isinstance(body.prompt, tuple) else (),
        messages=tuple(ChatMessage(each.role, each.content) for each in body.messages),
        sampling=sampling,
        model=body.model,
    )
    async with aclosing(request.app[_ENGINE].generate(asked)) as items:
        try:
            first = await anext(items)
        except EngineDied:
            return _hang_up(request)
        except ChatError as error:
            return _refused(error)
        return await _stream(request, first, items, options=body.stream_options, is_chat=is_chat)


async def _stream(
    request: web.Request,
    first: Delta | Finish,
    items: AsyncGenerator[Delta | Finish, None],
    *,
    options: _StreamOptions,
    is_chat: bool,
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await response.prepare(request)
    events = _Events(options=options, is_chat=is_chat)
    try:
        await response.write(events.of(first))
        async for item in items:
            await response.write(events.of(item))
    except EngineDied:
        return _hang_up(request, response)
    except ChatError as error:
        await response.write(_event(_error(error)))
    await response.write_eof()
    return response


class _Events:
    """Writes items as events; asked for, every event carries the usage so far, as in vLLM."""

    def __init__(self, *, options: _StreamOptions, is_chat: bool) -> None:
        self._options = options
        self._is_chat = is_chat
        self._tokens = 0

    def of(self, item: Delta | Finish) -> bytes:
        if isinstance(item, Delta):
            self._tokens += item.tokens
            usage = {"completion_tokens": self._tokens} if self._options.continuous_usage_stats else None
            return _event(self._chunk(item.text, usage=usage))
        last = self._chunk("", reason=item.reason)
        usage = {"prompt_tokens": item.prompt_tokens, "completion_tokens": item.completion_tokens}
        ending = _event({"choices": [], "usage": usage}) if self._options.include_usage else b""
        return _event(last) + ending + b"data: [DONE]\n\n"

    def _chunk(self, text: str, *, reason: str | None = None, usage: object = None) -> dict[str, object]:
        content: dict[str, object] = {"delta": {"content": text}} if self._is_chat else {"text": text}
        return {"choices": [{"index": 0, **content, "finish_reason": reason}], "usage": usage}


def _hang_up(request: web.Request, response: web.StreamResponse | None = None) -> web.StreamResponse:
    """Drop the connection without a word, as an engine does whose process was killed."""
    if request.transport is not None:
        request.transport.abort()
    return response or web.Response()


def _refused(error: ChatError) -> web.Response:
    headers = {"Retry-After": str(error.data["retry_after_s"])} if "retry_after_s" in error.data else {}
    return _json(_error(error), status=error.status, headers=headers)


def _error(error: ChatError) -> dict[str, object]:
    return {"error": {"message": error.detail, "type": error.code, "code": error.code, **error.data}}


def _event(content: object) -> bytes:
    return b"data: " + orjson.dumps(content) + b"\n\n"


def _json(content: object, **options: Any) -> web.Response:
    return web.Response(body=orjson.dumps(content), content_type="application/json", **options)


async def _serve(options: argparse.Namespace) -> None:
    script = load_script(f"scripted:{options.script}")
    if options.tokens_per_s is not None:
        script = replace(script, tokens_per_s=options.tokens_per_s)
    engine = ScriptedEngine(script, slots=options.slots)
    async with serve_scripted(engine, host=options.host, port=options.port) as address:
        print(address, flush=True)  # noqa: T201 - whoever started it reads where it listens
        await asyncio.Event().wait()


def main() -> int:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m app.engines.scripted_server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--tokens-per-s", type=float, default=None, help="for each stream; 0: no delay")
    parser.add_argument("--slots", type=int, default=256)
    parser.add_argument("--script", default="", help="a TOML file; left out: the built-in text")
    with suppress(KeyboardInterrupt):
        uvloop.run(_serve(parser.parse_args()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
