"""One door: nothing behind it runs for anybody but an admin, and what goes wrong becomes a sentence."""

from typing import Any

import gradio as gr
import pytest
from starlette.requests import Request

from app.domain.errors import StorageBusy
from app.domain.models import Account, AccountRole
from app.domain.words import Language
from tests.fakes.memory_storage import MemoryStorage
from tests.fakes.office import Office, account, request_of
from ui.admin.call import Call, Reply, Visitor
from ui.admin.console import Console, endpoint
from ui.admin.guard import for_admins, language_of

STRANGERS = [
    pytest.param(None, id="nobody"),
    pytest.param(account("guest-7f3a", AccountRole.GUEST), id="a guest"),
    pytest.param(account("ann"), id="a user"),
    pytest.param(account("old", AccountRole.ADMIN, is_suspended=True), id="a suspended admin"),
    pytest.param("root", id="something that is no account"),
]


def every_call() -> list[tuple[str, str]]:
    pages = Console(Office().services).pages
    return [(name, action) for name, page in pages.items() for action in page.handlers]


class LockedStorage(MemoryStorage):
    """Nobody may even ask it."""

    def read(self) -> Any:
        raise AssertionError("the database was asked")

    def write(self) -> Any:
        raise AssertionError("the database was asked")


@pytest.mark.parametrize("who", STRANGERS)
@pytest.mark.parametrize(("page", "action"), every_call())
async def test_nobody_but_an_admin_gets_anything(who: Account | None, page: str, action: str) -> None:
    ask = endpoint(Office(storage=LockedStorage()).services)
    call = {"page": page, "action": action, "fields": {"name": ["ann"], "password": ["password"], "id": ["x"]}}
    reply = await ask(call, request_of(who))
    assert reply.pop("said")
    assert reply.pop("is_error") is True
    reply.pop("must_sign_in")
    assert not any(reply.values())


async def test_a_request_that_the_doorkeeper_never_saw_gets_nothing() -> None:
    ask = endpoint(Office(storage=LockedStorage()).services)
    request: Any = Request({"type": "http", "method": "POST", "headers": []})
    reply = await ask({"page": "users", "action": "show", "fields": {}}, request)
    assert reply["html"] == ""
    assert reply["must_sign_in"] is True


async def test_gradios_own_request_is_understood_too() -> None:
    office = Office()
    inner: Any = request_of(office.root)
    request = gr.Request(inner)
    reply = await endpoint(office.services)({"page": "frame", "action": "show", "fields": {}}, request)
    assert "root" in str(reply["html"])


@pytest.mark.parametrize(
    ("page", "action"), [("nothing", "show"), ("users", "delete"), ("users", "__init__"), ("", "")]
)
async def test_a_page_or_action_that_there_is_not_is_said_to_be_unknown(page: str, action: str) -> None:
    reply = await Office().ask(page, action)
    assert reply.is_error
    assert reply.said == "There is no such page."


@pytest.mark.parametrize(
    "call",
    [
        None,
        "users",
        [],
        {},
        {"page": "users", "action": "show"},
        {"page": "users", "action": "show", "fields": []},
        {"page": 1, "action": "show", "fields": {}},
        {"page": "users", "action": "show", "fields": {"query": "ann"}},
        {"page": "users", "action": "show", "fields": {"query": [1]}},
        {"page": "users", "action": "show", "fields": {"query": ["\ud800"]}},
        {"page": "users", "action": "show", "fields": {"offset": ["-1"]}},
        {"page": "users", "action": "show", "fields": {"offset": ["99999999999999999999"]}},
    ],
)
async def test_a_call_of_the_wrong_shape_is_refused_in_words(call: object) -> None:
    office = Office()
    reply = await endpoint(office.services)(call, request_of(office.root))
    assert reply["is_error"]
    said = ("The page sent something", "The text holds characters", "“offset” has to be a whole number")
    assert str(reply["said"]).startswith(said)
    assert reply["html"] == ""


@pytest.mark.parametrize(("language", "words"), [("en", "The database is busy."), ("zh", "数据库正忙")])
async def test_an_error_is_told_in_the_readers_language(language: Language, words: str) -> None:
    office = Office()
    office.storage.failure = StorageBusy("locked by 4711")
    reply = await office.ask("users", language=language)
    assert reply.said.startswith(words)
    assert "4711" not in reply.said


async def test_a_fault_of_ours_becomes_a_sentence_without_its_own_words() -> None:
    async def fail(_: Visitor, __: Call) -> Reply:
        raise RuntimeError("somebody's secret")

    office = Office()
    reply = await for_admins(fail)({"page": "", "action": "", "fields": {}}, request_of(office.root))
    assert reply["is_error"] is True
    assert "secret" not in str(reply)


@pytest.mark.parametrize(
    ("cookie", "accepted", "expected"),
    [
        ("zh", "en-GB", "zh"),
        ("en", "zh-CN", "en"),
        ("fr", "zh-CN,zh;q=0.9", "zh"),
        ("", "ZH", "zh"),
        ("", "de,en", "en"),
        ("", "", "en"),
    ],
)
def test_the_cookie_goes_before_what_the_browser_prefers(cookie: str, accepted: str, expected: Language) -> None:
    headers = [(b"cookie", f"haina_lang={cookie}".encode()), (b"accept-language", accepted.encode())]
    request: Any = Request({"type": "http", "headers": headers})
    assert language_of(request) == expected
