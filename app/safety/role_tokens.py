"""Marks that models take for the change of speakers, written into a text: `<|im_start|>`, `[INST]`, `<reserved_106>`.

Who writes one wants to speak as somebody else, or talks about prompts. Haina's own prompts are built of token ids, so
that no such mark in a text becomes one; other engines may be less careful. A hint, no more: score 0.8.

Held back is what may still become such a mark, 21 characters at most and up to 1,000 invisible ones.
Sources: the chat templates of Baichuan2, ChatML, Llama 2 and 3, Gemma.
"""

from collections.abc import Sequence
from typing import Final

from app.domain.verdicts import Stage
from app.safety.detector import Match
from app.safety.normalise import FOLDED

TOKENS: Final = (
    *("<reserved_106>", "<reserved_107>"),
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
    *("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end_of_text|>"),
    *("[inst]", "[/inst]", "<<sys>>", "<</sys>>", "<start_of_turn>", "<end_of_turn>"),
)
"""Folded."""
JAILBREAK: Final = "jailbreak"
SCORE: Final = 0.8

_RULES: Final = {token: f"role-token:{number}" for number, token in enumerate(TOKENS, 1)}
_BEGINNINGS: Final = frozenset(token[:end] for token in TOKENS for end in range(1, len(token)))
_OPENING: Final = frozenset("<[＜﹤［﹝")
_MAX_SKIPPED: Final = 1000


class RoleTokenScan:
    """A text that is searched for such marks."""

    def __init__(self) -> None:
        """Start before the first character."""
        self._offset = 0
        self._run = ""
        """The beginning of a mark that the text ends with."""
        self._places: list[int] = []
        self._skipped = 0
        self._final: list[Match] = []

    @property
    def safe_upto(self) -> int:
        """Where the beginning of a mark starts."""
        return self._places[0] if self._run else self._offset

    def take(self) -> Sequence[Match]:
        """Return the marks that were completed."""
        if not self._final:
            return ()
        final, self._final = self._final, []
        return final

    def feed(self, text: str) -> None:
        """Read on."""
        if not self._run and _OPENING.isdisjoint(text):
            self._offset += len(text)
            return
        for char in text:
            if self._run or char in _OPENING:
                folded = FOLDED[char]
                for c in folded:
                    self._read(c)
                self._skipped = 0 if folded else self._skipped + 1
                if self._skipped > _MAX_SKIPPED:
                    self._run, self._places = "", []
            self._offset += 1

    def finish(self) -> None:
        """Give up what was only begun."""
        self._run, self._places = "", []

    def _read(self, char: str) -> None:
        run, places = self._run + char, [*self._places, self._offset]
        while run and run not in _BEGINNINGS:
            if run in _RULES:
                match = Match(category=JAILBREAK, rule=_RULES[run], start=places[0], end=self._offset + 1, score=SCORE)
                self._final.append(match)
                run, places = "", []
            else:
                run, places = run[1:], places[1:]
        self._run, self._places = run, places


class RoleTokenDetector:
    """Finds marks of roles."""

    name = "role_tokens"

    def open(self, *, stage: Stage) -> RoleTokenScan:
        """Start a text."""
        del stage
        return RoleTokenScan()
