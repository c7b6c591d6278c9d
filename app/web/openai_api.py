"""`/v1`: OpenAI's shape over the same service, filter and log as the page.

What a program sends that we cannot honour is refused by name, not ignored. A client that goes away stops its turn.

An answer that the filter cut, and an answer of the answer bank, end by `content_filter`: in both cases the model's own
answer is not what was given, and a program that looks for it has to learn so. `refusal` has the reply to the former.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from time import time
from typing import Literal

import orjson
from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from starlette.responses import JSONResponse, Response, StreamingResponse

from app.domain.errors import ChatError, ContentBlocked, EngineDied, ModelNotFound, ServerStopping
from app.domain.events import Ended, Released
from app.domain.generation import ChatMessage
from app.domain.labels import HEADER, Aigc
from app.domain.models import Account, Message, MessageState, Role, Sampling
from app.domain.ports import Replies
from app.domain.verdicts import joined
from app.domain.words import describe
from app.services.chat import ApiQuestion
from app.services.services import Services
from app.web.closing import Closing
from app.web.errors import brief_reply, openai_error
from app.web.fields import Name, Text, TextPart, require_storable

MAX_MESSAGES = 1000
_MAX_TOKENS = 1_000_000
"""More than any context; what one model does not take is told with its length."""
_REFUSED = {
    "logit_bias", "logprobs", "top_logprobs", "tools", "tool_choice", "functions", "function_call", "response_format",
    "audio", "modalities", "prediction", "web_search_options",
}  # fmt: skip
_IGNORED = {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"}


class ApiMessage(BaseModel):
    """A message as a program sends it."""

    model_config = ConfigDict(extra="forbid")
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: Name | None = None

    def to_domain(self) -> ChatMessage:
        """Return the message; parts are joined by line breaks."""
        parts = [self.content] if isinstance(self.content, str) else [part.text for part in self.content]
        role = Role.SYSTEM if self.role == "developer" else Role(self.role)
        return ChatMessage(role, "\n".join(parts))


class StreamOptions(BaseModel):
    """What a stream ends with."""

    model_config = ConfigDict(extra="forbid")
    include_usage: bool = False


class PromptTemplate(BaseModel):
    """A template of the library, by its live version or by number."""

    model_config = ConfigDict(extra="forbid")
    name: Name
    version: int | None = Field(default=None, ge=1, lt=2**31)
    variables: dict[Text, Text] = Field(default={}, max_length=100)


class CompletionRequest(BaseModel):
    """The body of `POST /v1/chat/completions`."""

    model_config = ConfigDict(extra="forbid")
    messages: list[ApiMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    model: Name = "default"
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    top_k: int | None = Field(default=None, ge=-1, le=1_000_000)
    max_tokens: int | None = Field(default=None, ge=1, le=_MAX_TOKENS)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=_MAX_TOKENS)
    stop: str | list[str] | None = None
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    repetition_penalty: float | None = Field(default=None, ge=0.01, le=10, allow_inf_nan=False)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2, allow_inf_nan=False)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2, allow_inf_nan=False)
    n: int = Field(default=1, ge=1, le=1)
    prompt_template: PromptTemplate | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_by_name(cls, body: object) -> object:
        if not isinstance(body, dict):
            return body
        for name in sorted(_REFUSED & body.keys()):
            if body[name] not in (None, False, [], {}):
                raise ValueError(f"{name} is not supported")
        return {name: value for name, value in body.items() if name not in _REFUSED | _IGNORED}

    @field_validator("stop")
    @classmethod
    def _few_stops(cls, stop: str | list[str] | None) -> str | list[str] | None:
        stops = [stop] if isinstance(stop, str) else stop or []
        if len(stops) > 4 or any(not one or len(one) > 200 for one in stops):  # noqa: PLR2004 - OpenAI's four
            raise ValueError("at most 4 stop strings of 1 to 200 characters")
        for one in stops:
            require_storable(one)
        return stop

    def to_question(self) -> ApiQuestion:
        """Return what the chat service takes."""
        template = self.prompt_template
        return ApiQuestion(
            messages=tuple(message.to_domain() for message in self.messages),
            sampling=Sampling(
                temperature=self.temperature,
                top_p=self.top_p,
                top_k=self.top_k,
                repetition_penalty=self.repetition_penalty,
                presence_penalty=self.presence_penalty,
                frequency_penalty=self.frequency_penalty,
                seed=self.seed,
                max_tokens=self.max_completion_tokens or self.max_tokens,
                stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
            ),
            model=self.model,
            template=template.name if template else None,
            template_version=template.version if template else None,
            variables=template.variables if template else {},
        )


def router(
    services: Services, *, replies: Replies, route_class: type[APIRoute], closing: Closing, operator: str
) -> APIRouter:
    """Return the routes, for those whom `route_class` lets in; `closing` ends what is open.

    `operator` is who the labels name as the producer.
    """
    routes = APIRouter(prefix="/v1", route_class=route_class)

    async def model_names() -> list[str]:
        status = await services.engine.status()
        return ["default", *(name for name in status.models if name != "default")]

    @routes.get("/models")
    async def models() -> dict[str, object]:
        cards = [{"id": name, "object": "model", "created": 0, "owned_by": "haina"} for name in await model_names()]
        return {"object": "list", "data": cards}

    @routes.post("/chat/completions")
    async def complete(request: Request, body: CompletionRequest) -> Response:
        account = request.state.account
        if body.model != "default" and body.model not in await model_names():
            raise ModelNotFound(kind="model", model=body.model[:100], param="model")
        asked = await services.chat.ask_for_program(account, body.to_question())
        answer = _Answer(
            services, account, asked.answer, model=body.model, replies=replies, closing=closing, operator=operator
        )
        if body.stream:
            options = body.stream_options or StreamOptions()
            return StreamingResponse(
                answer.stream(has_usage=options.include_usage),
                media_type="text/event-stream",
                headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no", **answer.headers},
            )
        return await answer.whole(request)

    return routes


class _Answer:
    """An answer on its way to a program."""

    def __init__(
        self,
        services: Services,
        account: Account,
        answer: Message,
        *,
        model: str,
        replies: Replies,
        closing: Closing,
        operator: str,
    ) -> None:
        self._chat = services.chat
        self._replies = replies
        self._closing = closing
        self._account = account
        self._id = answer.id
        self.headers = {HEADER: "false" if answer.is_prepared else "true"}
        self._masks = services.chat.masks(account, answer.id)
        """For who asked: to put back what the policy lets return."""
        self._aigc = Aigc(producer=operator, produce_id=answer.id).as_fields()
        self._common = {"id": f"chatcmpl-{answer.id}", "created": int(time()), "model": model}

    async def whole(self, request: Request) -> Response:
        """Wait for the end, or for the client to leave."""
        ended = asyncio.ensure_future(self._end())
        gone = asyncio.ensure_future(_gone(request))
        await asyncio.wait({ended, gone}, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        if not ended.done():
            ended.cancel()
            await self._chat.stop(self._account, self._id)
            return Response(status_code=499)  # nobody reads it
        end = ended.result()
        if end.answer.state is MessageState.FAILED or (end.answer.state is MessageState.INTERRUPTED):
            raise _Failure(end)
        text = self._masks.unmask(end.answer.text)
        message = {"role": "assistant", "content": text, "refusal": self._refusal(end.answer)}
        choice = {"index": 0, "message": message, "finish_reason": _finish_reason(end.answer), "logprobs": None}
        body = {
            **self._common,
            "object": "chat.completion",
            "choices": [choice],
            "usage": _usage(end.answer),
            **self._label(end.answer),
            **_refused(end.answer),
        }
        return JSONResponse(body, headers=self.headers)

    async def stream(self, *, has_usage: bool) -> AsyncIterator[bytes]:
        """Yield OpenAI chunks; a client that leaves stops the turn. A server that goes down says so."""
        is_over = False
        unmasking = self._masks.stream()
        try:
            yield self._chunk({"role": "assistant", "content": ""})
            async with aclosing(self._chat.read(self._account, self._id)) as batches:  # type: ignore[type-var]
                async for batch in self._closing.until(batches):
                    text = unmasking.feed(joined(one.event.text for one in batch if isinstance(one.event, Released)))
                    out = self._chunk({"content": text}) if text else b"" if batch else b": beat\n\n"
                    if batch and isinstance(batch[-1].event, Ended):
                        is_over = True
                        if rest := unmasking.finish():
                            out += self._chunk({"content": rest})
                        out += self._last(batch[-1].event, has_usage=has_usage)
                    if out:
                        yield out
            if not is_over:
                yield _told(ServerStopping())
        finally:
            if not is_over and not self._closing.has_begun:
                await self._chat.stop(self._account, self._id)

    async def _end(self) -> Ended:
        async for batch in self._closing.until(self._chat.read(self._account, self._id)):
            if batch and isinstance(batch[-1].event, Ended):
                return batch[-1].event
        raise ServerStopping

    def _chunk(self, delta: dict[str, object], *, finish_reason: str | None = None, **more: object) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        return _data({**self._common, "object": "chat.completion.chunk", "choices": [choice], **more})

    def _refusal(self, answer: Message) -> str | None:
        if answer.state is not MessageState.BLOCKED:
            return None
        data = answer.error_data
        error = ContentBlocked(category=answer.category, stage=data.get("stage"), decision_id=data.get("decision_id"))
        return brief_reply(error, self._replies, "en") or None

    def _label(self, answer: Message) -> dict[str, object]:
        """Return the implicit label; what a person wrote in advance has none."""
        return {} if answer.is_prepared else {"aigc": self._aigc}

    def _last(self, end: Ended, *, has_usage: bool) -> bytes:
        if end.answer.state in {MessageState.FAILED, MessageState.INTERRUPTED}:
            return _told(_Failure(end))
        reply = self._refusal(end.answer)
        label = {**self._label(end.answer), **_refused(end.answer)}
        delta: dict[str, object] = {"refusal": reply} if reply else {}
        out = self._chunk(delta, finish_reason=_finish_reason(end.answer), **label)
        if has_usage:
            usage = {**self._common, "object": "chat.completion.chunk", "choices": [], "usage": _usage(end.answer)}
            out += _data(usage)
        return out + b"data: [DONE]\n\n"


class _Failure(ChatError):
    """An answer that failed, with the code and status of what ended it."""

    def __init__(self, end: Ended) -> None:
        super().__init__()
        kind = _kind_of(end.answer.error_code or EngineDied.code)
        self.data = dict(end.answer.error_data)
        self.code = kind.code  # type: ignore[misc]
        self.status = kind.status  # type: ignore[misc]
        self.is_retryable = kind.is_retryable  # type: ignore[misc]


def _kind_of(code: str) -> type[ChatError]:
    kinds = [ChatError]
    while kinds:
        kind = kinds.pop()
        if kind.code == code:
            return kind
        kinds.extend(kind.__subclasses__())
    return ChatError


def _told(error: ChatError) -> bytes:
    """Return the last events of a stream that an error ends."""
    return _data(openai_error(error, describe(error, "en"))) + b"data: [DONE]\n\n"


def _finish_reason(answer: Message) -> str:
    if answer.state is MessageState.BLOCKED or answer.is_prepared:
        return "content_filter"
    return "length" if answer.receipt is not None and answer.receipt.finish_reason == "length" else "stop"


def _refused(answer: Message) -> dict[str, object]:
    """Return what an answer that the filter ended has beside OpenAI's fields: the decision, for an appeal."""
    if answer.state is not MessageState.BLOCKED or "decision_id" not in answer.error_data:
        return {}
    return {"haina": {"decision_id": answer.error_data["decision_id"]}}


def _usage(answer: Message) -> dict[str, int]:
    prompt = answer.receipt.prompt_tokens if answer.receipt else 0
    completion = answer.receipt.completion_tokens if answer.receipt else 0
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _data(body: dict[str, object]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


async def _gone(request: Request) -> None:
    """Return when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
