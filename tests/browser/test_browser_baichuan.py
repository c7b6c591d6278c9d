"""A Baichuan model behind the page: its licence at one click, its own sampling in every answer."""

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conversing import ask, conversation_of, last_answer, open_chat, rows
from tests.fakes.checkpoints import folder_of
from tests.fakes.served import Served

LINKS = {
    "Licence of the weights": "https://github.com/baichuan-inc/Baichuan2#license",
    "Where the model comes from": "https://github.com/baichuan-inc/Baichuan2",
}


@pytest.fixture(scope="module")
def baichuan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("baichuan")
    model = folder_of("tiny-13b-chat", folder)
    one = Served(folder / "data", settings={"HAINA_MODEL__PATH": str(model), "HAINA_MODEL__DTYPE": "float32"}).start()
    yield one
    assert one.stop() == 0


@pytest.mark.slow
def test_licence_and_source_of_the_weights_are_one_click_away(page: Page, baichuan: Served) -> None:
    open_chat(page, baichuan)
    name = page.locator(".model-name")
    expect(name).to_contain_text("tiny-13b-chat", timeout=120_000)
    name.click()
    for words, address in LINKS.items():
        link = page.get_by_role("link", name=words)
        expect(link).to_be_visible()
        expect(link).to_have_attribute("href", address)


@pytest.mark.slow
def test_an_answer_is_sampled_as_the_models_own_files_say(page: Page, baichuan: Served) -> None:
    open_chat(page, baichuan)
    expect(page.locator(".model-name .dot.is-ready")).to_be_attached(timeout=120_000)
    ask(page, "hello")
    expect(last_answer(page)).to_have_attribute("data-state", "complete", timeout=120_000)
    sql = "select receipt from messages where role = 'assistant' and conversation_id = ?"
    [(receipt,)] = rows(baichuan, sql, conversation_of(page))
    sampling = json.loads(receipt)["sampling"]
    wanted = {"temperature": 0.3, "top_k": 5, "top_p": 0.85, "repetition_penalty": 1.05}
    assert {name: sampling[name] for name in wanted} == wanted
    assert 0 < sampling["max_tokens"] <= 256  # of the 2,048 that half of this context leaves
