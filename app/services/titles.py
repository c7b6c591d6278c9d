"""A conversation's first title: the beginning of its first question. It costs no model time and says what was asked."""

import re

_LENGTH = 60
_SENTENCE_END = re.compile(r"[。！？!?\n]|\.(?=\s)")


def title_of(question: str) -> str:
    """Return one line of at most 60 characters; the caller takes it through the filter like any other text."""
    text = re.sub(r"[#*_`>|~$\\\[\]]+", " ", question.strip())
    end = _SENTENCE_END.search(text, 4)
    line = " ".join((text[: end.start()] if end else text).split())
    if len(line) <= _LENGTH:
        return line or " ".join(question.split())[:_LENGTH]
    cut = line[:_LENGTH]
    space = cut.rfind(" ")
    return (cut[:space] if space > _LENGTH // 2 else cut).rstrip(" ,;:，；：、") + "…"
