"""The page of a shared conversation: labelled, escaped, and nothing runs on it but what is ours."""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from app.domain.labels import EXPLICIT, Aigc
from app.domain.models import Role
from app.domain.verdicts import ReleasedText
from app.domain.words import LANGUAGES, Language
from app.services.outgoing import Outgoing, OutgoingMessage
from app.services.shares import SharedPage
from ui.markdown import MarkdownRenderer
from ui.shared import HtmlShared
from ui.theme import DARK, LIGHT

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
EVIL = "\"'></title></script><script>alert(1)</script><img src=x onerror=alert(1)>\u202e"


class Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.tags if name == tag]

    def meta(self, name: str) -> str:
        return next(attrs["content"] for attrs in self.all("meta") if attrs.get("name") == name)

    @property
    def text(self) -> str:
        return "".join(self.texts)


@pytest.fixture(scope="module")
def shared() -> HtmlShared:
    return HtmlShared()


def question(text: str = "Where?", **changes: object) -> OutgoingMessage:
    return OutgoingMessage(id="q", role=Role.USER, text=ReleasedText(text), created_at=AT, **changes)  # type: ignore[arg-type]


def answer(text: str = "There.", **changes: object) -> OutgoingMessage:
    return OutgoingMessage(id="a", role=Role.ASSISTANT, text=ReleasedText(text), created_at=AT, **changes)  # type: ignore[arg-type]


def drawn(
    shared: HtmlShared,
    *messages: OutgoingMessage,
    title: str = "Rivers",
    language: Language = "en",
    page: int = 1,
    pages: int = 1,
    is_title_withheld: bool = False,
) -> str:
    conversation = Outgoing(
        id="c",
        title=ReleasedText(title),
        is_title_withheld=is_title_withheld,
        created_at=AT,
        policy="p@0",
        messages=messages,
    )
    markdown = MarkdownRenderer()
    blocks: list[Sequence[str]] = [markdown.render(one.text) if one.role is Role.ASSISTANT else [] for one in messages]
    made = SharedPage(
        conversation=conversation,
        shared_at=AT,
        page=page,
        pages=pages,
        aigc=Aigc(producer="Ops", produce_id="c", propagator="Ops", propagate_id="s"),
    )
    return shared.draw(made, blocks=blocks, language=language)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_page_is_labelled_in_words_and_in_fields_in_the_readers_language(
    shared: HtmlShared, language: Language
) -> None:
    page = Page(drawn(shared, question(), answer(model=ReleasedText("Baichuan2")), language=language))
    assert EXPLICIT in page.text
    assert page.text.index(EXPLICIT) < page.text.index("There.")
    assert {"en": "AI-generated · Baichuan2", "zh": "人工智能生成 · Baichuan2"}[language] in page.text
    fields = json.loads(page.meta("AIGC"))
    assert (fields["Label"], fields["ContentProducer"], fields["PropagateID"]) == ("1", "Ops", "s")
    assert page.all("html") == [{"lang": {"en": "en", "zh": "zh-CN"}[language]}]


def test_nothing_that_somebody_wrote_becomes_markup(shared: HtmlShared) -> None:
    evil = drawn(shared, question(EVIL), answer(EVIL, model=ReleasedText(EVIL)), title=EVIL)
    harmless = drawn(shared, question(), answer(model=ReleasedText("m")))
    assert [tag for tag, _ in Page(evil).tags] == [tag for tag, _ in Page(harmless).tags]
    assert [sorted(attrs) for _, attrs in Page(evil).tags] == [sorted(attrs) for _, attrs in Page(harmless).tags]
    title = re.search("<title>(.*?)</title>", evil)
    assert title
    assert "\u202e" not in title[1]  # or the tab's name would run backwards


def test_only_our_own_style_and_line_may_run(shared: HtmlShared) -> None:
    html = drawn(shared, question(), answer("```py\nx\n```"))
    policy = dict(part.strip().split(" ", 1) for part in shared.security_policy.split(";"))
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        (inline,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert policy[directive] == f"'self' 'sha256-{digest}'"
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert "unsafe" not in shared.security_policy
    assert not any("style" in attrs or any(name.startswith("on") for name in attrs) for _, attrs in Page(html).tags)


def test_a_page_wants_to_be_in_no_index_and_to_tell_nobody_its_address(shared: HtmlShared) -> None:
    page = Page(drawn(shared, question()))
    assert page.meta("robots") == "noindex, nofollow"
    assert page.meta("referrer") == "no-referrer"
    addresses = [attrs[name] for _, attrs in page.tags for name in ("src", "href") if name in attrs]
    assert addresses
    assert all(address.startswith("/assets/chat/") for address in addresses)


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_withheld_or_cut_is_said(shared: HtmlShared, language: Language) -> None:
    html = drawn(
        shared,
        question("", is_withheld=True),
        answer("", is_withheld=True),
        answer("Half", is_partial=True),
        title="",
        is_title_withheld=True,
        language=language,
    )
    stub = {"en": "[withheld by the content filter]", "zh": "[已被内容过滤器隐去]"}[language]
    assert html.count(stub) == 4  # the title twice
    assert {"en": "[this answer is incomplete]", "zh": "[这个回答不完整]"}[language] in html


def test_what_was_written_in_advance_is_not_said_to_be_made_by_ai(shared: HtmlShared) -> None:
    html = drawn(shared, question(), answer("Call 12356.", is_prepared=True))
    assert "[written in advance, not by the model]" in html
    assert 'class="generated"' not in html


def test_a_page_leads_to_those_beside_it(shared: HtmlShared) -> None:
    links = {page: [one["href"] for one in Page(drawn(shared, page=page, pages=3)).all("a")] for page in (1, 2, 3)}
    assert links == {1: ["?page=2"], 2: ["?page=1", "?page=3"], 3: ["?page=2"]}
    assert Page(drawn(shared, question())).all("nav") == []


def test_the_page_is_light_and_dark(shared: HtmlShared) -> None:
    html = drawn(shared, question())
    assert LIGHT.page in html
    assert DARK.page in html
    assert "prefers-color-scheme: dark" in html
    assert "localStorage" in html


def test_a_conversation_without_a_title_has_a_name(shared: HtmlShared) -> None:
    assert "<title>对话 · Haina</title>" in drawn(shared, title="", language="zh")
