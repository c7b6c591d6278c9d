"""What the filter does about what it finds: categories, and what happens to each in which stage. Frozen.

`app.safety.policy_file` reads one from a file.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Final

from app.domain.verdicts import Action, Finding, Stage
from app.safety import homophones, normalise
from app.safety.answers import Answer
from app.safety.folded import FOLDING
from app.safety.normalise import MASK
from app.safety.personal_data import FORMS
from app.safety.phrases import Phrase, phrase_id, squeeze
from app.safety.replies import Reply
from app.safety.role_tokens import TOKENS
from app.safety.taxonomy import CLASSES, SafetyClass, class_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What is done about a category in some stages."""

    category: str
    stages: frozenset[Stage]
    action: Action
    threshold: float = 0.5
    """The least score of what it is about, from 0 to 1. Phrases have 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhraseList:
    """Phrases of one category and language, and where they come from."""

    name: str
    category: str | None
    """None where phrases are only allowed."""
    safety_class: str | None = None
    """The class of GB/T 45654 that its phrases are counted in, `A1.d`; None where the list does not say."""
    language: str
    phrases: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    action: Action | None = None
    """In every stage, in place of the rules: a list on trial only flags."""
    is_firm: bool = False
    """Phrases that are allowed, in this list or another, do not excuse a hit of this one."""
    score: float = 1.0
    """Of each hit, from 0 to 1: how sure a phrase says what the category says."""
    is_folded: bool = False
    """Whether its phrases are also found in disguise."""
    has_homophones: bool = False
    """Whether characters that sound like its phrases are flagged."""
    source: str = ""
    reviewed_on: date | None = None
    reviewer: str = ""

    def entries(self) -> Iterator[Phrase]:
        """Yield the phrases as the automaton takes them. A rule is `list:id`, the id a hash of the phrase."""
        for text in self.phrases:
            yield Phrase(
                text=text,
                rule=f"{self.name}:{phrase_id(text)}",
                category=self.category or "",
                action=self.action,
                is_firm=self.is_firm,
                score=self.score,
                is_folded=self.is_folded,
                has_homophones=self.has_homophones,
            )
        for text in self.allowed:
            yield Phrase(text=text, is_allowed=True, is_folded=True, has_homophones=True)


TEST_LISTS: Final = (
    PhraseList(
        name="test",
        category="test",
        language="any",
        phrases=("haina-blocked-test-phrase", "海纳测试禁语"),
        action=Action.REFUSE,
        is_firm=True,
    ),
    PhraseList(
        name="test-flag",
        category="test",
        language="any",
        phrases=("haina-flagged-test-phrase",),
        action=Action.FLAG,
        is_firm=True,
    ),
)
"""Part of every policy, so that an operator can see the filter work without typing anything vile. The third of them,
the made-up identity number, is in `app.safety.personal_data`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Rules and lists, frozen. Make one with `make_policy`."""

    id: str
    """`name@` and the first 12 hexadecimal digits of the SHA-256 of what decides: rules, phrases, the test phrases."""
    name: str
    rules: tuple[Rule, ...]
    lists: tuple[PhraseList, ...]
    actions: Mapping[tuple[str, Stage], tuple[tuple[float, Action], ...]]
    """The rules, by category and stage: thresholds and actions."""
    replies: tuple[Reply, ...] = ()
    """What is said in place of what is refused. Decides nothing, so the id does not tell it; the next neither."""
    answers: tuple[Answer, ...] = ()

    def action(self, category: str, *, stage: Stage, score: float = 1.0) -> Action:
        """Return the gravest that a rule does about a category in this stage; nothing, where none speaks of it."""
        rules = self.actions.get((category, stage), ())
        return max((action for threshold, action in rules if score >= threshold), default=Action.ALLOW)

    @property
    def categories(self) -> frozenset[str]:
        """All that rules and lists speak of."""
        of_lists = (phrase_list.category for phrase_list in self.lists)
        return frozenset({category for category, _ in self.actions} | {one for one in of_lists if one})

    def class_of(self, finding: Finding) -> SafetyClass | None:
        """Return the class of GB/T 45654 of what was found: its list's, else the one that its category is close to."""
        safety_class = self._classes.get(finding.rule.partition(":")[0])
        return CLASSES[safety_class] if safety_class else class_of(finding.category)

    @property
    def _classes(self) -> Mapping[str, str]:
        return {one.name: one.safety_class for one in self.lists if one.safety_class}

    def phrases(self) -> Iterator[Phrase]:
        """Yield the phrases of all lists."""
        for phrase_list in self.lists:
            yield from phrase_list.entries()


def make_policy(
    name: str,
    *,
    rules: Sequence[Rule] = (),
    lists: Sequence[PhraseList] = (),
    replies: Sequence[Reply] = (),
    answers: Sequence[Answer] = (),
) -> Policy:
    """Return a policy of parts that are known to be sound, the test phrases added."""
    every = (*TEST_LISTS, *lists)
    actions: dict[tuple[str, Stage], tuple[tuple[float, Action], ...]] = {}
    for rule in rules:
        for stage in rule.stages:
            key = rule.category, stage
            actions[key] = tuple(sorted((*actions.get(key, ()), (rule.threshold, rule.action))))
    canonical = {
        "name": name,
        "mask": MASK,
        "personal_data": FORMS,
        "folding": FOLDING,
        "role_tokens": TOKENS,
        "sounds": homophones.fingerprint(),
        "traditional": normalise.fingerprint(),
        "rules": sorted((category, stage, reactions) for (category, stage), reactions in actions.items()),
        "lists": sorted(_canonical(phrase_list) for phrase_list in every),
    }
    digest = hashlib.sha256(json.dumps(canonical, sort_keys=True).encode()).hexdigest()
    return Policy(
        id=f"{name}@{digest[:12]}",
        name=name,
        rules=tuple(rules),
        lists=every,
        actions=MappingProxyType(actions),
        replies=tuple(replies),
        answers=tuple(answers),
    )


def _canonical(phrase_list: PhraseList) -> list[object]:
    return [
        phrase_list.name,
        phrase_list.category or "",
        -1 if phrase_list.action is None else phrase_list.action,
        phrase_list.is_firm,
        phrase_list.score,
        phrase_list.is_folded,
        phrase_list.has_homophones,
        sorted(squeeze(phrase) for phrase in phrase_list.phrases),
        sorted(squeeze(phrase) for phrase in phrase_list.allowed),
    ]
