"""What a person reads in place of a text that was refused: by category and stage, in both languages.

Several replies for one category and stage are equals; the decision's id chooses among them, so that a page that is
loaded again says the same. A reply is written in advance: it repeats nothing of the text and names no rule.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from app.domain.verdicts import Stage
from app.domain.words import Language
from app.safety.taxonomy import CLASSES

_LINK = re.compile(r"\[([^\[\]]*)\]\([^()\s]*\)")
_MARKS = re.compile(r"[*_`]+|^#+ ", re.MULTILINE)
_SIDES = {Stage.HISTORY: Stage.INPUT, Stage.EXPORT: Stage.OUTPUT}
"""What a program supplies as history counts as a question, what is exported as an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A reply, in Markdown."""

    category: str
    """A category, a class (`a1_d`) or a group of classes (`a2`); empty for all that have none of their own."""
    stage: Stage | None
    """Question (`INPUT`) or answer (`OUTPUT`); None for both."""
    zh: str
    en: str
    place: str = ""
    """The file and line that it stands in."""
    is_shipped: bool = False

    def text(self, language: Language) -> str:
        """Return it in a language."""
        return self.zh if language == "zh" else self.en


class CategoryReplies:
    """Implements the port `Replies`: those of the policy, then those that come with the program."""

    def __init__(self, replies: Iterable[Reply]) -> None:
        """There has to be one for every category and stage, or nothing is said at all."""
        self._replies = tuple(replies)

    def refusal(self, *, category: str, stage: str, seed: str, language: Language) -> str:
        """Return the reply for a category and stage."""
        equals = self.choices(category, Stage(stage))
        if not equals:
            return ""
        number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8])
        return equals[number % len(equals)].text(language)

    def brief(self, *, category: str, stage: str, seed: str, language: Language) -> str:
        """Return its first paragraph, without marks, on one line."""
        first = self.refusal(category=category, stage=stage, seed=seed, language=language).partition("\n\n")[0]
        return " ".join(_MARKS.sub("", _LINK.sub(r"\1", first)).split())

    def choices(self, category: str, stage: Stage) -> Sequence[Reply]:
        """Return the equals for a category and stage: the closest that there are, the policy's own before others."""
        side = _SIDES.get(stage, stage)
        for name in _names(category):
            for is_shipped in (False, True):
                for where in (side, None):
                    found = [
                        one
                        for one in self._replies
                        if (one.category, one.stage, one.is_shipped) == (name, where, is_shipped)
                    ]
                    if found:
                        return found
        return ()

    def used(self) -> Iterator[Reply]:
        """Yield those that can be said: not the shipped ones that the policy's own stand before."""
        own = {(one.category, one.stage) for one in self._replies if not one.is_shipped}
        for one in self._replies:
            is_replaced = (one.category, one.stage) in own or (one.category, None) in own
            if not one.is_shipped or not is_replaced:
                yield one


def _names(category: str) -> Iterator[str]:
    """Yield what a category's reply may be written for, closest first."""
    yield category
    group = next((one.group for one in CLASSES.values() if one.category == category), None)
    if group:
        yield group.lower()
    yield ""
