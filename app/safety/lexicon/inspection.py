"""The gate for lists: what is wrong with their entries, and which harmless texts they would stop.

An entry has to be long enough to mean something, say something that no other entry says, and find nothing in harmless
texts. Entries are searched as the filter searches them, in disguise and by sound where their list says so; what
phrases of the lists allow is excused.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Final

from app.domain.verdicts import Stage
from app.safety.detector import Detector, Match
from app.safety.folded import FoldedReading
from app.safety.homophones import MIN_SYLLABLES, HomophoneDetector
from app.safety.lexicon.corpus import Corpus
from app.safety.lexicon.entries import Entry, Places, entries_of
from app.safety.lexicon.proposals import Hit, Proposal, Words, propose
from app.safety.lexicon.text import read_text
from app.safety.markup import MarkupReading
from app.safety.normalise import KINDS, Kind
from app.safety.phrases import Lexicon, Phrase, PhraseScan, squeeze
from app.safety.policy import PhraseList
from app.safety.policy_file import MAX_PHRASE_LENGTH
from app.safety.readings import ReadingDetector

BUDGET_PERCENT: Final = 0.1
"""Of the harmless lines that are not golden, how many may be hit by all lists together."""
MAX_EXAMPLES: Final = 3
_KEPT: Final = 20
"""Hits of an entry that are kept to propose phrases from."""
_SHORT: Final = 2


class Reason(StrEnum):
    """What a remark is about."""

    UNREADABLE = "unreadable"
    HEADER = "header"
    REVIEW = "review"
    PERMISSION = "permission"
    EMPTY = "empty"
    SHORT = "short"
    LONG = "long"
    EXPIRED = "expired"
    TWICE = "twice"
    FALSE_HIT = "false-hit"
    BUDGET = "budget"
    EXCUSED = "excused"
    NEVER = "never"
    REDUNDANT = "redundant"


@dataclass(frozen=True, slots=True)
class Example:
    """A harmless line that an entry hits."""

    corpus: str
    line: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """Something that a person should know about a list or an entry."""

    reason: Reason
    words: str
    path: Path | None = None
    line: int | None = None
    phrase_list: str = ""
    entry: Entry | None = None
    other: Entry | None = None
    """The entry because of which this one is not needed."""
    is_fault: bool = True
    hits: int = 0
    """Harmless lines."""
    examples: tuple[Example, ...] = ()
    proposals: tuple[Proposal, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusScore:
    """How many lines of a corpus are hit."""

    name: str
    lines: int
    hit: int
    is_golden: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What was looked at, and what was seen."""

    lists: int
    entries: int
    budget_percent: float
    corpora: tuple[CorpusScore, ...]
    remarks: tuple[Remark, ...]

    @property
    def share_percent(self) -> float:
        """Of the harmless lines that are not golden, how many are hit."""
        return _percent([corpus for corpus in self.corpora if not corpus.is_golden])

    @property
    def faults(self) -> int:
        """How many remarks are faults."""
        return sum(remark.is_fault for remark in self.remarks)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An entry before the gate, and the list that it is for."""

    phrase_list: PhraseList
    entry: Entry

    def remark(self, reason: Reason, words: str) -> Remark:
        """Return a remark about it."""
        return Remark(
            reason=reason,
            words=words,
            path=self.phrase_list.path,
            line=self.entry.line,
            phrase_list=self.phrase_list.name,
            entry=self.entry,
        )


def inspect(
    lists: Sequence[PhraseList],
    *,
    corpora: Sequence[Corpus],
    today: date,
    budget_percent: float = BUDGET_PERCENT,
    words: Words | None = None,
) -> Inspection:
    """Look through lists that stand together in a policy. `words` cuts texts, so that phrases can be proposed.

    Raises OSError where the file of a list is not there any more.
    """
    remarks: list[Remark] = []
    candidates: list[Candidate] = []
    names: set[str] = set()
    for phrase_list in lists:
        if phrase_list.name in names:
            about = f"a second list named {phrase_list.name}"
            remarks.append(Remark(reason=Reason.HEADER, words=about, path=phrase_list.path))
        names.add(phrase_list.name)
        entries = list(entries_of(phrase_list, today=today, places=_places(phrase_list)))
        remarks += _header(phrase_list, entries=entries, today=today)
        candidates += (Candidate(phrase_list, entry) for entry in entries)
    sound, found = pass_alone(candidates, today=today)
    scores, hits, more = pass_corpora(sound, corpora=corpora, budget_percent=budget_percent, words=words)
    return Inspection(
        lists=len(lists),
        entries=len(candidates),
        budget_percent=budget_percent,
        corpora=scores,
        remarks=(*remarks, *found, *hits, *more),
    )


def pass_alone(candidates: Sequence[Candidate], *, today: date) -> tuple[list[Candidate], list[Remark]]:
    """Return the entries that are sound by themselves, and remarks on the others."""
    sound: list[Candidate] = []
    remarks: list[Remark] = []
    seen: dict[tuple[str, str, bool], Entry] = {}
    permitted: dict[str, frozenset[str]] = {}
    for candidate in candidates:
        entry, phrase_list = candidate.entry, candidate.phrase_list
        if phrase_list.name not in permitted:
            permitted[phrase_list.name] = frozenset(map(squeeze, phrase_list.short_ok))
        fault = _shape(entry, permitted=permitted[phrase_list.name], today=today)
        key = phrase_list.name, entry.canonical, entry.is_allowed
        if fault is None and key in seen:
            fault = Reason.TWICE, f"the same as {seen[key].name}"
        if fault:
            remarks.append(candidate.remark(*fault))
            continue
        seen[key] = entry
        sound.append(candidate)
    return sound, remarks


def pass_corpora(
    candidates: Sequence[Candidate],
    *,
    corpora: Sequence[Corpus],
    budget_percent: float,
    words: Words | None,
) -> tuple[tuple[CorpusScore, ...], list[Remark], list[Remark]]:
    """Run sound entries over harmless texts, and over each other.

    Return how the corpora fared, remarks on false hits, and remarks on entries that are of no use beside the others;
    an entry with a fault is no reason for such a remark.
    """
    phrases = tuple(
        Phrase(
            text=candidate.entry.text,
            rule=str(number),
            is_firm=candidate.phrase_list.is_firm,
            is_allowed=candidate.entry.is_allowed,
            is_folded=candidate.phrase_list.is_folded or candidate.entry.is_allowed,
            has_homophones=candidate.phrase_list.has_homophones or candidate.entry.is_allowed,
        )
        for number, candidate in enumerate(candidates)
    )
    lexicon = Lexicon(phrases)
    tallies, scores = _search(_detectors(phrases, lexicon=lexicon), corpora=corpora)
    remarks: list[Remark] = []
    share = _percent([score for score in scores if not score.is_golden])
    is_over = share > budget_percent
    if is_over:
        about = f"{share:.2f} % of the harmless lines are hit; the budget is {budget_percent:g} %"
        remarks.append(Remark(reason=Reason.BUDGET, words=about))
    for number, tally in sorted(tallies.items()):
        remarks.append(_false_hit(candidates[number], tally=tally, is_over=is_over, words=words))
    faulty = {id(remark.entry) for remark in remarks if remark.is_fault}
    useless = list(_beside_each_other(candidates, lexicon=lexicon, faulty=faulty))
    return scores, remarks, useless


def _places(phrase_list: PhraseList) -> Places | None:
    if phrase_list.path is None:
        return None
    text = read_text(phrase_list.path)
    lines = [line.split("#")[0].strip() for line in text.split("\n")]
    heading = f'name = "{phrase_list.name}"'
    # Several lists may stand in a policy, each behind its name.
    after = lines.index(heading) if "[[lists]]" in lines and heading in lines else 0
    return Places(text, is_toml=phrase_list.path.suffix != ".txt", after=after)


def _header(phrase_list: PhraseList, *, entries: Sequence[Entry], today: date) -> Iterator[Remark]:
    def remark(reason: Reason, words: str) -> Remark:
        return Remark(reason=reason, words=words, path=phrase_list.path, phrase_list=phrase_list.name)

    required = {
        "source": phrase_list.source.strip(),
        "date": phrase_list.reviewed_on,
        "reviewer": phrase_list.reviewer.strip(),
    }
    missing = [key for key, value in required.items() if not value]
    if missing:
        yield remark(Reason.HEADER, f"the header lacks {', '.join(missing)}")
    if phrase_list.review_by and phrase_list.review_by <= today:
        yield remark(Reason.REVIEW, f"was to be looked through again by {phrase_list.review_by}")
    written = {entry.canonical for entry in entries if not entry.is_allowed}
    for key, texts in (("short_ok", phrase_list.short_ok), ("redundant_ok", phrase_list.redundant_ok)):
        for text in texts:
            if squeeze(text) not in written:
                yield remark(Reason.PERMISSION, f"{key} has {text}, which is no entry")


def _shape(entry: Entry, *, permitted: Collection[str], today: date) -> tuple[Reason, str] | None:
    """Return what is wrong with an entry by itself."""
    if entry.record and entry.record.is_expired(today=today):
        return Reason.EXPIRED, f"has expired on {entry.record.expires}, and is not searched any more"
    if not entry.canonical:
        return Reason.EMPTY, "empty, or without a letter"
    if len(entry.canonical) == 1:
        return Reason.SHORT, "a single character would stop too much"
    if len(entry.canonical) > MAX_PHRASE_LENGTH:
        return Reason.LONG, f"longer than {MAX_PHRASE_LENGTH} characters"
    is_short = len(entry.canonical) == _SHORT and any(KINDS[char] is Kind.CJK for char in entry.canonical)
    if is_short and not entry.is_allowed and entry.canonical not in permitted:
        return Reason.SHORT, "two Chinese characters hide in too many words; after a look add it to short_ok"
    return None


@dataclass(slots=True)
class _Tally:
    """What one entry hits."""

    lines: int = 0
    golden: int = 0
    examples: list[Example] = field(default_factory=list)
    hits: list[Hit] = field(default_factory=list)
    ways: set[str] = field(default_factory=set)


def _detectors(phrases: tuple[Phrase, ...], *, lexicon: Lexicon) -> tuple[Detector, ...]:
    """Return what the filter finds phrases with."""
    return (
        ReadingDetector(lexicon, [FoldedReading(phrases), MarkupReading(lexicon)]),
        HomophoneDetector(phrases),
    )


def _search(
    detectors: Sequence[Detector], *, corpora: Sequence[Corpus]
) -> tuple[Mapping[int, _Tally], tuple[CorpusScore, ...]]:
    tallies: dict[int, _Tally] = defaultdict(_Tally)
    scores: list[CorpusScore] = []
    for corpus in corpora:
        hit_lines = 0
        for line in corpus.lines:
            matches: dict[int, tuple[Match, str]] = {}
            for detector in detectors:
                for match in _matches(detector, line.text):
                    matches.setdefault(int(match.rule), (match, match.detector or detector.name))
            hit_lines += bool(matches)
            for number, (match, way) in matches.items():
                tally = tallies[number]
                tally.lines += 1
                tally.golden += corpus.is_golden
                tally.ways.add(way)
                if len(tally.examples) < MAX_EXAMPLES:
                    tally.examples.append(Example(corpus.name, line.number, line.text))
                if way == detectors[0].name and len(tally.hits) < _KEPT:
                    tally.hits.append(Hit(line.text, match.start, match.end))
        score = CorpusScore(name=corpus.name, lines=len(corpus.lines), hit=hit_lines, is_golden=corpus.is_golden)
        scores.append(score)
    return tallies, tuple(scores)


def _matches(detector: Detector, text: str) -> Sequence[Match]:
    scan = detector.open(stage=Stage.INPUT)
    scan.feed(text)
    scan.finish()
    return scan.take()


def _false_hit(candidate: Candidate, *, tally: _Tally, is_over: bool, words: Words | None) -> Remark:
    lines = f"{tally.lines} harmless line{'s' if tally.lines > 1 else ''}"
    about = f"hits {lines}"
    if tally.golden:
        about += f", {tally.golden} of them golden"
    if not tally.hits:
        about += f" ({', '.join(sorted(tally.ways))})"
    if candidate.phrase_list.is_firm:
        about += "; its list is firm, so no allow-phrase would excuse it"
    can_propose = words is not None and not candidate.phrase_list.is_firm
    return replace(
        candidate.remark(Reason.FALSE_HIT, about),
        is_fault=is_over or tally.golden > 0,
        hits=tally.lines,
        examples=tuple(tally.examples),
        proposals=propose(tally.hits, words=words) if words is not None and can_propose else (),
    )


def _beside_each_other(
    candidates: Sequence[Candidate], *, lexicon: Lexicon, faulty: Collection[int]
) -> Iterator[Remark]:
    """Yield remarks on entries that another one, or what is allowed, makes useless; on a pattern, if all of it is."""
    neighbours = _Neighbours(candidates, lexicon=lexicon, faulty=faulty)
    of_patterns: dict[tuple[str, str], list[Remark | None]] = defaultdict(list)
    for number, candidate in enumerate(candidates):
        remark = None if candidate.entry.is_allowed else neighbours.look_at(number)
        if candidate.entry.pattern:
            of_patterns[candidate.phrase_list.name, candidate.entry.pattern].append(remark)
        elif remark:
            yield remark
    for remarks in of_patterns.values():
        first = remarks[0]
        if first and all(remarks):
            yield replace(first, words=f"all of the pattern is of no use, to begin with this: {first.words}")


class _Neighbours:
    """Entries that stand together."""

    def __init__(self, candidates: Sequence[Candidate], *, lexicon: Lexicon, faulty: Collection[int]) -> None:
        self._candidates = candidates
        self._lexicon = lexicon
        self._faulty = faulty
        lists = {one.phrase_list.name: one.phrase_list for one in candidates}
        self._allowed = {one.entry.canonical: one.phrase_list.name for one in candidates if one.entry.is_allowed}
        self._wanted = {(name, squeeze(text)) for name, one in lists.items() for text in one.redundant_ok}

    def look_at(self, number: int) -> Remark | None:
        """Return what makes an entry useless."""
        candidate = self._candidates[number]
        entry = candidate.entry
        if _is_alone(entry, lexicon=self._lexicon):
            return None
        found = _found_in(entry, lexicon=self._lexicon)
        if number not in found:
            by = self._allowed.get(entry.canonical)
            words = f"always excused: the list {by} allows it" if by else "can never be found: no text is read as this"
            return candidate.remark(Reason.EXCUSED if by else Reason.NEVER, words)
        if (candidate.phrase_list.name, entry.canonical) in self._wanted:
            return None
        others = (self._candidates[one] for one in sorted(found - {number}))
        sound = (other for other in others if id(other.entry) not in self._faulty)
        holder = next((other.entry for other in sound if _does_the_same(other, candidate)), None)
        if holder is None:
            return None
        words = f"not needed: it holds {holder.text}, {holder.name}, which is found wherever this is"
        return replace(candidate.remark(Reason.REDUNDANT, words), other=holder)


def _is_alone(entry: Entry, *, lexicon: Lexicon) -> bool:
    """Whether nothing but the entry itself ends in it: most are, and this is quicker to say than what is found."""
    if any(KINDS[char] >= Kind.SEPARATOR for char in entry.canonical):
        return False
    state, ends = "", 0
    for char in entry.canonical:
        state = lexicon.step(state, char)
        ends += len(lexicon.ends[state])
    return ends == 1


def _found_in(entry: Entry, *, lexicon: Lexicon) -> set[int]:
    """Return the numbers of what is found in an entry."""
    scan = PhraseScan(lexicon)
    scan.feed(entry.canonical)
    scan.finish()
    return {int(match.rule) for match in scan.take()}


def _does_the_same(shorter: Candidate, longer: Candidate) -> bool:
    """Whether nothing is lost without the longer one."""
    if shorter.phrase_list is not longer.phrase_list:
        return False
    ends, end = (one.entry.record.expires if one.entry.record else None for one in (shorter, longer))
    if ends and (end is None or end > ends):
        return False
    # What is too short is not searched by its sound, the longer one may be.
    return not (
        shorter.phrase_list.has_homophones
        and len(shorter.entry.canonical) < MIN_SYLLABLES <= len(longer.entry.canonical)
    )


def _percent(scores: Sequence[CorpusScore]) -> float:
    lines = sum(score.lines for score in scores)
    return 100 * sum(score.hit for score in scores) / lines if lines else 0.0
