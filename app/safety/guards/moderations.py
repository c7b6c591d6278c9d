"""Whatever speaks `POST /v1/moderations` in OpenAI's shape: a hosted API, another Haina.

Scores are the guard's own. What it flags counts as 0.5 at least: its own thresholds, by category, were met.
Source: https://platform.openai.com/docs/api-reference/moderations.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from app.domain.generation import ChatMessage
from app.safety.guards.client import GuardClient
from app.safety.guards.verdict import GuardFailure, Label

_FLAGGED: Final = 0.5


class Moderations:
    """The adapter."""

    def __init__(self, client: GuardClient) -> None:
        """Nothing is asked yet."""
        self._client = client

    async def ask(self, turns: Sequence[ChatMessage]) -> Sequence[Label]:
        """Judge the last turn; there is no place for the others."""
        payload = {**self._client.chosen_model, "input": turns[-1].text}
        return read(await self._client.post("moderations", payload))

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()


def read(reply: Mapping[str, object]) -> Sequence[Label]:
    """Return each category with its score. Raises GuardFailure where there is not one whole result."""
    results = reply.get("results")
    result = results[0] if isinstance(results, list) and len(results) == 1 else None
    if not isinstance(result, dict) or not isinstance(result.get("flagged"), bool):
        raise GuardFailure("reply")
    categories, scores = result.get("categories"), result.get("category_scores", {})
    if not isinstance(categories, dict) or not isinstance(scores, dict):
        raise GuardFailure("reply")
    labels = []
    for name in {**categories, **scores}:
        flag, score = categories.get(name), scores.get(name)
        # OpenAI's own answers have null for categories that an older model does not know.
        if not (flag is None or isinstance(flag, bool)) or not (score is None or _is_share(score)):
            raise GuardFailure("reply")
        value = max(float(score or 0.0), (_FLAGGED if score is not None else 1.0) if flag else 0.0)
        if value:
            labels.append(Label(str(name), value))
    if result["flagged"] and not any(label.score >= _FLAGGED for label in labels):
        labels.append(Label("flagged"))
    return labels


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
