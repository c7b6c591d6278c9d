"""A conversation as a file: Markdown, JSON, plain text. Each has both labels, and takes nothing that is not released.

Markdown is read by programs that know more of HTML than ours, and one message must not swallow the next: a question,
which is plain text in the chat, is quoted; so is an answer whose own Markdown would reach beyond its end.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import yaml
from markdown_it import MarkdownIt

from app.domain.labels import ANSWER, EXPLICIT, Aigc
from app.domain.models import Role
from app.domain.words import Language, outgoing
from app.services.outgoing import Outgoing, OutgoingMessage

JSON_FORMAT: Final = "haina.conversation/1"
_SLUG_LENGTH = 50
"""Characters: four bytes each at most, and 255 bytes are what file systems take."""
_MARKDOWN_SIGNS = re.compile(r"([\\`*_{}\[\]<>#~|&$!])")
_MAY_REACH_BEYOND = re.compile(r"```|~~~|<")
_END = "the end"
_BLOCKS = MarkdownIt("commonmark").disable("inline").disable("reference")


class ExportFormat(StrEnum):
    """What a conversation can be exported as."""

    MARKDOWN = "markdown"
    JSON = "json"
    TEXT = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFile:
    """A file to be downloaded."""

    name: str
    """Letters of any script, digits, hyphens and an ending."""
    media_type: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What is written into a file."""

    conversation: Outgoing
    producer: str
    language: Language
    """Of headings and stubs."""
    exported_at: datetime

    @property
    def title(self) -> str:
        """The title, or what stands in its place."""
        if self.conversation.is_title_withheld:
            return outgoing("withheld", self.language)
        return one_line(self.conversation.title) or outgoing("untitled", self.language)

    def aigc(self, produce_id: str) -> dict[str, str]:
        """Return the implicit label of the whole, or of one answer."""
        return Aigc(producer=self.producer, produce_id=produce_id).as_fields()

    def heading(self, message: OutgoingMessage) -> str:
        """Return who speaks."""
        if message.role is Role.USER:
            return outgoing("question", self.language)
        if not message.is_generated:
            return outgoing("answer", self.language)
        parts = (outgoing("answer", self.language), ANSWER[self.language], one_line(message.model))
        return " · ".join(part for part in parts if part)

    def note(self, message: OutgoingMessage) -> str:
        """Return what there is to say about a text that is missing or not whole."""
        if message.is_withheld:
            return outgoing("withheld", self.language)
        if message.is_prepared:
            return outgoing("prepared", self.language)
        return outgoing("partial", self.language) if message.is_partial else ""


def write(document: Document, kind: ExportFormat) -> ExportFile:
    """Return the file."""
    ending, media_type, text = _WRITERS[kind]
    name = f"haina-{slug(document.conversation.title) or 'conversation'}.{ending}"
    return ExportFile(name=name, media_type=media_type, text=text(document))


def one_line(text: str) -> str:
    """Return the text as one line of visible characters: no line breaks, nothing that turns the reading order."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def slug(title: str) -> str:
    """Return letters and digits of a title, the rest as hyphens; empty where there are none."""
    plain = unicodedata.normalize("NFC", title)
    words = re.findall(r"[^\W_]+", plain)
    return "-".join(words)[:_SLUG_LENGTH].strip("-")


def _markdown(document: Document) -> str:
    conversation = document.conversation
    front: Mapping[str, str | Mapping[str, str]] = {
        "title": document.title,
        "created": conversation.created_at.isoformat(),
        "exported": document.exported_at.isoformat(),
        "conversation": conversation.id,
        "policy": conversation.policy,
        "AIGC": document.aigc(conversation.id),
    }
    parts = [f"---\n{_yaml(front)}---", f"**{EXPLICIT}**", f"# {_escaped(document.title)}"]
    for message in conversation.messages:
        parts.append(f"## {_escaped(document.heading(message))}")
        if message.text:
            is_quoted = message.role is Role.USER or not _is_contained(message.text)
            parts.append(_quoted(message.text) if is_quoted else message.text.strip("\r\n"))
        if note := document.note(message):
            parts.append(f"*{_escaped(note)}*")
    return "\n\n".join(parts) + "\n"


def _json(document: Document) -> str:
    conversation = document.conversation
    body = {
        "format": JSON_FORMAT,
        "AIGC": document.aigc(conversation.id),
        "label": EXPLICIT,
        "id": conversation.id,
        "title": document.title,
        "created_at": conversation.created_at.isoformat(),
        "exported_at": document.exported_at.isoformat(),
        "policy": conversation.policy,
        "messages": [_message(document, message) for message in conversation.messages],
    }
    return json.dumps(body, ensure_ascii=False, indent=2) + "\n"


def _message(document: Document, message: OutgoingMessage) -> dict[str, object]:
    fields: dict[str, object] = {
        "id": message.id,
        "role": message.role.value,
        "created_at": message.created_at.isoformat(),
        "text": message.text,
        "withheld": message.is_withheld,
        "note": document.note(message),
    }
    if message.is_generated:
        fields |= {"partial": message.is_partial, "model": message.model, "AIGC": document.aigc(message.id)}
    return fields


def _text(document: Document) -> str:
    parts = [f"[{EXPLICIT}]", document.title]
    for message in document.conversation.messages:
        text = "\n".join(part for part in (_lines(message.text).strip("\n"), document.note(message)) if part)
        parts.append(f"== {document.heading(message)} ==\n\n{text}")
    return "\n\n".join([*parts, f"[{EXPLICIT}]"]) + "\n"


_WRITERS: Mapping[ExportFormat, tuple[str, str, Callable[[Document], str]]] = {
    ExportFormat.MARKDOWN: ("md", "text/markdown; charset=utf-8", _markdown),
    ExportFormat.JSON: ("json", "application/json", _json),
    ExportFormat.TEXT: ("txt", "text/plain; charset=utf-8", _text),
}


def _yaml(fields: Mapping[str, str | Mapping[str, str]], *, indent: str = "") -> str:
    """Return a mapping in YAML. Every value is in double quotes: what is a text stays one, whoever reads it."""
    lines = ""
    for name, value in fields.items():
        if isinstance(value, str):
            scalar = yaml.safe_dump(value, default_style='"', allow_unicode=True, width=10**6)
            lines += f"{indent}{name}: {scalar}"
        else:
            lines += f"{indent}{name}:\n{_yaml(value, indent=indent + '  ')}"
    return lines


def _escaped(text: str) -> str:
    """Return one line as Markdown that means these characters and nothing else."""
    return _MARKDOWN_SIGNS.sub(r"\\\1", text)


def _quoted(text: str) -> str:
    """Return the text as a block quote: nothing in it reaches beyond it."""
    return "\n".join(f"> {line}" if line else ">" for line in _lines(text).strip("\n").split("\n"))


def _is_contained(text: str) -> bool:
    """Whether a heading after the text is read as one, by a parser that takes HTML for HTML.

    It is not where a fence or a comment was opened and never closed.
    """
    if not _MAY_REACH_BEYOND.search(text):
        return True
    tokens = _BLOCKS.parse(f"{text}\n\n## {_END}\n")
    return list(_kinds(tokens)) == ["heading_open", "inline", "heading_close"] and tokens[-2].content == _END


def _kinds(tokens: list[Any]) -> Iterator[str]:
    for token in tokens[-3:]:
        yield token.type if token.level == (1 if token.type == "inline" else 0) else ""


def _lines(text: str) -> str:
    """Return the text with line feeds as its only line breaks."""
    return re.sub("\r\n?", "\n", text)
