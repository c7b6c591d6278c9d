"""The chat page: a Gradio shell of three parts, and the scripts and style sheets that fill them.

Gradio lays out and themes the page. No Python function hangs on it: every action is a request of `assets/` to the web's
JSON routes, and an answer arrives on `/turns/{id}/events`, so no part of a chat passes through Gradio's queue.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ui.theme import css_variables, gradio_theme
from ui.words import CHAT, words_for_page

ASSETS = Path(__file__).parent / "assets"
"""The folder that the web serves at `ASSETS_PATH`."""
ASSETS_PATH = "/assets/chat"

STYLE_SHEETS = ("base.css", "sidebar.css", "thread.css", "answer.css", "composer.css", "sharing.css")
ROOTS = ("haina-sidebar", "haina-thread", "haina-composer")
"""Ids of the three parts, as `main.js` looks for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MountArguments:
    """What `gr.mount_gradio_app` has to be given for this page; pass it as `**arguments.as_keywords()`."""

    theme: gr.themes.Base
    css: str
    head: str
    js: str | None = None
    footer_links: tuple[()] = ()
    run_history: bool = False
    """Gradio would otherwise keep what it sees of a chat in the browser's local storage."""
    show_error: bool = False
    ssr_mode: bool = False

    def as_keywords(self) -> dict[str, Any]:
        """Return them as keyword arguments."""
        return {
            "theme": self.theme,
            "css": self.css,
            "head": self.head,
            "js": self.js,
            "footer_links": list(self.footer_links),
            "run_history": self.run_history,
            "show_error": self.show_error,
            "ssr_mode": self.ssr_mode,
        }


def build() -> gr.Blocks:
    """Return the page's shell: three empty parts and nothing that could be called."""
    page = gr.Blocks(title=CHAT["app.title"]["en"], fill_width=True, analytics_enabled=False)
    with page:
        for root in ROOTS:
            gr.HTML(
                f'<div id="{root}" class="haina"></div>',
                elem_id=f"{root}-part",
                js_on_load=None,
                apply_default_css=False,
                padding=False,
            )
    return page


def mount_arguments() -> MountArguments:
    """Return theme, style and scripts of the page."""
    return MountArguments(theme=gradio_theme(), css=css_variables(), head=_head())


def _head() -> str:
    # Without "<" no word can end the element that carries them.
    words = json.dumps(words_for_page(), ensure_ascii=False).replace("<", "\\u003c")
    sheets = "\n".join(f'<link rel="stylesheet" href="{ASSETS_PATH}/{name}">' for name in STYLE_SHEETS)
    return (
        f"{sheets}\n"
        f'<link rel="icon" type="image/svg+xml" href="{ASSETS_PATH}/haina.svg">\n'
        f'<script id="haina-words" type="application/json">{words}</script>\n'
        f'<script type="module" src="{ASSETS_PATH}/main.js"></script>\n'
    )
