"""Filters that decide otherwise than the built-in policy: stricter, masking, broken."""

from app.domain.verdicts import Action, Stage
from app.safety.detector import Scan
from app.safety.filter import ContentFilter
from app.safety.policy import PhraseList, Rule, make_policy


def stricter(*phrases: str, action: Action = Action.REFUSE) -> ContentFilter:
    """Return a filter that does this about phrases in everything that leaves, and nothing else."""
    rule = Rule(category="secret", stages=frozenset({Stage.EXPORT}), action=action)
    phrase_list = PhraseList(name="secret", category="secret", language="any", phrases=phrases)
    return ContentFilter(make_policy("strict", rules=[rule], lists=[phrase_list]))


class BrokenDetector:
    """A detector that fails as soon as it has to look."""

    name = "broken"

    def open(self, *, stage: Stage) -> Scan:  # noqa: ARG002 - the port's name
        raise RuntimeError


def broken() -> ContentFilter:
    """Return a filter that can judge nothing."""
    return ContentFilter(make_policy("bare"), detectors=[BrokenDetector()])
