"""Exporting one's own conversation: the branch that is shown, judged anew, whole or not at all."""

import asyncio
import json
from dataclasses import replace

import pytest

from app.domain.errors import Conflict, InvalidInput, NotFound, SafetyUnavailable
from app.domain.models import PREPARED, MessageState, new_id, now
from app.domain.ports import Filter
from app.domain.verdicts import Action, Checked, ReleasedText, Stage
from app.engines.scripted import Script
from app.services import exports
from app.services.export_formats import ExportFormat
from app.services.exports import ExportDesk
from app.services.outgoing import Customs
from app.services.shares import ShareDesk
from tests.fakes.filters import OneFilter, broken, stricter
from tests.fakes.house import FILTER, House, make_house, rule

BAD = "haina-blocked-test-phrase"


def desk_of(house: House, content_filter: Filter = FILTER) -> ExportDesk:
    return ExportDesk(house.storage, customs=Customs(OneFilter(content_filter)), operator="Ops")


async def exported(
    house: House, conversation_id: str, *, content_filter: Filter = FILTER, kind: ExportFormat = ExportFormat.TEXT
) -> str:
    desk = desk_of(house, content_filter)
    return (await desk.export(house.ann, conversation_id, kind=kind, language="en")).text


async def plant(house: House, message_id: str, text: str) -> None:
    """Put a text into a row as no filter of ours would let it in."""
    async with house.storage.write() as unit:
        rows = unit.messages._state.messages  # type: ignore[attr-defined]
        rows[message_id] = replace(rows[message_id], text=ReleasedText(text))
        await unit.commit()


async def test_the_shown_branch_is_exported_and_no_other(house: House) -> None:
    first = await house.ask("first question")
    await house.answer(first)
    house.engine._script = Script(default="another answer")
    again = await house.chat.again(house.ann, first.answer.id)
    await house.answer(again)
    text = await exported(house, first.conversation.id)
    assert text.count("first question") == 2  # the title, and the question
    assert "another answer" in text
    assert "All rivers" not in text
    await house.desk.show_branch(house.ann, first.conversation.id, message_id=first.answer.id)
    text = await exported(house, first.conversation.id)
    assert "All rivers" in text
    assert "another answer" not in text


@pytest.mark.parametrize("kind", ExportFormat)
async def test_what_a_stricter_policy_refuses_is_a_stub(kind: ExportFormat) -> None:
    house = make_house(rule("elephant", "A purple elephant, and more."))
    asked = await house.ask("Is the purple elephant here?")
    await house.answer(asked)
    before = await exported(house, asked.conversation.id, kind=kind)
    assert before.count("purple elephant") == 3 if kind is not ExportFormat.MARKDOWN else 4
    text = await exported(house, asked.conversation.id, kind=kind, content_filter=stricter("purple elephant"))
    assert "elephant" not in text
    assert "and more" not in text
    assert text.replace("\\", "").count("[withheld by the content filter]") >= 3


async def test_what_a_stricter_policy_masks_is_masked() -> None:
    house = make_house(rule(".", "A purple elephant, and more."))
    asked = await house.ask("go")
    await house.answer(asked)
    masking = stricter("purple elephant", action=Action.MASK)
    text = await exported(house, asked.conversation.id, content_filter=masking)
    assert "elephant" not in text
    assert ", and more." in text


@pytest.mark.parametrize("action", [Action.REFUSE, Action.MASK, Action.FLAG])
async def test_a_second_look_sees_what_the_first_one_saw(action: Action) -> None:
    house = make_house(rule(".", "A purple elephant, and more."))
    asked = await house.ask("go")
    await house.answer(asked)
    desk = desk_of(house, stricter("purple elephant", action=action))
    for _ in range(3):
        file = await desk.export(house.ann, asked.conversation.id, kind=ExportFormat.TEXT, language="en")
        assert ("purple elephant" in file.text) is (action is Action.FLAG)
        assert (", and more." in file.text) is (action is not Action.REFUSE)


async def test_a_text_that_came_into_the_database_past_the_filter_does_not_leave_it(house: House) -> None:
    asked = await house.ask("go")
    await house.answer(asked)
    await plant(house, asked.answer.id, f"Now {BAD} and 11010519491231002X")
    assert BAD not in await exported(house, asked.conversation.id)
    await plant(house, asked.answer.id, "Mine is 11010519491231002X, yes")
    text = await exported(house, asked.conversation.id)
    assert "11010519491231002X" not in text
    assert ", yes" in text


async def test_what_was_refused_when_it_was_written_is_a_stub_now() -> None:
    house = make_house(rule("leak", f"Before it: {BAD} and after it."))
    asked = await house.ask("leak")
    answer = await house.answer(asked)
    assert (answer.state, answer.text) == (MessageState.BLOCKED, "Before it: ")
    await house.ask(f"say {BAD}", conversation_id=asked.conversation.id)
    body = json.loads(await exported(house, asked.conversation.id, kind=ExportFormat.JSON))
    assert [(one["text"], one["withheld"]) for one in body["messages"]] == [
        ("leak", False), ("", True), ("", True), ("", True),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ExportFormat)
async def test_a_filter_that_fails_makes_no_file(house: House, kind: ExportFormat) -> None:
    asked = await house.ask("go")
    await house.answer(asked)
    with pytest.raises(SafetyUnavailable):
        await exported(house, asked.conversation.id, kind=kind, content_filter=broken())


class _FailsLater:
    """A filter that judges a few texts and then breaks."""

    policy, categories = "p@0", frozenset[str]()

    def __init__(self, after: int) -> None:
        self.left = after

    async def check(self, text: str, *, stage: Stage) -> Checked:
        self.left -= 1
        return await (FILTER if self.left >= 0 else broken()).check(text, stage=stage)


@pytest.mark.parametrize("after", range(4))
async def test_a_filter_that_fails_in_the_middle_makes_no_half_of_a_file(house: House, after: int) -> None:
    asked = await house.ask("Where do rivers run? I forgot.")
    await house.answer(asked)
    with pytest.raises(SafetyUnavailable):
        await exported(house, asked.conversation.id, content_filter=_FailsLater(after))  # type: ignore[arg-type]
    # Four texts: the model's name, the title, the question, the answer.
    assert "All rivers" in await exported(house, asked.conversation.id, content_filter=_FailsLater(4))  # type: ignore[arg-type]


async def test_verdicts_are_kept_but_not_a_failure_and_not_for_another_policy(house: House) -> None:
    asked = await house.ask("go")
    await house.answer(asked)
    async with house.storage.read() as unit:
        messages = await unit.messages.branch(asked.answer.id)
    judge = _FailsLater(4)
    customs = Customs(OneFilter(judge))  # type: ignore[arg-type]
    first = await customs.clear(asked.conversation, messages)
    judge.left = 1  # the model's name is asked each time
    assert await customs.clear(asked.conversation, messages) == first
    judge.left, judge.policy = 1, "p@1"
    with pytest.raises(SafetyUnavailable):
        await customs.clear(asked.conversation, messages)
    judge.left = 9
    assert (await customs.clear(asked.conversation, messages)).messages == first.messages


async def test_an_answer_of_the_bank_leaves_without_a_models_name(house: House) -> None:
    asked = await house.ask("go")
    answer = await house.answer(asked)
    assert answer.receipt is not None
    async with house.storage.write() as unit:
        rows = unit.messages._state.messages  # type: ignore[attr-defined]
        rows[answer.id] = replace(answer, receipt=replace(answer.receipt, finish_reason=PREPARED))
        await unit.commit()
    body = json.loads(await exported(house, asked.conversation.id, kind=ExportFormat.JSON))
    assert "AIGC" not in body["messages"][1]
    assert body["messages"][1]["note"] == "[written in advance, not by the model]"


async def test_an_export_is_judged_by_its_owners_layers_and_a_shared_page_by_the_sites_policy(house: House) -> None:
    class Layered(OneFilter):
        async def over(self, names: str) -> Filter:
            return stricter("rivers") if names == "own" else await super().over(names)

    asked = await house.ask("go")
    await house.answer(asked)
    customs = Customs(Layered(FILTER))
    desk = ExportDesk(house.storage, customs=customs, operator="Ops")
    for layers, is_there in (("", True), ("own", False)):
        owner = replace(house.ann, policy_layers=layers)
        file = await desk.export(owner, asked.conversation.id, kind=ExportFormat.TEXT, language="en")
        assert ("rivers" in file.text) is is_there
    owner = replace(house.ann, policy_layers="gone")
    with pytest.raises(SafetyUnavailable):
        await desk.export(owner, asked.conversation.id, kind=ExportFormat.TEXT, language="en")
    shares = ShareDesk(house.storage, customs=customs, operator="Ops", is_on=True)
    _, token = await shares.make(replace(house.ann, policy_layers="own"), asked.conversation.id, days=None)
    assert "rivers" in (await shares.open(token)).conversation.messages[1].text


async def test_somebody_elses_an_unknown_and_a_deleted_conversation_are_not_found(house: House) -> None:
    asked = await house.ask("go")
    await house.answer(asked)
    desk = desk_of(house)
    for account, conversation_id in ((house.bob, asked.conversation.id), (house.ann, new_id())):
        with pytest.raises(NotFound):
            await desk.export(account, conversation_id, kind=ExportFormat.TEXT, language="en")
    await house.desk.delete(house.ann, asked.conversation.id)
    with pytest.raises(NotFound):
        await desk.export(house.ann, asked.conversation.id, kind=ExportFormat.TEXT, language="en")


async def test_a_running_answer_is_waited_for(house: House) -> None:
    asked = await house.ask("go")
    with pytest.raises(Conflict) as caught:
        await exported(house, asked.conversation.id)
    assert caught.value.data["kind"] == "running"
    await house.answer(asked)
    assert await exported(house, asked.conversation.id)


async def test_one_export_at_a_time_for_an_account(house: House) -> None:
    asked = await house.ask("go")
    await house.answer(asked)
    others = await house.ask("go", account=house.bob)
    await house.answer(others, account=house.bob)
    desk = desk_of(house)

    async def export(account: str) -> str:
        who, what = {"ann": (house.ann, asked), "bob": (house.bob, others)}[account]
        return (await desk.export(who, what.conversation.id, kind=ExportFormat.TEXT, language="en")).text

    one, two, other = await asyncio.gather(export("ann"), export("ann"), export("bob"), return_exceptions=True)
    assert isinstance(two, Conflict)
    assert isinstance(one, str)
    assert isinstance(other, str)
    with pytest.raises(NotFound):
        await desk.export(house.ann, "none", kind=ExportFormat.TEXT, language="en")
    assert await export("ann")  # a failure leaves nothing behind


async def test_a_conversation_that_is_too_large_is_refused(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = await house.ask("go")
    await house.answer(asked)
    monkeypatch.setattr(exports, "MAX_CHARACTERS", 29)
    with pytest.raises(InvalidInput) as caught:
        await exported(house, asked.conversation.id)
    assert caught.value.data["limit"] == 29
    monkeypatch.setattr(exports, "MAX_CHARACTERS", 30)  # "go" and the answer
    assert await exported(house, asked.conversation.id)


async def test_the_labels_name_the_operator_and_the_time_has_no_fractions(house: House) -> None:
    asked = await house.ask("go")
    await house.answer(asked)
    body = json.loads(await exported(house, asked.conversation.id, kind=ExportFormat.JSON))
    assert body["AIGC"]["ContentProducer"] == "Ops"
    assert body["messages"][1]["AIGC"]["ProduceID"] == asked.answer.id
    assert body["exported_at"].startswith(now().isoformat()[:10])
    assert "." not in body["exported_at"]
