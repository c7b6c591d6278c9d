"""How a conversation leaves the chat, as a person does it: copied, as a file, by a link."""

import json
import re

import yaml
from playwright.sync_api import BrowserContext, Page, expect

from app.domain.labels import EXPLICIT
from tests.browser.conversing import ask, conversation_of, last_answer, open_chat, rows
from tests.fakes.served import Served

DEFAULT = "All rivers run into the sea."


def converse(page: Page, served: Served, *questions: str) -> None:
    open_chat(page, served)
    for n, question in enumerate(questions or ("Where do rivers run?",), 1):
        ask(page, question)
        expect(page.locator("article.answer")).to_have_count(n)
        expect(last_answer(page)).to_have_attribute("data-state", "complete")


def open_dialog(page: Page, name: str = "Share or export") -> None:
    page.locator(".thread-head").get_by_role("button", name=name).click()
    expect(page.get_by_role("dialog", name=name)).to_be_visible()


def make_link(page: Page) -> str:
    page.get_by_role("button", name="Make a link").click()
    field = page.locator(".made-link input")
    expect(field).to_have_value(re.compile(r"/share/[\w-]{43}$"))
    expect(page.locator(".links li")).not_to_have_count(0)
    return field.input_value()


def fresh(page: Page, **options: object) -> BrowserContext:
    """A browser that has never been here."""
    assert page.context.browser
    return page.context.browser.new_context(**options)  # type: ignore[arg-type]


def test_a_copied_answer_says_last_that_ai_made_it_and_a_question_and_code_do_not(page: Page, served: Served) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=served.url)
    converse(page, served, "markup, please")

    def copied() -> str:
        return str(page.evaluate("navigator.clipboard.readText()"))

    last_answer(page).get_by_role("button", name="Copy", exact=True).click()
    expect(page.get_by_text("Copied")).to_be_attached()
    assert copied().endswith("\n\n(AI-generated)")
    assert copied().startswith("<img src=x")
    last_answer(page).get_by_role("button", name="Copy the code").click()
    page.wait_for_function("async () => !(await navigator.clipboard.readText()).includes('AI')")
    assert copied().strip() == 'print("hi")'
    page.locator("article.question").hover()
    page.locator("article.question").get_by_role("button", name="Copy").click()
    page.wait_for_function("async () => (await navigator.clipboard.readText()) === 'markup, please'")
    expect(page.locator(".constant")).to_contain_text("人工智能生成")


def test_a_conversation_is_downloaded_in_three_forms(page: Page, served: Served) -> None:
    converse(page, served, "去杭州：<b>怎么</b>走？")
    open_dialog(page)
    texts = {}
    for name, ending in (("Markdown", "md"), ("JSON", "json"), ("Text", "txt")):
        with page.expect_download() as download:
            page.get_by_role("dialog").get_by_role("button", name=name, exact=True).click()
        assert re.fullmatch(rf"haina-去杭州-.*\.{ending}", download.value.suggested_filename)
        texts[name] = download.value.path().read_text(encoding="utf-8")
    assert all(DEFAULT in text and EXPLICIT in text for text in texts.values())
    assert yaml.safe_load(texts["Markdown"].split("\n---\n")[0])["AIGC"]["Label"] == "1"
    assert json.loads(texts["JSON"])["messages"][1]["AIGC"]["Label"] == "1"


def test_an_export_that_fails_says_so_and_saves_nothing(page: Page, served: Served) -> None:
    converse(page, served)
    open_dialog(page)
    words = "The content filter cannot work just now"
    page.route(
        "**/export?*",
        lambda route: route.fulfill(status=503, json={"error": {"code": "safety_unavailable", "message": words}}),
    )
    page.get_by_role("button", name="Markdown", exact=True).click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_have_text(words)
    page.unroute("**/export?*")
    with page.expect_download():
        page.get_by_role("button", name="Markdown", exact=True).click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_be_hidden()


def test_a_link_is_read_by_anybody_and_is_gone_once_it_is_revoked(page: Page, served: Served) -> None:
    converse(page, served)
    open_dialog(page)
    link = make_link(page)
    page.keyboard.press("Escape")
    ask(page, "and a later question")
    expect(last_answer(page)).to_have_attribute("data-state", "complete")

    context = fresh(page, locale="en-US")
    reader = context.new_page()
    faults: list[str] = []
    reader.on("console", lambda message: faults.append(message.text))
    reader.on("pageerror", lambda error: faults.append(str(error)))
    response = reader.goto(link)
    assert response
    assert response.status == 200
    expect(reader.locator("article")).to_have_count(2)
    expect(reader.locator(".answer-text")).to_have_text(DEFAULT)
    expect(reader.locator("body")).to_contain_text(EXPLICIT)
    expect(reader.locator("body")).not_to_contain_text("later question")
    assert context.cookies() == []
    assert faults == []

    open_dialog(page)
    page.get_by_role("button", name="Revoke").click()
    expect(page.locator(".links li")).to_have_count(0)
    response = reader.goto(link)
    assert response
    assert response.status == 404
    expect(reader.locator("body")).not_to_contain_text("rivers")
    context.close()
    assert rows(served, "select id from shares where conversation_id = ?", conversation_of(page)) == []


def test_markup_of_others_does_nothing_on_a_shared_page_and_code_can_be_copied(page: Page, served: Served) -> None:
    converse(page, served, "markup <b>please</b> <script>document.title='owned'</script> \u202eevil")
    open_dialog(page)
    link = make_link(page)
    context = fresh(page, permissions=["clipboard-read", "clipboard-write"])
    reader = context.new_page()
    faults: list[str] = []
    reader.on("console", lambda message: faults.append(message.text))
    reader.goto(link)
    expect(reader.locator("math")).to_have_count(4)
    expect(reader.locator("main img, main script, article b")).to_have_count(0)
    assert reader.title() != "owned"
    assert faults == []
    reader.get_by_role("button", name="Copy the code").click()
    reader.wait_for_function("async () => (await navigator.clipboard.readText()).trim() === 'print(\"hi\")'")
    blocked = reader.evaluate(
        """() => { const one = document.createElement("script"); one.textContent = "window.owned = true";
        document.body.append(one); return window.owned === true; }"""
    )
    assert blocked is False
    assert "Content Security Policy" in faults[0]
    context.close()


def test_a_shared_page_is_in_the_readers_language_and_colours_and_fits_a_phone(page: Page, served: Served) -> None:
    converse(page, served, "markup, please")
    open_dialog(page)
    link = make_link(page)
    context = fresh(page, locale="zh-CN", color_scheme="dark", viewport={"width": 360, "height": 640})
    reader = context.new_page()
    reader.goto(link)
    expect(reader.locator("html")).to_have_attribute("lang", "zh-CN")
    expect(reader.locator("body")).to_contain_text("分享的对话")
    assert reader.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(15, 21, 24)"
    assert reader.evaluate("document.documentElement.scrollWidth <= innerWidth")
    context.close()


def test_two_tabs_share_and_revoke_side_by_side(page: Page, served: Served) -> None:
    converse(page, served)
    other = page.context.new_page()
    other.goto(page.url)
    expect(last_answer(other)).to_have_attribute("data-state", "complete")
    open_dialog(page)
    make_link(page)
    open_dialog(other)
    expect(other.locator(".links li")).to_have_count(1)
    page.get_by_role("button", name="Revoke").click()
    expect(page.locator(".links li")).to_have_count(0)
    other.get_by_role("button", name="Revoke").click()  # it is gone already: the list says so
    expect(other.locator(".links li")).to_have_count(0)
    other.keyboard.press("Escape")
    other.locator(".conversation-list li").first.hover()
    other.locator(".conversation-list li").first.get_by_role("button").click()
    other.get_by_role("button", name="Delete", exact=True).click()
    expect(other.locator(".conversation-list li")).to_have_count(0)
    page.get_by_role("button", name="Make a link").click()  # of what the other tab has deleted
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("no such conversation")


def test_all_links_are_in_one_place_and_the_menu_of_the_list_leads_to_the_dialog(page: Page, served: Served) -> None:
    converse(page, served)
    item = page.locator(".conversation-list li").first
    item.hover()
    item.get_by_role("button").first.click()
    page.get_by_role("button", name="Share or export", exact=True).last.click()
    page.get_by_role("dialog").get_by_label("Valid for").select_option("7 days")
    make_link(page)
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Account: Guest").click()
    page.get_by_role("button", name="Shared links").click()
    links = page.get_by_role("dialog", name="Shared links").locator("li")
    expect(links).to_have_count(1)
    expect(links).to_contain_text("Where do rivers run")
    sql = "select cast(julianday(expires_at) - julianday(created_at) as text) from shares where conversation_id = ?"
    assert [float(days) for (days,) in rows(served, sql, conversation_of(page))] == [7]
    links.get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("dialog")).to_contain_text("No conversation of yours is shared.")


def test_a_running_answer_is_neither_shared_nor_exported(page: Page, served: Served) -> None:
    open_chat(page, served)
    ask(page, "a long one")
    expect(last_answer(page)).to_contain_text("word2")
    open_dialog(page)
    page.get_by_role("button", name="Make a link").click()
    expect(page.get_by_role("dialog")).to_contain_text("still being written")
    expect(page.locator(".made-link")).to_have_count(0)
