"""A sequence classifier behind `POST /classify`, as vLLM and our worker serve one.

    {"model": "…", "input": "text"}  →  {"data": [{"index": 0, "label": "…", "probs": [0.9, 0.1], "num_classes": 2}]}

vLLM names only the likeliest label; of two labels that the policy both knows the other one's score is the rest. Our
worker says `labels` beside it, the names of all shares in their order: then each label has its own.
Source: https://docs.vllm.ai, Classification API.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from app.domain.generation import ChatMessage
from app.safety.guards.client import GuardClient
from app.safety.guards.spec import OTHER
from app.safety.guards.verdict import GuardFailure, Label

_TWO: Final = 2


class Classify:
    """The adapter."""

    def __init__(self, client: GuardClient, *, labels: Iterable[str]) -> None:
        """`labels` are those that the policy maps, in lower case."""
        self._client = client
        self._labels = tuple(label for label in labels if label != OTHER)

    async def ask(self, turns: Sequence[ChatMessage]) -> Sequence[Label]:
        """Judge the last turn; there is no place for the others."""
        payload = {**self._client.chosen_model, "input": turns[-1].text}
        return read(await self._client.post("classify", payload, is_at_root=True), labels=self._labels)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()


def read(reply: Mapping[str, object], *, labels: Sequence[str]) -> Sequence[Label]:
    """Return every label that is named with its share, and the other one of two. Raises GuardFailure."""
    data = reply.get("data")
    result = data[0] if isinstance(data, list) and len(data) == 1 else None
    if not isinstance(result, dict):
        raise GuardFailure("reply")
    label, probs = result.get("label"), result.get("probs")
    if not isinstance(label, str) or not isinstance(probs, list) or not probs:
        raise GuardFailure("reply")
    if not all(isinstance(share, int | float) and not isinstance(share, bool) and 0 <= share <= 1 for share in probs):
        raise GuardFailure("reply")
    names = reply.get("labels")
    if isinstance(names, list) and len(names) == len(probs) and all(isinstance(name, str) for name in names):
        return [Label(name, float(share)) for name, share in zip(names, probs, strict=True)]
    score = float(max(probs))
    found = [Label(label, score)]
    others = [one for one in labels if one != label.lower()]
    if len(probs) == _TWO and len(labels) == _TWO and len(others) == 1:
        found.append(Label(others[0], float(min(probs))))
    return found
