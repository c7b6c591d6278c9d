"""The prompt library: the filter sees every text, files are taken in whole, and nobody overwrites another's version."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from app.domain.errors import Conflict, ContentBlocked, NotFound
from app.domain.models import Sampling, TemplateDraft, TemplateFile, Variable, VariableKind
from app.safety.filter import ContentFilter
from app.safety.policy_file import load_policy
from app.services.accounts import operator
from app.services.prompt_library import PromptLibrary, require_clean
from prompts import library
from tests.fakes.filters import OneFilter
from tests.fakes.memory_storage import MemoryStorage

BLOCKED = "haina-blocked-test-phrase"
FILTER = ContentFilter(load_policy())
LETTER = TemplateFile(
    name="letter",
    title={"en": "Letter"},
    description={"en": "Writes letters."},
    language="en",
    tags=("writing",),
    content=TemplateDraft(
        system="Write to {{who}} in a {{tone}} tone.",
        variables=(
            Variable(name="who", label={"en": "To"}, default="my aunt"),
            Variable(
                name="tone", label={"en": "Tone"}, kind=VariableKind.SELECT, choices=("warm", "cool"), default="warm"
            ),
        ),
        sampling=Sampling(stop=("THE END",)),
        examples=("Thank her",),
    ),
)


@pytest.fixture
async def prompts() -> PromptLibrary:
    prompts = PromptLibrary(MemoryStorage(), filters=OneFilter(FILTER))
    await prompts.import_files(operator(), [LETTER])
    return prompts


def places_of_text(kind: Any, place: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return where a type may hold text that somebody wrote, from its annotations alone."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return []
    if kind is str:
        return [place]
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return [found for one in fields(kind) for found in places_of_text(hints[one.name], (*place, one.name))]
    if get_origin(kind) is Mapping:
        return places_of_text(get_args(kind)[1], (*place, "en"))
    if get_origin(kind) is tuple:
        return places_of_text(get_args(kind)[0], (*place, "0"))
    return [found for one in get_args(kind) for found in places_of_text(one, place)]


def with_text(value: Any, place: tuple[str, ...], text: str) -> Any:
    """Return a copy that has this text in one place."""
    if not place:
        return text
    first, *rest = place
    if isinstance(value, Mapping):
        return {**value, first: with_text(value.get(first), tuple(rest), text)}
    if isinstance(value, tuple):
        return (with_text(value[0] if value else None, tuple(rest), text), *value[1:])
    return replace(value, **{first: with_text(getattr(value, first), tuple(rest), text)})


PLACES = places_of_text(TemplateFile)


def test_the_places_of_text_are_found_at_all() -> None:
    assert {".".join(place) for place in PLACES} >= {
        "name", "title.en", "description.en", "tags.0", "content.system", "content.examples.0",
        "content.sampling.stop.0", "content.variables.0.name", "content.variables.0.label.en",
        "content.variables.0.default", "content.variables.0.choices.0",
    }  # fmt: skip


@pytest.mark.parametrize("place", PLACES, ids=".".join)
async def test_the_filter_sees_every_text_of_a_file_and_says_where(
    prompts: PromptLibrary, place: tuple[str, ...]
) -> None:
    evil = with_text(replace(LETTER, name="other"), place, BLOCKED)
    with pytest.raises(ContentBlocked) as caught:
        await prompts.import_files(operator(), [LETTER, evil])
    assert caught.value.data["category"] == "test"
    assert ".".join(place).removeprefix("content.") in caught.value.detail
    assert BLOCKED not in caught.value.detail.removeprefix(BLOCKED)  # a name may name the file
    assert [one.template.name for one in await prompts.shelf()] == ["letter"]


@pytest.mark.parametrize("place", [place[1:] for place in PLACES if place[0] == "content"], ids=".".join)
async def test_the_filter_sees_every_text_of_a_draft(
    prompts: PromptLibrary, place: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "check", lambda _: None)  # some of these would be no template
    evil = with_text(LETTER.content, place, BLOCKED)
    with pytest.raises(ContentBlocked):
        await prompts.save(operator(), "letter", content=evil, message="why", based_on=1)


async def test_the_filter_sees_the_message_of_a_version(prompts: PromptLibrary) -> None:
    with pytest.raises(ContentBlocked):
        await prompts.save(operator(), "letter", content=changed(), message=f"why {BLOCKED}", based_on=1)


async def test_the_filter_sees_a_phrase_that_a_default_completes() -> None:
    system = "Say haina-{{rest}} aloud."
    content = TemplateDraft(
        system=system, variables=(Variable(name="rest", label={"en": "Rest"}, default="blocked-test-phrase"),)
    )
    with pytest.raises(ContentBlocked):
        await require_clean(FILTER, content)


async def test_two_texts_that_stand_apart_make_no_phrase() -> None:
    await require_clean(FILTER, replace(LETTER, tags=("haina", "blocked", "test", "phrase")))


def changed(system: str = "Write to {{who}}, {{tone}}.") -> TemplateDraft:
    return replace(LETTER.content, system=system)


async def test_a_file_that_says_the_same_changes_nothing(prompts: PromptLibrary) -> None:
    assert await prompts.import_files(operator(), [LETTER, LETTER]) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"title": {"en": "A letter"}},
        {"title": {"en": "Letter", "zh": "书信"}},
        {"description": {"en": "Letters."}},
        {"language": "zh"},
        {"tags": ()},
    ],
)
async def test_a_file_that_differs_in_its_head_only_changes_the_template_and_makes_no_version(
    prompts: PromptLibrary, changes: Mapping[str, Any]
) -> None:
    file = replace(LETTER, **changes)
    assert await prompts.import_files(operator(), [file]) == 1
    assert await prompts.export(operator(), "letter") == file
    _, versions = await prompts.versions(operator(), "letter")
    assert [one.number for one in versions] == [1]
    assert await prompts.import_files(operator(), [file]) == 0


async def test_a_file_that_differs_in_all_changes_all(prompts: PromptLibrary) -> None:
    file = replace(LETTER, title={"en": "A letter"}, content=changed())
    assert await prompts.import_files(operator(), [file]) == 1
    assert await prompts.export(operator(), "letter") == file


@pytest.mark.parametrize("based_on", [0, 1, 3, 999_999_998])
async def test_a_version_is_based_on_the_newest_or_refused(prompts: PromptLibrary, based_on: int) -> None:
    await prompts.save(operator(), "letter", content=changed(), message="why", based_on=1, is_live=False)
    with pytest.raises(Conflict) as caught:
        await prompts.save(
            operator(), "letter", content=changed("Ask {{who}} {{tone}}"), message="x", based_on=based_on
        )
    assert caught.value.data == {"kind": "version"}
    _, versions = await prompts.versions(operator(), "letter")
    assert [one.number for one in versions] == [2, 1]


async def test_a_policy_that_refuses_a_built_in_template_leaves_that_one_out_and_the_program_starts(
    tmp_path: Path,
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(
        'name = "house"\n[[lists]]\nname = "house"\ncategory = "house"\nlanguage = "en"\naction = "refuse"\n'
        'phrases = ["proofreader"]\n',
        encoding="utf-8",
    )
    prompts = PromptLibrary(MemoryStorage(), filters=OneFilter(ContentFilter(load_policy(policy))))
    assert await prompts.import_built_in() == len(library.built_in()) - 2
    with pytest.raises(NotFound):
        await prompts.export(operator(), "proofreader-en")
