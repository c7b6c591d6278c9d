"""What the engine is asked for and what it says in return: plain values, no torch.

A `Job` is one completion. Whoever submits it hands over a sink; the engine calls the sink with any number of `Piece`
(and, once, `PromptScored` where that was asked for), then with exactly one `Ended`, whatever happens.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

GREEDY_BELOW = 1e-5
"""A temperature below this is greedy, as in vLLM: dividing by it would overflow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How the next token is chosen: all values filled in, within their ranges."""

    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    """In (0, 1]."""
    top_k: int = 0
    """0: not limited."""
    repetition_penalty: float = 1.0
    """Above 0; of tokens in the prompt and in the answer, as transformers and vLLM do it."""
    presence_penalty: float = 0.0
    """Of tokens in the answer."""
    frequency_penalty: float = 0.0
    """Of tokens in the answer, for each time."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int = 0
    """Of this job's own random numbers: its neighbours make no difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One completion. `len(prompt_ids) + max_tokens` fits the model's context; all ids are in its vocabulary."""

    id: str
    prompt_ids: tuple[int, ...]
    max_tokens: int
    """0 scores the prompt and makes no token."""
    sampling: SamplingParams = field(default_factory=SamplingParams)
    stop: tuple[str, ...] = ()
    """The answer ends before the first of these; none of them, nor a part at their place, is ever emitted."""
    stop_token_ids: frozenset[int] = frozenset()
    """The model's own and the request's; the token counts, its text is not shown."""
    logprobs: int | None = None
    """How many of the most likely tokens to report beside each token; None: no log probabilities at all."""
    wants_prompt_logprobs: bool = False


@dataclass(frozen=True, slots=True)
class TokenScore:
    """A token and its log probability before penalties and temperature; None for the first token of a prompt."""

    id: int
    logprob: float | None
    top: tuple[tuple[int, float], ...] = ()
    """The most likely ids, best first."""


@dataclass(frozen=True, slots=True)
class PromptScored:
    """The prompt's tokens with their log probabilities."""

    tokens: tuple[TokenScore, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """New text, of whole code points, and the tokens since the piece before. The text may be empty (held back)."""

    text: str
    tokens: tuple[TokenScore, ...]
    completion_tokens: int
    """So far."""


class EndReason(StrEnum):
    """Why a job ended."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    ERROR = "error"
    SHUTDOWN = "shutdown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The last event of every job."""

    reason: EndReason
    stop_reason: str | int | None = None
    """The stop string, or the stop token's id, that ended it."""
    prompt_tokens: int
    completion_tokens: int
    error_code: str = ""
    """With `ERROR`: `out_of_memory`, `invalid_numbers`, `engine_stopped` or `internal_error`."""
    detail: str = ""
    """For developers; never message text."""


Event = Piece | PromptScored | Ended
Sink = Callable[[Event], None]
"""Called from the engine's thread: it must neither block nor raise."""
