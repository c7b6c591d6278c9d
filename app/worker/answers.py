"""What the worker's routes send: OpenAI's shapes, with vLLM's additions (`token_ids`, `stop_reason`).

A shape belongs to one request. It turns the engine's events into the choices of chunks and of the whole answer; the
route adds nothing of its own.
"""

import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from app.domain.generation import ModelProfile
from app.worker.jobs import Ended, Job, Piece, PromptScored, TokenScore
from app.worker.vocabulary import Vocabulary

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerOptions:
    """What the request wants to be told."""

    has_logprobs: bool = False
    has_token_ids: bool = False
    has_usage: bool = False
    has_usage_in_chunks: bool = False
    echo: str | None = None
    """The prompt's text, to be repeated in front."""


@dataclass(slots=True, kw_only=True)
class Answer:
    """The frame around the choices, the same in both routes."""

    kind: str
    """`text_completion`, `chat.completion`, `chat.completion.chunk`."""
    model: str
    prefix: str
    request_id: str = ""
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self.request_id = f"{self.prefix}-{self.request_id or uuid.uuid4().hex}"

    def frame(self, choices: Sequence[Json], **more: Any) -> Json:
        """Return an answer, or a chunk of one."""
        return {
            "id": self.request_id,
            "object": self.kind,
            "created": self.created,
            "model": self.model,
            "choices": list(choices),
            **more,
        }


class Shape(Protocol):
    """One request's way from events to choices."""

    answer: Answer
    options: AnswerOptions

    def opening(self) -> Json | None:
        """Return the choice that a stream begins with, if any."""
        ...

    def scored(self, event: PromptScored) -> Json:
        """Return the choice with the echoed prompt."""
        ...

    def piece(self, event: Piece) -> Json:
        """Return the choice with new text."""
        ...

    def ending(self, event: Ended) -> Json:
        """Return the choice that ends a stream."""
        ...

    def whole(self, events: Sequence[PromptScored | Piece], ended: Ended) -> Json:
        """Return the whole answer, without its usage."""
        ...


class CompletionShape:
    """`/v1/completions`."""

    def __init__(
        self, *, job: Job, vocabulary: Vocabulary, answer: Answer, options: AnswerOptions, own_stop_ids: frozenset[int]
    ) -> None:
        self.answer = answer
        self.options = options
        self._job = job
        self._vocabulary = vocabulary
        self._own_stop_ids = own_stop_ids
        self._offset = 0

    def opening(self) -> Json | None:
        """The echo without scores comes first."""
        if self.options.echo is None or self._job.wants_prompt_logprobs:
            return self._choice("", prompt=True) if self.options.has_token_ids else None
        return self._choice(self.options.echo, prompt=True)

    def scored(self, event: PromptScored) -> Json:
        """The echo with scores."""
        return self._choice(self.options.echo or "", scores=event.tokens)

    def piece(self, event: Piece) -> Json:
        """New text and its tokens."""
        return self._choice(event.text, scores=event.tokens)

    def ending(self, event: Ended) -> Json:
        """The reason alone."""
        return self._choice("", ended=event)

    def whole(self, events: Sequence[PromptScored | Piece], ended: Ended) -> Json:
        """All text and all tokens in one choice."""
        text = "".join(event.text for event in events if isinstance(event, Piece))
        choice = self._choice(
            (self.options.echo or "") + text, scores=_tokens(events, with_prompt=True), ended=ended, prompt=True
        )
        if self.options.has_token_ids:
            choice["token_ids"] = [token.id for token in _tokens(events, with_prompt=False)]
        return self.answer.frame([choice])

    def _choice(
        self,
        text: str,
        *,
        scores: Sequence[TokenScore] = (),
        ended: Ended | None = None,
        prompt: bool = False,
    ) -> Json:
        choice: Json = {"index": 0, "text": text, "logprobs": None} | _reason(ended, own_stop_ids=self._own_stop_ids)
        if self.options.has_logprobs and scores:
            choice["logprobs"] = self._logprobs(scores)
        if self.options.has_token_ids:
            choice["token_ids"] = [token.id for token in scores]
            if prompt:
                choice["prompt_token_ids"] = list(self._job.prompt_ids)
        return choice

    def _logprobs(self, scores: Sequence[TokenScore]) -> Json:
        texts = [self._vocabulary.decode([token.id]) for token in scores]
        offsets = []
        for text in texts:
            offsets.append(self._offset)
            self._offset += len(text)
        tops: list[dict[str, float] | None] = []
        for token in scores:
            top: dict[str, float] = {}
            for token_id, logprob in token.top:
                top.setdefault(self._vocabulary.decode([token_id]), logprob)
            tops.append(top if token.logprob is not None else None)
        return {
            "tokens": texts,
            "token_logprobs": [token.logprob for token in scores],
            "top_logprobs": tops,
            "text_offset": offsets,
        }


class ChatShape:
    """`/v1/chat/completions`."""

    def __init__(
        self, *, job: Job, vocabulary: Vocabulary, answer: Answer, options: AnswerOptions, own_stop_ids: frozenset[int]
    ) -> None:
        self.answer = answer
        self.options = options
        self._job = job
        self._vocabulary = vocabulary
        self._own_stop_ids = own_stop_ids

    def opening(self) -> Json | None:
        """The role."""
        return self._choice("delta", {"role": "assistant", "content": ""})

    def scored(self, event: PromptScored) -> Json:
        """Chats have no echo."""
        raise NotImplementedError

    def piece(self, event: Piece) -> Json:
        """New text and its tokens."""
        return self._choice("delta", {"content": event.text}, scores=event.tokens)

    def ending(self, event: Ended) -> Json:
        """The reason alone."""
        return self._choice("delta", {}, ended=event)

    def whole(self, events: Sequence[PromptScored | Piece], ended: Ended) -> Json:
        """The message."""
        text = "".join(event.text for event in events if isinstance(event, Piece))
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = self._choice("message", message, scores=_tokens(events, with_prompt=False), ended=ended)
        more = {"prompt_token_ids": list(self._job.prompt_ids)} if self.options.has_token_ids else {}
        return self.answer.frame([choice], **more)

    def _choice(
        self, key: str, content: Json, *, scores: Sequence[TokenScore] = (), ended: Ended | None = None
    ) -> Json:
        choice: Json = {"index": 0, key: content, "logprobs": None} | _reason(ended, own_stop_ids=self._own_stop_ids)
        if self.options.has_logprobs and scores:
            choice["logprobs"] = {
                "content": [
                    self._scored(token.id, token.logprob)
                    | {"top_logprobs": [self._scored(token_id, logprob) for token_id, logprob in token.top]}
                    for token in scores
                ]
            }
        if self.options.has_token_ids:
            choice["token_ids"] = [token.id for token in scores]
        return choice

    def _scored(self, token_id: int, logprob: float | None) -> Json:
        text = self._vocabulary.decode([token_id])
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def usage(*, prompt_tokens: int, completion_tokens: int) -> Json:
    """Return OpenAI's `usage`."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def error(message: str, *, kind: str, code: str | None = None, param: str | None = None) -> Json:
    """Return OpenAI's error body."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def model_card(profile: ModelProfile, *, created: int) -> Json:
    """Return a model as `/v1/models` lists it."""
    defaults = profile.defaults
    return {
        "id": profile.id,
        "object": "model",
        "created": created,
        "owned_by": "haina",
        "root": profile.id,
        "parent": None,
        "max_model_len": profile.context_length,
        "task": "generate",
        "haina": {
            "title": profile.title,
            "prompt_format": profile.prompt_format,
            "stop_token_ids": list(profile.stop_token_ids),
            "defaults": {
                "temperature": defaults.temperature,
                "top_p": defaults.top_p,
                "top_k": defaults.top_k,
                "repetition_penalty": defaults.repetition_penalty,
                "max_tokens": defaults.max_tokens,
            },
            "revision": profile.revision,
            "quantization": profile.quantization,
            "dtype": profile.dtype,
            "adapter": profile.adapter,
            "is_embedded": profile.is_embedded,
            "license_url": profile.license_url,
            "source_url": profile.source_url,
        },
    }


def _reason(ended: Ended | None, *, own_stop_ids: frozenset[int]) -> Json:
    """As in vLLM the model's own end of text is no `stop_reason`."""
    if ended is None:
        return {"finish_reason": None, "stop_reason": None}
    stop_reason = None if ended.stop_reason in own_stop_ids else ended.stop_reason
    return {"finish_reason": str(ended.reason), "stop_reason": stop_reason}


def _tokens(events: Iterable[PromptScored | Piece], *, with_prompt: bool) -> list[TokenScore]:
    return [token for event in events if with_prompt or isinstance(event, Piece) for token in event.tokens]
