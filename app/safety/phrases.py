"""Phrases in a stream: an Aho–Corasick automaton over folded characters that knows how much it must hold back.

The state after a character is the longest end of the text that begins some phrase – that very string: 100,000 phrases
are a dictionary of their beginnings, `app.safety.vocabulary`, and need neither links between states nor a second pass.
`_places` holds the place of each of its characters. Nothing from the first of these on may be shown yet, everything
before it may: Chinese prose is so delayed by about one character. Phrases that are allowed live in the same automaton.
A hit is final only when no phrase that began at or before it can still be completed, so the longer allowed phrase
always wins (三黄片 over 黄片).

Between two characters of which one is Chinese up to eight separators are skipped (海-纳 is 海纳), a run of blanks
counting as one; between other characters only Markdown's marks are. Latin words match as whole words.

The tests compare it with one regular expression per phrase.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import Final

from app.domain.verdicts import Action
from app.safety.detector import Match
from app.safety.normalise import FOLDED, KINDS, LETTERS, Kind, Memo
from app.safety.vocabulary import Vocabulary

_WORD: Final = Kind.WORD
MAX_GAP: Final = 8
"""Separators between two characters of a phrase."""
MAX_SKIPPED: Final = 1000
"""Invisible characters and repeated blanks between two characters of a phrase: bounds what a flood can hold back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrase:
    """A phrase as a list has it."""

    text: str
    rule: str = ""
    category: str = ""
    action: Action | None = None
    """In every stage, in place of the policy's rules."""
    is_firm: bool = False
    """Allowed phrases do not excuse it."""
    is_allowed: bool = False
    """Excuses the hits that lie within it."""
    score: float = 1.0
    """Of its hits; a policy's rules have thresholds."""
    is_folded: bool = False
    """Also found in disguise, `app.safety.folded`."""
    has_homophones: bool = False
    """Also flagged where other characters sound the same, `app.safety.homophones`."""
    is_shadow: bool = False
    """On trial: a hit is only recorded; where it is allowed, it excuses only hits that are on trial."""
    is_locked: bool = False
    """Excused only by what its own layer, or one below, allows."""
    layer: int = 0

    def excuses(self, hit: "Phrase") -> bool:
        """Whether this allowed phrase may excuse a hit that lies within it."""
        if hit.is_firm or (self.is_shadow and not hit.is_shadow):
            return False
        return not hit.is_locked or self.layer <= hit.layer


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Entries:
    """Phrases that differ in nothing but their words, as those of a list. Each is made when it is asked for."""

    kind: Phrase
    """What they have in common; without text and rule."""
    words: tuple[str, ...]
    """Squeezed."""
    find: Callable[[str], Iterable[Phrase]]
    """Returns the phrases, mostly one, that one of the words stands for."""


_kind = attrgetter(*(field.name for field in fields(Phrase) if field.name not in {"text", "rule"}))


def gathered(phrases: "Iterable[Phrase | Entries]") -> Iterator[Entries]:
    """Yield phrases by kind; what is gathered already stays as it is."""
    alike: dict[tuple[object, ...], dict[str, list[Phrase]]] = {}
    for phrase in phrases:
        if isinstance(phrase, Entries):
            yield phrase
        else:
            alike.setdefault(_kind(phrase), {}).setdefault(squeeze(phrase.text), []).append(phrase)
    for found in alike.values():
        kind = replace(next(iter(found.values()))[0], text="", rule="")
        yield Entries(kind=kind, words=tuple(found), find=found.__getitem__)


def squeeze(phrase: str) -> str:
    """Return a phrase as the automaton has it: folded, without what is skipped in texts too. May be empty."""
    folded = "".join(map(FOLDED.__getitem__, phrase))
    kinds = set(map(KINDS.__getitem__, folded))
    if kinds <= _UNBROKEN:
        return phrase if folded == phrase else folded  # the same string is kept once
    if kinds <= _SPACED:
        return " ".join(folded.split())
    return _squeezed(folded)


_UNBROKEN: Final = {Kind.OTHER, Kind.WORD, Kind.CJK}
_SPACED: Final = {Kind.OTHER, Kind.WORD, Kind.SPACE}


def _squeezed(folded: str) -> str:
    squeezed: list[str] = []
    gap: list[str] = []
    for char in folded:
        kind = KINDS[char]
        if kind is Kind.SPACE and gap and gap[-1] == " ":
            continue
        if kind is Kind.SEPARATOR or kind is Kind.SPACE:
            gap.append(char)
        elif kind is not Kind.MARKUP:
            if squeezed and kind is not Kind.CJK and KINDS[squeezed[-1]] is not Kind.CJK:
                squeezed += gap
            squeezed.append(char)
            gap = []
    return "".join(squeezed)


def phrase_id(phrase: str) -> str:
    """Return ten hexadecimal digits that stay the same however the phrase is spelled."""
    return word_id(squeeze(phrase))


def word_id(word: str) -> str:
    """Return the same for a phrase that is squeezed already."""
    return hashlib.sha256(word.encode()).hexdigest()[:10]


@dataclass(frozen=True, slots=True)
class _End:
    """A phrase that ends in a state."""

    phrase: Phrase
    length: int
    opens_word: bool
    closes_word: bool


class Lexicon:
    """An automaton: immutable once built, shared by all streams. Raises ValueError where a phrase is empty.

    A state is the end of the text that begins a phrase, as a string; `""` where none begins.
    """

    def __init__(self, phrases: Iterable[Phrase | Entries], *, vocabulary: Vocabulary | None = None) -> None:
        """Build it; the order of the phrases does not matter. Lexicons with common lists share a `vocabulary`."""
        self._vocabulary = Vocabulary() if vocabulary is None else vocabulary
        self._parts = [(entries, self._vocabulary.add(entries.words)) for entries in gathered(phrases)]
        self.mask = 0
        """The bits of the lists in the vocabulary that are part of it."""
        for _, shelved in self._parts:
            self.mask |= shelved.bit
        self.begun = self._vocabulary.begun
        self.ends: Memo[tuple[_End, ...]] = Memo(self._ends)
        """The phrases that a state ends with, the longest first."""
        self.quiet: Memo[str | None] = Memo(lambda char: self._quieten(char, is_within_word=False))
        """What an original character leaves as the last one seen while no phrase has begun (`""`: no change); None
        where it may begin a phrase."""
        self.quiet_within_word: Memo[str | None] = Memo(lambda char: self._quieten(char, is_within_word=True))
        """The same behind a letter or digit of a word, where no other word begins."""

    def begins(self, text: str) -> bool:
        """Whether a phrase begins with this text, folded."""
        return self.begun.get(text, 0) & self.mask != 0

    def step(self, state: str, char: str) -> str:
        """Return the state after one more folded character."""
        state += char
        while state and not self.begun.get(state, 0) & self.mask:
            state = state[1:]
        return state

    def has_word(self, word: str) -> bool:
        """Whether a squeezed phrase is among those that this was made of, as they were before any reading."""
        spelled = self._vocabulary.spell(word)
        bits = self._vocabulary.whole.get(spelled, 0)
        return any(shelved.bit & bits and word in shelved.words(spelled) for _, shelved in self._parts)

    def _ends(self, state: str) -> tuple[_End, ...]:
        return tuple(
            _End(
                phrase=phrase,
                length=len(word),
                opens_word=KINDS[word[0]] is Kind.WORD,
                closes_word=KINDS[word[-1]] is Kind.WORD,
            )
            for word in (state[start:] for start in range(len(state)))
            if self._vocabulary.whole.get(word, 0) & self.mask
            for phrase in self._find(word)
        )

    def _find(self, word: str) -> Iterator[Phrase]:
        bits = self._vocabulary.whole[word]
        for entries, shelved in self._parts:
            if shelved.bit & bits:
                for original in shelved.words(word):
                    yield from entries.find(original)

    def _quieten(self, char: str, *, is_within_word: bool) -> str | None:
        last = ""
        for c in FOLDED[char]:
            kind = KINDS[c]
            if self.begins(c) and not (is_within_word and kind is Kind.WORD):
                return None
            if kind is not Kind.MARKUP:
                last, is_within_word = c, kind is Kind.WORD
        return last


@dataclass(slots=True)
class _Hit:
    start: int
    end: int
    phrase: Phrase
    is_open: bool
    """Its last word may still go on."""


class PhraseScan:
    """A text on its way through a lexicon."""

    def __init__(self, lexicon: Lexicon, *, offset: int = 0, last: str = " ") -> None:
        """Start before the first character, or behind the folded character `last` at a place within a text."""
        self._lexicon = lexicon
        self._offset = offset
        self._state = ""
        self._places: list[int] = []
        """The offset of each character of the state."""
        self._before = ""
        """The character before the state."""
        self._last = last
        self._gap: list[tuple[str, int]] = []
        """Separators since the last character, blanks run together, Markdown's marks left out; and their offsets."""
        self._gap_length = 0
        self._skipped = 0
        self._was_space = False
        self._pending: list[_Hit] = []
        self._allowed: list[_Hit] = []
        self._final: list[Match] = []

    @property
    def offset(self) -> int:
        """How much was read."""
        return self._offset

    @property
    def held(self) -> int:
        """How many characters stand behind `safe_upto`."""
        return self._offset - self._places[0] if self._places else 0

    @property
    def before(self) -> str:
        """The folded character before `safe_upto`: with the text from there on all that this scan knows."""
        return self._before if self._state else self._last

    @property
    def safe_upto(self) -> int:
        """Where the longest beginning of a phrase starts. No hit that is not final starts before it."""
        return self._places[0] if self._places else self._offset

    def take(self) -> Sequence[Match]:
        """Return the hits that became final."""
        if not self._final:
            return ()
        final, self._final = self._final, []
        return final

    def feed(self, text: str) -> None:
        """Read on."""
        lexicon = self._lexicon
        for char in text:
            # Without a state nothing is pending either: most of a text goes no further than this.
            if not self._state:
                quiet = lexicon.quiet_within_word if KINDS[self._last] is _WORD else lexicon.quiet
                last = quiet[char]
                if last is not None:
                    if last:
                        self._last = last
                    self._offset += 1
                    continue
            letter = LETTERS[char]
            if not letter:
                self._read_folded(char)
            else:
                if self._gap_length or self._skipped:
                    self._close_gap(KINDS[letter])
                self._advance(letter, offset=self._offset)
            self._offset += 1

    def finish(self) -> None:
        """Settle what waited for more."""
        self._break()

    def _read_folded(self, char: str) -> None:
        folded = FOLDED[char]
        for c in folded:
            self._read(c)
        if not folded:
            self._skip()

    def _read(self, char: str) -> None:
        kind = KINDS[char]
        if kind < Kind.SEPARATOR:
            self._close_gap(kind)
            self._advance(char, offset=self._offset)
        elif self._state:
            self._widen_gap(char, kind=kind)
        elif kind is not Kind.MARKUP:
            self._last = char

    def _widen_gap(self, char: str, *, kind: Kind) -> None:
        if kind is not Kind.MARKUP and (self._pending or self._allowed):
            self._close_words(" ")
        is_repeated = kind is Kind.SPACE and self._was_space
        self._was_space = kind is Kind.SPACE
        if is_repeated:
            self._skip()
            return
        self._gap_length += 1
        if kind is not Kind.MARKUP and not (kind is Kind.SPACE and self._gap and self._gap[-1][0] == " "):
            self._gap.append((char, self._offset))
        if self._gap_length > MAX_GAP:
            self._break()

    def _skip(self) -> None:
        if self._state:
            self._skipped += 1
            if self._skipped > MAX_SKIPPED:
                self._break()

    def _close_gap(self, kind: Kind) -> None:
        """Decide what the gap before a character of this kind was: skipped in Chinese, part of the text elsewhere."""
        gap = self._gap
        self._forget_gap()
        if not gap or kind is Kind.CJK or KINDS[self._last] is Kind.CJK:
            return
        for char, offset in gap:
            self._advance(char, offset=offset)

    def _forget_gap(self) -> None:
        if self._gap_length or self._skipped:
            self._gap, self._gap_length, self._skipped, self._was_space = [], 0, 0, False

    def _break(self) -> None:
        """Let no phrase reach over this place."""
        self._close_words(" ")
        if self._gap:
            self._last = self._gap[-1][0]
        self._forget_gap()
        self._state = ""
        self._places.clear()
        self._settle(live_from=self._offset + 1)

    def _advance(self, char: str, *, offset: int) -> None:
        """Step the automaton. Only what comes out of a gap has an offset other than the present one."""
        lexicon, places = self._lexicon, self._places
        begun, mask = lexicon.begun, lexicon.mask
        places.append(offset)
        before = self._before if self._state else self._last
        state = self._state + char
        # No phrase begins in the middle of a word, so there is nothing to hold back.
        while state and (not begun.get(state, 0) & mask or (KINDS[state[0]] is _WORD and KINDS[before] is _WORD)):
            before, state = state[0], state[1:]
            del places[0]
        self._before, self._state, self._last = before, state, char
        if self._pending or self._allowed:
            self._close_words(char)
            self._settle(live_from=places[0] if state else self._offset + 1)
        for end in lexicon.ends[state]:
            skipped = len(state) - end.length
            if end.opens_word and skipped and KINDS[state[skipped - 1]] is Kind.WORD:
                continue
            hit = _Hit(places[skipped], self._offset + 1, end.phrase, end.closes_word)
            (self._allowed if end.phrase.is_allowed else self._pending).append(hit)

    def _close_words(self, following: str) -> None:
        """Drop the hits whose last word goes on with this character; the others stand."""
        goes_on = KINDS[following] is Kind.WORD
        for hits in (self._pending, self._allowed):
            if any(hit.is_open for hit in hits):
                hits[:] = [hit for hit in hits if not (hit.is_open and goes_on)]
                for hit in hits:
                    hit.is_open = False

    def _settle(self, *, live_from: int) -> None:
        """Make final what no phrase that begins at `live_from` or later can change."""
        waiting = []
        for hit in self._pending:
            if hit.start >= live_from:
                waiting.append(hit)
            elif not self._is_excused(hit):
                phrase = hit.phrase
                self._final.append(
                    Match(
                        category=phrase.category,
                        rule=phrase.rule,
                        start=hit.start,
                        end=hit.end,
                        action=phrase.action,
                        score=phrase.score,
                        is_shadow=phrase.is_shadow,
                    )
                )
        self._pending = waiting
        needed_from = min([live_from, *(hit.start for hit in waiting)])
        self._allowed = [hit for hit in self._allowed if hit.end > needed_from]

    def _is_excused(self, hit: _Hit) -> bool:
        return any(
            allowed.start <= hit.start and hit.end <= allowed.end and allowed.phrase.excuses(hit.phrase)
            for allowed in self._allowed
        )
