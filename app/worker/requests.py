"""From a request's body to a job: defaults filled in, everything checked before the engine sees it."""

import secrets
from collections.abc import Sequence
from http import HTTPStatus

from starlette.responses import JSONResponse

from app.domain.errors import ContextLengthExceeded, InvalidInput
from app.domain.generation import ChatMessage, ModelProfile
from app.domain.models import Role
from app.domain.ports import PromptFormat
from app.worker import answers
from app.worker.jobs import GREEDY_BELOW, Job, SamplingParams
from app.worker.protocol import ChatBody, CompletionBody, GenerationBody
from app.worker.vocabulary import Vocabulary


class Refused(Exception):
    """A request that is answered with an error, in OpenAI's form."""

    def __init__(
        self,
        message: str,
        *,
        status: int = HTTPStatus.BAD_REQUEST,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        kind = "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
        self.body = answers.error(message, kind=kind, code=code, param=param)
        self._retry_after_s = retry_after_s

    def response(self) -> JSONResponse:
        """Return the HTTP answer."""
        headers = {"retry-after": str(max(1, round(self._retry_after_s)))} if self._retry_after_s is not None else {}
        return JSONResponse(self.body, status_code=self.status, headers=headers)


def queue_full(*, expected_wait_s: float) -> Refused:
    """Return the refusal of a request that there is no room for."""
    return Refused(
        "too many requests wait",
        status=HTTPStatus.TOO_MANY_REQUESTS,
        code="rate_limit_exceeded",
        retry_after_s=expected_wait_s,
    )


def shutting_down() -> Refused:
    """Return the refusal of a request that came too late, or did not end in time."""
    return Refused("the worker is shutting down", status=HTTPStatus.SERVICE_UNAVAILABLE, code="engine_unavailable")


def completion_job(body: CompletionBody, *, profile: ModelProfile, vocabulary: Vocabulary, vocab_size: int) -> Job:
    """Return the job of a completion. Raises Refused."""
    if isinstance(body.prompt, str):
        ids = vocabulary.encode(body.prompt, add_special_tokens=body.add_special_tokens)
    else:
        ids = body.prompt
    if not ids:
        raise Refused("the prompt is empty", param="prompt")
    if any(not 0 <= token < vocab_size for token in ids):
        raise Refused(f"a token id is not in the vocabulary of {vocab_size}", param="prompt")
    return _job(
        body,
        ids=ids,
        max_tokens=body.max_tokens,
        profile=profile,
        vocab_size=vocab_size,
        logprobs=body.logprobs,
        wants_prompt_logprobs=body.echo and body.logprobs is not None,
    )


def chat_job(body: ChatBody, *, profile: ModelProfile, prompt_format: PromptFormat | None, vocab_size: int) -> Job:
    """Return the job of a chat. Raises Refused."""
    if prompt_format is None:
        raise Refused("this model has no prompt format: use /v1/completions", code="no_prompt_format")
    if body.top_logprobs is not None and not body.logprobs:
        raise Refused("top_logprobs needs logprobs", param="top_logprobs")
    wanted = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    messages = [ChatMessage(Role(message.role), message.text) for message in body.messages]
    try:
        prompt = prompt_format.build(
            messages,
            context_length=profile.context_length,
            max_tokens=wanted or profile.defaults.max_tokens or profile.context_length // 2,
        )
    except ContextLengthExceeded as error:
        raise Refused(
            "the messages do not fit the model's context", code="context_length_exceeded", param="messages"
        ) from error
    except InvalidInput as error:
        raise Refused(error.detail, param="messages") from error
    return _job(
        body,
        ids=prompt.ids,
        max_tokens=prompt.max_tokens if wanted != 0 else 0,
        profile=profile,
        vocab_size=vocab_size,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
    )


def _job(
    body: GenerationBody,
    *,
    ids: Sequence[int],
    max_tokens: int | None,
    profile: ModelProfile,
    vocab_size: int,
    logprobs: int | None,
    wants_prompt_logprobs: bool = False,
) -> Job:
    room = profile.context_length - len(ids)
    if room < (1 if max_tokens is None else max_tokens):
        raise Refused(
            f"the model's context is {profile.context_length} tokens: {len(ids)} of the prompt leave no room "
            f"for {max_tokens or 1} of the answer",
            code="context_length_exceeded",
            param="prompt",
        )
    own_stop_ids = () if body.ignore_eos else profile.stop_token_ids
    return Job(
        id=body.request_id or secrets.token_hex(8),
        prompt_ids=tuple(ids),
        max_tokens=room if max_tokens is None else max_tokens,
        sampling=_sampling(body, profile=profile, vocab_size=vocab_size),
        stop=body.stops,
        stop_token_ids=frozenset(own_stop_ids) | frozenset(body.stop_token_ids or ()),
        logprobs=logprobs,
        wants_prompt_logprobs=wants_prompt_logprobs,
    )


def _sampling(body: GenerationBody, *, profile: ModelProfile, vocab_size: int) -> SamplingParams:
    defaults = profile.defaults
    # Who asks for no chance wants the likeliest tokens: the model's own penalty belongs to its sampling.
    penalty = defaults.repetition_penalty if body.temperature is None or body.temperature >= GREEDY_BELOW else None
    bias = tuple((body.logit_bias or {}).items())
    if any(not 0 <= token < vocab_size for token, _ in bias):
        raise Refused("a token id is not in the vocabulary", param="logit_bias")
    return SamplingParams(
        temperature=_first(body.temperature, defaults.temperature, 1.0),
        top_p=_first(body.top_p, defaults.top_p, 1.0),
        top_k=max(0, int(_first(body.top_k, defaults.top_k, 0))),
        repetition_penalty=_first(body.repetition_penalty, penalty, 1.0),
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        logit_bias=bias,
        seed=body.seed if body.seed is not None else secrets.randbits(63),
    )


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)
