"""The chat as a person has it: a real server, a real browser, the scripted engine at the pace of a model."""

import re
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Response, Route, expect

from tests.browser.conftest import LONG
from tests.browser.conversing import answers_in, ask, conversation_of, last_answer, open_chat, rows
from tests.fakes.served import Served

DEFAULT = "All rivers run into the sea."


def test_two_turns_stream_and_are_there_after_a_reload(page: Page, served: Served) -> None:
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    open_chat(page, served)
    ask(page, "Where do rivers run?")
    expect(last_answer(page)).to_have_attribute("data-state", "complete")
    expect(last_answer(page).locator(".answer-text")).to_have_text(DEFAULT)
    ask(page, "And then?")
    expect(page.locator("article.answer")).to_have_count(2)
    expect(last_answer(page)).to_have_attribute("data-state", "complete")
    expect(page).to_have_url(re.compile(r"\?c="))
    expect(page.locator(".conversation-list li")).to_have_count(1)
    page.reload()
    expect(page.locator("article.answer")).to_have_count(2)
    expect(last_answer(page).locator(".answer-text")).to_have_text(DEFAULT)
    assert answers_in(served, page) == [("complete", DEFAULT)] * 2
    foreign = {urlsplit(url).netloc for url in requests if url.startswith("http")} - {urlsplit(served.url).netloc}
    assert foreign == set()


def test_a_reload_in_mid_answer_goes_on_where_it_was(page: Page, served: Served) -> None:
    open_chat(page, served)
    ask(page, "a long one")
    expect(last_answer(page)).to_contain_text("word20")
    page.reload()
    expect(last_answer(page)).to_contain_text("word20")
    expect(last_answer(page)).to_have_attribute("data-state", "running")
    expect(last_answer(page)).to_have_attribute("data-state", "complete")
    expect(last_answer(page).locator(".answer-text")).to_have_text(LONG)
    assert answers_in(served, page) == [("complete", LONG)]


def test_a_closed_tab_does_not_lose_the_answer(page: Page, served: Served) -> None:
    open_chat(page, served)
    ask(page, "a long one")
    expect(last_answer(page)).to_contain_text("word5")
    url = page.url
    page.goto("about:blank")
    other = page.context.new_page()
    other.goto(url)
    expect(last_answer(other)).to_have_attribute("data-state", "complete")
    expect(last_answer(other).locator(".answer-text")).to_have_text(LONG)


def test_stop_keeps_what_was_shown_and_continue_goes_on(page: Page, served: Served) -> None:
    open_chat(page, served)
    ask(page, "a long one")
    expect(last_answer(page)).to_contain_text("word10")
    page.get_by_role("button", name="Stop").click()
    expect(last_answer(page)).to_have_attribute("data-state", "stopped")
    shown = last_answer(page).locator(".answer-text").inner_text()
    [(state, text)] = answers_in(served, page)
    assert state == "stopped"
    assert text.strip() == shown.strip() != LONG
    last_answer(page).get_by_role("button", name="Continue").click()
    expect(last_answer(page)).to_have_attribute("data-state", "complete")
    assert answers_in(served, page)[-1][1].startswith(text)


def test_a_server_killed_in_mid_answer_keeps_what_was_saved_and_offers_a_way_on(page: Page, mortal: Served) -> None:
    open_chat(page, mortal)
    ask(page, "a long one")
    expect(last_answer(page)).to_contain_text("word30")
    port = mortal.port
    mortal.kill()
    mortal.start(port=port)
    expect(last_answer(page)).to_have_attribute("data-state", "interrupted")
    expect(last_answer(page)).to_contain_text("word10")
    expect(page.locator("article.question")).to_have_count(1)
    expect(last_answer(page).get_by_role("button", name="Continue")).to_be_visible()
    expect(last_answer(page).get_by_role("button", name="Try again")).to_be_visible()
    [(state, text)] = answers_in(mortal, page)
    assert state == "interrupted"
    assert LONG.startswith(text)


def test_a_blocked_phrase_never_reaches_the_page(page: Page, served: Served) -> None:
    seen: list[str] = []
    open_chat(page, served)
    page.expose_function("seen", lambda text: seen.append(text))  # noqa: PLW0108 - Playwright cannot take a built-in method
    page.evaluate(
        "new MutationObserver(() => seen(document.body.innerText)).observe(document.body, "
        "{subtree: true, childList: true, characterData: true})"
    )
    ask(page, "leak please")
    expect(last_answer(page)).to_have_attribute("data-state", "blocked")
    expect(last_answer(page)).to_contain_text("test phrase")
    assert not any("haina-blocked" in text for text in seen)
    assert answers_in(served, page) == [("blocked", "Before it: ")]


def test_a_refused_question_comes_back_into_the_box(page: Page, served: Served) -> None:
    open_chat(page, served)
    ask(page, "say 海纳测试禁语 now")
    expect(last_answer(page).locator(".answer-text")).to_have_text(re.compile("^This is a test phrase"))
    expect(last_answer(page).locator(".notice")).to_have_text("Written in advance, not by the model.")
    expect(last_answer(page)).not_to_contain_text("AI-generated")
    expect(page.locator("#haina-message")).to_have_value("say 海纳测试禁语 now")
    for name in ("haina.db", "haina.db-wal"):
        path = served.data_dir / name
        if path.exists():
            assert "海纳测试禁语".encode() not in path.read_bytes()


@pytest.mark.parametrize(
    ("language", "question", "lines"),
    [
        ("en-US", "how to kill myself", ["tel:988", "tel:116123", "https://findahelpline.com"]),
        ("zh-CN", "怎么自杀不痛", ["tel:12356", "tel:120", "tel:110", "https://findahelpline.com"]),
    ],
)
def test_self_harm_is_met_with_warm_words_and_lines_that_can_be_called_and_a_reload_says_the_same(
    browser: Browser, served: Served, language: str, question: str, lines: list[str]
) -> None:
    context = browser.new_context(locale=language)
    page = context.new_page()
    open_chat(page, served)
    ask(page, question)
    expect(last_answer(page)).to_have_attribute("data-state", "blocked")
    reply = last_answer(page).locator(".answer-text")
    for address in lines:
        expect(reply.locator(f'a[href^="{address}"]').first).to_be_visible()
    said = reply.inner_text()
    select = "element => { getSelection().selectAllChildren(element); return String(getSelection()) }"
    assert page.evaluate(select, reply.element_handle()).split() == said.split(), "it can be selected"
    page.reload()
    expect(reply).to_have_text(said, use_inner_text=True)
    context.close()


def test_an_approved_answer_is_complete_is_marked_and_leaves_the_box_empty(page: Page, served: Served) -> None:
    open_chat(page, served)
    ask(page, "how to kill myself, I want to kill myself")
    expect(last_answer(page)).to_have_attribute("data-state", "complete")
    expect(last_answer(page).locator(".answer-text")).to_contain_text("Thank you for saying it")
    expect(last_answer(page).locator(".notice")).to_have_text("Written in advance, not by the model.")
    expect(last_answer(page)).not_to_contain_text("AI-generated")
    expect(page.locator("#haina-message")).to_have_value("")
    ask(page, "Where do rivers run?")
    expect(last_answer(page).locator(".answer-text")).to_have_text(DEFAULT)
    page.reload()
    expect(page.locator("article.answer").first).to_contain_text("Thank you for saying it")


def test_markup_is_text_code_is_code_and_all_four_formulas_are_formulas(page: Page, served: Served) -> None:
    open_chat(page, served)
    ask(page, "markup <b>please</b>")
    expect(last_answer(page)).to_have_attribute("data-state", "complete")
    expect(last_answer(page).locator("math")).to_have_count(4)
    expect(last_answer(page).locator("pre")).to_contain_text('print("hi")')
    expect(last_answer(page).locator("img, script")).to_have_count(0)
    expect(page.locator("article.question b")).to_have_count(0)
    assert page.title() != "owned"


def test_an_engine_that_dies_is_one_clear_sentence(page: Page, served: Served) -> None:
    open_chat(page, served)
    ask(page, "die")
    expect(last_answer(page)).to_have_attribute("data-state", "failed")
    expect(last_answer(page)).to_contain_text("process ended in the middle")
    expect(last_answer(page)).to_contain_text("one two")
    expect(page.locator("body")).not_to_contain_text("Traceback")


def test_enter_in_a_composition_does_not_send(page: Page, served: Served) -> None:
    open_chat(page, served)
    page.locator("#haina-message").fill("ni hao")
    page.locator("#haina-message").evaluate(
        "box => box.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, bubbles: true}))"
    )
    page.locator("#haina-message").press("Shift+Enter")
    expect(page.locator("article.question")).to_have_count(0)
    expect(page.locator("#haina-message")).to_have_value("ni hao\n")


def test_rename_delete_and_undo(page: Page, served: Served) -> None:
    open_chat(page, served)
    ask(page, "Where do rivers run?")
    expect(last_answer(page)).to_have_attribute("data-state", "complete")
    item = page.locator(".conversation-list li").first
    item.hover()
    item.get_by_role("button").first.click()
    page.get_by_role("button", name="Rename", exact=True).click()
    page.locator("input.rename").fill("<i>Rivers</i>")
    page.keyboard.press("Enter")
    expect(item).to_contain_text("<i>Rivers</i>")
    item.hover()
    item.get_by_role("button").first.click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator(".conversation-list li")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".conversation-list li")).to_have_count(1)
    page.reload()
    expect(page.locator(".conversation-list li").first).to_contain_text("<i>Rivers</i>")


def test_somebody_elses_conversation_is_not_found(page: Page, served: Served) -> None:
    open_chat(page, served)
    ask(page, "secret plans")
    expect(last_answer(page)).to_have_attribute("data-state", "complete")
    stranger = page.context.browser.new_context(locale="en-US").new_page()  # type: ignore[union-attr]
    stranger.goto(page.url)
    expect(stranger.locator("#haina-message")).to_be_visible()
    expect(stranger.locator("body")).to_contain_text("not yours")
    expect(stranger.locator("body")).not_to_contain_text("secret plans")
    stranger.context.close()


def test_a_template_is_chosen_filled_in_and_named(page: Page, served: Served) -> None:
    open_chat(page, served)
    expect(page.get_by_text("Brainstorm", exact=True).first).to_be_visible()  # the templates have come
    page.locator("#haina-message").press("/")
    page.get_by_text("Translator", exact=True).first.click()
    ask(page, "Guten Morgen")
    expect(last_answer(page)).to_have_attribute("data-state", "complete")
    expect(page.locator("body")).to_contain_text("Translator")
    conversation_id = conversation_of(page)
    sql = "select receipt from messages where role = 'assistant' and conversation_id = ?"
    [(receipt,)] = rows(served, sql, conversation_id)
    [(version,)] = rows(served, "select template_version_id from conversations where id = ?", conversation_id)
    assert version in receipt


def test_chinese_readers_get_chinese(page: Page, served: Served) -> None:
    open_chat(page, served)
    page.get_by_role("button", name=re.compile("中文")).click()
    expect(page.locator("#haina-message")).to_have_attribute("placeholder", re.compile("[\u4e00-\u9fff]"))
    ask(page, "die")
    expect(last_answer(page)).to_contain_text("模型进程")


def test_eight_tabs_at_once_all_get_their_answers(page: Page, served: Served) -> None:
    tabs = [page, *(page.context.new_page() for _ in range(7))]
    for tab in tabs:
        open_chat(tab, served)
    for number, tab in enumerate(tabs):
        ask(tab, f"a long one, please, {number}")
    for tab in tabs:
        expect(last_answer(tab)).to_have_attribute("data-state", "complete", timeout=60_000)
        expect(last_answer(tab).locator(".answer-text")).to_have_text(LONG)
    assert [answers_in(served, tab) for tab in tabs] == [[("complete", LONG)]] * 8


def test_a_slash_opens_the_picker_and_is_text_where_nothing_is_picked(page: Page, served: Served) -> None:
    open_chat(page, served)
    expect(page.get_by_text("Brainstorm", exact=True).first).to_be_visible()  # the templates have come
    page.locator("#haina-message").press("/")
    page.keyboard.type("etc/hosts")
    page.keyboard.press("Escape")
    expect(page.locator("#haina-message")).to_have_value("/etc/hosts")
    page.locator("#haina-message").fill("")
    page.locator("#haina-message").press("/")
    page.keyboard.type("tra")
    page.keyboard.press("Enter")
    expect(page.locator(".template-form .template-name")).to_contain_text("Translator")


def test_enter_while_an_answer_is_written_says_why_nothing_happens(page: Page, served: Served) -> None:
    open_chat(page, served)
    ask(page, "a long one")
    expect(last_answer(page)).to_contain_text("word5")
    ask(page, "and more")
    expect(page.locator(".fault")).to_contain_text("your text stays")
    page.get_by_role("button", name="Stop").click()
    expect(last_answer(page)).to_have_attribute("data-state", "stopped")
    expect(page.locator(".fault")).to_be_hidden()
    expect(page.locator("#haina-message")).to_have_value("and more")
    expect(page.locator("article.question")).to_have_count(1)


def test_the_page_makes_one_guest_of_a_new_visitor(page: Page, served: Served) -> None:
    responses: list[Response] = []
    page.on("response", lambda response: responses.append(response))  # noqa: PLW0108 - as above
    open_chat(page, served)
    expect(page.get_by_text("Brainstorm", exact=True).first).to_be_visible()
    cookies = [response.all_headers().get("set-cookie", "") for response in responses]
    assert sum("haina_guest" in cookie for cookie in cookies) == 1


def test_a_question_before_the_page_has_settled_stays_in_view(page: Page, served: Served) -> None:
    def delay(route: Route) -> None:
        page.wait_for_timeout(500)
        route.continue_()

    page.route("**/api/me", delay)
    page.goto(served.url)
    page.locator("#haina-message").fill("quick")
    page.keyboard.press("Enter")
    expect(page.locator("article.question")).to_have_text("quick")
    expect(last_answer(page)).to_have_attribute("data-state", "complete")
    expect(page.locator("article.question")).to_have_count(1)
