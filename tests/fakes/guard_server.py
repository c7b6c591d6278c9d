"""A guard model's server without a model: six shapes over HTTP, judging by the trigger words of `tests.fakes.guards`.

    python -m tests.fakes.guard_server --port 8002 --kind qwen3guard

It refuses what the real servers refuse: unknown fields' absence, turns that do not alternate, an unknown model.
"""

import argparse
import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiohttp import web

from tests.fakes.guards import BROKEN, CONTROVERSIAL, DEAD, HANG, RUBBISH, SLOW, UNSAFE

MODEL = "fake-guard"
SLOW_S = 0.3
KINDS = ("qwen3guard", "llama_guard", "shieldlm", "judge", "moderations", "classify")
_VERDICTS = {UNSAFE: "unsafe", CONTROVERSIAL: "controversial"}


class FakeGuardServer:
    """The application and what it was asked."""

    def __init__(self, kind: str, *, has_logprobs: bool = True, key: str = "") -> None:
        self.kind = kind
        self.has_logprobs = has_logprobs
        self.key = key
        self.requests: list[dict[str, Any]] = []
        self.running = 0
        self.app = web.Application()
        self.app.router.add_get("/v1/models", self._models)
        if kind in {"qwen3guard", "llama_guard", "judge"}:
            self.app.router.add_post("/v1/chat/completions", self._chat)
        elif kind == "shieldlm":
            self.app.router.add_post("/v1/completions", self._completion)
        elif kind == "moderations":
            self.app.router.add_post("/v1/moderations", self._moderation)
        else:
            self.app.router.add_post("/classify", self._classify)

    @asynccontextmanager
    async def serve(self, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
        """Serve until the block is left; yields the API's address."""
        runner = web.AppRunner(self.app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
            yield f"http://{host}:{runner.addresses[0][1]}/v1"
        finally:
            await runner.cleanup()

    async def _models(self, request: web.Request) -> web.Response:
        self._require_key(request)
        return web.json_response({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await self._body(request, "model", "messages", "temperature", "max_tokens")
        if body["model"] != MODEL:
            raise web.HTTPNotFound(text="{}")
        messages = body["messages"]
        if self.kind == "judge":
            return await self._answered(request, body, _judged_text(messages), id=_id_of(messages))
        roles = [message["role"] for message in messages]
        if roles != [("user", "assistant")[place % 2] for place in range(len(roles))]:
            raise web.HTTPBadRequest(text='{"error": {"message": "Conversation roles must alternate"}}')
        if body.get("logprobs") and not self.has_logprobs:
            raise web.HTTPBadRequest(text='{"error": {"message": "logprobs are not supported"}}')
        return await self._answered(request, body, messages[-1]["content"], is_answer=roles[-1] == "assistant")

    async def _completion(self, request: web.Request) -> web.StreamResponse:
        body = await self._body(request, "model", "prompt", "temperature", "max_tokens")
        prompt = body["prompt"]
        if not (prompt.startswith("<reserved_106>") and prompt.endswith("<reserved_107>")):
            raise web.HTTPBadRequest(text="{}")
        text = prompt.removesuffix("<reserved_107>").rpartition("\nB: ")[2]
        return await self._answered(request, body, text, is_chinese="您是一位" in prompt)

    async def _moderation(self, request: web.Request) -> web.StreamResponse:
        body = await self._body(request, "input")
        return await self._answered(request, body, body["input"])

    async def _classify(self, request: web.Request) -> web.StreamResponse:
        body = await self._body(request, "input")
        return await self._answered(request, body, body["input"])

    async def _body(self, request: web.Request, *fields: str) -> dict[str, Any]:
        self._require_key(request)
        body: dict[str, Any] = await request.json()
        if missing := [field for field in fields if field not in body]:
            raise web.HTTPBadRequest(text=json.dumps({"error": {"message": f"missing {missing}"}}))
        self.requests.append(body)
        return body

    def _require_key(self, request: web.Request) -> None:
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            raise web.HTTPUnauthorized(text="{}")

    async def _answered(
        self, request: web.Request, body: dict[str, Any], text: str, **about: Any
    ) -> web.StreamResponse:
        self.running += 1
        try:
            if HANG in text:
                await asyncio.Event().wait()
            if SLOW in text:
                await asyncio.sleep(SLOW_S)
            if DEAD in text and request.transport is not None:
                request.transport.abort()
                return web.Response()
            if BROKEN in text:
                return web.Response(status=500, text="Internal Server Error")
            verdict = next((said for word, said in _VERDICTS.items() if word in text), "safe")
            return web.json_response(
                _rubbish(self.kind) if RUBBISH in text else _reply(self.kind, verdict, body=body, **about)
            )
        finally:
            self.running -= 1


def _reply(kind: str, verdict: str, *, body: dict[str, Any], **about: Any) -> dict[str, Any]:
    if kind == "qwen3guard":
        name = {"safe": "None"}.get(verdict, "Non-violent Illegal Acts, Violent")
        refusal = "\nRefusal: No" if about.get("is_answer") else ""
        return _chat(f"Safety: {verdict.capitalize()}\nCategories: {name}{refusal}")
    if kind == "llama_guard":
        share = {"safe": 0.02, "controversial": 0.6, "unsafe": 0.97}[verdict]
        text = "safe" if share < 0.5 else "unsafe\nS1,S2"
        return _chat(f"\n\n{text}", logprobs=_logprobs(share) if body.get("logprobs") else None)
    if kind == "shieldlm":
        words = {"safe": ("安全", "safe"), "unsafe": ("不安全", "unsafe"), "controversial": ("有争议", "controversial")}
        chinese, english = words[verdict]
        text = f" [答案] {chinese}\n[分析]" if about["is_chinese"] else f" [Answer] {english}\n[Ana"
        return {"choices": [{"index": 0, "text": text, "finish_reason": "length"}]}
    if kind == "judge":
        categories = [] if verdict == "safe" else ["violence"]
        return _chat(json.dumps({"id": about["id"], "verdict": verdict, "categories": categories}))
    score = {"safe": 0.001, "controversial": 0.55, "unsafe": 0.98}[verdict]
    if kind == "moderations":
        scores = {"violence": score, "hate": 0.0001}
        result = {
            "flagged": score > 0.5,
            "categories": {name: value > 0.5 for name, value in scores.items()},
            "category_scores": scores,
        }
        return {"id": "modr-1", "model": MODEL, "results": [result]}
    label = "safe" if score < 0.5 else "unsafe"
    return {"data": [{"index": 0, "label": label, "probs": [1 - score, score], "num_classes": 2}]}


def _rubbish(kind: str) -> dict[str, Any]:
    if kind == "shieldlm":
        return {"choices": [{"index": 0, "text": "这段对话是安全的。"}]}
    if kind == "moderations":
        return {"results": []}
    if kind == "classify":
        return {"data": [{"index": 0, "label": None, "probs": [0.4]}]}
    return _chat("I think that this is safe.")


def _chat(text: str, *, logprobs: object = None) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"choices": [{"index": 0, "message": message, "logprobs": logprobs, "finish_reason": "stop"}]}


def _logprobs(share: float) -> dict[str, Any]:
    def log(value: float) -> float:
        import math  # noqa: PLC0415

        return math.log(value)

    top = [{"token": "unsafe", "logprob": log(share)}, {"token": "safe", "logprob": log(1 - share)}]
    first = max(top, key=lambda one: float(str(one["logprob"])))
    return {
        "content": [
            {"token": "\n\n", "logprob": 0.0, "top_logprobs": []},
            {**first, "top_logprobs": top},
        ]
    }


def _judged_text(messages: list[dict[str, str]]) -> str:
    system, user = messages
    if system["role"] != "system" or user["role"] != "user":
        raise web.HTTPBadRequest(text="{}")
    return str(json.loads(user["content"])["text"])


def _id_of(messages: list[dict[str, str]]) -> str:
    found = re.search(r'"id": "(\w+)"', messages[0]["content"])
    return found[1] if found else ""


async def _serve(port: int, kind: str) -> None:
    async with FakeGuardServer(kind).serve(port=port) as address:
        print(address, flush=True)  # noqa: T201 - whoever started it reads where it listens
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS, default="qwen3guard")
    options = parser.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(options.port, options.kind))
