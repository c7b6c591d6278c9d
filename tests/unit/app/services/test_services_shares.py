"""Sharing one's own conversation by a link: as it was, for as long as it is wanted, and no longer."""

from dataclasses import replace
from datetime import timedelta

import pytest

from app.domain.errors import AccessDenied, Conflict, NotFound, SafetyUnavailable
from app.domain.models import Account, MessageState, Role, Share, new_id, now
from app.domain.ports import Filter
from app.domain.verdicts import ReleasedText
from app.services import shares
from app.services.accounts import AccountDesk, operator
from app.services.outgoing import Customs
from app.services.shares import ShareDesk
from tests.fakes.filters import OneFilter, broken, stricter
from tests.fakes.house import FILTER, House, make_house, rule

BAD = "haina-blocked-test-phrase"


def desk_of(house: House, content_filter: Filter = FILTER, *, is_on: bool = True) -> ShareDesk:
    return ShareDesk(house.storage, customs=Customs(OneFilter(content_filter)), operator="Ops", is_on=is_on)


async def shared(house: House, *questions: str, days: int | None = None) -> tuple[Share, str]:
    """Have a conversation, and share it; return the link and its token."""
    conversation_id = None
    for question in questions or ("Where do rivers run?",):
        asked = await house.ask(question, conversation_id=conversation_id)
        await house.answer(asked)
        conversation_id = asked.conversation.id
    assert conversation_id
    return await desk_of(house).make(house.ann, conversation_id, days=days)


async def texts(house: House, token: str, *, content_filter: Filter = FILTER) -> list[str]:
    page = await desk_of(house, content_filter).open(token)
    return [message.text for message in page.conversation.messages]


async def age(house: House, share: Share, days: float) -> None:
    """Let time go by: move a link's times into the past."""
    by = timedelta(days=days)
    async with house.storage.write() as unit:
        await unit.shares.remove(share.id)
        expires_at = share.expires_at - by if share.expires_at else None
        await unit.shares.add(replace(share, created_at=share.created_at - by, expires_at=expires_at))
        await unit.commit()


async def gone(house: House, token: str, *, is_on: bool = True) -> dict[str, object]:
    with pytest.raises(NotFound) as caught:
        await desk_of(house, is_on=is_on).open(token)
    return caught.value.data


async def test_a_link_shows_what_there_was_and_nothing_later(house: House) -> None:
    share, token = await shared(house, "one", "two")
    assert await texts(house, token) == ["one", "All rivers run into the sea.", "two", "All rivers run into the sea."]
    await house.answer(await house.ask("three", conversation_id=share.conversation_id))
    assert "three" not in await texts(house, token)
    anew, newer = await desk_of(house).make(house.ann, share.conversation_id, days=None)
    assert "three" in await texts(house, newer)
    assert "three" not in await texts(house, token)
    assert anew.leaf_id != share.leaf_id


async def test_another_branch_and_another_title_are_not_shown(house: House) -> None:
    share, token = await shared(house, "one")
    again = await house.chat.again(house.ann, share.leaf_id)
    await house.answer(again)
    await house.desk.rename(house.ann, share.conversation_id, title="Not for others")
    page = await desk_of(house).open(token)
    assert page.conversation.title == "one"
    assert [message.id for message in page.conversation.messages][-1] == share.leaf_id != again.answer.id


async def test_only_the_tokens_hash_is_kept(house: House) -> None:
    share, token = await shared(house)
    assert len(token) >= 43
    assert token not in repr(share)
    async with house.storage.read() as unit:
        assert token not in repr(unit.shares._state.shares)  # type: ignore[attr-defined]
        assert await unit.shares.by_token(share.token_hash) == share
    assert (await gone(house, share.token_hash))["kind"] == "page"


async def test_every_link_that_shows_nothing_is_the_same(house: House) -> None:
    accounts = AccountDesk(house.storage)
    results = [await gone(house, "never-was")]

    share, token = await shared(house)
    assert await texts(house, token)
    await desk_of(house).revoke(house.ann, share.id)
    results.append(await gone(house, token))

    share, token = await shared(house, days=7)
    await age(house, share, 6.9)
    assert await texts(house, token)
    await age(house, share, 7.1)
    results.append(await gone(house, token))

    share, token = await shared(house)
    await house.desk.delete(house.ann, share.conversation_id)
    results.append(await gone(house, token))
    await house.desk.restore(house.ann, share.conversation_id)
    assert await texts(house, token)  # what is brought back is shared as before

    await accounts.suspend(operator(), "ann", is_suspended=True)
    results.append(await gone(house, token))
    await accounts.suspend(operator(), "ann", is_suspended=False)
    assert await texts(house, token)

    results.append(await gone(house, token, is_on=False))
    with pytest.raises(NotFound) as beyond:
        await desk_of(house).open(token, page=2)
    results.append(beyond.value.data)
    assert results == [{"kind": "page"}] * 7


async def test_nobody_shares_or_revokes_what_is_somebody_elses(house: House) -> None:
    share, token = await shared(house)
    desk = desk_of(house)
    with pytest.raises(NotFound):
        await desk.make(house.bob, share.conversation_id, days=None)
    with pytest.raises(NotFound):
        await desk.make(house.ann, new_id(), days=None)
    with pytest.raises(NotFound):
        await desk.revoke(house.bob, share.id)
    assert await desk.page(house.bob) == []
    assert await texts(house, token)


async def test_links_are_listed_newest_first_until_they_end(house: House) -> None:
    first, _ = await shared(house, "one", days=7)
    second, _ = await shared(house, "two")
    desk = desk_of(house)
    assert [one.id for one in await desk.page(house.ann)] == [second.id, first.id]
    assert [one.id for one in await desk.page(house.ann, conversation_id=first.conversation_id)] == [first.id]
    await age(house, first, 8)
    assert [one.id for one in await desk.page(house.ann)] == [second.id]
    assert await desk.purge() == 1
    assert await desk.purge() == 0
    await desk.revoke(house.ann, second.id)
    assert await desk.page(house.ann) == []
    with pytest.raises(NotFound):
        await desk.revoke(house.ann, second.id)


async def test_a_running_answer_is_not_shared(house: House) -> None:
    asked = await house.ask("go")
    with pytest.raises(Conflict) as caught:
        await desk_of(house).make(house.ann, asked.conversation.id, days=None)
    assert caught.value.data["kind"] == "running"
    await house.answer(asked)
    assert await desk_of(house).make(house.ann, asked.conversation.id, days=None)


async def test_there_is_a_most_of_links_and_ended_ones_do_not_count(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "MAX_SHARES", 2)
    first, _ = await shared(house, "one", days=7)
    await shared(house, "two")
    with pytest.raises(Conflict) as caught:
        await shared(house, "three")
    assert caught.value.data == {"kind": "shares", "limit": 2}
    await age(house, first, 8)
    await shared(house, "four")


async def test_where_sharing_is_off_no_link_is_made(house: House) -> None:
    share, _ = await shared(house)
    with pytest.raises(AccessDenied) as caught:
        await desk_of(house, is_on=False).make(house.ann, share.conversation_id, days=None)
    assert caught.value.reason == "shares"
    assert [one.id for one in await desk_of(house, is_on=False).page(house.ann)] == [share.id]
    await desk_of(house, is_on=False).revoke(house.ann, share.id)


async def test_a_look_is_judged_by_the_policy_of_that_day() -> None:
    house = make_house(rule("elephant", "A purple elephant, and more."))
    _, token = await shared(house, "Where is the purple elephant?", "else")
    assert "purple elephant" in "".join(await texts(house, token))
    page = await desk_of(house, stricter("purple elephant")).open(token)
    assert [(one.text, one.is_withheld) for one in page.conversation.messages[:2]] == [("", True)] * 2
    assert [one.is_withheld for one in page.conversation.messages[2:]] == [False, False]
    assert (page.conversation.title, page.conversation.is_title_withheld) == ("", True)


async def test_a_filter_that_fails_shows_nothing(house: House) -> None:
    _, token = await shared(house)
    with pytest.raises(SafetyUnavailable):
        await desk_of(house, broken()).open(token)


async def test_what_was_refused_and_what_was_cut_is_marked() -> None:
    house = make_house(rule("leak", f"Before it: {BAD} and after it."))
    _, token = await shared(house, "leak", f"say {BAD}", "go")
    page = await desk_of(house).open(token)
    marks = [(one.role, one.text, one.is_withheld) for one in page.conversation.messages]
    assert marks[:4] == [
        (Role.USER, "leak", False),
        (Role.ASSISTANT, "", True),
        (Role.USER, "", True),
        (Role.ASSISTANT, "", True),
    ]
    assert not any(one.is_partial for one in page.conversation.messages)


@pytest.mark.parametrize("state", [MessageState.STOPPED, MessageState.FAILED, MessageState.INTERRUPTED])
async def test_an_answer_that_was_not_completed_says_so(house: House, state: MessageState) -> None:
    share, token = await shared(house)
    async with house.storage.write() as unit:
        rows = unit.messages._state.messages  # type: ignore[attr-defined]
        rows[share.leaf_id] = replace(rows[share.leaf_id], state=state)
        await unit.commit()
    page = await desk_of(house).open(token)
    assert [one.is_partial for one in page.conversation.messages] == [False, True]


async def test_a_long_conversation_comes_in_pages_without_a_gap(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "PAGE_MESSAGES", 4)
    monkeypatch.setattr(shares, "PAGE_CHARACTERS", 100)
    questions = ["a", "b", "c" * 150, "d", "e" * 60, "f"]
    _, token = await shared(house, *questions)
    desk = desk_of(house)
    first = await desk.open(token)
    pages = [await desk.open(token, page=number) for number in range(1, first.pages + 1)]
    assert [page.page for page in pages] == [*range(1, first.pages + 1)]
    assert {page.pages for page in pages} == {first.pages}
    seen = [message.text for page in pages for message in page.conversation.messages]
    assert seen[::2] == questions
    sizes = [[len(one.text) for one in page.conversation.messages] for page in pages]
    assert sizes == [[1, 28, 1, 28], [150], [28, 1, 28], [60, 28, 1], [28]]
    for number in (0, -1, first.pages + 1):
        with pytest.raises(NotFound):
            await desk.open(token, page=number)


async def test_a_page_is_labelled_as_made_and_shown_by_the_operator(house: House) -> None:
    share, token = await shared(house)
    fields = (await desk_of(house).open(token)).aigc.as_fields()
    assert (fields["Label"], fields["ContentProducer"], fields["ContentPropagator"]) == ("1", "Ops", "Ops")
    assert (fields["ProduceID"], fields["PropagateID"]) == (share.conversation_id, share.id)


async def test_an_account_that_is_gone_shares_nothing(house: House) -> None:
    share, token = await shared(house)
    stranger = Account(id="x", name="x", role=house.ann.role, created_at=now())
    async with house.storage.write() as unit:
        await unit.accounts.add(stranger)
        await unit.shares.remove(share.id)
        await unit.shares.add(replace(share, owner_id="x", title=ReleasedText("t")))
        del unit.accounts._state.accounts["x"]  # type: ignore[attr-defined]
        await unit.commit()
    assert await gone(house, token)
