"""The chat page while the content filter fails: an answer that is cut, and a quiet line that says why."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conversing import ask, last_answer, open_chat
from tests.fakes.served import Served
from tests.integration.test_served_guards import SCRIPT, SENTENCE, GuardProcess


@pytest.fixture
def guard() -> Iterator[GuardProcess]:
    one = GuardProcess()
    yield one
    one.kill()


def test_a_guard_that_is_killed_in_mid_answer_cuts_it_and_a_banner_says_so(
    page: Page, tmp_path: Path, guard: GuardProcess
) -> None:
    script = tmp_path / "script.toml"
    script.write_text(SCRIPT, encoding="utf-8")
    settings = {"HAINA_ENGINE__URL": f"scripted:{script}", "HAINA_SAFETY__GUARD_URL": guard.url}
    served = Served(tmp_path / "data", settings=settings).start()
    try:
        open_chat(page, served)
        expect(page.locator(".banner")).to_be_hidden()
        ask(page, "rivers")
        expect(last_answer(page)).to_contain_text(SENTENCE.strip())
        guard.kill()
        expect(last_answer(page)).to_have_attribute("data-state", "blocked")
        expect(last_answer(page)).not_to_contain_text("All the rivers")
        expect(page.locator(".banner")).to_contain_text("A part of the content filter is not working")
    finally:
        served.kill()
