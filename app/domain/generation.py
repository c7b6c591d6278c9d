"""What is asked of an engine, and what comes back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from app.domain.models import Role, Sampling


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """A message as a prompt format or a chat engine takes it."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProfile:
    """What one must know about a model to build its prompts and plan its context."""

    id: str
    """The name that the engine goes by on its API."""
    title: str
    """For people: `Baichuan2-7B-Chat`."""
    prompt_format: str | None
    """`baichuan2`, `chatml`, …; None for an engine that takes messages and builds its prompts itself."""
    context_length: int
    """Tokens, prompt and answer together."""
    stop_token_ids: tuple[int, ...] = ()
    defaults: Sampling = field(default_factory=Sampling)
    """From the model's generation_config."""
    revision: str = ""
    quantization: str = "none"
    dtype: str = ""
    adapter: str = ""
    """The LoRA adapter that changes it; empty: none."""
    is_embedded: bool = False
    """The small English model that comes with the program; the page says so."""
    license_url: str = ""
    source_url: str = ""


class EngineState(StrEnum):
    """Whether an engine can answer."""

    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    DOWN = "down"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatus:
    """An engine's state at one moment."""

    state: EngineState
    stage: str = ""
    """While it loads: `download`, `convert`, `weights`, …"""
    progress: float = 0.0
    """0 to 1, within the whole load."""
    detail: str = ""
    """Why it is down, for the admin; English."""
    slots: int = 1
    """How many requests run at once."""
    running: int = 0
    waiting: int = 0
    models: tuple[str, ...] = ()
    profile: ModelProfile | None = None
    """Of the default model; None until it is ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One completion. Exactly one of `prompt_ids` and `messages` is set."""

    id: str
    """The turn's id: for logs, and for the engine's own request id."""
    owner: str
    """Whose prefix may be reused; an account id."""
    prompt_ids: tuple[int, ...] = ()
    messages: tuple[ChatMessage, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    """Filled in: `max_tokens` is set."""
    stop_token_ids: tuple[int, ...] = ()
    model: str = "default"
    logit_bias: Mapping[str, float] = field(default_factory=dict)


class FinishReason(StrEnum):
    """Why a generation ended."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of text. Whole code points; `tokens` is how many tokens made it (0 where the engine does not tell)."""

    text: str
    tokens: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The last item of every generation that did not raise."""

    reason: FinishReason
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Messages as a model takes them, fitted to its context."""

    ids: tuple[int, ...] = ()
    messages: tuple[ChatMessage, ...] = ()
    """For an engine that builds its prompts itself."""
    tokens: int
    """Exact with `ids`, an estimate with `messages`."""
    dropped: int = 0
    """How many of the oldest messages did not fit."""
    max_tokens: int
    """Room for the answer."""
