"""A shared conversation as a page for anybody: drawn by the server, read without a script.

The little that its script does – the buttons that copy code – comes from the chat page's files. Nothing else may run:
the page's security policy names its own style and the line that takes over the reader's light or dark by their hashes.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from app.domain.labels import ANSWER, EXPLICIT
from app.domain.models import Role
from app.domain.verdicts import ReleasedText
from app.domain.words import LANGUAGES, Language, outgoing
from app.services.export_formats import one_line
from app.services.shares import SharedPage
from ui.chat.page import ASSETS_PATH
from ui.theme import css_variables, system_colours
from ui.words import CHAT

_FOLDER = Path(__file__).parent
_WORDS: Mapping[Language, Mapping[str, str]] = {
    "en": {
        "about": "A shared conversation, read only, as it was on",
        "earlier": "Earlier",
        "later": "Later",
        "pages": "Pages",
        "constant": "Answers are AI-generated (人工智能生成) and may be wrong.",
    },
    "zh": {
        "about": "分享的对话，只读，截至",
        "earlier": "较早",
        "later": "较晚",
        "pages": "分页",
        "constant": "回答由人工智能生成（AI-generated），可能有误。",
    },
}
_OF_THE_SCRIPT = ("message.copy_code", "message.copied", "message.copy_failed", "app.close")
_THEME = 'document.documentElement.className = localStorage.getItem("haina.theme") ?? "";'


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    is_question: bool
    is_withheld: bool
    is_prepared: bool
    is_partial: bool
    text: ReleasedText
    model: str
    blocks: Sequence[Markup]


class HtmlShared:
    """Implements `SharedHtml` of `app.web.share_page`. Everything but answers' blocks is escaped."""

    def __init__(self) -> None:
        environment = Environment(
            loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        self._template: Template = environment.get_template("shared.html")
        self._style = css_variables() + system_colours() + (_FOLDER / "shared.css").read_text(encoding="utf-8")
        words = {language: {key: CHAT[key][language] for key in _OF_THE_SCRIPT} for language in LANGUAGES}
        self._page_words = json.dumps(words, ensure_ascii=False).replace("<", "\\u003c")
        self.security_policy = (
            f"default-src 'none'; style-src 'self' '{_hash(self._style)}'; script-src 'self' '{_hash(_THEME)}'; "
            "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )

    def draw(self, shared: SharedPage, *, blocks: Sequence[Sequence[str]], language: Language) -> str:
        """Return the page."""
        conversation = shared.conversation
        withheld = outgoing("withheld", language)
        title = withheld if conversation.is_title_withheld else one_line(conversation.title)
        return self._template.render(
            shared=shared,
            messages=[
                _Shown(
                    is_question=message.role is Role.USER,
                    is_withheld=message.is_withheld,
                    is_prepared=message.is_prepared,
                    is_partial=message.is_partial,
                    text=message.text,
                    model=one_line(message.model),
                    blocks=[Markup(html) for html in html_blocks],  # noqa: S704 - sanitised by the renderer
                )
                for message, html_blocks in zip(conversation.messages, blocks, strict=True)
            ],
            title=title or outgoing("untitled", language),
            label=EXPLICIT,
            aigc=json.dumps(shared.aigc.as_fields(), ensure_ascii=False),
            language=language,
            words={
                **_WORDS[language],
                "question": outgoing("question", language),
                "answer": outgoing("answer", language),
                "withheld": withheld,
                "prepared": outgoing("prepared", language),
                "partial": outgoing("partial", language),
                "generated": ANSWER[language],
            },
            assets=ASSETS_PATH,
            theme=Markup(_THEME),  # noqa: S704 - our own line
            style=Markup(self._style),  # noqa: S704 - our own style sheet
            page_words=Markup(self._page_words),  # noqa: S704 - our own words, without "<"
        )


def _hash(source: str) -> str:
    """Return a source of the security policy that allows exactly this inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
