"""The sign-in form, the form that makes the first admin, and what says that something failed: pages without a script.

One line of script is there all the same: it takes over the light or dark that the reader chose on the chat page.
"""

from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from app.domain.words import Language
from app.services.accounts import MIN_PASSWORD
from ui.theme import css_variables, system_colours

_FOLDER = Path(__file__).parent

_SIGN_IN: Mapping[Language, Mapping[str, str]] = {
    "en": {
        "title": "Sign in",
        "help": "Accounts are made by the administrator of this server.",
        "name": "Name",
        "password": "Password",
        "send": "Sign in",
    },
    "zh": {
        "title": "登录",
        "help": "账号由本服务器的管理员创建。",
        "name": "用户名",
        "password": "密码",
        "send": "登录",
    },
}
_SET_UP: Mapping[Language, Mapping[str, str]] = {
    "en": {
        "title": "Set up the first admin",
        "help": f"Choose a name of letters, digits or . _ - @, and a password of at least {MIN_PASSWORD} characters. "
        "This page closes for good afterwards.",
        "name": "Name",
        "password": "Password",
        "send": "Make the account",
    },
    "zh": {
        "title": "创建第一个管理员",
        "help": f"用户名可用字母、数字和 . _ - @，密码至少 {MIN_PASSWORD} 个字符。完成后此页面永久关闭。",
        "name": "用户名",
        "password": "密码",
        "send": "创建账号",
    },
}

_TROUBLE: Mapping[Language, Mapping[str, str]] = {
    "en": {"title": "This did not work", "missing": "Nothing here", "back": "To the chat"},
    "zh": {"title": "没有成功", "missing": "页面不存在", "back": "前往对话"},
}


class HtmlForms:
    """The pages as HTML. Everything that is put in is escaped."""

    def __init__(self) -> None:
        """The style goes into the page, so that the form needs no other request."""
        environment = Environment(
            loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        self._template: Template = environment.get_template("forms.html")
        self._trouble: Template = environment.get_template("trouble.html")
        self._style = Markup(_style())  # noqa: S704 - our own style sheet

    def sign_in(self, *, language: Language, error: str, name: str, next_path: str) -> str:
        """Return the page with the sign-in form; `next_path` is where it leads afterwards."""
        return self._template.render(
            words=_SIGN_IN[language],
            title=_SIGN_IN[language]["title"],
            language=language,
            style=self._style,
            error=error,
            name=name,
            action="/login",
            hidden={"next": next_path},
            autocomplete="current-password",
            min_password=0,
        )

    def set_up(self, *, language: Language, error: str, name: str, token: str) -> str:
        """Return the page on which the first admin is made."""
        return self._template.render(
            words=_SET_UP[language],
            title=_SET_UP[language]["title"],
            language=language,
            style=self._style,
            error=error,
            name=name,
            action="/setup",
            hidden={"token": token},
            autocomplete="new-password",
            min_password=MIN_PASSWORD,
        )

    def trouble(self, *, language: Language, error: str, is_missing: bool) -> str:
        """Return the page that says what went wrong, with a way to the chat."""
        words = _TROUBLE[language]
        title = words["missing" if is_missing else "title"]
        return self._trouble.render(words=words, title=title, language=language, style=self._style, error=error)


def _style() -> str:
    """Return the tokens and the form's own rules; dark where the system is, unless the reader chose light."""
    return css_variables() + system_colours() + (_FOLDER / "forms.css").read_text(encoding="utf-8")
