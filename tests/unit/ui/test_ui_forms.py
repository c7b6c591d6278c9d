"""The sign-in form and the first admin's form."""

from html.parser import HTMLParser

import pytest

from app.domain.words import LANGUAGES, Language
from ui.forms import HtmlForms
from ui.theme import DARK, LIGHT

EVIL = '"><script>alert(1)</script>'


class Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.tags if name == tag]

    def field(self, name: str) -> dict[str, str]:
        (found,) = [attrs for attrs in self.all("input") if attrs.get("name") == name]
        return found


@pytest.fixture(scope="module")
def forms() -> HtmlForms:
    return HtmlForms()


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_sign_in_form_posts_name_and_password_and_where_to_go(forms: HtmlForms, language: Language) -> None:
    page = Page(forms.sign_in(language=language, error="", name="", next_path="/admin?a=1&b=2"))
    assert page.all("form") == [{"method": "post", "action": "/login"}]
    assert page.field("next") == {"type": "hidden", "name": "next", "value": "/admin?a=1&b=2"}
    assert page.field("name")["autocomplete"] == "username"
    assert page.field("password")["autocomplete"] == "current-password"
    assert page.field("password")["type"] == "password"


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_first_admins_form_carries_the_token(forms: HtmlForms, language: Language) -> None:
    page = Page(forms.set_up(language=language, error="", name="", token="t0ken"))
    assert page.all("form") == [{"method": "post", "action": "/setup"}]
    assert page.field("token")["value"] == "t0ken"
    assert page.field("password")["autocomplete"] == "new-password"
    assert page.field("password")["minlength"] == "8"


def test_everything_that_is_put_in_is_escaped(forms: HtmlForms) -> None:
    for html in (
        forms.sign_in(language="en", error=EVIL, name=EVIL, next_path=EVIL),
        forms.set_up(language="zh", error=EVIL, name=EVIL, token=EVIL),
    ):
        page = Page(html)
        assert EVIL not in html
        assert len(page.all("script")) == 1
        assert page.field("name")["value"] == EVIL


def test_an_error_is_announced_and_only_then(forms: HtmlForms) -> None:
    wrong = forms.sign_in(language="en", error="Name or password is wrong.", name="ann", next_path="/")
    assert '<p class="error" role="alert">Name or password is wrong.</p>' in wrong
    assert "alert" not in forms.sign_in(language="en", error="", name="", next_path="/")


def test_a_password_is_never_written_back(forms: HtmlForms) -> None:
    page = Page(forms.sign_in(language="en", error="wrong", name="ann", next_path="/"))
    assert "value" not in page.field("password")


def test_the_page_speaks_the_readers_language(forms: HtmlForms) -> None:
    assert '<html lang="zh-CN">' in forms.sign_in(language="zh", error="", name="", next_path="/")
    assert "登录" in forms.sign_in(language="zh", error="", name="", next_path="/")
    assert "Sign in" in forms.sign_in(language="en", error="", name="", next_path="/")


def test_the_page_is_light_and_dark_and_fetches_nothing(forms: HtmlForms) -> None:
    html = forms.sign_in(language="en", error="", name="", next_path="/")
    assert LIGHT.page in html
    assert DARK.page in html
    assert "prefers-color-scheme: dark" in html
    assert "src=" not in html
    assert "href=" not in html
    assert "url(" not in html
