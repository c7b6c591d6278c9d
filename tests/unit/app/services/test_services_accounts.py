"""Accounts over an in-memory database, with real argon2."""

import asyncio
from datetime import timedelta

import pytest

from app.domain.errors import AccessDenied, ChatError, Conflict, InvalidApiKey, InvalidInput, NotFound
from app.domain.models import Account, AccountRole, now
from app.services import accounts
from app.services.accounts import AccountDesk, operator, require_admin
from tests.fakes.house import make_house, rule
from tests.fakes.memory_storage import MemoryStorage

PASSWORD = "correct horse battery"


@pytest.fixture
def desk() -> AccountDesk:
    return AccountDesk(MemoryStorage())


async def sign_in(desk: AccountDesk, password: str, *, name: str = "ann", address: str = "::1") -> str:
    """Return what came of it: the account's name, or the reason why not."""
    try:
        return (await desk.sign_in(name, password=password, address=address)).account.name
    except AccessDenied as error:
        return error.reason


async def test_the_setup_link_makes_one_admin_and_closes_for_good(desk: AccountDesk) -> None:
    token = await desk.setup_token()
    assert token
    with pytest.raises(AccessDenied):
        await desk.set_up("x" + token, name="root", password=PASSWORD)
    made = await asyncio.gather(
        *(desk.set_up(token, name=f"root{n}", password=PASSWORD) for n in range(3)), return_exceptions=True
    )
    assert [type(one) for one in made].count(NotFound) == 2
    assert await desk.setup_token() is None
    with pytest.raises(NotFound):
        await desk.set_up(token, name="late", password=PASSWORD)


async def test_a_session_lasts_until_it_is_ended(desk: AccountDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "_CACHE_S", 0.0)
    await desk.create(operator(), "ann", password=PASSWORD)
    signed_in = await desk.sign_in(" Ann ", password=PASSWORD, address="::1")
    assert (await desk.of_session(signed_in.token)) is not None
    await desk.sign_out(signed_in.token)
    assert await desk.of_session(signed_in.token) is None
    assert await desk.of_session("nonsense") is None


async def test_five_wrong_passwords_lock_out_from_this_address_only(desk: AccountDesk) -> None:
    await desk.create(operator(), "ann", password=PASSWORD)
    assert [await sign_in(desk, "wrong wrong") for _ in range(6)] == ["wrong_password"] * 5 + ["locked_out"]
    assert await sign_in(desk, PASSWORD) == "locked_out"
    assert await sign_in(desk, PASSWORD, address="::2") == "ann"


async def test_tries_at_the_same_moment_count_like_tries_one_after_the_other(desk: AccountDesk) -> None:
    await desk.create(operator(), "ann", password=PASSWORD)
    tries = await asyncio.gather(*(sign_in(desk, f"wrong {n} wrong") for n in range(9)))
    assert sorted(tries) == ["locked_out"] * 4 + ["wrong_password"] * 5


async def test_an_unknown_name_is_told_like_a_wrong_password(desk: AccountDesk) -> None:
    assert await sign_in(desk, PASSWORD, name="nobody") == "wrong_password"


async def test_suspending_ends_sessions_and_running_answers() -> None:
    house = make_house(rule("", "x y z", hang_after=1))
    desk = AccountDesk(house.storage, turns=house.turns)
    ann = await desk.create(operator(), "anna", password=PASSWORD)
    signed_in = await desk.sign_in("anna", password=PASSWORD, address="::1")
    asked = await house.ask("go", account=ann)
    await desk.suspend(operator(), "anna", is_suspended=True)
    answer = await house.answer(asked, account=ann)
    assert answer.state == "stopped"
    assert await desk.of_session(signed_in.token) is None
    assert await sign_in(desk, PASSWORD, name="anna") == "suspended"
    await desk.suspend(operator(), "anna", is_suspended=False)
    assert await sign_in(desk, PASSWORD, name="anna") == "anna"


async def test_a_key_works_until_it_is_revoked(desk: AccountDesk) -> None:
    ann = await desk.create(operator(), "ann", password=PASSWORD)
    key, secret = await desk.make_key(operator(), ann, name="nightly")
    assert (await desk.of_key(secret)).id == ann.id
    assert secret not in str(await desk.keys(operator()))
    await desk.revoke_key(operator(), key.id)
    for bad in (secret, "hn-unknown", ""):
        with pytest.raises(InvalidApiKey):
            await desk.of_key(bad)


@pytest.mark.parametrize("name", ["", "a", "guest-1", "<b>", "a b", "x" * 65, "汉"])
async def test_an_impossible_name_is_refused(desk: AccountDesk, name: str) -> None:
    with pytest.raises(InvalidInput):
        await desk.create(operator(), name, password=PASSWORD)


async def test_a_name_is_taken_whatever_its_case(desk: AccountDesk) -> None:
    await desk.create(operator(), "Ann", password=PASSWORD)
    with pytest.raises(Conflict):
        await desk.create(operator(), "ann", password=PASSWORD)


async def test_nothing_of_the_console_is_done_for_anybody_else(desk: AccountDesk) -> None:
    ann = await desk.create(operator(), "ann", password=PASSWORD)
    former = Account(id="x", name="x", role=AccountRole.ADMIN, created_at=now() - timedelta(days=1), is_suspended=True)
    for who in (ann, former):
        for act in (
            desk.create(who, "bob", password=PASSWORD),
            desk.by_name(who, "ann"),
            desk.page(who),
            desk.suspend(who, "ann", is_suspended=True),
            desk.reset_password(who, "ann", password=PASSWORD),
            desk.keys(who),
            desk.make_key(who, ann, name="x"),
            desk.revoke_key(who, "x"),
        ):
            with pytest.raises(AccessDenied):
                await act
    with pytest.raises(ChatError):
        require_admin(None)
