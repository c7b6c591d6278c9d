"""A policy as a file: TOML, read strictly.

    name = "site"
    base = "builtin:general"                             # what this is laid over: shipped, or a file beside this
    without = ["fraud-en"]                               # lists of it that are left out
    files = ["builtin:drugs-zh", "house-rules.toml"]     # lists of phrases, beside this file or shipped

    [[rules]]
    category = "drugs"
    stages = ["input", "history", "output", "export"]
    action = "refuse"                                    # allow, flag, mask, refuse, handoff
    threshold = 0.5                                      # the least score that it is about; phrases have 1
    locked = true                                        # what is laid over this can be stricter, not weaker
    shadow = true                                        # on trial: recorded, nothing else

    [[lists]]                                            # a list may also stand here
    name = "competitors"
    category = "advertising"
    language = "en"
    phrases = ["buy at example corp"]
    allow = ["example corp's annual report"]             # excuses hits that lie within it
    patterns = ["(buy|order) (now |)at example corp"]    # one of each ( | ): four phrases
    score = 0.8                                          # how sure they are; 1 where it is not said
    fold = true                                          # also b0mb, b.o.m.b and Cyrillic letters that look Latin
    homophones = true                                    # also flags other Chinese characters that sound the same
    locked = true                                        # what is laid over this neither drops nor excuses it
    shadow = true                                        # on trial: recorded, nothing else

A file of a list has the keys of a list at its top, and `source`, `date` and `reviewer` as well; a `.txt` has them as
`# key: value` and then one phrase a line, `+` before those that are allowed. Nothing unknown is overlooked: whatever is
wrong is told with its line, and the policy is not taken. A layer that would weaken what is locked below it is wrong.
"""

import re
import tomllib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date as Date  # noqa: N812 — a key is called date
from functools import cached_property
from itertools import pairwise, product
from math import prod
from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.domain.errors import InvalidPolicy
from app.domain.verdicts import Action, Stage
from app.safety.phrases import squeeze
from app.safety.policy import (
    TEST_LISTS,
    Layer,
    PhraseList,
    Policy,
    Rule,
    layered,
    make_policy,
    weakened,
)

_BUILTIN_POLICIES: Final = Path(__file__).parent / "policies"
BUILTIN_POLICY: Final = _BUILTIN_POLICIES / "general.toml"
_MAX_LAYERS: Final = 8
_BUILTIN_LISTS: Final = Path(__file__).parent / "lists"
MAX_PHRASE_LENGTH: Final = 200
"""Folded characters; bounds what is held back."""

_DETECTED: Final = frozenset({"test", "personal_data", "jailbreak"})
"""Categories that are found without a list."""
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


_Pattern = Annotated[str, AfterValidator(_checked)]
_Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
_Category = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
_ActionName = Literal["allow", "flag", "mask", "refuse", "handoff"]
_Language = Literal["en", "zh", "any"]


def load_policy(path: Path | None = None) -> Policy:
    """Read a policy file and the lists that it names; without a path the built-in policy.

    Raises InvalidPolicy.
    """
    return PolicyFile(path).load()


class PolicyFile:
    """A policy file that is looked after while a server runs."""

    def __init__(self, path: Path | None = None) -> None:
        """Without a path the built-in policy."""
        self._path = path or BUILTIN_POLICY
        self._looks: dict[Path, tuple[int, int] | None] = {}
        """What was read last, and how those files looked before they were."""
        self._found: Policy | InvalidPolicy | None = None

    def load(self) -> Policy:
        """Return the policy, read anew if one of its files has changed. Raises InvalidPolicy, until that is mended."""
        if self._found is None or self.has_changed():
            self._looks = {}
            try:
                self._found = _Loader(self._open(self._path), folder=self._path.parent, open_file=self._open).load()
            except InvalidPolicy as error:
                self._found = error
        if isinstance(self._found, InvalidPolicy):
            raise self._found
        return self._found

    def has_changed(self) -> bool:
        """Whether one of the files is not as it was when the policy was read last. Never raises."""
        return any(_look(path) != before for path, before in self._looks.items())

    def _open(self, path: Path) -> "_Source":
        self._looks[path] = _look(path)
        return _Source.of_file(path)


def _look(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size


def lay_over(base: Policy, text: str, *, name: str) -> Policy:
    """Return the policy with a layer over it that is no file: its name is given, the files it names are shipped ones.

    Raises InvalidPolicy.
    """
    return _Loader(_Source(name, text), folder=None).load(over=base)


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
    locked: bool = False
    shadow: bool = False

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> Self:
        if self.locked and self.shadow:
            raise ValueError("a rule on trial decides nothing, so it cannot be locked")
        return self

    def rule(self) -> Rule:
        return Rule(
            category=self.category,
            stages=frozenset(self.stages),
            action=Action[self.action.upper()],
            threshold=self.threshold,
            is_locked=self.locked,
            is_shadow=self.shadow,
        )


class _ListTable(_Table):
    name: _Name
    category: _Category | None = None
    language: _Language
    phrases: list[str] = []
    patterns: list[_Pattern] = []
    allow: list[str] = []
    action: _ActionName | None = None
    firm: bool = False
    score: Annotated[float, Field(ge=0, le=1)] = 1.0
    fold: bool = False
    homophones: bool = False
    locked: bool = False
    shadow: bool = False
    source: str = ""
    date: Date | None = None
    reviewer: str = ""

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if not self.phrases and not self.patterns and not self.allow:
            raise ValueError("the list is empty")
        if (self.phrases or self.patterns) and self.category is None:
            raise ValueError("a list of phrases needs a category")
        return self

    def phrase_list(self) -> PhraseList:
        return PhraseList(
            name=self.name,
            category=self.category,
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
            is_locked=self.locked,
            is_shadow=self.shadow,
        )


class _ListFile(_ListTable):
    source: Annotated[str, Field(min_length=1)]
    date: Date
    reviewer: Annotated[str, Field(min_length=1)]


class _PolicyFile(_Table):
    name: _Name
    base: str = ""
    without: list[str] = []
    files: list[str] = []
    rules: list[_RuleTable] = []
    lists: list[_ListTable] = []


_Model = TypeVar("_Model", bound=_Table)


class _Source:
    """A file that is being read, and where in it things stand."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.lines = self.text.splitlines()

    @classmethod
    def of_file(cls, path: Path) -> "_Source":
        """Read a file. Raises InvalidPolicy."""
        try:
            return cls(path.name, path.read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            raise InvalidPolicy(f"{path}: there is no such file") from None
        except UnicodeDecodeError:
            raise InvalidPolicy(f"{path}: not UTF-8") from None
        except OSError as error:
            raise InvalidPolicy(f"{path}: {error.strerror}") from error

    def at(self, reason: str, *, line: int | None = None) -> str:
        """Return a fault, with its line where one is known."""
        return f"{self.name}:{line}: {reason}" if line else f"{self.name}: {reason}"

    def line_of_table(self, name: str, *, number: int) -> int:
        """Return the line of the `number`th `[[name]]`, from 0; 0 where it is not written so."""
        headers = [n for n, header in self._headers if header == f"[[{name}]]"]
        return headers[number] if number < len(headers) else 0

    @cached_property
    def _headers(self) -> Sequence[tuple[int, str]]:
        """Return the lines on which tables begin, and how."""
        headers = ((n, line.split("#")[0].strip()) for n, line in enumerate(self.lines, 1) if "[[" in line)
        return [(n, header) for n, header in headers if header.startswith("[[")]

    def line_of_key(self, key: str, *, after: int = 0) -> int | None:
        """Return the first line after another that sets a key."""
        starts = enumerate(self.lines[after:], after + 1)
        return next((n for n, line in starts if line.replace("#", "").split("=")[0].split(":")[0].strip() == key), None)

    def line_of_phrase(self, phrase: str, *, occurrence: int, after: int = 0) -> int | None:
        """Return the line on which a phrase is written for the nth time, from 0."""
        lines = self._lines_of.get(phrase, [])
        found = lines[bisect_right(lines, after) :]
        return found[min(occurrence, len(found) - 1)] if found else None

    @cached_property
    def _lines_of(self) -> Mapping[str, Sequence[int]]:
        """Return the lines on which each string, or line without a sign before it, is written."""
        lines: dict[str, list[int]] = {}
        for number, line in enumerate(self.lines, 1):
            for text in (*re.findall(r'"([^"]*)"', line), line.strip().removeprefix("+").strip()):
                lines.setdefault(text, []).append(number)
        return lines

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
        if numbered and numbered[0][0] in {"rules", "lists"}:
            after = self.line_of_table(str(numbered[0][0]), number=numbered[0][1])
        line = self.line_of_key(keys[-1], after=after) if keys and kind != "missing" else None
        where = ".".join(f"{part + 1}" if isinstance(part, int) else part for part in place)
        return self.at(f"{where}: {reason}" if where else reason, line=line or after or None)


class _Loader:
    """Reads a layer and everything that it names, and gathers what is wrong with it."""

    def __init__(
        self,
        source: _Source,
        *,
        folder: Path | None,
        above: int = 0,
        open_file: Callable[[Path], _Source] = _Source.of_file,
    ) -> None:
        """`folder` is where files are looked for, None where there are only the shipped ones; `above` counts layers."""
        self._source = source
        self._open = open_file
        self._folder = folder
        self._above = above
        self._faults: list[str] = []

    def load(self, *, over: Policy | None = None) -> Policy:
        source = self._source
        table = source.toml()
        if over is not None:
            table.setdefault("name", source.name)
        document = source.read(_PolicyFile, table)
        base = self._base(document, over=over)
        rules = [table.rule() for table in document.rules]
        lists = [self._read_list(name) for name in document.files]
        for number, one in enumerate(document.lists):
            lists.append(one.phrase_list())
            self._check_phrases(lists[-1], source=source, after=source.line_of_table("lists", number=number))
        layer = Layer(name=document.name, rules=tuple(rules), lists=tuple(lists), without=frozenset(document.without))
        self._check_names(lists)
        self._check_rules(layer, base=base)
        if base is not None:
            self._check_base(layer, base=base)
        if self._faults:
            raise InvalidPolicy(*self._faults)
        return make_policy(document.name, rules=rules, lists=lists) if base is None else layered(base, layer)

    def _base(self, document: _PolicyFile, *, over: Policy | None) -> Policy | None:
        """Return what the layer is laid over; None where it stands alone."""
        source = self._source
        if over is not None:
            if document.base:
                raise InvalidPolicy(source.at("base: is given already", line=source.line_of_key("base")))
            if document.name != source.name:
                raise InvalidPolicy(source.at(f"name: is {source.name}", line=source.line_of_key("name")))
            return over
        if not document.base:
            if document.without:
                raise InvalidPolicy(source.at("without: there is no base", line=source.line_of_key("without")))
            return None
        if self._above >= _MAX_LAYERS:
            raise InvalidPolicy(source.at("base: a policy over itself, or too many layers"))
        path = self._file(document.base, shipped=_BUILTIN_POLICIES, kind="policy")
        return _Loader(self._open(path), folder=path.parent, above=self._above + 1, open_file=self._open).load()

    def _file(self, name: str, *, shipped: Path, kind: str) -> Path:
        """Return where a list or a policy is that is named in the layer."""
        if name.startswith("builtin:"):
            path = shipped / f"{name.removeprefix('builtin:')}.toml"
            if path.parent == shipped and path.is_file():
                return path
            known = ", ".join(sorted(file.stem for file in shipped.glob("*.toml")))
            reason = f"there is no {kind} {name}; there are {known}"
        elif self._folder is not None:
            return self._folder / name
        else:
            reason = f"{kind} {name}: only shipped ones can be named here, as builtin:NAME"
        raise InvalidPolicy(self._source.at(reason, line=self._source.line_of_phrase(name, occurrence=0)))

    def _read_list(self, name: str) -> PhraseList:
        path = self._file(name, shipped=_BUILTIN_LISTS, kind="list")
        source = self._open(path)
        table = source.list_text() if path.suffix == ".txt" else source.toml()
        phrase_list = source.read(_ListFile, table).phrase_list()
        self._check_phrases(phrase_list, source=source)
        return phrase_list

    def _check_names(self, lists: Sequence[PhraseList]) -> None:
        seen = {phrase_list.name for phrase_list in TEST_LISTS}
        for phrase_list in lists:
            if phrase_list.name in seen:
                self._faults.append(self._source.at(f"a second list named {phrase_list.name}"))
            seen.add(phrase_list.name)

    def _check_rules(self, layer: Layer, *, base: Policy | None) -> None:
        source = self._source
        lists = (*layer.lists, *(base.lists if base else ()))
        found = {phrase_list.category for phrase_list in lists if phrase_list.category} | _DETECTED
        seen: set[tuple[str, Stage, float, bool]] = set()
        for number, rule in enumerate(layer.rules):
            line = source.line_of_table("rules", number=number)
            if rule.category not in found:
                self._faults.append(source.at(f"nothing finds the category {rule.category}", line=line))
            for stage in sorted(rule.stages):
                key = rule.category, stage, rule.threshold, rule.is_shadow
                if key in seen:
                    self._faults.append(source.at(f"a second rule for {rule.category} in {stage}", line=line))
                seen.add(key)
        ruled = {rule.category for rule in (*layer.rules, *(base.rules if base else ()))}
        for phrase_list in layer.lists:
            if phrase_list.category and phrase_list.action is None and phrase_list.category not in ruled:
                self._faults.append(
                    source.at(f"list {phrase_list.name}: no rule speaks of the category {phrase_list.category}")
                )

    def _check_base(self, layer: Layer, *, base: Policy) -> None:
        source = self._source
        known = {phrase_list.name for phrase_list in base.lists}
        for name in sorted(layer.without - known):
            self._faults.append(
                source.at(f"without: there is no list {name} below", line=source.line_of_key("without"))
            )
        for kind, name in weakened(base, layer):
            if kind == "rule":
                numbers = [n for n, rule in enumerate(layer.rules) if rule.category == name and not rule.is_shadow]
                line: int | None = source.line_of_table("rules", number=numbers[0])
                reason = f"the rule for {name} is locked below; here it can only be stricter"
            else:
                line = source.line_of_key("without") if name in layer.without else None
                reason = f"list {name} is locked below; it can be neither left out nor replaced"
            self._faults.append(source.at(reason, line=line or None))

    def _check_phrases(self, phrase_list: PhraseList, *, source: _Source, after: int = 0) -> None:
        seen: dict[str, int] = {}
        spelled: dict[str, int] = {}
        every = (*phrase_list.phrases, *phrase_list.allowed)
        for number, (phrase, squeezed) in enumerate(zip(every, phrase_list.squeezed, strict=True), 1):
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
