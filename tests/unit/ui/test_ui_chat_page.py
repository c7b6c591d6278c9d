"""The shell: three empty parts, nothing to call, and every file that its head names."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ui.chat.page import ASSETS, ASSETS_PATH, ROOTS, STYLE_SHEETS, MountArguments, build, mount_arguments
from ui.words import words_for_page

SCRIPTS = sorted(ASSETS.glob("*.js"))
PLACES_FOR_SERVER_HTML = {"blocks.js"}


@pytest.fixture(scope="module")
def arguments() -> MountArguments:
    return mount_arguments()


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - the base class's
        self.addresses += [value for name, value in attrs if name in {"src", "href"} and value]


def test_nothing_on_the_page_can_be_called_through_gradio() -> None:
    page = build()
    assert page.fns == {}
    assert page.get_api_info()["named_endpoints"] == {}


def test_the_shell_has_the_three_parts_that_the_scripts_look_for() -> None:
    values = [str(block.value) for block in build().blocks.values() if hasattr(block, "value")]
    assert [re.findall(r'id="([\w-]+)"', value) for value in values] == [[root] for root in ROOTS]
    assert all(f'"{root}"' in (ASSETS / "main.js").read_text("utf-8") for root in ROOTS)


def test_gradio_keeps_no_history_of_its_own_and_shows_no_links(arguments: MountArguments) -> None:
    keywords = arguments.as_keywords()
    assert keywords["run_history"] is False
    assert keywords["footer_links"] == []


def test_everything_that_the_head_names_is_a_file_of_ours(arguments: MountArguments) -> None:
    links = Links()
    links.feed(arguments.head)
    assert links.addresses
    for address in links.addresses:
        assert address.startswith(f"{ASSETS_PATH}/")
        assert (ASSETS / address.removeprefix(f"{ASSETS_PATH}/")).is_file()


def test_every_style_sheet_is_linked() -> None:
    assert set(STYLE_SHEETS) == {path.name for path in ASSETS.glob("*.css")}


def test_the_words_survive_the_way_into_the_page(arguments: MountArguments) -> None:
    found = re.search(r'<script id="haina-words" type="application/json">([^<]*)</script>', arguments.head)
    assert found
    assert json.loads(found[1]) == words_for_page()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_only_one_script_sets_html(path: Path) -> None:
    ways = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|setHTML"
    assert bool(re.search(ways, path.read_text("utf-8"))) == (path.name in PLACES_FOR_SERVER_HTML)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_imports_only_files_that_are_there(path: Path) -> None:
    for name in re.findall(r'from "([^"]+)"', path.read_text("utf-8")):
        assert name.startswith("./")
        assert (ASSETS / name).is_file()


def test_no_script_style_or_image_names_another_host() -> None:
    for path in ASSETS.iterdir():
        addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"')]*", path.read_text("utf-8")))
        assert {address for address in addresses if "www.w3.org" not in address} == set(), path.name
