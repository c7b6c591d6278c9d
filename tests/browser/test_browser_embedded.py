"""The whole chain with nothing scripted: Chromium, the web, a worker process with the embedded model, SQLite."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conversing import answers_in, ask, last_answer, open_chat
from tests.fakes.embedded import data_dir_with_model
from tests.fakes.served import Served


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    one = Served(data_dir_with_model(tmp_path_factory.mktemp("embedded"))).start()
    yield one
    assert one.stop() == 0


@pytest.mark.slow
def test_the_real_model_answers_is_stopped_and_is_remembered_over_a_restart(page: Page, embedded: Served) -> None:
    open_chat(page, embedded)
    expect(page.locator(".banner")).to_contain_text("HAINA_MODEL__PATH=", timeout=120_000)
    ask(page, "What is the capital of France? Answer in one short sentence.")
    expect(last_answer(page)).to_have_attribute("data-state", "complete", timeout=120_000)
    expect(last_answer(page)).to_contain_text("Paris")

    ask(page, "Now tell me a very long story about that city, with many details.")
    expect(page.locator("article.answer")).to_have_count(2)
    expect(last_answer(page).locator(".answer-text")).to_contain_text(" ", timeout=120_000)
    page.reload()
    expect(last_answer(page)).to_have_attribute("data-state", "running")
    seen = last_answer(page).locator(".answer-text").inner_text()
    expect(last_answer(page).locator(".answer-text")).not_to_have_text(seen, timeout=60_000)  # it goes on
    page.get_by_role("button", name="Stop").click()
    expect(last_answer(page)).to_have_attribute("data-state", "stopped")
    embedded.wait_for("/metrics")
    assert b"haina_queue_running 0.0" in embedded.wait_for("/metrics")

    before = answers_in(embedded, page)
    assert [state for state, _ in before] == ["complete", "stopped"]
    shown = page.locator("article.answer .answer-text").all_inner_texts()
    port = embedded.port
    assert embedded.stop() == 0
    embedded.start(port=port)
    page.reload()
    expect(page.locator("article.answer")).to_have_count(2)
    assert page.locator("article.answer .answer-text").all_inner_texts() == shown
    assert answers_in(embedded, page) == before
    ask(page, "Say hello.")
    expect(page.locator("article.answer")).to_have_count(3)
    expect(last_answer(page)).to_have_attribute("data-state", "complete", timeout=180_000)
