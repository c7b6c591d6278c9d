"""A guard model as a policy names it: where it is, what it is asked about, what its labels mean to us."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, get_args

from app.domain.verdicts import Stage

GuardKind = Literal["qwen3guard", "llama_guard", "shieldlm", "judge", "moderations", "classify"]
KINDS: Final[tuple[GuardKind, ...]] = get_args(GuardKind)
GuardMode = Literal["strict", "fast"]
OnError = Literal["refuse", "degrade"]

LOCAL: Final = "local"
"""In place of an address: the classifier that the server's own worker serves."""
OTHER: Final = "*"
"""In a mapping: every label that is not named."""
UNSAFE: Final = "unsafe"
"""The category of what a guard calls unsafe without saying what it is about."""

_OWN: Final = (
    *("violence", "weapons", "self_harm", "sexual", "sexual_minors", "hate", "crime", "fraud", "drugs", "malware"),
    *("personal_data", "jailbreak"),
)
DEFAULT_LABELS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        # Source: https://huggingface.co/Qwen/Qwen3Guard-Gen-0.6B, safety policy; names as its template spells them.
        "qwen3guard": {
            "Violent": "violence",
            "Non-violent Illegal Acts": "crime",
            "Sexual Content or Sexual Acts": "sexual",
            "PII": "personal_data",
            "Suicide & Self-Harm": "self_harm",
            "Unethical Acts": "unethical",
            "Politically Sensitive Topics": "politics",
            "Copyright Violation": "copyright",
            "Jailbreak": "jailbreak",
            OTHER: UNSAFE,
        },
        # Source: https://huggingface.co/meta-llama/Llama-Guard-3-8B, hazard taxonomy. S6, specialised advice, is no
        # harm by itself: who wants it stopped maps it.
        "llama_guard": {
            "S1": "violence",
            "S2": "crime",
            "S3": "sexual",
            "S4": "sexual_minors",
            "S5": "unethical",
            "S6": "",
            "S7": "personal_data",
            "S8": "copyright",
            "S9": "weapons",
            "S10": "hate",
            "S11": "self_harm",
            "S12": "sexual",
            "S13": "politics",
            "S14": "malware",
            OTHER: UNSAFE,
        },
        "shieldlm": {OTHER: UNSAFE},
        "judge": {**{name: name for name in _OWN}, OTHER: UNSAFE},
        # Source: https://platform.openai.com/docs/api-reference/moderations, categories of omni-moderation.
        "moderations": {
            "harassment": "hate",
            "harassment/threatening": "violence",
            "hate": "hate",
            "hate/threatening": "hate",
            "illicit": "crime",
            "illicit/violent": "weapons",
            "self-harm": "self_harm",
            "self-harm/instructions": "self_harm",
            "self-harm/intent": "self_harm",
            "sexual": "sexual",
            "sexual/minors": "sexual_minors",
            "violence": "violence",
            "violence/graphic": "violence",
            OTHER: UNSAFE,
        },
        # Nobody knows what a classifier calls what: a label that is not mapped is an error, never harmless.
        "classify": {"safe": "", "unsafe": UNSAFE},
    }
)
"""What each kind's labels are to us; the empty category is one that does not matter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardSpec:
    """A guard. The key is not part of it: secrets never stand in a policy."""

    name: str
    kind: GuardKind
    url: str
    """The API's base: `http://127.0.0.1:8002/v1`."""
    model: str = "default"
    """The model's name there; `default` is the first that it lists."""
    stages: frozenset[Stage] = frozenset({Stage.INPUT, Stage.OUTPUT})
    mode: GuardMode = "strict"
    """`strict`: of an answer nothing is shown that it has not judged. `fast`: it cuts when it has judged."""
    on_error: OnError = "refuse"
    """What happens to a text that it cannot judge. `degrade`: the text passes, and that is told everywhere."""
    input_budget_s: float = 2.0
    """For a whole text."""
    window_budget_s: float = 1.0
    """For a window of an answer."""
    categories: tuple[tuple[str, str], ...] = ()
    """Its labels and our categories, beside or in place of the kind's own; the empty category is ignored."""
    instructions: tuple[str, ...] = ()
    """Rules of the house that `shieldlm` and `judge` are told."""
    api_key_file: Path | None = None
    """Holds the bearer token."""

    @property
    def labels(self) -> Mapping[str, str]:
        """Every label, in lower case, and its category. A classifier's own labels are all that it has."""
        known = {} if self.kind == "classify" and self.categories else dict(DEFAULT_LABELS[self.kind])
        return {label.lower(): category for label, category in (known | dict(self.categories)).items()}

    @property
    def found(self) -> frozenset[str]:
        """The categories that it may find."""
        return frozenset(category for category in self.labels.values() if category)

    def budget_s(self, stage: Stage) -> float:
        """How long one call may take, the wait for a free place included."""
        return self.window_budget_s if stage is Stage.OUTPUT else self.input_budget_s

    def canonical(self) -> list[object]:
        """Return what a policy's id depends on: all that may change a verdict."""
        return [
            self.name,
            self.kind,
            self.url,
            self.model,
            sorted(self.stages),
            self.mode,
            self.on_error,
            self.input_budget_s,
            self.window_budget_s,
            sorted(self.labels.items()),
            list(self.instructions),
        ]
