"""A foreign list made into one of ours: every word passes the gate, and what does not is written down with the reason.

What is new is on trial: the list only flags, until somebody has looked at its hits and takes the line out.
"""

import csv
import io
import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Final

from app.domain.errors import InvalidInput, InvalidPolicy
from app.domain.verdicts import Action
from app.safety.lexicon.corpus import Corpus
from app.safety.lexicon.entries import Entry, entries_of
from app.safety.lexicon.foreign import Foreign, Word
from app.safety.lexicon.inspection import Candidate, Remark, pass_alone, pass_corpora
from app.safety.lexicon.proposals import Words
from app.safety.lexicon.text import read_text
from app.safety.phrases import squeeze
from app.safety.policy import PhraseList, Record
from app.safety.policy_file import read_list
from app.safety.taxonomy import CLASSES

ON_TRIAL: Final = 'action = "flag"'
"""What keeps a list from more than flagging; `is_on_trial` knows it again."""
_SHOWN: Final = 200
"""Characters of a refused word that are written down."""


def is_on_trial(phrase_list: PhraseList) -> bool:
    """Whether a list does no more than flag."""
    return phrase_list.action is Action.FLAG


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What the accepted words become part of."""

    category: str
    language: str
    source: str
    reviewer: str
    safety_class: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A word that did not pass."""

    word: Word
    reason: str
    remark: Remark | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """What became of a foreign list."""

    read_as: str
    accepted: tuple[Record, ...]
    refused: tuple[Refused, ...]


def sift(
    foreign: Foreign,
    *,
    target: Target,
    present: PhraseList | None,
    name: str,
    corpora: Sequence[Corpus],
    today: date,
    words: Words | None,
) -> Import:
    """Let each word through the gate, beside what is `present`; a word that hits a harmless line is refused.

    `name` is that of a new list.
    """
    phrase_list = present or PhraseList(name=name, category=target.category, language=target.language)
    standing = [Candidate(phrase_list, entry) for entry in entries_of(phrase_list, today=today)]
    refused: dict[int, Refused] = {}
    coming: dict[int, Candidate] = {}
    for number, word in enumerate(foreign.words):
        if word.refusal or word.safety_class not in {"", *CLASSES}:
            refused[number] = Refused(word=word, reason=word.refusal or f"there is no class {word.safety_class}")
            continue
        record = Record(
            text=word.text,
            added=today,
            by=target.reviewer,
            source=target.source,
            safety_class=word.safety_class or target.safety_class,
            note=word.note,
        )
        entry = Entry(text=word.text, canonical=squeeze(word.text), line=word.line, record=record)
        coming[number] = Candidate(phrase_list, entry)
    found: dict[int, Refused] = {}
    is_settled = False
    while not is_settled:
        number_of = {id(candidate.entry): number for number, candidate in coming.items()}
        found.clear()
        blockers: dict[int, Refused] = {}
        for remark in _remarks([*standing, *coming.values()], corpora=corpora, today=today, words=words):
            own, other = number_of.get(id(remark.entry)), number_of.get(id(remark.other))
            if own is not None:
                found.setdefault(own, Refused(word=foreign.words[own], reason=remark.words, remark=remark))
            elif remark.entry and other is not None:
                reason = f"would make {remark.entry.text} useless, which the list has: take that out first"
                blockers[other] = Refused(word=foreign.words[other], reason=reason, remark=remark)
        # Without those, others may be of use again.
        is_settled = not blockers
        refused |= blockers
        coming = {number: candidate for number, candidate in coming.items() if number not in blockers}
    refused |= found
    accepted = (one.entry.record for number, one in coming.items() if number not in refused)
    return Import(
        read_as=foreign.read_as,
        accepted=tuple(record for record in accepted if record),
        refused=tuple(refused[number] for number in sorted(refused)),
    )


def _remarks(
    candidates: Sequence[Candidate], *, corpora: Sequence[Corpus], today: date, words: Words | None
) -> Iterable[Remark]:
    sound, alone = pass_alone(candidates, today=today)
    _, hits, useless = pass_corpora(sound, corpora=corpora, budget_percent=0, words=words)
    return (*alone, *hits, *useless)


def read_target(path: Path, *, target: Target, today: date) -> PhraseList:
    """Return a list that words are to be added to.

    Raises InvalidInput where it is about something else, not on trial, or no list; OSError where it cannot be read.
    """
    if path.suffix != ".toml":
        raise InvalidInput(f"{path}: only a .toml can say who added an entry")
    read_text(path)  # says more clearly what is wrong with a file that is no text
    try:
        phrase_list = read_list(path, today=today)
    except InvalidPolicy as error:
        raise InvalidInput(str(error)) from None
    if (phrase_list.category, phrase_list.language) != (target.category, target.language):
        about = f"{phrase_list.category}, {phrase_list.language}"
        raise InvalidInput(f"{path}: the list is for {about}, not {target.category}, {target.language}")
    if not is_on_trial(phrase_list):
        raise InvalidInput(
            f"{path}: the list is not on trial; what is new has to be: add {ON_TRIAL}, or use a new file"
        )
    return phrase_list


def list_name(path: Path) -> str:
    """Return the name of a list that is to be written to a file. Raises InvalidInput where the file has no fit one."""
    if path.suffix != ".toml" or not re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", path.stem) or len(path.stem) > 64:  # noqa: PLR2004
        raise InvalidInput(f"{path}: name it as the list, small letters, digits and hyphens, and .toml")
    return path.stem


def list_file(target: Target, *, name: str, records: Sequence[Record], today: date) -> str:
    """Return a new list as a file."""
    header = {
        "name": name,
        "category": target.category,
        "language": target.language,
        "source": target.source,
        "reviewer": target.reviewer,
    }
    lines = [f"{key} = {_quoted(value)}" for key, value in header.items()]
    lines += [f"date = {today}", *([f"class = {_quoted(target.safety_class)}"] if target.safety_class else [])]
    return "\n".join(
        ["# On trial: it only flags. Take the line out when its hits are right.", ON_TRIAL, *lines, ""]
    ) + (entry_tables(records, safety_class=target.safety_class))


def entry_tables(records: Iterable[Record], *, safety_class: str = "") -> str:
    """Return entries as they stand at the end of a file; their class where it is not the list's."""
    parts: list[str] = []
    for record in records:
        parts += ["", "[[entries]]", f"text = {_quoted(record.text)}", f"added = {record.added}"]
        parts += [f"by = {_quoted(record.by)}", f"source = {_quoted(record.source)}"]
        if record.safety_class and record.safety_class != safety_class:
            parts.append(f"class = {_quoted(record.safety_class)}")
        if record.note:
            parts.append(f"note = {_quoted(record.note)}")
    return "\n".join([*parts, ""])


def refused_file(refused: Sequence[Refused]) -> str:
    """Return what did not pass, as CSV that can be imported again when it was mended."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("line", "text", "class", "reason", "hits", "proposed"))
    for one in refused:
        remark = one.remark
        hits = " | ".join(f"{each.corpus}:{each.line}" for each in remark.examples) if remark else ""
        proposed = " | ".join(each.text for each in remark.proposals) if remark else ""
        text = one.word.text if len(one.word.text) <= _SHOWN else f"{one.word.text[:_SHOWN]}…"
        writer.writerow((one.word.line, text, one.word.safety_class, one.reason, hits, proposed))
    return out.getvalue()


def write_all(files: Mapping[Path, str]) -> None:
    """Write files, each as a whole: what was there stays until all is on the disk. Raises OSError."""
    done: dict[Path, Path] = {}
    path = next(iter(files), Path())
    try:
        for path, text in files.items():
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            done[path] = Path(name)
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask()
            done[path].chmod(mode)
        for path, temporary in done.items():
            temporary.replace(path)
    except OSError as error:
        error.filename = str(path)  # not the copy's name, and a full disk names none
        raise
    finally:
        for temporary in done.values():
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _quoted(text: str) -> str:
    """Return a TOML string. JSON's escapes are TOML's, which wants one more character escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _merged(phrase_list: PhraseList, path: Path, *, records: Sequence[Record]) -> str:
    """Return a list's file with entries behind what it has. Raises InvalidInput where it could not be read any more."""
    before = read_text(path)
    tables = entry_tables(records, safety_class=phrase_list.safety_class)
    after = (before if before.endswith("\n") else f"{before}\n") + tables
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        copy.write_text(after, encoding="utf-8")
        try:
            read_list(copy)
        except InvalidPolicy as error:
            raise InvalidInput(f"{path}: entries cannot stand at its end: {error}") from None
    return after


def one_of(out: Path | None, into: Path | None) -> Path:
    """Return the file that is meant. Raises InvalidInput where it is not one."""
    if out and not into:
        list_name(out)
        return out
    if into and not out:
        return into
    raise InvalidInput("say where the words go: --out for a new list, or --into for one that is there")


def make_target(*, category: str, language: str, source: str, reviewer: str, safety_class: str) -> Target:
    """Return what words become part of. Raises InvalidInput where the policy could not read it."""
    if not re.fullmatch("[a-z][a-z0-9_]{0,63}", category):
        raise InvalidInput(f"--category {category}: small letters, digits and _, as the policy's rules call it")
    if safety_class not in {"", *CLASSES}:
        raise InvalidInput(f"--class {safety_class}: there is no such class; there are {', '.join(CLASSES)}")
    if not source.strip() or not reviewer.strip():
        raise InvalidInput("--source and --reviewer have to say something")
    return Target(category=category, language=language, source=source, reviewer=reviewer, safety_class=safety_class)


def require_room(*paths: Path, may_overwrite: bool) -> None:
    """Raise InvalidInput where a file cannot be written, or is there already: better now than after the work."""
    for path in paths:
        if path.is_dir() or not path.parent.is_dir():
            raise InvalidInput(f"{path}: no file can be written there")
        if path.exists() and not may_overwrite:
            raise InvalidInput(f"{path}: is there already; --force overwrites it")


def import_list(
    foreign: Foreign,
    *,
    target: Target,
    out: Path | None,
    into: Path | None,
    refused_path: Path,
    corpora: Sequence[Corpus],
    today: date,
    words: Words | None,
) -> Import:
    """Sift words and write what was accepted and what was refused; no list is written for nothing.

    Raises InvalidInput where the words cannot be added to `into`, OSError where a file cannot be read or written.
    """
    present = read_target(into, target=target, today=today) if into else None
    if present:
        target = replace(target, safety_class=target.safety_class or present.safety_class)
    done = sift(
        foreign,
        target=target,
        present=present,
        name=list_name(out) if out else "",
        corpora=corpora,
        today=today,
        words=words,
    )
    files: dict[Path, str] = {}
    if done.refused:
        files[refused_path] = refused_file(done.refused)
    if done.accepted and out:
        files[out] = list_file(target, name=list_name(out), records=done.accepted, today=today)
    elif done.accepted and into and present:
        files[into] = _merged(present, into, records=done.accepted)
    write_all(files)
    if not done.refused:
        refused_path.unlink(missing_ok=True)  # what an earlier import refused is none of this one's
    return done
