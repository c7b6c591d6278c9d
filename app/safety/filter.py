"""The content filter as services know it: a policy, the detectors that it needs, and gates."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from app.domain.generation import ChatMessage
from app.domain.health import DetectorHealth
from app.domain.verdicts import Action, Checked, Finding, ReleasedText, Stage
from app.safety.answers import PhraseAnswerBank
from app.safety.detector import Detector
from app.safety.folded import FoldedReading
from app.safety.gate import MAX_FINDINGS, StreamGate, check, check_at_once
from app.safety.guards.post import Post, Posts
from app.safety.health import DetectorWatch
from app.safety.homophones import HomophoneDetector
from app.safety.markup import MarkupReading
from app.safety.personal_data import PersonalDataDetector
from app.safety.phrases import Lexicon, Phrase
from app.safety.policy import Policy
from app.safety.readings import ReadingDetector
from app.safety.role_tokens import JAILBREAK, SCORE, RoleTokenDetector

_TAIL = 2000
"""How much of a shown text a continued stream looks back on: ten phrases of the greatest length."""


class ContentFilter:
    """Checks texts and streams against one policy. Immutable: a new policy is a new filter, open gates keep theirs."""

    def __init__(
        self,
        policy: Policy,
        *,
        detectors: Sequence[Detector] | None = None,
        workshop: "Workshop | None" = None,
        posts: Posts | None = None,
    ) -> None:
        """Build the lexicon, unless `detectors` are given in place of the policy's own.

        A `workshop` is shared by filters that have lists in common. `posts` are where the policy's guards are asked;
        filters that share them share breakers and connections. Raises OSError where a guard's key cannot be read.
        """
        self._policy = policy
        self._answer_bank = PhraseAnswerBank(policy.answers)
        built = (workshop or Workshop()).detectors(policy) if detectors is None else None
        self._detectors = built or dict.fromkeys(Stage, tuple(detectors or ()))
        self._posts = Posts() if posts is None else posts
        self._asked = [self._posts.of(spec) for spec in policy.guards]
        self._guards: Mapping[Stage, tuple[Post, ...]] = {
            stage: tuple(post for post in self._asked if stage in post.spec.stages) for stage in Stage
        }
        self._watch = DetectorWatch(one.name for some in self._detectors.values() for one in some)

    @property
    def policy(self) -> str:
        """The policy's id."""
        return self._policy.id

    @property
    def answer_bank(self) -> PhraseAnswerBank:
        """Approved answers to questions that it refuses."""
        return self._answer_bank

    @property
    def categories(self) -> frozenset[str]:
        """The categories that the policy knows."""
        return self._policy.categories

    def health(self) -> Sequence[DetectorHealth]:
        """Return how each part does: the detectors, then the guards."""
        return [*self._watch.health(), *(post.health() for post in self._asked)]

    async def close(self) -> None:
        """Close the connections to guards; a later call opens new ones."""
        await self._posts.close()

    def detectors(self, *, stage: Stage) -> Sequence[Detector]:
        """Return what looks at a text of this stage."""
        return self._detectors[stage]

    async def check(
        self, text: str, *, stage: Stage, context: Sequence[ChatMessage] = (), with_guards: bool = True
    ) -> Checked:
        """Judge a whole text as its stream would be judged. Never raises; lets other tasks run in between.

        `with_guards` is False for a piece of what guards are, or were, asked about as a whole.
        """
        return await check(self._gate(stage, context=context, with_guards=with_guards), text=text)

    def check_at_once(self, text: str, *, stage: Stage) -> Checked:
        """Judge a short text, such as one that comes with the policy, without a loop and guards. Never raises."""
        return check_at_once(self._gate(stage, with_guards=False), text=text)

    async def in_context(self, checked: Checked, *, earlier: Sequence[str]) -> Checked:
        """Flag what is split over turns: it begins in `earlier` and ends in the checked text. Never raises.

        Turns are joined with nothing and with a blank. What is found stands at the beginning of the text, and is never
        more than flagged: each turn alone was harmless enough. A filter that fails here refuses, as everywhere. Guards
        are not asked: they were shown the earlier turns with the text.
        """
        if checked.text is None or not earlier:
            return checked
        found: dict[tuple[str, int], Finding] = {}
        for seam in ("", " "):
            before = "".join(text + seam for text in earlier)
            gate = self._gate(checked.decision.stage, shown=before, with_guards=False)
            again = await check(gate, text=checked.text[:_TAIL])
            if again.decision.is_degraded:
                return again
            for finding in again.decision.findings:
                if finding.start < len(before) < finding.end:
                    end = finding.end - len(before)
                    found[finding.rule, end] = replace(
                        finding, detector="context", action=min(finding.action, Action.FLAG), start=0, end=end
                    )
        if not found:
            return checked
        decision = checked.decision
        findings = (*found.values(), *decision.findings)[:MAX_FINDINGS]
        return replace(checked, decision=replace(decision, findings=findings, action=max(decision.action, Action.FLAG)))

    def open(self, *, stage: Stage, context: Sequence[ChatMessage] = ()) -> StreamGate:
        """Start a stream; `context` is what was said before it, of which guards make sense."""
        return self._gate(stage, context=context)

    def continued(self, text: ReleasedText, *, stage: Stage, context: Sequence[ChatMessage] = ()) -> StreamGate:
        """Start a stream that goes on after `text`, which the reader has.

        A phrase that begins there and ends in what comes is refused before any of what comes is let out. Offsets of
        findings count from the beginning of `text`.
        """
        return self._gate(stage, shown=text, context=context)

    def _gate(
        self, stage: Stage, *, shown: str = "", context: Sequence[ChatMessage] = (), with_guards: bool = True
    ) -> StreamGate:
        return StreamGate(
            self._detectors[stage],
            policy=self._policy,
            stage=stage,
            shown=shown[-_TAIL:],
            shown_length=len(shown),
            posts=self._guards[stage] if with_guards else (),
            context=context,
            watch=self._watch,
        )


class Workshop:
    """Builds detectors, those for the same phrases once."""

    def __init__(self) -> None:
        """Nothing is built yet."""
        self._built: dict[tuple[Phrase, ...], tuple[Detector, ...]] = {}

    def detectors(self, policy: Policy) -> Mapping[Stage, tuple[Detector, ...]]:
        """Return what is needed in each stage: what the policy does nothing about would only hold texts back."""
        detectors: dict[Stage, tuple[Detector, ...]] = {}
        for stage in Stage:
            phrases = tuple(phrase for phrase in policy.phrases() if _matters(phrase, policy=policy, stage=stage))
            detectors[stage] = (*self._for_phrases(phrases), PersonalDataDetector())
            about_roles = policy.action(JAILBREAK, stage=stage, score=SCORE)
            if max(about_roles, policy.trial(JAILBREAK, stage=stage, score=SCORE)) is not Action.ALLOW:
                detectors[stage] += (RoleTokenDetector(),)
        return detectors

    def _for_phrases(self, phrases: tuple[Phrase, ...]) -> tuple[Detector, ...]:
        if phrases not in self._built:
            lexicon = Lexicon(phrases)
            self._built[phrases] = (
                ReadingDetector(lexicon, [FoldedReading(phrases), MarkupReading(lexicon)]),
                HomophoneDetector(phrases),
            )
        return self._built[phrases]


def _matters(phrase: Phrase, *, policy: Policy, stage: Stage) -> bool:
    if phrase.is_allowed or phrase.action is not None:
        return True
    by_rules = policy.action(phrase.category, stage=stage, score=phrase.score)
    on_trial = policy.trial(phrase.category, stage=stage, score=phrase.score)
    return max(by_rules, on_trial) is not Action.ALLOW
