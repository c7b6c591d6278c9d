"""The filter alone, for other programs: texts in, decisions out. Nothing is stored."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.models import Account
from app.domain.ports import Filters
from app.domain.verdicts import Decision, Stage
from app.services.answering import refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Decisions, and the policy that they are by."""

    decisions: Sequence[Decision]
    """One for each text, in order."""
    policy: str
    categories: frozenset[str]
    """All that the policy knows."""


class Moderation:
    """Judges texts as the chat would."""

    def __init__(self, filters: Filters) -> None:
        """Uses the policy that is in force for whoever asks."""
        self._filters = filters

    async def judge(self, account: Account, texts: Sequence[str], *, stage: Stage) -> Judged:
        """Return a decision for each text.

        Raises SafetyUnavailable where a part of the filter failed: a verdict without it would be worth nothing. Where
        the policy lets texts pass that a guard could not judge, the decision says so.
        """
        content_filter = await self._filters.over(account.policy_layers)
        decisions = [(await content_filter.check(text, stage=stage)).decision for text in texts]
        for decision in decisions:
            if decision.is_degraded:
                raise refusal(decision)
        return Judged(decisions=decisions, policy=content_filter.policy, categories=content_filter.categories)
