"""A policy as a file: TOML, read strictly.

    name = "general"
    files = ["builtin:drugs-zh", "house-rules.toml"]     # lists of phrases, beside this file or shipped
    by_class = true                                      # the categories are the classes of GB/T 45654, see below
    wording = ["builtin:answers", "house-words.toml"]    # files of replies and answers, `app.safety.wording_tables`

    [[rules]]
    category = "drugs"
    stages = ["input", "history", "output", "export"]
    action = "refuse"                                    # allow, flag, mask, refuse, handoff
    threshold = 0.5                                      # the least score that it is about; phrases have 1

    [[lists]]                                            # a list may also stand here
    name = "competitors"
    category = "advertising"
    class = "A3.b"                                       # the class of GB/T 45654 that it counts in
    language = "en"
    phrases = ["buy at example corp"]
    allow = ["example corp's annual report"]             # excuses hits that lie within it
    patterns = ["(buy|order) (now |)at example corp"]    # one of each ( | ): four phrases
    score = 0.8                                          # how sure they are; 1 where it is not said
    fold = true                                          # also b0mb, b.o.m.b and Cyrillic letters that look Latin
    homophones = true                                    # also flags other Chinese characters that sound the same

`[[replies]]` and `[[answers]]` may stand here as well. The replies that come with the program are part of every policy;
one's own come before them.

A file of a list has the keys of a list at its top, and `source`, `date` and `reviewer` as well; a `.txt` has them as
`# key: value` and then one phrase a line, `+` before those that are allowed. Nothing unknown is overlooked: whatever is
wrong is told with its line, and the policy is not taken.

Where a policy goes by class, rules speak of `a1_d` for A1.d, or of `a1` for all of a group (the gravest that speaks of
a class decides), and a list's category is its class – unless a rule speaks of the list's own category: so self-harm,
which is of A4.a, can be handed to a person and the rest of A4.a not.
"""

import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date as Date  # noqa: N812 — a key is called date
from itertools import pairwise, product
from math import prod
from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.domain.verdicts import Action, Stage
from app.safety.answers import Answer
from app.safety.phrases import squeeze
from app.safety.policy import TEST_LISTS, PhraseList, Policy, Rule, make_policy
from app.safety.replies import Reply
from app.safety.taxonomy import CATEGORIES, CLASSES, GROUPS, expanded, is_class
from app.safety.wording_tables import AnswerTable, ReplyTable, WordingFile

_BUILTIN_POLICIES: Final = Path(__file__).parent / "policies"
BUILTIN_POLICY: Final = _BUILTIN_POLICIES / "general.toml"
_BUILTIN: Final = "builtin:"
_BUILTIN_WORDING: Final = Path(__file__).parent / "wording"
_BUILTIN_LISTS: Final = Path(__file__).parent / "lists"
MAX_PHRASE_LENGTH: Final = 200
"""Folded characters; bounds what is held back."""

_DETECTED: Final = frozenset({"test", "personal_data", "jailbreak"})
"""Categories that are found without a list."""
_KNOWN: Final = frozenset(
    {*CATEGORIES, *(one.category for one in CLASSES.values()), *(group.lower() for group in GROUPS)}
)
"""Categories that something may be said of, whether this policy finds them or not."""
MAX_ALTERNATIVES: Final = 1000
"""Phrases that a pattern may stand for."""


def alternatives(pattern: str) -> list[str]:
    """Return the phrases that a pattern stands for: one of each `(this|or that|)`.

    Raises ValueError where a bracket is left open, within another or alone, or where there are too many.
    """
    parts = re.split(r"\(([^()]*)\)", pattern)
    if any(char in part for part in parts[::2] for char in "()"):
        raise ValueError("brackets do not match; alternatives stand in ( | ), one level deep")
    choices = [part.split("|") if n % 2 else [part] for n, part in enumerate(parts)]
    if prod(map(len, choices)) > MAX_ALTERNATIVES:
        raise ValueError(f"stands for more than {MAX_ALTERNATIVES} phrases")
    return ["".join(choice) for choice in product(*choices)]


def _checked(pattern: str) -> str:
    alternatives(pattern)
    return pattern


def _known_class(name: str | None) -> str | None:
    if name is not None and name not in CLASSES:
        raise ValueError("no class of GB/T 45654; they are A1.a to A5.b")
    return name


_Pattern = Annotated[str, AfterValidator(_checked)]
_Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
_Category = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
_ActionName = Literal["allow", "flag", "mask", "refuse", "handoff"]
_Language = Literal["en", "zh", "any"]


class InvalidPolicy(Exception):
    """A policy file, or a list that it names, cannot be used. `faults` has one line for each reason."""

    def __init__(self, *faults: str) -> None:
        """Each fault begins with file and line, where there is one."""
        super().__init__("\n".join(faults))
        self.faults = faults


def load_policy(path: Path | None = None) -> Policy:
    """Read a policy file and the lists that it names; without a path the built-in policy.

    Raises InvalidPolicy.
    """
    return _Loader(path or BUILTIN_POLICY).load()


def policy_path(name: str) -> Path | None:
    """Return the file of a policy: `builtin:general`, `builtin:gb45654` or a path; None for an empty name.

    Raises InvalidPolicy where no built-in policy has this name.
    """
    if not name.startswith(_BUILTIN):
        return Path(name) if name else None
    files = {path.stem: path for path in _BUILTIN_POLICIES.glob("*.toml")}
    if path := files.get(name.removeprefix(_BUILTIN)):
        return path
    raise InvalidPolicy(f"there is no policy {name}; there are {', '.join(map(_BUILTIN.__add__, sorted(files)))}")


def unique(phrases: Iterable[str]) -> Iterator[str]:
    """Yield phrases, the first of those that count as the same."""
    seen: set[str] = set()
    for phrase in phrases:
        squeezed = squeeze(phrase)
        if squeezed not in seen:
            seen.add(squeezed)
            yield phrase


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _RuleTable(_Table):
    category: _Category
    stages: Annotated[list[Stage], Field(min_length=1)]
    action: _ActionName
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5

    def rule(self) -> Rule:
        return Rule(
            category=self.category,
            stages=frozenset(self.stages),
            action=Action[self.action.upper()],
            threshold=self.threshold,
        )


class _ListTable(_Table):
    name: _Name
    category: _Category | None = None
    safety_class: Annotated[str | None, Field(alias="class"), AfterValidator(_known_class)] = None
    language: _Language
    phrases: list[str] = []
    patterns: list[_Pattern] = []
    allow: list[str] = []
    action: _ActionName | None = None
    firm: bool = False
    score: Annotated[float, Field(ge=0, le=1)] = 1.0
    fold: bool = False
    homophones: bool = False
    source: str = ""
    date: Date | None = None
    reviewer: str = ""

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if not self.phrases and not self.patterns and not self.allow:
            raise ValueError("the list is empty")
        if (self.phrases or self.patterns) and self.category is None and self.safety_class is None:
            raise ValueError("a list of phrases needs a category")
        return self

    def phrase_list(self) -> PhraseList:
        own_class = CLASSES[self.safety_class] if self.safety_class else None
        return PhraseList(
            name=self.name,
            category=self.category or (own_class.category if own_class else None),
            safety_class=self.safety_class,
            language=self.language,
            phrases=(*self.phrases, *unique(text for pattern in self.patterns for text in alternatives(pattern))),
            allowed=tuple(self.allow),
            action=Action[self.action.upper()] if self.action else None,
            is_firm=self.firm,
            score=self.score,
            is_folded=self.fold,
            has_homophones=self.homophones,
            source=self.source,
            reviewed_on=self.date,
            reviewer=self.reviewer,
        )


class _ListFile(_ListTable):
    source: Annotated[str, Field(min_length=1)]
    date: Date
    reviewer: Annotated[str, Field(min_length=1)]


class _PolicyFile(_Table):
    name: _Name
    files: list[str] = []
    by_class: bool = False
    rules: list[_RuleTable] = []
    lists: list[_ListTable] = []
    wording: list[str] = []
    replies: list[ReplyTable] = []
    answers: list[AnswerTable] = []


_Model = TypeVar("_Model", bound=BaseModel)


class _Source:
    """A file that is being read, and where in it things stand."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        try:
            self.text = path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            raise InvalidPolicy(f"{path}: there is no such file") from None
        except UnicodeDecodeError:
            raise InvalidPolicy(f"{path}: not UTF-8") from None
        except OSError as error:
            raise InvalidPolicy(f"{path}: {error.strerror}") from error
        self.lines = self.text.splitlines()

    def at(self, reason: str, *, line: int | None = None) -> str:
        """Return a fault, with its line where one is known."""
        return f"{self.name}:{line}: {reason}" if line else f"{self.name}: {reason}"

    def line_of_table(self, name: str, *, number: int) -> int:
        """Return the line of the `number`th `[[name]]`, from 0; 0 where it is not written so."""
        headers = [n for n, line in enumerate(self.lines, 1) if line.split("#")[0].strip() == f"[[{name}]]"]
        return headers[number] if number < len(headers) else 0

    def place_of(self, table: str, *, number: int) -> str:
        """Return where a table stands, as a fault begins."""
        line = self.line_of_table(table, number=number)
        return f"{self.name}:{line}" if line else self.name

    def line_of_key(self, key: str, *, after: int = 0) -> int | None:
        """Return the first line after another that sets a key."""
        starts = enumerate(self.lines[after:], after + 1)
        return next((n for n, line in starts if line.replace("#", "").split("=")[0].split(":")[0].strip() == key), None)

    def line_of_phrase(self, phrase: str, *, occurrence: int, after: int = 0) -> int | None:
        """Return the line on which a phrase is written for the nth time, from 0."""
        found = [
            n
            for n, line in enumerate(self.lines[after:], after + 1)
            for _ in range(line.count(f'"{phrase}"') or line.strip().removeprefix("+").strip() == phrase)
        ]
        return found[min(occurrence, len(found) - 1)] if found else None

    def toml(self) -> dict[str, object]:
        """Parse."""
        try:
            return tomllib.loads(self.text)
        except (ValueError, RecursionError) as error:  # also a number of thousands of digits
            raise InvalidPolicy(self.at(str(error))) from None

    def list_text(self) -> dict[str, object]:
        """Parse a `.txt`: `# key: value` lines, then phrases, `+` before the allowed ones."""
        table: dict[str, object] = {}
        phrases: list[str] = []
        allowed: list[str] = []
        for line in (line.strip() for line in self.lines):
            if line.startswith("#") and ":" in line and not phrases and not allowed:
                key, _, value = line[1:].partition(":")
                table[key.strip()] = value.strip()
            elif line.startswith("+"):
                allowed.append(line[1:].strip())
            elif line and not line.startswith("#"):
                phrases.append(line)
        return {**table, "phrases": phrases, "allow": allowed}

    def read(self, model: type[_Model], table: Mapping[str, object]) -> _Model:
        """Return the typed content. Raises InvalidPolicy with every fault."""
        try:
            return model.model_validate(table)
        except ValidationError as error:
            raise InvalidPolicy(
                *(self._describe(fault["loc"], fault["type"], fault["msg"]) for fault in error.errors())
            ) from None

    def _describe(self, place: tuple[int | str, ...], kind: str, message: str) -> str:
        """Turn pydantic's path to a value (`rules`, 2, `action`) into a line and words. The value is not repeated."""
        words = {"extra_forbidden": "there is no such key", "missing": "is required"}.get(kind)
        reason = words or message.removeprefix("Value error, ")
        numbered = [(name, index) for name, index in pairwise(place) if isinstance(index, int)]
        keys = [part for part in place if isinstance(part, str)]
        after = 0
        if numbered and numbered[0][0] in {"rules", "lists", "replies", "answers"}:
            after = self.line_of_table(str(numbered[0][0]), number=numbered[0][1])
        line = self.line_of_key(keys[-1], after=after) if keys and kind != "missing" else None
        where = ".".join(f"{part + 1}" if isinstance(part, int) else part for part in place)
        return self.at(f"{where}: {reason}" if where else reason, line=line or after or None)


class _Loader:
    """Reads a policy and everything that it names, and gathers what is wrong with it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._faults: list[str] = []

    def load(self) -> Policy:
        source = _Source(self._path)
        document = source.read(_PolicyFile, source.toml())
        rules = [table.rule() for table in document.rules]
        lists = [self._read_list(name, policy=source) for name in document.files]
        for number, table in enumerate(document.lists):
            lists.append(table.phrase_list())
            self._check_phrases(lists[-1], source=source, after=source.line_of_table("lists", number=number))
        if document.by_class:
            lists = self._by_class(source, rules=rules, lists=lists)
        self._check_names(source, lists=lists)
        self._check_rules(source, rules=rules, lists=lists, by_class=document.by_class)
        replies, answers = self._read_wording(document, source=source)
        known = {rule.category for rule in rules} | {one.category for one in lists if one.category} | _KNOWN
        self._check_wording(replies, answers, known=known)
        if self._faults:
            raise InvalidPolicy(*self._faults)
        if document.by_class:
            rules = [replace(rule, category=category) for rule in rules for category in expanded(rule.category)]
        return make_policy(document.name, rules=rules, lists=lists, replies=replies, answers=answers)

    def _read_wording(self, document: _PolicyFile, *, source: _Source) -> tuple[list[Reply], list[Answer]]:
        """Return the replies and answers of the policy, of the files that it names, and the shipped replies."""
        shipped = _Source(_BUILTIN_WORDING / "replies.toml")
        parts: list[tuple[_Source, _PolicyFile | WordingFile]] = [(source, document)]
        for name in document.wording:
            other = _Source(self._path_of(name, folder=_BUILTIN_WORDING, kind="wording", policy=source))
            parts.append((other, other.read(WordingFile, other.toml())))
        parts.append((shipped, shipped.read(WordingFile, shipped.toml())))
        replies = [
            table.reply(place=part.place_of("replies", number=number), is_shipped=part is shipped)
            for part, words in parts
            for number, table in enumerate(words.replies)
        ]
        answers = [
            table.answer(place=part.place_of("answers", number=number))
            for part, words in parts
            for number, table in enumerate(words.answers)
        ]
        return replies, answers

    def _check_wording(self, replies: Sequence[Reply], answers: Sequence[Answer], *, known: Collection[str]) -> None:
        spoken = [(one.place, one.category) for one in replies if one.category]
        spoken += [(one.place, category) for one in answers for category in sorted(one.categories)]
        self._faults += [
            f"{place}: nothing finds the category {category}" for place, category in spoken if category not in known
        ]
        seen: set[str] = set()
        for one in answers:
            if one.name in seen:
                self._faults.append(f"{one.place}: a second answer named {one.name}")
            seen.add(one.name)
            for phrase in (*one.all, *one.any):
                if reason := _fault_in(squeeze(phrase)):
                    self._faults.append(f"{one.place}: answer {one.name}: {reason}")

    def _path_of(self, name: str, *, folder: Path, kind: str, policy: _Source) -> Path:
        """Return the file that a policy names: one beside it, or a shipped one of a folder. Raises InvalidPolicy."""
        if not name.startswith(_BUILTIN):
            return self._path.parent / name
        path = folder / f"{name.removeprefix(_BUILTIN)}.toml"
        if not path.is_file():
            known = ", ".join(sorted(file.stem for file in folder.glob("*.toml")))
            line = policy.line_of_phrase(name, occurrence=0)
            raise InvalidPolicy(policy.at(f"there is no {kind} {name}; there are {known}", line=line))
        return path

    def _read_list(self, name: str, *, policy: _Source) -> PhraseList:
        path = self._path_of(name, folder=_BUILTIN_LISTS, kind="list", policy=policy)
        source = _Source(path)
        table = source.list_text() if path.suffix == ".txt" else source.toml()
        phrase_list = source.read(_ListFile, table).phrase_list()
        self._check_phrases(phrase_list, source=source)
        return phrase_list

    def _check_names(self, source: _Source, *, lists: Sequence[PhraseList]) -> None:
        seen = {phrase_list.name for phrase_list in TEST_LISTS}
        for phrase_list in lists:
            if phrase_list.name in seen:
                self._faults.append(source.at(f"a second list named {phrase_list.name}"))
            seen.add(phrase_list.name)

    def _by_class(self, source: _Source, *, rules: Sequence[Rule], lists: Sequence[PhraseList]) -> list[PhraseList]:
        """Put each list into the category of its class, but for those of whose own category a rule speaks."""
        ruled = {rule.category for rule in rules}
        sorted_lists: list[PhraseList] = []
        for one in lists:
            own_class = CLASSES[one.safety_class] if one.safety_class else None
            if own_class and one.category and (one.category not in ruled or is_class(one.category)):
                sorted_lists.append(replace(one, category=own_class.category))
                continue
            if one.category and one.category not in ruled and not is_class(one.category):
                self._faults.append(source.at(f"list {one.name}: this policy goes by class, and it does not name one"))
            sorted_lists.append(one)
        return sorted_lists

    def _check_rules(
        self, source: _Source, *, rules: Sequence[Rule], lists: Sequence[PhraseList], by_class: bool
    ) -> None:
        found = {phrase_list.category for phrase_list in lists if phrase_list.category} | _DETECTED
        if by_class:
            found |= {one.category for one in CLASSES.values()}  # the operator's lists are still to come
            found |= {group.lower() for group in GROUPS}
        seen: set[tuple[str, Stage, float]] = set()
        for number, rule in enumerate(rules):
            line = source.line_of_table("rules", number=number)
            if rule.category not in found:
                self._faults.append(source.at(f"nothing finds the category {rule.category}", line=line))
            for stage in sorted(rule.stages):
                if (rule.category, stage, rule.threshold) in seen:
                    self._faults.append(source.at(f"a second rule for {rule.category} in {stage}", line=line))
                seen.add((rule.category, stage, rule.threshold))
        ruled = {category for rule in rules for category in expanded(rule.category)}
        for phrase_list in lists:
            if phrase_list.category and phrase_list.action is None and phrase_list.category not in ruled:
                self._faults.append(
                    source.at(f"list {phrase_list.name}: no rule speaks of the category {phrase_list.category}")
                )

    def _check_phrases(self, phrase_list: PhraseList, *, source: _Source, after: int = 0) -> None:
        seen: dict[str, int] = {}
        spelled: dict[str, int] = {}
        every = (*phrase_list.phrases, *phrase_list.allowed)
        for number, phrase in enumerate(every, 1):
            squeezed = squeeze(phrase)
            occurrence = spelled[phrase] = spelled.get(phrase, -1) + 1
            reason = _fault_in(squeezed)
            if squeezed in seen:
                reason = f"the same as entry {seen[squeezed]}"
            if reason:
                line = source.line_of_phrase(phrase, occurrence=occurrence, after=after)
                self._faults.append(source.at(f"list {phrase_list.name}, entry {number}: {reason}", line=line))
            seen.setdefault(squeezed, number)


_REASONS: Final[Sequence[tuple[Callable[[str], bool], str]]] = (
    (lambda squeezed: not squeezed, "empty, or without a letter"),
    (lambda squeezed: len(squeezed) == 1, "a single character would stop too much"),
    (lambda squeezed: len(squeezed) > MAX_PHRASE_LENGTH, f"longer than {MAX_PHRASE_LENGTH} characters"),
)


def _fault_in(squeezed: str) -> str | None:
    return next((reason for is_wrong, reason in _REASONS if is_wrong(squeezed)), None)
