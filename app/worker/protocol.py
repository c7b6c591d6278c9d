"""What the worker's routes take: OpenAI's fields, and vLLM's names for the rest, so that the two can be exchanged.

A field that is not known is refused by its name: it would otherwise be ignored in silence.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

TOKEN_VARIABLE = "HAINA_WORKER_TOKEN"  # noqa: S105 - the name of the variable
"""Where the worker finds the token that it asks for. In the environment, because `ps` shows arguments."""
NO_MODEL = "none"
"""What `--model` says where the worker has a classifier alone."""
MAX_LOGPROBS = 20
DEFAULT_MAX_TOKENS = 16  # OpenAI's and vLLM's, of the completions route

MAX_TEXTS = 64
"""In one request to the classifier."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: str | None = None
    """A name from `/v1/models`, `default`, or nothing."""


class StreamOptions(BaseModel):
    """What a stream tells beside the text."""

    model_config = ConfigDict(extra="forbid")

    include_usage: bool = False
    continuous_usage_stats: bool = False


class GenerationBody(_Body):
    """What both completion routes take. None means: what the model's own generation_config says."""

    max_tokens: int | None = Field(default=None, ge=0)
    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=-1)
    repetition_penalty: float | None = Field(default=None, gt=0)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[int, Annotated[float, Field(ge=-100, le=100)]] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: Annotated[str, Field(min_length=1)] | list[Annotated[str, Field(min_length=1)]] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    n: Literal[1] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    return_token_ids: bool | None = None
    request_id: str | None = Field(default=None, max_length=200)
    """For the log, and in the answer's id."""
    cache_salt: str | None = None
    """Whose prefix may be reused. Nothing is reused yet."""
    user: str | None = None
    """OpenAI's; not used."""

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class CompletionBody(GenerationBody):
    """`POST /v1/completions`."""

    prompt: Annotated[str, Field(min_length=1)] | Annotated[list[int], Field(min_length=1)]
    max_tokens: int | None = Field(default=DEFAULT_MAX_TOKENS, ge=0)
    echo: bool = False
    logprobs: int | None = Field(default=None, ge=0, le=MAX_LOGPROBS)
    add_special_tokens: bool = True


class TextPart(BaseModel):
    """A part of a message; pictures and sounds are not taken."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    text: str


class MessageBody(BaseModel):
    """One message of a chat."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None

    @property
    def text(self) -> str:
        """The message's text, parts joined."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ChatBody(GenerationBody):
    """`POST /v1/chat/completions`."""

    messages: list[MessageBody] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=0)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_LOGPROBS)


class ClassifyBody(_Body):
    """`POST /classify`. Texts only: ids would have to be cut into windows without knowing what they stand for."""

    input: str | Annotated[list[str], Field(min_length=1, max_length=MAX_TEXTS)]
    use_activation: Literal[True] | None = None
    """vLLM's: probabilities, which is all that there is here."""
    request_id: str | None = Field(default=None, max_length=200)
    """In the answer's id."""
    user: str | None = None
    """OpenAI's; not used."""

    @property
    def texts(self) -> list[str]:
        """The texts, in order."""
        return [self.input] if isinstance(self.input, str) else self.input


class TokenizeBody(_Body):
    """`POST /tokenize`."""

    prompt: str
    add_special_tokens: bool = True
    return_token_strs: bool = False


class DetokenizeBody(_Body):
    """`POST /detokenize`."""

    tokens: list[int]
