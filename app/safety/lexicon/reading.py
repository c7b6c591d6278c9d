"""Lists as a command names them: files, `builtin:` and a name, or all of a policy."""

import tomllib
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Final

from app.domain.errors import InvalidInput, InvalidPolicy
from app.safety.lexicon.inspection import Reason, Remark
from app.safety.lexicon.text import read_text
from app.safety.policy import TEST_LISTS, PhraseList
from app.safety.policy_file import builtin_list, load_policy, read_list

_OF_POLICIES: Final = frozenset({"files", "rules", "lists"})


def read_lists(
    names: Sequence[str], *, policy: Path | None, today: date
) -> tuple[tuple[PhraseList, ...], tuple[Remark, ...]]:
    """Return the lists, those of the policy where none is named, and remarks on what cannot be used.

    Raises InvalidInput where a name is none of a list, OSError where a file cannot be read.
    """
    lists: list[PhraseList] = []
    remarks: list[Remark] = []
    if not names:
        try:
            return policy_lists(policy, today=today), ()
        except InvalidPolicy as error:
            return (), tuple(Remark(reason=Reason.UNREADABLE, words=fault) for fault in error.faults)
    for path in map(_path_of, names):
        try:
            lists.append(_read(path, today=today))
        except InvalidInput as error:
            remarks.append(Remark(reason=Reason.UNREADABLE, words=error.detail or str(error)))
        except InvalidPolicy as error:
            remarks += (Remark(reason=Reason.UNREADABLE, words=fault) for fault in error.faults)
    return tuple(lists), tuple(remarks)


def sound_lists(names: Sequence[str], *, policy: Path | None, today: date) -> tuple[PhraseList, ...]:
    """Return the lists. Raises InvalidInput with all that is wrong, OSError where a file cannot be read."""
    lists, remarks = read_lists(names, policy=policy, today=today)
    if remarks:
        raise InvalidInput("; ".join(remark.words for remark in remarks))
    return lists


def lists_of(name: str, *, today: date) -> tuple[PhraseList, ...]:
    """Return the lists of one file, be it a list or a policy. Raises as `sound_lists`."""
    path = _path_of(name)
    text = read_text(path)
    if path.suffix == ".toml" and not name.startswith("builtin:"):
        try:
            is_policy = not _OF_POLICIES.isdisjoint(tomllib.loads(text))
        except (ValueError, RecursionError) as error:  # also a number of thousands of digits
            raise InvalidInput(f"{path}: {error}") from None
        if is_policy:
            return sound_lists((), policy=path, today=today)
    return sound_lists((name,), policy=None, today=today)


def policy_lists(policy: Path | None, *, today: date) -> tuple[PhraseList, ...]:
    """Return the lists of a policy, the built-in one where none is given, without the test phrases.

    Raises InvalidPolicy, OSError where the file cannot be read, InvalidInput where it is no text.
    """
    if policy is not None:
        read_text(policy)
    every = load_policy(policy, today=today).lists
    return tuple(phrase_list for phrase_list in every if phrase_list not in TEST_LISTS)


def _read(path: Path, *, today: date) -> PhraseList:
    if not read_text(path).strip():  # it also says more clearly what is wrong with a file that is no text
        raise InvalidInput(f"{path}: the file is empty")
    return read_list(path, today=today)


def _path_of(name: str) -> Path:
    if name.startswith("builtin:"):
        try:
            return builtin_list(name)
        except InvalidPolicy as error:
            raise InvalidInput(str(error)) from None
    path = Path(name)
    if path.suffix not in {".toml", ".txt"} and not path.is_dir():
        raise InvalidInput(f"{name}: a list is a .toml or a .txt, or builtin: and the name of a shipped one")
    return path
