"""What the filter does about what it finds: categories, and what happens to each in which stage. Frozen.

A policy is a stack of layers: the built-in one, the site's, those of an account or an API key. What a layer says about
a category in a stage takes the place of what the layers below say, and its lists are added to theirs. What is locked
below can be made stricter and never weaker, whatever a layer says; what is on trial (shadow) is only recorded.

`app.safety.policy_file` reads layers from files.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Final

from app.domain.verdicts import Action, Finding, Stage
from app.safety import homophones, normalise
from app.safety.answers import Answer
from app.safety.folded import FOLDING
from app.safety.guards.spec import GuardSpec
from app.safety.normalise import MASK
from app.safety.personal_data import FORMS
from app.safety.phrases import Entries, Phrase, squeeze, word_id
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
    is_locked: bool = False
    """Layers above may be stricter about it, not weaker."""
    is_shadow: bool = False
    """On trial: what it would have done is recorded, nothing else happens."""
    is_unmasked: bool = False
    """Of a rule that masks: who wrote it in a question is shown it again where the answer repeats it."""


class _Wording(tuple[str, ...]):  # noqa: SLOT001 - a place for what is worked out
    """Phrases as they are written; how the automaton has them is worked out once, whatever list or layer has them."""

    @cached_property
    def squeezed(self) -> tuple[str, ...]:
        """Each squeezed, in the same order."""
        return tuple(map(squeeze, self))

    @cached_property
    def sorted(self) -> tuple[str, ...]:
        """The same, sorted."""
        return tuple(sorted(self.squeezed))


def _wording(phrases: tuple[str, ...]) -> _Wording:
    return phrases if isinstance(phrases, _Wording) else _Wording(phrases)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Who added a phrase to a list, when, and from where. It decides nothing, but when the phrase ends."""

    text: str
    added: date
    by: str
    source: str = ""
    """Left out: the list's."""
    safety_class: str = ""
    """An id of `app.safety.taxonomy`; left out: the list's."""
    expires: date | None = None
    """From this day on the policy does without it."""
    note: str = ""

    def is_expired(self, *, today: date) -> bool:
        """Whether its day has come."""
        return self.expires is not None and self.expires <= today


@dataclass(frozen=True, slots=True, kw_only=True)
class PhraseList:
    """Phrases of one category and language, and where they come from."""

    name: str
    category: str | None
    """None where phrases are only allowed."""
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
    is_locked: bool = False
    """Layers above can neither drop nor replace it, nor excuse its hits."""
    is_shadow: bool = False
    """On trial: its hits are recorded, nothing else happens, and what it allows excuses no others."""
    layer: int = 0
    """The number of the layer that brought it, from 0."""
    review_by: date | None = None
    """When somebody should look through it again. Like all that follows it decides nothing."""
    safety_class: str = ""
    """What its phrases are about: an id of `app.safety.taxonomy`, or nothing."""
    records: tuple[Record, ...] = ()
    """Of phrases that say who added them; also of those that have expired and are not among `phrases` any more."""
    patterns: tuple[str, ...] = ()
    """What some of `phrases` were made from: each counts as one entry, however many phrases it stands for."""
    short_ok: tuple[str, ...] = ()
    """Chinese phrases of two characters that somebody has looked at: `haina safety lexicon check` lets them pass."""
    redundant_ok: tuple[str, ...] = ()
    """Phrases that hold another one of the list and are wanted all the same, for a hit names each: likewise."""
    path: Path | None = None
    """The file that it was read from."""

    def __post_init__(self) -> None:
        """Keep what the phrases are squeezed to with them."""
        object.__setattr__(self, "phrases", _wording(self.phrases))
        object.__setattr__(self, "allowed", _wording(self.allowed))

    @property
    def squeezed(self) -> tuple[str, ...]:
        """The phrases as the automaton has them, then those that are allowed."""
        return (*_wording(self.phrases).squeezed, *_wording(self.allowed).squeezed)

    def entries(self) -> tuple[Entries, Entries]:
        """Return the phrases, and those that are allowed, as the automaton takes them.

        A rule is `list:id`, the id a hash of the phrase.
        """
        denied = Phrase(
            text="",
            category=self.category or "",
            action=self.action,
            is_firm=self.is_firm,
            score=self.score,
            is_folded=self.is_folded,
            has_homophones=self.has_homophones,
            is_shadow=self.is_shadow,
            is_locked=self.is_locked,
            layer=self.layer,
        )
        allowed = Phrase(
            text="",
            is_allowed=True,
            is_folded=True,
            has_homophones=True,
            is_shadow=self.is_shadow,
            layer=self.layer,
        )
        return (
            Entries(
                kind=denied,
                words=_wording(self.phrases).squeezed,
                find=lambda word: (replace(denied, text=word, rule=f"{self.name}:{word_id(word)}"),),
            ),
            Entries(
                kind=allowed,
                words=_wording(self.allowed).squeezed,
                find=lambda word: (replace(allowed, text=word),),
            ),
        )


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


Reactions = Mapping[tuple[str, Stage], tuple[tuple[float, Action], ...]]
"""Rules, by category and stage: thresholds and actions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What is laid over a policy."""

    name: str
    rules: tuple[Rule, ...] = ()
    lists: tuple[PhraseList, ...] = ()
    """A list takes the place of one of the same name below."""
    without: frozenset[str] = frozenset()
    """Lists of the layers below that are left out."""
    replies: tuple[Reply, ...] = ()
    """Come before those below, as the answers do."""
    answers: tuple[Answer, ...] = ()
    guards: tuple[GuardSpec, ...] = ()
    """Asked beside those of the layers below, of which none can be left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Rules and lists, frozen. Make one with `make_policy`, lay more over it with `layered`."""

    id: str
    """`name@` and the first 12 hexadecimal digits of the SHA-256 of what decides: rules, phrases, the test phrases."""
    name: str
    """The topmost layer's."""
    rules: tuple[Rule, ...]
    lists: tuple[PhraseList, ...]
    layers: tuple[str, ...]
    """Names, from the bottom."""
    actions: Reactions
    """Of the rules in force."""
    trials: Reactions
    """Of those on trial."""
    replies: tuple[Reply, ...] = ()
    """What is said in place of what is refused. Decides nothing, so the id does not tell it; the next neither."""
    answers: tuple[Answer, ...] = ()
    is_by_class: bool = False
    """Whether its categories are the classes of GB/T 45654, and those of what is laid over it."""
    guards: tuple[GuardSpec, ...] = ()
    """Models that are asked; each has a name of its own."""

    def action(self, category: str, *, stage: Stage, score: float = 1.0) -> Action:
        """Return the gravest that a rule does about a category in this stage; nothing, where none speaks of it."""
        return _gravest(self.actions, category, stage=stage, score=score)

    def trial(self, category: str, *, stage: Stage, score: float = 1.0) -> Action:
        """Return the gravest that a rule on trial would do."""
        return _gravest(self.trials, category, stage=stage, score=score)

    def may_return(self, category: str, *, stage: Stage, score: float = 1.0) -> bool:
        """Whether what is masked here may be shown again to who wrote it: every rule that masks it says so."""
        if self.action(category, stage=stage, score=score) is not Action.MASK:
            return False
        return all(
            rule.is_unmasked
            for rule in self.rules
            if rule.action is Action.MASK
            and not rule.is_shadow
            and rule.category == category
            and stage in rule.stages
            and score >= rule.threshold
        )

    @property
    def categories(self) -> frozenset[str]:
        """All that rules and lists speak of."""
        of_lists = (phrase_list.category for phrase_list in self.lists)
        return frozenset({rule.category for rule in self.rules} | {one for one in of_lists if one})

    def class_of(self, finding: Finding) -> SafetyClass | None:
        """Return the class of GB/T 45654 of what was found: its list's, else the one that its category is close to."""
        safety_class = self._classes.get(finding.rule.partition(":")[0])
        return CLASSES[safety_class] if safety_class else class_of(finding.category)

    @property
    def _classes(self) -> Mapping[str, str]:
        return {one.name: one.safety_class for one in self.lists if one.safety_class}

    def phrases(self) -> Iterator[Phrase]:
        """Yield the phrases of all lists, as they are written."""
        for phrase_list in self.lists:
            written = phrase_list.phrases, phrase_list.allowed
            for texts, entries in zip(written, phrase_list.entries(), strict=True):
                for text, word in zip(texts, entries.words, strict=True):
                    yield from (replace(phrase, text=text) for phrase in entries.find(word))


def make_policy(
    name: str,
    *,
    rules: Sequence[Rule] = (),
    lists: Sequence[PhraseList] = (),
    replies: Sequence[Reply] = (),
    answers: Sequence[Answer] = (),
    is_by_class: bool = False,
    guards: Sequence[GuardSpec] = (),
) -> Policy:
    """Return a policy of one layer, of parts that are known to be sound, the test phrases added."""
    every = (*TEST_LISTS, *lists)
    return _policy(
        (name,),
        rules=rules,
        lists=every,
        replies=replies,
        answers=answers,
        is_by_class=is_by_class,
        guards=guards,
    )


_SURE: Final = 0.75
"""From this score on, what a guard finds that no rule speaks of is refused; below, from 0.5 on, it is flagged."""


def guarded(policy: Policy, spec: GuardSpec) -> Policy:
    """Return the policy with one guard more. What it may find that no rule speaks of gets a rule: flag, then refuse."""
    if policy.is_by_class:
        spec = in_classes(spec, rules=policy.rules)
    added = []
    for category in sorted(spec.found):
        stages = frozenset(stage for stage in spec.stages if (category, stage) not in policy.actions)
        if stages:
            added.append(Rule(category=category, stages=stages, action=Action.FLAG))
            added.append(Rule(category=category, stages=stages, action=Action.REFUSE, threshold=_SURE))
    return _policy(
        policy.layers,
        rules=(*policy.rules, *added),
        lists=policy.lists,
        replies=policy.replies,
        answers=policy.answers,
        is_by_class=policy.is_by_class,
        guards=(*policy.guards, spec),
    )


def in_classes(spec: GuardSpec, *, rules: Iterable[Rule]) -> GuardSpec:
    """Return a guard whose categories are the classes that they are closest to, for a policy that goes by class.

    A category of which a rule speaks itself stays, as it does for lists; so does one that is close to no class.
    """
    ruled = {rule.category for rule in rules}
    labels = {
        label: own.category if category not in ruled and (own := class_of(category)) else category
        for label, category in spec.labels.items()
    }
    return replace(spec, categories=tuple(labels.items()))


def layered(base: Policy, layer: Layer) -> Policy:
    """Return the policy with one more layer. Never weaker than what is locked below, whatever the layer says."""
    spoken = {(rule.category, stage, rule.is_shadow) for rule in layer.rules for stage in rule.stages}
    kept = []
    for rule in base.rules:
        left = frozenset(stage for stage in rule.stages if (rule.category, stage, rule.is_shadow) not in spoken)
        if rule.is_locked or left:
            kept.append(rule if rule.is_locked else replace(rule, stages=left))
    locked = _locked_lists(base)
    gone = ({one.name for one in layer.lists} | layer.without) - locked
    below = [replace(one, is_locked=True) if one.name in locked else one for one in base.lists if one.name not in gone]
    number = len(base.layers)
    above = [replace(one, layer=number) for one in layer.lists if one.name not in locked]
    return _policy(
        (*base.layers, layer.name),
        rules=(*kept, *layer.rules),
        lists=(*below, *above),
        replies=(*layer.replies, *base.replies),
        answers=(*layer.answers, *base.answers),
        is_by_class=base.is_by_class,
        guards=(*base.guards, *layer.guards),
    )


def weakened(base: Policy, layer: Layer) -> Iterator[tuple[str, str]]:
    """Yield what a layer would make weaker though it is locked below: `(kind, name)`, the kind `rule` or `list`."""
    said = _reactions(rule for rule in layer.rules if not rule.is_shadow)
    unmasked = {(rule.category, stage) for rule in layer.rules if rule.is_unmasked for stage in rule.stages}
    for rule in base.rules:
        if rule.is_locked and not rule.is_shadow:
            for stage in sorted(rule.stages):
                if (rule.category, stage) in said:
                    instead = _gravest(said, rule.category, stage=stage, score=rule.threshold)
                    is_shown = (
                        rule.action is Action.MASK and not rule.is_unmasked and (rule.category, stage) in unmasked
                    )
                    if instead < rule.action or is_shown:
                        yield "rule", rule.category
                        break
    for name in sorted(_locked_lists(base) & ({one.name for one in layer.lists} | layer.without)):
        yield "list", name


def _locked_lists(policy: Policy) -> set[str]:
    """Return the names of the lists that layers above have to leave alone: a locked rule locks what finds its hits."""
    categories = {rule.category for rule in policy.rules if rule.is_locked}
    tests = {one.name for one in TEST_LISTS}
    return tests | {one.name for one in policy.lists if one.is_locked or one.category in categories}


def _policy(
    layers: tuple[str, ...],
    *,
    rules: Sequence[Rule],
    lists: Sequence[PhraseList],
    replies: Sequence[Reply],
    answers: Sequence[Answer],
    is_by_class: bool,
    guards: Sequence[GuardSpec] = (),
) -> Policy:
    actions = _reactions(rule for rule in rules if not rule.is_shadow)
    trials = _reactions(rule for rule in rules if rule.is_shadow)
    name = layers[-1]
    canonical: dict[str, object] = {
        "name": name,
        "mask": MASK,
        "personal_data": FORMS,
        "folding": FOLDING,
        "role_tokens": TOKENS,
        "sounds": homophones.fingerprint(),
        "traditional": normalise.fingerprint(),
        "rules": _listed(actions),
        "lists": sorted(_canonical(phrase_list) for phrase_list in lists),
    }
    if trials:
        canonical["trials"] = _listed(trials)
    if any(rule.is_unmasked and not rule.is_shadow for rule in rules):
        canonical["unmasked"] = sorted(
            [rule.category, stage, rule.threshold, rule.is_unmasked]
            for rule in rules
            if rule.action is Action.MASK and not rule.is_shadow
            for stage in rule.stages
        )
    if guards:
        canonical["guards"] = [guard.canonical() for guard in guards]
    digest = hashlib.sha256(json.dumps(canonical, sort_keys=True).encode()).hexdigest()
    return Policy(
        id=f"{name}@{digest[:12]}",
        name=name,
        rules=tuple(rules),
        lists=tuple(lists),
        layers=layers,
        actions=actions,
        trials=trials,
        replies=tuple(replies),
        answers=tuple(answers),
        is_by_class=is_by_class,
        guards=tuple(guards),
    )


def _reactions(rules: Iterable[Rule]) -> Reactions:
    reactions: dict[tuple[str, Stage], tuple[tuple[float, Action], ...]] = {}
    for rule in rules:
        for stage in rule.stages:
            key = rule.category, stage
            reactions[key] = tuple(sorted((*reactions.get(key, ()), (rule.threshold, rule.action))))
    return MappingProxyType(reactions)


def _gravest(reactions: Reactions, category: str, *, stage: Stage, score: float) -> Action:
    rules = reactions.get((category, stage), ())
    return max((action for threshold, action in rules if score >= threshold), default=Action.ALLOW)


def _listed(reactions: Reactions) -> list[tuple[str, Stage, tuple[tuple[float, Action], ...]]]:
    return sorted((category, stage, said) for (category, stage), said in reactions.items())


def _canonical(phrase_list: PhraseList) -> list[object]:
    return [
        phrase_list.name,
        phrase_list.category or "",
        -1 if phrase_list.action is None else phrase_list.action,
        phrase_list.is_firm,
        phrase_list.score,
        phrase_list.is_folded,
        phrase_list.has_homophones,
        _wording(phrase_list.phrases).sorted,
        _wording(phrase_list.allowed).sorted,
        # What only layers have: a policy of one layer keeps its id.
        *([phrase_list.layer, phrase_list.is_locked] if phrase_list.layer or phrase_list.is_locked else []),
        *(["shadow"] if phrase_list.is_shadow else []),
    ]
