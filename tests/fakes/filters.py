"""Filters that decide otherwise than the built-in policy: stricter, masking, broken; and one filter for everybody."""

from collections.abc import Mapping

from app.domain.errors import SafetyUnavailable
from app.domain.ports import Filter
from app.domain.verdicts import Action, Stage
from app.safety.detector import Scan
from app.safety.filter import ContentFilter
from app.safety.policy import PhraseList, Rule, make_policy


def stricter(*phrases: str, action: Action = Action.REFUSE) -> ContentFilter:
    """Return a filter that does this about phrases in everything that leaves, and nothing else."""
    rule = Rule(category="secret", stages=frozenset({Stage.EXPORT}), action=action)
    phrase_list = PhraseList(name="secret", category="secret", language="any", phrases=phrases)
    return ContentFilter(make_policy("strict", rules=[rule], lists=[phrase_list]))


class OneFilter:
    """`app.domain.ports.Filters` without layers."""

    def __init__(self, content_filter: Filter) -> None:
        self.site = content_filter

    async def over(self, names: str) -> Filter:
        if names:
            raise SafetyUnavailable
        return self.site

    async def draft(self, name: str, text: str) -> Filter:
        raise NotImplementedError

    async def has_changed(self) -> bool:
        return False

    async def restock(self, *, layers: Mapping[str, str]) -> None:
        raise NotImplementedError


class BrokenDetector:
    """A detector that fails as soon as it has to look."""

    name = "broken"

    def open(self, *, stage: Stage) -> Scan:  # noqa: ARG002 - the port's name
        raise RuntimeError


def broken() -> ContentFilter:
    """Return a filter that can judge nothing."""
    return ContentFilter(make_policy("bare"), detectors=[BrokenDetector()])
