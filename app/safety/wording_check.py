"""Replies and answers against their own filter: what a policy refuses, nobody may be told in its place."""

from app.domain.errors import InvalidPolicy
from app.domain.verdicts import Stage
from app.domain.words import LANGUAGES
from app.safety.answers import Answer
from app.safety.filter import ContentFilter
from app.safety.policy import Policy
from app.safety.replies import CategoryReplies, Reply


def require_sound(policy: Policy, *, content_filter: ContentFilter) -> None:
    """Send every reply that can be said, and every answer, through the filter as an answer.

    Raises InvalidPolicy with the place of each that would not come out as it is; its text is not repeated.
    """
    faults = []
    spoken: list[Reply | Answer] = [*CategoryReplies(policy.replies).used(), *policy.answers]
    for one in spoken:
        for language in LANGUAGES:
            text = one.text(language)
            checked = content_filter.check_at_once(text, stage=Stage.OUTPUT)
            if checked.text != text:
                rules = ", ".join(sorted({finding.rule for finding in checked.decision.findings}))
                faults.append(f"{one.place}: {language}: the policy itself would stop or mask this ({rules})")
    if faults:
        raise InvalidPolicy(*faults)
