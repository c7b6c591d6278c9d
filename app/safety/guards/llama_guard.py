"""Llama Guard 3: plain messages go in, the server's chat template adds the policy.

The reply:

    safe          or          unsafe
                              S2,S9

Where the server gives token probabilities the score is that of `unsafe` as the first word. The model's card does not
list Chinese among its languages.
Source: https://huggingface.co/meta-llama/Llama-Guard-3-8B.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Final

from app.domain.generation import ChatMessage
from app.safety.guards.client import BLAMES_REQUEST, GuardClient, GuardRefused, chat_reply
from app.safety.guards.conversation import messages
from app.safety.guards.verdict import GuardFailure, Label

_MAX_TOKENS: Final = 32
_TOP: Final = 5
_CODES: Final = re.compile(r"S\d{1,2}(\s*,\s*S\d{1,2})*")
_UNNAMED: Final = "unsafe"


class LlamaGuard:
    """The adapter."""

    def __init__(self, client: GuardClient) -> None:
        """Nothing is asked yet."""
        self._client = client
        self._has_logprobs = True

    async def ask(self, turns: Sequence[ChatMessage]) -> Sequence[Label]:
        """Judge the last turn."""
        payload: dict[str, object] = {
            "model": await self._client.model(),
            "messages": messages(turns),
            "temperature": 0,
            "max_tokens": _MAX_TOKENS,
        }
        if self._has_logprobs:
            try:
                reply = await self._client.post("chat/completions", payload | {"logprobs": True, "top_logprobs": _TOP})
            except GuardRefused as refused:
                if refused.status not in BLAMES_REQUEST:
                    raise
                reply = await self._client.post("chat/completions", payload)
                self._has_logprobs = False  # it was the probabilities that it could not give
        else:
            reply = await self._client.post("chat/completions", payload)
        text, choice = chat_reply(reply)
        return read(text, probability=unsafe_probability(choice))

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()


def read(text: str, *, probability: float | None = None) -> Sequence[Label]:
    """Return what a reply says; `probability` is that of `unsafe`. Raises GuardFailure for anything else."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    if lines == ["safe"]:
        return [Label(_UNNAMED, probability)] if probability else ()
    if not lines or lines[0] != "unsafe" or len(lines) > 2:  # noqa: PLR2004 - two lines
        raise GuardFailure("reply")
    score = 1.0 if probability is None else probability
    if len(lines) == 1:
        return [Label(_UNNAMED, score)]
    if not _CODES.fullmatch(lines[1]):
        raise GuardFailure("reply")
    return [Label(code.strip(), score) for code in lines[1].split(",")]


def unsafe_probability(choice: Mapping[str, object]) -> float | None:
    """Return the share of `unsafe` among `safe` and `unsafe`, where the verdict stands; None where it is not told."""
    logprobs = choice.get("logprobs")
    tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
    for token in tokens if isinstance(tokens, list) else ():
        if not isinstance(token, dict) or not isinstance(token.get("token"), str):
            return None
        if not token["token"].strip():
            continue
        top = token.get("top_logprobs")
        shares = {"safe": 0.0, "unsafe": 0.0}
        for one in [token, *(top if isinstance(top, list) else ())]:
            name = one.get("token") if isinstance(one, dict) else None
            value = one.get("logprob") if isinstance(one, dict) else None
            if isinstance(name, str) and name.strip() in shares and isinstance(value, int | float) and value <= 0:
                shares[name.strip()] = max(shares[name.strip()], math.exp(value))
        whole = sum(shares.values())
        return shares["unsafe"] / whole if whole else None
    return None
