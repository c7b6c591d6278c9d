"""Phrases in a stream: an Aho–Corasick automaton over folded characters that knows how much it must hold back.

The state after a character is the longest end of the text that begins some phrase; `_path` holds the place of each of
its characters. Nothing from the first of these places on may be shown yet, everything before it may: Chinese prose is
so delayed by about one character. Phrases that are allowed live in the same automaton. A hit is final only when no
phrase that began at or before it can still be completed, so the longer allowed phrase always wins (三黄片 over 黄片).

Between two characters of which one is Chinese up to eight separators are skipped (海-纳 is 海纳), a run of blanks
counting as one; between other characters only Markdown's marks are. Latin words match as whole words.

The tests compare it with one regular expression per phrase.
"""

import hashlib
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from app.domain.verdicts import Action
from app.safety.detector import Match
from app.safety.normalise import FOLDED, KINDS, Kind, Memo

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


def squeeze(phrase: str) -> str:
    """Return a phrase as the automaton has it: folded, without what is skipped in texts too. May be empty."""
    squeezed: list[str] = []
    gap: list[str] = []
    for char in (folded for original in phrase for folded in FOLDED[original]):
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
    return hashlib.sha256(squeeze(phrase).encode()).hexdigest()[:10]


@dataclass(frozen=True, slots=True)
class _End:
    """A phrase that ends in a state."""

    phrase: Phrase
    length: int
    opens_word: bool
    closes_word: bool


class Lexicon:
    """An automaton: immutable once built, shared by all streams. Raises ValueError where a phrase is empty."""

    def __init__(self, phrases: Iterable[Phrase]) -> None:
        """Build it; the order of the phrases does not matter."""
        self.next: list[dict[str, int]] = [{}]
        self.depth: list[int] = [0]
        self.fallback: list[int] = [0]
        self.ends: list[tuple[_End, ...]] = [()]
        self.opens_word: list[bool] = [False]
        """Whether what a state stands for begins with a letter or digit of a word: within a word it is nothing."""
        for phrase in phrases:
            self._add(phrase)
        self._link()
        self.quiet: Memo[str | None] = Memo(self._quieten)
        """What an original character leaves as the last one seen while no phrase has begun (`""`: no change); None
        where it may begin a phrase."""

    def _add(self, phrase: Phrase) -> None:
        squeezed = squeeze(phrase.text)
        if not squeezed:
            raise ValueError("a phrase without letters")
        state = 0
        for char in squeezed:
            if char not in self.next[state]:
                self.next[state][char] = len(self.next)
                self.next.append({})
                self.depth.append(self.depth[state] + 1)
                self.fallback.append(0)
                self.opens_word.append(KINDS[squeezed[0]] is Kind.WORD)
                self.ends.append(())
            state = self.next[state][char]
        self.ends[state] += (
            _End(
                phrase=phrase,
                length=len(squeezed),
                opens_word=KINDS[squeezed[0]] is Kind.WORD,
                closes_word=KINDS[squeezed[-1]] is Kind.WORD,
            ),
        )

    def _link(self) -> None:
        queue = deque(self.next[0].values())
        while queue:
            state = queue.popleft()
            for char, child in self.next[state].items():
                queue.append(child)
                self.fallback[child] = self.step(self.fallback[state], char)
                self.ends[child] += self.ends[self.fallback[child]]

    def step(self, state: int, char: str) -> int:
        """Return the state after one more folded character."""
        following = self.next
        while state and char not in following[state]:
            state = self.fallback[state]
        return following[state].get(char, 0)

    def _quieten(self, char: str) -> str | None:
        folded = FOLDED[char]
        if any(c in self.next[0] for c in folded):
            return None
        return next((c for c in reversed(folded) if KINDS[c] is not Kind.MARKUP), "")


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
        self._state = 0
        self._path: list[tuple[int, str]] = []
        """The offset of each character of the state, and the character before it."""
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
        return self._offset - self._path[0][0] if self._path else 0

    @property
    def before(self) -> str:
        """The folded character before `safe_upto`: with the text from there on all that this scan knows."""
        return self._path[0][1] if self._path else self._last

    @property
    def safe_upto(self) -> int:
        """Where the longest beginning of a phrase starts. No hit that is not final starts before it."""
        return self._path[0][0] if self._path else self._offset

    def take(self) -> Sequence[Match]:
        """Return the hits that became final."""
        if not self._final:
            return ()
        final, self._final = self._final, []
        return final

    def feed(self, text: str) -> None:
        """Read on."""
        quiet = self._lexicon.quiet
        for char in text:
            # Without a state nothing is pending either: most of a text goes no further than this.
            if not self._state:
                last = quiet[char]
                if last is not None:
                    if last:
                        self._last = last
                    self._offset += 1
                    continue
            folded = FOLDED[char]
            for c in folded:
                self._read(c)
            if not folded:
                self._skip()
            self._offset += 1

    def finish(self) -> None:
        """Settle what waited for more."""
        self._break()

    def _read(self, char: str) -> None:
        kind = KINDS[char]
        if kind < Kind.SEPARATOR:
            self._close_gap(kind)
            self._advance(char, before=self._last)
        elif not self._state:
            if kind is not Kind.MARKUP:
                self._last = char
        else:
            self._widen_gap(char, kind=kind)

    def _widen_gap(self, char: str, *, kind: Kind) -> None:
        if kind is not Kind.MARKUP:
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
            self._advance(char, before=self._last, offset=offset)

    def _forget_gap(self) -> None:
        if self._gap_length or self._skipped:
            self._gap, self._gap_length, self._skipped = [], 0, 0
        self._was_space = False

    def _break(self) -> None:
        """Let no phrase reach over this place."""
        self._close_words(" ")
        if self._gap:
            self._last = self._gap[-1][0]
        self._forget_gap()
        self._state = 0
        self._path.clear()
        self._settle(live_from=self._offset + 1)

    def _advance(self, char: str, *, before: str, offset: int | None = None) -> None:
        """Step the automaton. Only what comes out of a gap has an offset other than the present one."""
        lexicon, path = self._lexicon, self._path
        state = lexicon.step(self._state, char)
        path.append((self._offset if offset is None else offset, before))
        depth = lexicon.depth[state]
        while lexicon.opens_word[state] and KINDS[path[len(path) - depth][1]] is Kind.WORD:
            state = lexicon.fallback[
                state
            ]  # no phrase begins in the middle of a word, so there is nothing to hold back
            depth = lexicon.depth[state]
        self._state = state
        del path[: len(path) - depth]
        self._last = char
        if self._pending or self._allowed:
            self._close_words(char)
            self._settle(live_from=path[0][0] if depth else self._offset + 1)
        for end in lexicon.ends[state]:
            start, previous = path[depth - end.length]
            if end.opens_word and KINDS[previous] is Kind.WORD:
                continue
            hit = _Hit(start, self._offset + 1, end.phrase, end.closes_word)
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
