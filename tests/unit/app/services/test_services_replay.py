"""The dry run: which kept texts would be judged differently, and nothing else."""

import pytest

from app.domain.errors import AccessDenied, InvalidInput, InvalidPolicy, SafetyUnavailable
from app.domain.verdicts import Action, Stage
from app.safety.detector import Scan
from app.safety.filter import ContentFilter
from app.safety.policy import make_policy
from app.safety.policy_file import PolicyFile
from app.safety.shelf import FilterShelf
from app.services.replay import SAMPLES, ReplayDesk
from tests.fakes.house import FILTER, House, make_account, make_house, rule
from tests.unit.app.services.test_services_policies import ROOT, TULIPS

FLAGGED = TULIPS.replace("refuse", "flag")


class Broken:
    """A detector that cannot start."""

    name = "broken"

    def open(self, *, stage: Stage) -> Scan:
        raise RuntimeError(stage)


@pytest.fixture
def house() -> House:
    return make_house(rule("colour", "Take red tulips."))


@pytest.fixture
def desk(house: House) -> ReplayDesk:
    return ReplayDesk(house.storage, filters=FilterShelf(PolicyFile()))


async def test_a_draft_is_told_by_what_it_would_stop_and_changes_nothing(house: House, desk: ReplayDesk) -> None:
    for text in ("I love red tulips", "which colour?", "hello", "haina-blocked-test-phrase"):
        await house.answer(await house.ask(text))
    replay = await desk.layer(ROOT, "site", TULIPS)
    assert replay.texts == 6  # the refused question was not kept, nor was it answered
    assert list(replay.changes) == [("flowers", Action.ALLOW, Action.REFUSE, 2)]
    assert replay.changed == 2
    assert [(one.stage, one.excerpt.before, one.excerpt.found) for one in replay.samples if one.excerpt] == [
        (Stage.OUTPUT, "Take ", "red tulips"),
        (Stage.INPUT, "I love ", "red tulips"),
    ]
    assert replay.draft.startswith("site@")
    assert (await desk.layer(ROOT, "site", "")).changes == []


async def test_a_policy_against_itself_changes_nothing(house: House, desk: ReplayDesk) -> None:
    for text in ("haina-flagged-test-phrase", "call me at 11010519491231002X"):
        await house.answer(await house.ask(text))
    replay = await desk.against(ROOT, FILTER)
    assert (replay.texts, replay.changes, replay.samples) == (4, [], [])


async def test_samples_are_of_every_kind_of_change_and_not_too_many(house: House, desk: ReplayDesk) -> None:
    for _ in range(SAMPLES + 5):
        await house.answer(await house.ask("red tulips"))
    await house.answer(await house.ask("haina-flagged-test-phrase"))
    draft = f'{FLAGGED}\n[[lists]]\nname = "rivers"\ncategory = "flowers"\nlanguage = "en"\nphrases = ["all rivers"]\n'
    replay = await desk.layer(ROOT, "site", draft)
    assert len(replay.samples) == SAMPLES
    assert {one.rule.split(":")[0] for one in replay.samples} == {"flowers", "rivers"}


async def test_the_console_reads_the_newest_only_and_says_so(house: House, desk: ReplayDesk) -> None:
    for _ in range(3):
        await house.answer(await house.ask("red tulips"))
    replay = await desk.layer(ROOT, "site", TULIPS, limit=2)
    assert (replay.texts, replay.is_partial) == (2, True)
    assert not (await desk.layer(ROOT, "site", TULIPS, limit=6)).is_partial


async def test_what_cannot_be_run_is_refused(house: House, desk: ReplayDesk) -> None:
    await house.answer(await house.ask("hello"))
    with pytest.raises(AccessDenied):
        await desk.layer(make_account("ann"), "site", TULIPS)
    for days in (0, 366):
        with pytest.raises(InvalidInput):
            await desk.layer(ROOT, "site", TULIPS, days=days)
    with pytest.raises(InvalidPolicy):
        await desk.layer(ROOT, "site", "[[rules]\n")
    with pytest.raises(SafetyUnavailable):
        await desk.against(ROOT, ContentFilter(make_policy("bare"), detectors=[Broken()]))
