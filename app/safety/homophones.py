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
from app.safety.phrases import MAX_GAP, MAX_SKIPPED, Lexicon, Phrase, squeeze

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

    def __init__(self, phrases: Iterable[Phrase]) -> None:
        """Take the phrases with `has_homophones` that are Chinese and long enough."""
        sound = sounds()
        spoken: list[Phrase] = []
        allowed: set[str] = set()
        for phrase in phrases:
            text = squeeze(phrase.text)
            if not phrase.has_homophones or len(text) < MIN_SYLLABLES or any(char not in sound for char in text):
                continue
            if phrase.is_allowed:
                if not phrase.is_shadow:
                    allowed.add(text)
            else:
                spoken.append(phrase)
        self.automaton = Lexicon(_spoken(phrase, sound) for phrase in spoken)
        self.left = frozenset(allowed | {squeeze(phrase.text) for phrase in spoken})
        """What is no homophone: the phrases themselves, and what is allowed."""
        self.starts = frozenset(char for char, syllable in sound.items() if syllable in self.automaton.next[0])


def _spoken(phrase: Phrase, sound: Mapping[str, str]) -> Phrase:
    text = "".join(sound[char] for char in squeeze(phrase.text))
    return Phrase(
        text=text,
        rule=phrase.rule,
        category=phrase.category,
        score=min(phrase.score, SCORE),
        is_shadow=phrase.is_shadow,
    )


class HomophoneScan:
    """A text that is listened to."""

    def __init__(self, lexicon: HomophoneLexicon) -> None:
        """Start before the first character."""
        self._lexicon = lexicon
        self._sounds = sounds()
        self._offset = 0
        self._state = 0
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
        for char in text:
            syllable = self._sounds.get(char)
            if syllable is not None:
                self._hear(char, syllable)
            elif self._state:
                self._pass(char)
            self._offset += 1

    def finish(self) -> None:
        """Nothing waits."""

    def _hear(self, char: str, syllable: str) -> None:
        automaton = self._lexicon.automaton
        self._state = state = automaton.step(self._state, syllable)
        self._gap = self._skipped = 0
        depth = automaton.depth[state]
        if not depth:
            self._heard = ""
            return
        self._heard = (self._heard + char)[-depth:]
        for end in automaton.ends[state]:
            if self._heard[-end.length :] not in self._lexicon.left:
                phrase = end.phrase
                self._final.append(
                    Match(
                        category=phrase.category,
                        rule=phrase.rule,
                        start=self._offset,
                        end=self._offset + 1,
                        score=phrase.score,
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
            self._state, self._heard, self._gap, self._skipped = 0, "", 0, 0


class HomophoneDetector:
    """Hears the phrases of lists."""

    name = "homophones"

    def __init__(self, phrases: Iterable[Phrase]) -> None:
        """Build the lexicon."""
        self._lexicon = HomophoneLexicon(phrases)

    def open(self, *, stage: Stage) -> HomophoneScan:
        """Start a text."""
        del stage
        return HomophoneScan(self._lexicon)
