"""The console's words: both languages, the same blanks, none missing and none left over."""

import re
from string import Formatter
from typing import get_args

import pytest

from app.domain.generation import EngineState
from app.domain.health import DetectorState, FilterState
from app.domain.models import AccountRole, AuditAction, MessageState, ReviewState, VariableKind
from app.domain.verdicts import Action, Stage
from app.domain.words import LANGUAGES
from app.safety.guards.verdict import Reason
from tests.fakes.office import Office
from ui.admin import console
from ui.admin.console import Console, Frame
from ui.admin.editor import SAMPLING
from ui.admin.reviews import EVERY
from ui.admin.words import CONSOLE, name_of, say

FOLDER = console.ASSETS.parent
SOURCES = {path.name: path.read_text("utf-8") for path in [*FOLDER.glob("*.py"), *FOLDER.glob("templates/*.html")]}
GROUPS: dict[str, list[str]] = {
    "engine": [state.value for state in EngineState],
    "state": [state.value for state in MessageState if state.is_final],
    "role": [role.value for role in AccountRole],
    "stage": [stage.value for stage in Stage],
    "action": [action.name.lower() for action in Action],
    "kind": [kind.value for kind in VariableKind],
    "language": list(LANGUAGES),
    "sampling": list(SAMPLING),
    "diff": ["added", "removed"],
    "reviews": [*(state.value for state in ReviewState), EVERY],
    "audit": [action.value for action in AuditAction],
    "guess": ["zh", "en", "other"],
    "detector": [state.value for state in DetectorState],
    "reason": [reason for reason in get_args(Reason) if reason != "open"],
    "filter": [state.value for state in FilterState if state is not FilterState.OK],
}


def blanks(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


@pytest.mark.parametrize("key", CONSOLE)
def test_words_are_in_both_languages_with_the_same_blanks(key: str) -> None:
    words = CONSOLE[key]
    assert set(words) == set(LANGUAGES)
    assert all(words.values())
    assert blanks(words["en"]) == blanks(words["zh"])


def test_every_key_that_is_used_is_there() -> None:
    used = {
        key
        for name, text in SOURCES.items()
        if name != "words.py"
        for key in re.findall(r'(?:\bt|\bsay)\("([a-z_]+\.[a-z_]+)"', text)
    }
    assert len(used) > 50
    assert used <= set(CONSOLE)


@pytest.mark.parametrize(("group", "value"), [(group, value) for group, values in GROUPS.items() for value in values])
def test_every_value_of_the_domain_has_a_name(group: str, value: str) -> None:
    assert f"{group}.{value}" in CONSOLE


@pytest.mark.parametrize("page", Frame.pages)
def test_every_page_of_the_rail_is_there_and_has_a_title(page: str) -> None:
    assert page in Console(Office().services).pages
    assert f"{page}.title" in CONSOLE


def test_no_words_are_left_over() -> None:
    said = "\n".join(text for name, text in SOURCES.items() if name != "words.py")
    by_value = {f"{group}.{value}" for group, values in GROUPS.items() for value in values}
    titles = {f"{page}.title" for page in Frame.pages}
    unused = [key for key in CONSOLE if f'"{key}"' not in said and key not in by_value | titles]
    assert [key for key in unused if not key.startswith("loading.")] == []


def test_blanks_are_filled_in() -> None:
    assert say("users.added", language="en", name="ann") == "ann can sign in now."


def test_a_value_that_nobody_named_is_shown_as_it_is() -> None:
    assert name_of("stage", "image", language="zh") == "image"
