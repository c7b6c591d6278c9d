"""What a person does on the chat page, and what lies in the database then."""

import sqlite3
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Locator, Page, expect

from tests.fakes.served import Served


def open_chat(page: Page, served: Served, path: str = "/") -> None:
    page.goto(served.url + path)
    expect(page.locator("#haina-message")).to_be_visible()


def ask(page: Page, text: str) -> None:
    page.locator("#haina-message").fill(text)
    page.keyboard.press("Enter")


def last_answer(page: Page) -> Locator:
    return page.locator("article.answer").last


def rows(served: Served, sql: str, *values: str) -> list[tuple[str, ...]]:
    with sqlite3.connect(f"file:{served.data_dir / 'haina.db'}?mode=ro", uri=True) as database:
        return list(database.execute(sql, values))


def conversation_of(page: Page) -> str:
    return parse_qs(urlsplit(page.url).query)["c"][0]


def answers_in(served: Served, page: Page) -> list[tuple[str, ...]]:
    sql = "select state, text from messages where role = 'assistant' and conversation_id = ? order by created_at"
    return rows(served, sql, conversation_of(page))
