"""Layers: written, tried, published, put back, given; what does not fit leaves what was in force."""

from pathlib import Path

import pytest

from app.domain.errors import (
    AccessDenied,
    Conflict,
    ContentBlocked,
    InvalidInput,
    InvalidPolicy,
    NotFound,
    SafetyUnavailable,
)
from app.domain.generation import ChatMessage
from app.domain.models import Account, AccountRole, MessageState, Role, new_id, now
from app.domain.verdicts import Cut, Stage
from app.safety.policy_file import PolicyFile
from app.safety.shelf import FilterShelf
from app.services.accounts import AccountDesk
from app.services.chat import ApiQuestion, Chat, Question
from app.services.policies import PolicyDesk
from tests.fakes.house import House, make_account, make_house, rule
from tests.fakes.memory_storage import MemoryStorage

ROOT = Account(id=new_id(), name="root", role=AccountRole.ADMIN, created_at=now())
TULIPS = """
[[rules]]
category = "flowers"
stages = ["input", "output"]
action = "refuse"

[[lists]]
name = "flowers"
category = "flowers"
language = "en"
phrases = ["red tulips"]
"""
LAX = '[[rules]]\ncategory = "sexual_minors"\nstages = ["input"]\naction = "flag"\n'


@pytest.fixture
def filters() -> FilterShelf:
    return FilterShelf(PolicyFile())


@pytest.fixture
def desk(filters: FilterShelf) -> PolicyDesk:
    return PolicyDesk(MemoryStorage(), filters=filters)


async def is_refused(filters: FilterShelf, text: str, *, layers: str = "") -> bool:
    content_filter = await filters.over(layers)
    return (await content_filter.check(text, stage=Stage.INPUT)).text is None


async def test_a_published_layer_is_in_force_and_an_older_version_can_be_again(
    desk: PolicyDesk, filters: FilterShelf
) -> None:
    before = desk.policy
    first = await desk.publish(ROOT, "site", TULIPS, message="flowers", based_on=0)
    assert (first.number, first.is_live, first.author) == (1, True, "root")
    assert await is_refused(filters, "red tulips please")
    assert desk.policy.startswith("site@")
    assert desk.policy != before
    await desk.publish(ROOT, "site", "", message="no flowers", based_on=1)
    assert not await is_refused(filters, "red tulips please")
    await desk.set_live(ROOT, "site", number=1)
    assert await is_refused(filters, "red tulips please")
    assert [(one.number, one.is_live) for one in await desk.versions(ROOT, "site")] == [(2, False), (1, True)]


async def test_trying_out_changes_nothing(desk: PolicyDesk, filters: FilterShelf) -> None:
    before = desk.policy
    assert await desk.try_out(ROOT, "site", TULIPS) != before
    assert desk.policy == before
    assert not await is_refused(filters, "red tulips")
    assert await desk.layers(ROOT) == []


async def test_only_an_admin_may(desk: PolicyDesk) -> None:
    ann = make_account("ann")
    for attempt in (
        desk.publish(ann, "site", TULIPS, message="x"),
        desk.try_out(ann, "site", TULIPS),
        desk.layers(ann),
        desk.versions(ann, "site"),
        desk.set_live(ann, "site", number=1),
    ):
        with pytest.raises(AccessDenied):
            await attempt


@pytest.mark.parametrize("text", [LAX, "[[rules]\n", "rules = 3\n", 'files = ["../x.toml"]\n'])
async def test_a_faulty_layer_is_refused_and_nothing_is_kept(desk: PolicyDesk, text: str) -> None:
    before = desk.policy
    with pytest.raises(InvalidPolicy):
        await desk.publish(ROOT, "site", text, message="x")
    assert desk.policy == before
    assert await desk.layers(ROOT) == []


async def test_names_messages_and_races_are_looked_at(desk: PolicyDesk) -> None:
    for name in ("", "Site", "a b", "../x", "x" * 65):
        with pytest.raises(InvalidInput):
            await desk.publish(ROOT, name, TULIPS, message="x")
    for message in (" ", "x" * 201):
        with pytest.raises(InvalidInput):
            await desk.publish(ROOT, "site", TULIPS, message=message)
    await desk.publish(ROOT, "site", TULIPS, message="one", based_on=0)
    with pytest.raises(Conflict):
        await desk.publish(ROOT, "site", "", message="two", based_on=0)
    with pytest.raises(InvalidInput):
        await desk.publish(ROOT, "site", TULIPS, message="the same")
    for number in (0, 2):
        with pytest.raises(NotFound):
            await desk.set_live(ROOT, "site", number=number)
    with pytest.raises(NotFound):
        await desk.versions(ROOT, "none")


async def test_a_layer_that_another_one_needs_cannot_be_taken_away(desk: PolicyDesk, filters: FilterShelf) -> None:
    await desk.publish(ROOT, "site", TULIPS, message="flowers")
    await desk.publish(ROOT, "florist", 'without = ["flowers"]\n', message="they sell them")
    assert await is_refused(filters, "red tulips")
    assert not await is_refused(filters, "red tulips", layers="florist")
    with pytest.raises(InvalidPolicy, match="there is no list flowers below"):
        await desk.publish(ROOT, "site", "", message="gone")
    assert await is_refused(filters, "red tulips")


async def test_layers_are_given_by_name_to_accounts_and_keys(filters: FilterShelf) -> None:
    storage = MemoryStorage()
    desk, accounts = PolicyDesk(storage, filters=filters), AccountDesk(storage)
    ann = await accounts.create(ROOT, "ann", password="x" * 20, role=AccountRole.USER)
    key, secret = await accounts.make_key(ROOT, ann, name="k")
    assert (await accounts.of_key(secret)).policy_layers == ""
    await desk.publish(ROOT, "site", "", message="nothing")
    for name in ("one", "two"):
        await desk.publish(ROOT, name, "", message="nothing")
    assert await accounts.give_layers(ROOT, "  two   one ", account=ann) == "two one"
    assert (await accounts.by_name(ROOT, "ann")).policy_layers == "two one"
    assert (await accounts.of_key(secret)).policy_layers == "two one"
    await accounts.give_layers(ROOT, "one", key_id=key.id)
    await accounts.give_layers(ROOT, "two", account=ann)
    assert (await accounts.of_key(secret)).policy_layers == "two one"
    assert await accounts.give_layers(ROOT, " ", key_id=key.id) == ""
    for names in ("three", "site", "one one", "one,two"):
        with pytest.raises(NotFound):
            await accounts.give_layers(ROOT, names, account=ann)
    with pytest.raises(NotFound):
        await accounts.give_layers(ROOT, "one", key_id="unknown")
    with pytest.raises(AccessDenied):
        await accounts.give_layers(ann, "one", account=ann)


async def test_nothing_passes_by_a_layer_that_is_not_there(filters: FilterShelf) -> None:
    with pytest.raises(SafetyUnavailable):
        await filters.over("gone")


async def test_a_changed_policy_file_is_soon_in_force_and_a_faulty_one_is_told(tmp_path: Path) -> None:
    path, words = tmp_path / "policy.toml", tmp_path / "words.txt"
    head = "# name: words\n# category: flowers\n# language: en\n# source: me\n# date: 2026-01-02\n# reviewer: me\n"
    rules = '[[rules]]\ncategory = "flowers"\nstages = ["input"]\naction = "refuse"\n'
    words.write_text(f"{head}red tulips\n")
    path.write_text(f'name = "mine"\nfiles = ["words.txt"]\n{rules}')
    filters = FilterShelf(PolicyFile(path))
    desk = PolicyDesk(MemoryStorage(), filters=filters)
    await desk.refresh()
    first = desk.policy
    words.write_text(f"{head}red tulips\nblue roses\n")
    await desk.refresh()
    assert await is_refused(filters, "blue roses")
    assert desk.policy != first
    assert desk.fault is None
    second = desk.policy
    path.write_text(f'name = "mine"\nfiles = ["words.txt"]\n{rules.replace("refuse", "refuze")}')
    await desk.refresh()
    assert "policy.toml:6" in str(desk.fault)
    assert desk.policy == second
    assert await is_refused(filters, "blue roses")
    with pytest.raises(InvalidPolicy):  # nothing is published over a file that cannot be read
        await desk.publish(ROOT, "site", TULIPS, message="x")
    words.unlink()
    await desk.refresh()
    assert desk.policy == second
    words.write_text(f"{head}red tulips\n")
    path.write_text(f'name = "mine"\nfiles = ["words.txt"]\n{rules}')
    await desk.refresh()
    assert desk.fault is None
    assert desk.policy == first


async def test_what_another_process_published_is_noticed(filters: FilterShelf) -> None:
    storage = MemoryStorage()
    here = PolicyDesk(storage, filters=filters)
    there = PolicyDesk(storage, filters=FilterShelf(PolicyFile()))
    await there.publish(ROOT, "site", TULIPS, message="flowers")
    assert not await is_refused(filters, "red tulips")
    await here.refresh()
    assert await is_refused(filters, "red tulips")


async def test_open_streams_keep_their_policy(desk: PolicyDesk, filters: FilterShelf) -> None:
    gate = filters.site.open(stage=Stage.OUTPUT)
    await gate.feed("some red ")
    await desk.publish(ROOT, "site", TULIPS, message="flowers")
    assert not any(isinstance(event, Cut) for event in [*await gate.feed("tulips"), *await gate.finish()])
    later = filters.site.open(stage=Stage.OUTPUT)
    assert any(isinstance(event, Cut) for event in [*await later.feed("some red tulips"), *await later.finish()])


@pytest.fixture
async def house(filters: FilterShelf) -> tuple[House, Chat]:
    house = make_house(rule("colour", "Take red tulips."))
    await PolicyDesk(house.storage, filters=filters).publish(ROOT, "strict", TULIPS, message="flowers")
    chat = Chat(
        storage=house.storage,
        filters=filters,
        answering=house.answering,
        turns=house.turns,
        stats=house.chat._stats,
        recorder=house.chat._recorder,
        strikes=house.chat._strikes,
    )
    return house, chat


async def test_an_account_s_layer_judges_its_questions_its_answers_and_what_a_program_sends(
    house: tuple[House, Chat],
) -> None:
    home, chat = house
    strict = Account(id=new_id(), name="kim", role=AccountRole.USER, created_at=now(), policy_layers="strict")
    refused = await chat.ask(strict, Question(text="red tulips"))
    assert refused.answer.state is MessageState.BLOCKED
    asked = await chat.ask(strict, Question(text="which colour?"))
    answer = await home.answer(asked, account=strict)
    assert (answer.state, answer.text) == (MessageState.BLOCKED, "Take ")
    assert answer.receipt is not None
    assert answer.receipt.policy.startswith("strict@")
    fine = await chat.ask(home.ann, Question(text="which colour?"))
    assert (await home.answer(fine)).text == "Take red tulips."
    with pytest.raises(ContentBlocked):
        await chat.ask_for_program(strict, ApiQuestion(messages=(ChatMessage(Role.USER, "red tulips"),)))


async def test_a_question_that_the_policy_would_refuse_now_is_not_answered_anew(filters: FilterShelf) -> None:
    home = make_house()
    desk = PolicyDesk(home.storage, filters=filters)
    chat = Chat(
        storage=home.storage,
        filters=filters,
        answering=home.answering,
        turns=home.turns,
        stats=home.chat._stats,
        recorder=home.chat._recorder,
        strikes=home.chat._strikes,
    )
    asked = await chat.ask(home.ann, Question(text="red tulips"))
    await home.answer(asked)
    before = len(home.engine.requests)
    await desk.publish(ROOT, "site", TULIPS, message="flowers")
    with pytest.raises(ContentBlocked):
        await chat.again(home.ann, asked.answer.id)
    assert len(home.engine.requests) == before
    async with home.storage.read() as unit:
        assert [hit.category for hit in await unit.hits.page()] == ["flowers"]
