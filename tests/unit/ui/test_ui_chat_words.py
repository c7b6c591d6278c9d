"""The page's words: all there in both languages, and no script asks for one that does not exist."""

import re
import string

import pytest

from app.domain.words import LANGUAGES, Language
from ui.chat.page import ASSETS
from ui.words import CHAT, words_for_page

SCRIPTS = "\n".join(path.read_text("utf-8") for path in sorted(ASSETS.glob("*.js")))
ASKED_FOR = set(re.findall(r'(?<!\w)t\("([\w.]+)"', SCRIPTS)) | set(re.findall(r'"((?:\w+)\.(?:\w+))"', SCRIPTS)) & set(
    CHAT
)
FAMILIES = {
    "sidebar": {"today", "yesterday", "week", "earlier"},
    "sharing": {"markdown", "json", "text", "term_week", "term_month", "term_ever"},
    "theme": {"light", "dark", "system"},
    "message": {"again", "continue"},
    "review": {"open", "upheld", "overturned"},
    "model": {"starting", "loading", "ready", "down"},
    "receipt": {
        "model",
        "revision",
        "quantization",
        "template",
        "tokens",
        "times",
        "sampling",
        "seed",
        "policy",
        "finish",
    },
}
"""Words whose key a script puts together: `t(`theme.${now}`)`."""


def blanks(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("key", CHAT)
def test_a_word_is_there_in_every_language_with_the_same_blanks(key: str) -> None:
    words = CHAT[key]
    assert set(words) == set(LANGUAGES)
    assert all(words[language].strip() for language in LANGUAGES)
    assert blanks(words["en"]) == blanks(words["zh"])


def test_every_word_that_a_script_asks_for_exists() -> None:
    assert ASKED_FOR - set(CHAT) == set()


def test_every_word_that_a_script_puts_together_exists() -> None:
    assert set(re.findall(r"(?<!\w)t\(`(\w+)\.\$\{", SCRIPTS)) == set(FAMILIES)
    assert {f"{family}.{name}" for family, names in FAMILIES.items() for name in names} <= set(CHAT)


def test_no_word_is_left_over() -> None:
    assembled = {f"{family}.{name}" for family, names in FAMILIES.items() for name in names}
    assert set(CHAT) - ASKED_FOR - assembled == set()


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_gets_every_word_of_a_language(language: Language) -> None:
    assert set(words_for_page()[language]) == set(CHAT)


@pytest.mark.parametrize("key", ["composer.footer", "message.generated", "message.copy_label"])
def test_answers_are_called_ai_generated_in_the_readers_language(key: str) -> None:
    assert "AI-generated" in CHAT[key]["en"]
    assert "人工智能生成" in CHAT[key]["zh"]
