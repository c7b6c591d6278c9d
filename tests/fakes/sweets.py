"""A policy of harmless phrases, one for each action: the test phrases of every policy never count as strikes."""

from app.domain.verdicts import Action, Stage
from app.safety.filter import ContentFilter
from app.safety.policy import PhraseList, Rule, make_policy

REFUSED, HANDED_OVER, FLAGGED = "forbidden toffee", "worrying liquorice", "odd marzipan"
_ACTIONS = {
    "sweets": (REFUSED, Action.REFUSE),
    "worries": (HANDED_OVER, Action.HANDOFF),
    "oddities": (FLAGGED, Action.FLAG),
}


def sweets() -> ContentFilter:
    """Return a filter that refuses, hands over and flags sweets."""
    lists = [
        PhraseList(name=category, category=category, language="en", phrases=(phrase,))
        for category, (phrase, _) in _ACTIONS.items()
    ]
    rules = [
        Rule(category=category, stages=frozenset(Stage), action=action) for category, (_, action) in _ACTIONS.items()
    ]
    return ContentFilter(make_policy("sweets", rules=rules, lists=lists))
