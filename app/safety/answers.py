"""The answer bank: approved answers to questions that are refused, given in place of the refusal.

A question that the policy refuses in a category is looked through for the phrases of that category's answers, as
phrases are looked for everywhere: folded, across separators, Latin words as whole words. The first answer of the file
whose phrases are there is given. A question that is not refused never comes here.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.domain.ports import PreparedAnswer
from app.domain.words import Language
from app.safety.normalise import FOLDED, KINDS, Kind
from app.safety.phrases import Lexicon, Phrase, PhraseScan
from app.safety.taxonomy import expanded

_SLICE: Final = 2000
"""Characters between two chances for other tasks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An approved answer, in Markdown, and the questions that it is for."""

    name: str
    categories: frozenset[str] = frozenset()
    """What the question was refused for; empty for anything."""
    all: tuple[str, ...] = ()
    """Phrases that have to be there, each of them."""
    any: tuple[str, ...] = ()
    """Phrases of which one has to be there; where there are none, `all` suffices."""
    zh: str
    en: str
    place: str = ""
    """The file and line that it stands in."""

    def text(self, language: Language) -> str:
        """Return it in a language."""
        return self.zh if language == "zh" else self.en

    def suits(self, found: frozenset[str]) -> bool:
        """Whether it is for a question in which these phrases were found."""
        return found.issuperset(self.all) and (not self.any or not found.isdisjoint(self.any))


class PhraseAnswerBank:
    """Implements the port `AnswerBank`."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        """Build the automaton. Earlier answers come before later ones."""
        self._answers = [
            (one, frozenset(name for each in one.categories for name in expanded(each))) for one in answers
        ]
        phrases = {phrase for one in answers for phrase in (*one.all, *one.any)}
        self._lexicon = Lexicon(Phrase(text=phrase, rule=phrase) for phrase in sorted(phrases))

    async def find(self, question: str, *, category: str) -> PreparedAnswer | None:
        """Return the first answer for a category whose phrases are in the question, in the question's language."""
        candidates = [one for one, categories in self._answers if not categories or category in categories]
        if not candidates:
            return None
        found = await self._phrases_in(question)
        answer = next((one for one in candidates if one.suits(found)), None)
        return PreparedAnswer(answer.name, answer.text(_language_of(question))) if answer else None

    async def _phrases_in(self, text: str) -> frozenset[str]:
        scan = PhraseScan(self._lexicon)
        for start in range(0, len(text), _SLICE):
            if start:
                await asyncio.sleep(0)
            scan.feed(text[start : start + _SLICE])
        scan.finish()
        return frozenset(match.rule for match in scan.take())


def _language_of(text: str) -> Language:
    is_chinese = any(KINDS[char] is Kind.CJK for original in text for char in FOLDED[original])
    return "zh" if is_chinese else "en"
