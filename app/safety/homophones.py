"""Chinese phrases written with other characters that sound the same: 炸蛋 for 炸弹.

The automaton of the phrases, with one character for each syllable, tones left out. Only phrases of three syllables and
more, of lists with `homophones = true`: shorter ones sound like something harmless too often. It is a hint and no more:
whatever a rule says, the most that is done is to flag. So nothing is held back for it, and a hit stands at its last
character. What is written as the phrase itself is the phrase detector's; what a list allows, letter by letter, is left.

Each character has one reading here, the first of pypinyin's dictionary. Only that module of the library is read, which
takes 0.04 s: all of it takes 0.15 s and 57 MB of memory, for phrases that nobody asks about here.
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import MappingProxyType
from typing import Final

from app.domain.verdicts import Action, Stage
from app.safety.detector import Match
from app.safety.normalise import FOLDED, KINDS, Kind
from app.safety.phrases import MAX_GAP, MAX_SKIPPED, Entries, Lexicon, Phrase, gathered
from app.safety.vocabulary import Vocabulary

MIN_SYLLABLES: Final = 3
SCORE: Final = 0.6


@cache
def sounds() -> Mapping[str, str]:
    """Return, for each character from U+4E00 to U+9FFF, the one that stands for its syllable; ü counts as u."""
    first: dict[str, str] = {}
    return MappingProxyType(
        {
            chr(code): first.setdefault(_toneless(readings.partition(",")[0]), chr(code))
            for code, readings in sorted(_readings().items())
            if 0x4E00 <= code <= 0x9FFF  # noqa: PLR2004 - the block of common characters
        }
    )


def _readings() -> Mapping[int, str]:
    """Return the readings of each code point, with tones, separated by commas."""
    package = find_spec("pypinyin")
    spec = spec_from_file_location("_pinyin_dict", Path(package.origin).with_name("pinyin_dict.py"))  # type: ignore[union-attr, arg-type]
    module = module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    readings: Mapping[int, str] = module.pinyin_dict
    return readings


def _toneless(reading: str) -> str:
    return "".join(char for char in unicodedata.normalize("NFD", reading) if not unicodedata.combining(char))


@cache
def fingerprint() -> str:
    """Return a hash of the table, for a policy's id."""
    return hashlib.sha256(repr(sorted(sounds().items())).encode()).hexdigest()


class HomophoneLexicon:
    """Phrases by their sound; immutable, shared by all streams."""

    def __init__(self, phrases: Iterable[Phrase | Entries], *, vocabulary: Vocabulary | None = None) -> None:
        """Take the phrases with `has_homophones` that are Chinese and long enough.

        A `vocabulary` is one of `spoken_words`.
        """
        heard = [entries for entries in gathered(phrases) if entries.kind.has_homophones]
        denied = (entries for entries in heard if not entries.kind.is_allowed)
        self.automaton = Lexicon(denied, vocabulary=spoken_words() if vocabulary is None else vocabulary)
        self._allowed = frozenset(
            word for one in heard if one.kind.is_allowed and not one.kind.is_shadow for word in one.words
        )
        self.starts = frozenset(char for char, syllable in sounds().items() if self.automaton.begins(syllable))

    def is_homophone(self, word: str) -> bool:
        """Whether a text that sounds like a phrase is neither one itself nor allowed."""
        return word not in self._allowed and not self.automaton.has_word(word)


def spoken_words() -> Vocabulary:
    """Return a vocabulary of phrases by their sound."""
    return Vocabulary(_spoken)


def _spoken(word: str) -> str:
    sound = sounds()
    is_long = len(word) >= MIN_SYLLABLES
    return "".join(map(sound.__getitem__, word)) if is_long and all(char in sound for char in word) else ""


class HomophoneScan:
    """A text that is listened to."""

    def __init__(self, lexicon: HomophoneLexicon) -> None:
        """Start before the first character."""
        self._lexicon = lexicon
        self._sounds = sounds()
        self._offset = 0
        self._state = ""
        self._heard = ""
        """The characters of the state."""
        self._gap = 0
        self._skipped = 0
        self._final: list[Match] = []

    @property
    def safe_upto(self) -> int:
        """All that was read."""
        return self._offset

    def take(self) -> Sequence[Match]:
        """Return the hits."""
        if not self._final:
            return ()
        final, self._final = self._final, []
        return final

    def feed(self, text: str) -> None:
        """Read on."""
        if not self._state and self._lexicon.starts.isdisjoint(text):
            self._offset += len(text)
            return
        starts = self._lexicon.starts
        for char in text:
            if self._state or char in starts:
                syllable = self._sounds.get(char)
                if syllable is None:
                    self._pass(char)
                else:
                    self._hear(char, syllable)
            self._offset += 1

    def finish(self) -> None:
        """Nothing waits."""

    def _hear(self, char: str, syllable: str) -> None:
        automaton = self._lexicon.automaton
        self._state = state = automaton.step(self._state, syllable)
        self._heard = (self._heard + char)[-len(state) :] if state else ""
        self._gap = self._skipped = 0
        for end in automaton.ends[state]:
            if self._lexicon.is_homophone(self._heard[-end.length :]):
                phrase = end.phrase
                self._final.append(
                    Match(
                        category=phrase.category,
                        rule=phrase.rule,
                        start=self._offset,
                        end=self._offset + 1,
                        score=min(phrase.score, SCORE),
                        is_shadow=phrase.is_shadow,
                        at_most=Action.FLAG,
                    )
                )

    def _pass(self, char: str) -> None:
        """Skip what is skipped within written phrases, too; anything else ends what was heard."""
        folded = FOLDED[char]
        if not folded or (folded == " " and self._gap):
            self._skipped += 1
        elif all(KINDS[c] >= Kind.SEPARATOR for c in folded):
            self._gap += 1
        else:
            self._gap = MAX_GAP + 1
        if self._gap > MAX_GAP or self._skipped > MAX_SKIPPED:
            self._state, self._heard, self._gap, self._skipped = "", "", 0, 0


class HomophoneDetector:
    """Hears the phrases of lists."""

    name = "homophones"

    def __init__(self, phrases: Iterable[Phrase | Entries], *, vocabulary: Vocabulary | None = None) -> None:
        """Build the lexicon."""
        self._lexicon = HomophoneLexicon(phrases, vocabulary=vocabulary)

    def open(self, *, stage: Stage) -> HomophoneScan:
        """Start a text."""
        del stage
        return HomophoneScan(self._lexicon)
