"""The content filter as services know it: a policy, the detectors that it needs, and gates."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from app.domain.verdicts import Action, Checked, Finding, ReleasedText, Stage
from app.safety.detector import Detector
from app.safety.folded import FoldedReading, folded_words
from app.safety.gate import MAX_FINDINGS, StreamGate, check
from app.safety.homophones import HomophoneDetector, spoken_words
from app.safety.markup import MarkupReading
from app.safety.personal_data import PersonalDataDetector
from app.safety.phrases import Entries, Lexicon, Phrase
from app.safety.policy import Policy
from app.safety.readings import ReadingDetector
from app.safety.role_tokens import JAILBREAK, SCORE, RoleTokenDetector
from app.safety.vocabulary import Vocabulary

_TAIL = 2000
"""How much of a shown text a continued stream looks back on: ten phrases of the greatest length."""


class ContentFilter:
    """Checks texts and streams against one policy. Immutable: a new policy is a new filter, open gates keep theirs."""

    def __init__(
        self, policy: Policy, *, detectors: Sequence[Detector] | None = None, workshop: "Workshop | None" = None
    ) -> None:
        """Build the lexicon, unless `detectors` are given in place of the policy's own.

        A `workshop` is shared by filters that have lists in common.
        """
        self._policy = policy
        built = (workshop or Workshop()).detectors(policy) if detectors is None else None
        self._detectors = built or dict.fromkeys(Stage, tuple(detectors or ()))

    @property
    def policy(self) -> str:
        """The policy's id."""
        return self._policy.id

    @property
    def categories(self) -> frozenset[str]:
        """The categories that the policy knows."""
        return self._policy.categories

    def detectors(self, *, stage: Stage) -> Sequence[Detector]:
        """Return what looks at a text of this stage."""
        return self._detectors[stage]

    async def check(self, text: str, *, stage: Stage) -> Checked:
        """Judge a whole text as its stream would be judged. Never raises; lets other tasks run in between."""
        return await check(self.open(stage=stage), text=text)

    async def in_context(self, checked: Checked, *, earlier: Sequence[str]) -> Checked:
        """Flag what is split over turns: it begins in `earlier` and ends in the checked text. Never raises.

        Turns are joined with nothing and with a blank. What is found stands at the beginning of the text, and is never
        more than flagged: each turn alone was harmless enough. A filter that fails here refuses, as everywhere.
        """
        if checked.text is None or not earlier:
            return checked
        found: dict[tuple[str, int], Finding] = {}
        for seam in ("", " "):
            before = "".join(text + seam for text in earlier)
            gate = self._gate(checked.decision.stage, shown=before)
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

    def open(self, *, stage: Stage) -> StreamGate:
        """Start a stream."""
        return self._gate(stage)

    def continued(self, text: ReleasedText, *, stage: Stage) -> StreamGate:
        """Start a stream that goes on after `text`, which the reader has.

        A phrase that begins there and ends in what comes is refused before any of what comes is let out. Offsets of
        findings count from the beginning of `text`.
        """
        return self._gate(stage, shown=text)

    def _gate(self, stage: Stage, *, shown: str = "") -> StreamGate:
        return StreamGate(
            self._detectors[stage], policy=self._policy, stage=stage, shown=shown[-_TAIL:], shown_length=len(shown)
        )


class Workshop:
    """Builds detectors. What filters have in common, the words of their lists, is built once and shared."""

    def __init__(self) -> None:
        """Nothing is built yet."""
        self._written = Vocabulary()
        self._folded = folded_words()
        self._spoken = spoken_words()

    def detectors(self, policy: Policy) -> Mapping[Stage, tuple[Detector, ...]]:
        """Return what is needed in each stage: what the policy does nothing about would only hold texts back."""
        every = [entries for phrase_list in policy.lists for entries in phrase_list.entries()]
        built: dict[tuple[Entries, ...], tuple[Detector, ...]] = {}
        detectors: dict[Stage, tuple[Detector, ...]] = {}
        for stage in Stage:
            needed = tuple(entries for entries in every if _matters(entries.kind, policy=policy, stage=stage))
            if needed not in built:
                built[needed] = self._for_phrases(needed)
            detectors[stage] = (*built[needed], PersonalDataDetector())
            about_roles = policy.action(JAILBREAK, stage=stage, score=SCORE)
            if max(about_roles, policy.trial(JAILBREAK, stage=stage, score=SCORE)) is not Action.ALLOW:
                detectors[stage] += (RoleTokenDetector(),)
        return detectors

    def _for_phrases(self, phrases: Sequence[Entries]) -> tuple[Detector, ...]:
        lexicon = Lexicon(phrases, vocabulary=self._written)
        folded = FoldedReading(phrases, vocabulary=self._folded)
        return (
            ReadingDetector(lexicon, [folded, MarkupReading(lexicon)]),
            HomophoneDetector(phrases, vocabulary=self._spoken),
        )


def _matters(kind: Phrase, *, policy: Policy, stage: Stage) -> bool:
    if kind.is_allowed or kind.action is not None:
        return True
    by_rules = policy.action(kind.category, stage=stage, score=kind.score)
    on_trial = policy.trial(kind.category, stage=stage, score=kind.score)
    return max(by_rules, on_trial) is not Action.ALLOW
