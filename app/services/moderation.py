"""The filter alone, for other programs: texts in, decisions out. Nothing is stored."""

from collections.abc import Sequence

from app.domain.ports import Filter
from app.domain.verdicts import Decision, Stage
from app.services.answering import refusal


class Moderation:
    """Judges texts as the chat would."""

    def __init__(self, content_filter: Filter) -> None:
        """Uses the policy in force."""
        self._filter = content_filter

    @property
    def policy(self) -> str:
        """The id of the policy in force."""
        return self._filter.policy

    @property
    def categories(self) -> frozenset[str]:
        """The categories that the policy in force knows."""
        return self._filter.categories

    async def judge(self, texts: Sequence[str], *, stage: Stage) -> Sequence[Decision]:
        """Return a decision for each text.

        Raises SafetyUnavailable where a part of the filter failed: a verdict without it would be worth nothing. Where
        the policy lets texts pass that a guard could not judge, the decision says so.
        """
        decisions = [(await self._filter.check(text, stage=stage)).decision for text in texts]
        for decision in decisions:
            if decision.is_degraded:
                raise refusal(decision)
        return decisions
