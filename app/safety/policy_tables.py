"""The tables of policy and list files, as pydantic reads them, and what they become: rules, lists, guards."""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from datetime import date as Date  # noqa: N812 — a key is called date
from itertools import product
from math import prod
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from app.domain.verdicts import Action, Stage
from app.safety.guards.spec import LOCAL, OTHER, GuardKind, GuardMode, GuardSpec, OnError
from app.safety.phrases import squeeze
from app.safety.policy import (
    PhraseList,
    Record,
    Rule,
)
from app.safety.taxonomy import CLASSES
from app.safety.wording_tables import AnswerTable, ReplyTable

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


def _known_class(name: str) -> str:
    if name not in CLASSES:
        raise ValueError(f"there is no such class; there are {', '.join(CLASSES)}")
    return name


_Pattern = Annotated[str, AfterValidator(_checked)]
_ClassName = Annotated[str, AfterValidator(_known_class)]
_Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
_Category = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
_CategoryOrNone = Annotated[str, Field(pattern=r"^([a-z][a-z0-9_]*)?$", max_length=64)]
_ActionName = Literal["allow", "flag", "mask", "refuse", "handoff"]
_Language = Literal["en", "zh", "any"]


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


class RuleTable(_Table):
    """`[[rules]]`."""

    category: _Category
    stages: Annotated[list[Stage], Field(min_length=1)]
    action: _ActionName
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    locked: bool = False
    shadow: bool = False
    unmask: bool = False

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> Self:
        if self.locked and self.shadow:
            raise ValueError("a rule on trial decides nothing, so it cannot be locked")
        if self.unmask and self.action != "mask":
            raise ValueError(f"unmask: goes with action = mask, not with {self.action}")
        if self.unmask and Stage.INPUT not in self.stages:
            raise ValueError("unmask: is about questions, so input must be among the stages")
        if self.unmask and self.shadow:
            raise ValueError("unmask: a rule on trial masks nothing")
        return self

    def rule(self) -> Rule:
        """Return the rule."""
        return Rule(
            category=self.category,
            stages=frozenset(self.stages),
            action=Action[self.action.upper()],
            threshold=self.threshold,
            is_locked=self.locked,
            is_shadow=self.shadow,
            is_unmasked=self.unmask,
        )


class EntryTable(_Table):
    """`[[entries]]` of a list."""

    text: str
    added: Date
    by: Annotated[str, Field(min_length=1)]
    source: str = ""
    safety_class: Annotated[_ClassName | None, Field(alias="class")] = None
    expires: Date | None = None
    note: str = ""

    def record(self) -> Record:
        """Return who added it."""
        return Record(
            text=self.text,
            added=self.added,
            by=self.by,
            source=self.source,
            safety_class=self.safety_class or "",
            expires=self.expires,
            note=self.note,
        )


class ListTable(_Table):
    """`[[lists]]` of a policy."""

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
    review_by: Date | None = None
    safety_class: Annotated[_ClassName | None, Field(alias="class")] = None
    short_ok: list[str] = []
    redundant_ok: list[str] = []
    entries: list[EntryTable] = []

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if not self.phrases and not self.patterns and not self.allow and not self.entries:
            raise ValueError("the list is empty")
        has_phrases = self.phrases or self.patterns or self.entries
        if has_phrases and self.category is None and self.safety_class is None:
            raise ValueError("a list of phrases needs a category")
        return self

    def phrase_list(self, *, today: Date | None) -> PhraseList:
        """Return the list, without entries that have expired by a day."""
        now = today or datetime.now(tz=UTC).date()
        records = tuple(entry.record() for entry in self.entries)
        lasting = (record.text for record in records if not record.is_expired(today=now))
        made = unique(text for pattern in self.patterns for text in alternatives(pattern))
        own_class = CLASSES[self.safety_class] if self.safety_class else None
        return PhraseList(
            name=self.name,
            category=self.category or (own_class.category if own_class else None),
            language=self.language,
            phrases=(*self.phrases, *lasting, *made),
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
            review_by=self.review_by,
            safety_class=self.safety_class or "",
            records=records,
            patterns=tuple(self.patterns),
            short_ok=tuple(self.short_ok),
            redundant_ok=tuple(self.redundant_ok),
        )


class ListFile(ListTable):
    """A list as a file of its own, which has to say where it comes from."""

    source: Annotated[str, Field(min_length=1)]
    date: Date
    reviewer: Annotated[str, Field(min_length=1)]


class GuardTable(_Table):
    """`[[guards]]`."""

    name: _Name
    kind: GuardKind
    url: str
    model: Annotated[str, Field(min_length=1, max_length=200)] = "default"
    stages: Annotated[list[Stage], Field(min_length=1)] = [Stage.INPUT, Stage.OUTPUT]
    mode: GuardMode = "strict"
    on_error: OnError = "refuse"
    input_budget_s: Annotated[float, Field(gt=0, le=60)] = 2.0
    window_budget_s: Annotated[float, Field(gt=0, le=60)] = 1.0
    categories: dict[Annotated[str, Field(min_length=1, max_length=100)], _CategoryOrNone] = {}
    instructions: list[Annotated[str, Field(min_length=1, max_length=500)]] = []
    api_key_file: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        is_local = self.url == LOCAL and self.kind == "classify"
        if not is_local and (reason := fault_in_address(self.url)):
            raise ValueError(reason)
        if self.categories.get(OTHER) == "":
            raise ValueError(f'categories: "{OTHER}" stands for labels that nobody knows; they cannot be harmless')
        if self.instructions and self.kind not in {"shieldlm", "judge"}:
            raise ValueError(f"instructions: a {self.kind} takes none")
        return self

    def spec(self, *, folder: Path) -> GuardSpec:
        """Return the guard; paths are those of a folder."""
        return GuardSpec(
            name=self.name,
            kind=self.kind,
            url=self.url,
            model=self.model,
            stages=frozenset(self.stages),
            mode=self.mode,
            on_error=self.on_error,
            input_budget_s=self.input_budget_s,
            window_budget_s=self.window_budget_s,
            categories=tuple(self.categories.items()),
            instructions=tuple(self.instructions),
            api_key_file=folder / self.api_key_file if self.api_key_file else None,
        )


def fault_in_address(url: str) -> str:
    """Return what is wrong with a guard's address; nothing where it is `http(s)://HOST[:PORT]/v1`."""
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none
        is_whole = False
    if not is_whole or not url.isprintable() or " " in url:
        return "url: a guard's address is http://HOST:PORT/v1 or https://HOST/v1"
    if parts.username or parts.password:
        return "url: a key does not stand in a policy; api_key_file names the file that holds it"
    return ""


class PolicyTable(_Table):
    """A policy file, or the text of a layer."""

    name: _Name
    base: str = ""
    without: list[str] = []
    files: list[str] = []
    by_class: bool = False
    rules: list[RuleTable] = []
    lists: list[ListTable] = []
    wording: list[str] = []
    replies: list[ReplyTable] = []
    answers: list[AnswerTable] = []
    guards: list[GuardTable] = []
