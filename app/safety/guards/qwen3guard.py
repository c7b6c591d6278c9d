"""Qwen3Guard-Gen behind vLLM or SGLang: plain messages go in, its chat template adds the policy.

    Safety: Unsafe
    Categories: Non-violent Illegal Acts, Violent
    Refusal: No                                     (of answers only)

Source: https://github.com/QwenLM/Qwen3Guard, README; the lines as the chat template asks for them.
"""

import re
from collections.abc import Sequence
from typing import Final

from app.domain.generation import ChatMessage
from app.safety.guards.client import GuardClient, chat_reply
from app.safety.guards.conversation import messages
from app.safety.guards.verdict import CONTROVERSIAL, GuardFailure, Label

_MAX_TOKENS: Final = 64
_SAFETY: Final = re.compile(r"Safety:[ \t]*(Safe|Unsafe|Controversial)[ \t]*")
_SCORES: Final = {"Unsafe": 1.0, "Controversial": CONTROVERSIAL}
_CATEGORIES: Final = "Categories:"
_NONE: Final = "None"
_UNNAMED: Final = "Unsafe"


class Qwen3Guard:
    """The adapter."""

    def __init__(self, client: GuardClient) -> None:
        """Nothing is asked yet."""
        self._client = client

    async def ask(self, turns: Sequence[ChatMessage]) -> Sequence[Label]:
        """Judge the last turn."""
        payload = {
            "model": await self._client.model(),
            "messages": messages(turns),
            "temperature": 0,
            "max_tokens": _MAX_TOKENS,
        }
        text, _ = chat_reply(await self._client.post("chat/completions", payload))
        return read(text)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()


def read(text: str) -> Sequence[Label]:
    """Return what a reply says. Only the line of categories names them: "Violent" is a part of "Non-violent".

    Raises GuardFailure for anything but these lines, also where they contradict each other.
    """
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    if lines and lines[0] == "<think>":  # the empty thought that the template begins with, where a server repeats it
        lines = lines[lines.index("</think>") + 1 :] if "</think>" in lines else []
    said = _SAFETY.fullmatch(lines[0]) if lines else None
    if said is None or len(lines) < 2 or not lines[1].startswith(_CATEGORIES):  # noqa: PLR2004 - both lines
        raise GuardFailure("reply")
    names = [name.strip() for name in lines[1].removeprefix(_CATEGORIES).split(",")]
    named = [name for name in names if name and name != _NONE]
    if said[1] == "Safe":
        if named:
            raise GuardFailure("reply")
        return ()
    return [Label(name, _SCORES[said[1]]) for name in named or [_UNNAMED]]
