"""Asking for a review, and the reviewer's side, as people have them: in both languages, on a desk and on a phone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conversing import ask, last_answer, open_chat, rows
from tests.fakes.served import Served

PASSWORD = "correct horse battery"
REFUSED = "forbidden toffee"
POLICY = f"""
name = "sweets"

[[rules]]
category = "sweets"
stages = ["input", "history", "output", "export"]
action = "refuse"

[[lists]]
name = "sweets"
category = "sweets"
language = "en"
phrases = ["{REFUSED}"]
"""
SCRIPT = f"""
default = "All rivers run into the sea."

[[rules]]
pattern = "leak"
reply = "Before it: {REFUSED} and after it."
"""


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[Served]:
    """A scripted Haina that counts, keeps what it refused, and has a policy of harmless words."""
    (tmp_path / "policy.toml").write_text(POLICY, encoding="utf-8")
    (tmp_path / "script.toml").write_text(SCRIPT, encoding="utf-8")
    settings = {
        "HAINA_ENGINE__URL": f"scripted:{tmp_path / 'script.toml'}",
        "HAINA_SAFETY__POLICY": str(tmp_path / "policy.toml"),
        "HAINA_SAFETY__EVIDENCE": "refused",
        "HAINA_SAFETY__STRIKES_IN_ROW": "2",
    }
    one = Served(tmp_path / "data", settings=settings).start()
    yield one
    one.kill()


@pytest.fixture
def admin(browser: Browser, strict: Served) -> Iterator[Page]:
    """The console of the first admin."""
    context = browser.new_context(locale="en-US", viewport={"width": 1280, "height": 900})
    one = context.new_page()
    one.goto(strict.setup_url)
    one.locator("input[name=name]").fill("root")
    one.locator("input[name=password]").fill(PASSWORD)
    one.keyboard.press("Enter")
    expect(one.get_by_role("heading", name="Overview")).to_be_visible()
    yield one
    context.close()


def last_question(page: Page) -> Locator:
    return page.locator("article.question").last


def test_a_refusal_is_appealed_reviewed_overturned_and_told(page: Page, strict: Served, admin: Page) -> None:
    open_chat(page, strict)
    for n in range(2):
        ask(page, f"{n}: may I have {REFUSED} please")
        expect(page.locator("article.answer")).to_have_count(n + 1)
        expect(last_answer(page)).to_have_attribute("data-state", "blocked")
        page.locator("#haina-message").fill("")
    expect(last_question(page)).to_contain_text("asking is paused until")
    ask(page, "something harmless")
    expect(page.locator("#haina-composer")).to_contain_text("you cannot ask until")

    last_question(page).get_by_role("button", name="Ask for a review").click()
    page.locator(".review-form textarea").fill("It is about sweets for children.")
    page.locator(".review-form").get_by_role("button", name="Send").click()
    expect(last_question(page)).to_contain_text("A review was asked for and is waiting.")
    expect(last_question(page).get_by_role("button", name="Ask for a review")).to_have_count(0)
    page.reload()
    expect(last_question(page)).to_contain_text("A review was asked for and is waiting.")

    admin.get_by_role("link", name="Reviews").click()
    expect(admin.locator("tbody tr")).to_have_count(1)
    expect(admin.locator("tbody tr")).to_contain_text("It is about sweets for children.")
    admin.locator("tbody tr a").click()
    expect(admin.locator(".haina-console main")).to_contain_text("sweets:")
    expect(admin.locator(".haina-console main")).not_to_contain_text(REFUSED)
    admin.get_by_role("button", name="Open the text").click()
    dialog = admin.get_by_role("dialog")
    dialog.locator("input[name=reason]").fill("asked for a review")
    dialog.get_by_role("button", name="Open the text").click()
    expect(dialog.locator("mark")).to_have_text(REFUSED)
    expect(dialog.locator("#allow-line")).to_have_text(f'allow = ["have {REFUSED} please"]')
    dialog.get_by_role("button", name="Close").last.click()
    expect(admin.locator("dialog")).to_have_count(0)
    admin.locator("textarea[name=note]").fill("You are right.")
    admin.get_by_role("button", name="Overturn").click()
    expect(admin.locator(".haina-console main")).to_contain_text("Overturned by root")
    expect(admin.locator(".haina-console main")).to_contain_text("asked for a review")

    page.reload()
    expect(last_question(page)).to_contain_text("this should not have been refused")
    expect(last_question(page)).to_contain_text("You are right.")
    ask(page, "something harmless")
    expect(last_answer(page)).to_have_attribute("data-state", "complete")
    assert rows(strict, "select text from messages where text like ?", f"%{REFUSED}%") == []
    trail = [action for (action,) in rows(strict, "select action from audit order by at")]
    assert trail == [
        "suspension_began", "review_appealed", "evidence_opened", "review_overturned", "suspension_lifted",
    ]  # fmt: skip


def test_an_open_page_hears_of_the_outcome_when_it_is_looked_at_again(page: Page, strict: Served, admin: Page) -> None:
    open_chat(page, strict)
    ask(page, "leak it")
    expect(last_answer(page)).to_have_attribute("data-state", "blocked")
    last_answer(page).get_by_role("button", name="Ask for a review").click()
    page.locator(".review-form").get_by_role("button", name="Send").click()
    expect(last_answer(page)).to_contain_text("is waiting")
    admin.get_by_role("link", name="Reviews").click()
    admin.locator("tbody tr a").click()
    admin.get_by_role("button", name="Uphold").click()
    expect(admin.locator(".haina-console main")).to_contain_text("Upheld by root")
    # The page looks at most every few seconds, so its reader comes back more than once.
    page.evaluate("setInterval(() => document.dispatchEvent(new Event('visibilitychange')), 500)")
    expect(last_answer(page)).to_contain_text("the refusal stands")


def test_what_the_filter_says_to_a_comment_is_shown_in_the_form(page: Page, strict: Served) -> None:
    open_chat(page, strict)
    ask(page, REFUSED)
    last_question(page).get_by_role("button", name="Ask for a review").click()
    form = page.locator(".review-form")
    form.locator("textarea").fill(f"I only said {REFUSED}")
    form.get_by_role("button", name="Send").click()
    expect(form.get_by_role("alert")).to_contain_text("The content filter stopped your comment")
    expect(form.locator("textarea")).to_have_value(f"I only said {REFUSED}")
    form.locator("textarea").fill("It is a sweet.")
    form.get_by_role("button", name="Send").click()
    expect(last_question(page)).to_contain_text("is waiting")


def test_a_pause_is_seen_and_ended_in_the_list_of_users(page: Page, strict: Served, admin: Page) -> None:
    open_chat(page, strict)
    for n in range(2):
        ask(page, f"{n} {REFUSED}")
        expect(page.locator("article.answer")).to_have_count(n + 1)
        page.locator("#haina-message").fill("")
    admin.get_by_role("link", name="Users").click()
    admin.get_by_label("With guests").check()
    row = admin.locator("tbody tr").filter(has_text="guest-")
    expect(row).to_contain_text("Paused until")
    row.get_by_role("button", name="End the pause").click()
    expect(admin.locator(".toasts")).to_contain_text("can ask again")
    ask(page, "something harmless")
    expect(last_answer(page)).to_have_attribute("data-state", "complete")


def test_on_a_phone_in_chinese_nothing_is_cut_off(browser: Browser, strict: Served, admin: Page) -> None:
    context = browser.new_context(
        locale="zh-CN", viewport={"width": 390, "height": 844}, color_scheme="dark", has_touch=True
    )
    phone = context.new_page()
    open_chat(phone, strict)
    ask(phone, REFUSED)
    last_question(phone).get_by_role("button", name="申请复核").tap()
    form = phone.locator(".review-form")
    form.locator("textarea").fill("这是一种糖果。")
    box = form.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    for button in form.get_by_role("button").all():
        size = button.bounding_box()
        assert size is not None
        assert min(size["width"], size["height"]) >= 44
    form.get_by_role("button", name="提交").tap()
    expect(last_question(phone)).to_contain_text("已申请复核，等待处理。")
    console = browser.new_context(
        locale="zh-CN", viewport={"width": 390, "height": 844}, storage_state=admin.context.storage_state()
    ).new_page()
    console.goto(f"{strict.url}/admin/#reviews")
    expect(console.locator("tbody tr")).to_contain_text("这是一种糖果。")
    console.locator("tbody tr a").click()
    expect(console.get_by_role("button", name="撤销")).to_be_visible()
    assert console.evaluate("document.documentElement.scrollWidth") <= 390
    console.context.close()
    context.close()
