"""The two mounts: the console answers admins only, and neither page holds anything before it is asked."""

from collections.abc import Iterator
from typing import Any

import gradio as gr
import pytest
from fastapi import FastAPI, Request
from starlette.responses import Response
from starlette.testclient import TestClient

from app.domain.models import Account, AccountRole
from tests.fakes.office import Office, account
from ui import mounting
from ui.admin import console

ROOT = account("root-7f3a", AccountRole.ADMIN)
ANN = account("ann")
COMPONENT = "/admin/gradio_api/component_server/"


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    app = FastAPI()
    who = {"root": ROOT, "ann": ANN}
    mounting.mount(app, services=Office(root=ROOT).services)

    @app.middleware("http")
    async def identify(request: Request, call_next: Any) -> Response:
        request.state.account = who.get(request.headers.get("x-who", ""))
        response: Response = await call_next(request)
        return response

    with TestClient(app, follow_redirects=False) as client:
        yield client


def call(client: TestClient, who: str) -> Any:
    config = client.get("/admin/config", headers={"x-who": "root"}).json()
    (component,) = [one for one in config["components"] if one["type"] == "html"]
    body = {
        "data": {"page": "frame", "action": "show", "fields": {}},
        "component_id": component["id"],
        "fn_name": "ask",
        "session_hash": "x",
    }
    return client.post(COMPONENT, json=body, headers={"x-who": who})


@pytest.mark.parametrize("path", ["/admin/", "/admin/config", "/admin/gradio_api/info"])
@pytest.mark.parametrize("who", ["", "ann"])
def test_the_console_does_not_open_for_others(client: TestClient, path: str, who: str) -> None:
    assert client.get(path, headers={"x-who": who}).status_code == 401


@pytest.mark.parametrize("who", ["", "ann"])
def test_its_function_does_not_answer_others(client: TestClient, who: str) -> None:
    response = call(client, who)
    assert response.status_code == 401
    assert "root" not in response.text


def test_its_function_answers_an_admin(client: TestClient) -> None:
    response = call(client, "root")
    assert response.status_code == 200
    assert f"Signed in as {ROOT.name}" in response.json()["html"]


def test_the_consoles_config_holds_no_data(client: TestClient) -> None:
    response = client.get("/admin/config", headers={"x-who": "root"})
    assert ROOT.name not in response.text
    assert [one["props"].get("value") for one in response.json()["components"]] == [None]
    assert response.json()["dependencies"] == []


def test_the_address_without_a_slash_leads_to_the_console(client: TestClient) -> None:
    response = client.get("/admin", headers={"x-who": "root"})
    assert (response.status_code, response.headers["location"]) == (307, "/admin/")


@pytest.mark.parametrize("who", ["", "ann", "root"])
def test_everybody_sees_the_chats_shell_and_it_is_the_same_for_all(client: TestClient, who: str) -> None:
    response = client.get("/config", headers={"x-who": who})
    assert response.status_code == 200
    assert response.json()["username"] == "visitor"
    assert "haina-console" not in response.text


@pytest.mark.parametrize("path", ["/", "/admin/"])
def test_gradio_keeps_nothing_and_links_nowhere(client: TestClient, path: str) -> None:
    config = client.get(f"{path}config", headers={"x-who": "root"}).json()
    assert config["footer_links"] == []
    assert config["run_history"] is False
    assert config["show_error"] is False
    assert config["analytics_enabled"] is False


def test_the_console_has_one_function_and_no_event() -> None:
    page = console.build(Office().services)
    assert page.fns == {}
    functions = [fn for block in page.blocks.values() for fn in getattr(block, "server_fns", [])]
    assert [fn.__name__ for fn in functions] == ["ask"]


def test_a_suspended_admin_stays_outside() -> None:
    def who(one: Account | None) -> str | None:
        return mounting.admin_of(Request({"type": "http", "state": {"account": one}}))

    assert who(ROOT) == ROOT.id
    assert who(account("old", AccountRole.ADMIN, is_suspended=True)) is None
    assert who(ANN) is None
    assert who(None) is None
    assert mounting.admin_of(Request({"type": "http"})) is None


def test_what_the_page_names_is_a_file_of_ours() -> None:
    (part,) = [block for block in console.build(Office().services).blocks.values() if isinstance(block, gr.HTML)]
    assert f"{console.ASSETS_PATH}/console.js" in (part.js_on_load or "")
    assert f"{console.ASSETS_PATH}/console.css" in console.head()
    assert {path.name for path in console.ASSETS.iterdir()} == {"console.css", "console.js", "theme.js"}


def test_a_queue_that_nobody_uses_is_left_to_sleep() -> None:
    page = gr.Blocks()
    assert max(page._queue.sleep_when_free, page._queue.progress_update_sleep_when_free) < 1  # by these names
    mounting.rest_queue(page)
    assert min(page._queue.sleep_when_free, page._queue.progress_update_sleep_when_free) == mounting.IDLE_S
