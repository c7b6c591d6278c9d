"""The console as an admin has it: the one-time link, the pages, a new version of a prompt, and nobody else inside."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conversing import ask, last_answer, open_chat
from tests.fakes.served import Served

PASSWORD = "correct horse battery"
BAD = "haina-blocked-test-phrase"


@pytest.fixture
def admin(page: Page, mortal: Served) -> Page:
    """Return the console's page of the first admin, who has just come by the one-time link."""
    page.goto(mortal.setup_url)
    page.locator("input[name=name]").fill("root")
    page.locator("input[name=password]").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    return page


def test_the_setup_link_works_once_and_the_console_is_for_admins(admin: Page, mortal: Served) -> None:
    stranger = admin.context.browser.new_context(locale="en-US").new_page()  # type: ignore[union-attr]
    answer = stranger.goto(mortal.setup_url)
    assert answer is not None
    assert answer.status == 404
    stranger.goto(f"{mortal.url}/admin/")
    expect(stranger).to_have_url(re.compile("/login"))
    assert stranger.request.get(f"{mortal.url}/admin/config").status in {401, 403}
    stranger.context.close()
    admin.get_by_role("button", name="Sign out").click()
    admin.goto(f"{mortal.url}/admin/")
    admin.locator("input[name=name]").fill("root")
    admin.locator("input[name=password]").fill(PASSWORD)
    admin.keyboard.press("Enter")
    expect(admin.get_by_role("heading", name="Overview")).to_be_visible()


def test_a_new_version_of_a_prompt_goes_live_and_back(admin: Page, mortal: Served) -> None:
    admin.get_by_role("link", name="Prompts").click()
    admin.get_by_role("link", name="Assistant", exact=True).first.click()
    system = admin.locator("textarea[name=system]")
    expect(system).to_be_visible()
    before = system.input_value()
    system.fill(f"{before}\nEnd every answer with a river.")
    admin.get_by_role("button", name="Review").click()
    dialog = admin.get_by_role("dialog")
    expect(dialog).to_contain_text("End every answer with a river.")
    dialog.locator("[name=message]").fill("Rivers")
    dialog.get_by_role("button", name="Save").click()
    expect(admin.get_by_role("link", name="Version 2")).to_be_visible()
    chat = admin.context.new_page()
    open_chat(chat, mortal)
    chat.get_by_text("Assistant", exact=True).first.click()
    ask(chat, "Hello")
    expect(last_answer(chat)).to_have_attribute("data-state", "complete")
    expect(chat.locator(".template-name")).to_contain_text("2")
    admin.reload()
    versions = admin.locator(".versions li")
    versions.filter(has_text="Version 1").get_by_role("button", name="Make live").click()
    admin.get_by_role("dialog").get_by_role("button", name="Make live").click()
    expect(versions.filter(has_text="Version 1").locator(".chip")).to_have_text("live")
    expect(versions.filter(has_text="Version 2").locator(".chip")).to_have_count(0)


def test_what_the_filter_stopped_is_listed_without_its_text(admin: Page, mortal: Served) -> None:
    chat = admin.context.new_page()
    open_chat(chat, mortal)
    ask(chat, f"say {BAD} now")
    expect(last_answer(chat)).to_contain_text("test phrase")
    admin.get_by_role("link", name="Hits").click()
    expect(admin.locator("tbody tr")).to_have_count(1)
    expect(admin.locator("tbody tr")).to_contain_text("Refused")
    expect(admin.locator(".haina-console main")).not_to_contain_text(BAD)
