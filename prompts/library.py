"""Prompt templates as text files: TOML that people can read, edit, compare and send to each other.

A file is named after its template: `translator-zh.toml`. What a template may be is in `prompts.template_schema`.
`parse(write(template), name=template.name) == template`, for every template that passes `check`.
"""

import hashlib
import json
import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import tomlkit

from app.domain.models import TemplateDraft, TemplateFile
from prompts.template_schema import ContentData, InvalidTemplate, TemplateData, checked, data_of

MAX_FILE_BYTES = 256 * 1024

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_MAX_NAME = 64
_WORDS = ("title", "description", "label")  # one line each: { en = "…", zh = "…" }


def read_file(path: Path) -> TemplateFile:
    """Return the template of a file. Raises InvalidTemplate, naming the file, also where it cannot be read."""
    if not path.name.endswith(".toml"):
        raise InvalidTemplate("a template's file is named after it: NAME.toml", file=str(path))
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidTemplate(f"cannot be read: {error.strerror}", file=str(path)) from error
    if len(data) > MAX_FILE_BYTES:
        raise InvalidTemplate(f"is larger than {MAX_FILE_BYTES // 1024} KiB", file=str(path))
    try:
        text = data.decode("utf-8-sig")  # some editors put a mark in front
    except UnicodeDecodeError as error:
        raise InvalidTemplate("is not UTF-8", file=str(path)) from error
    return parse(text, name=path.name.removesuffix(".toml"), file=str(path))


def parse(text: str, *, name: str, file: str = "") -> TemplateFile:
    """Return the template of a file's text.

    `file` is named in errors; without it, it is `name`.toml. The last line break of `system` does not count.
    Raises InvalidTemplate.
    """
    file = file or f"{name}.toml"
    check_name(name, file=file)
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits
        raise InvalidTemplate(f"is not TOML: {error}", file=file) from error
    if isinstance(data.get("system"), str):
        data["system"] = data["system"].removesuffix("\n")
    shape: TemplateData = checked(data, shape=TemplateData, file=file)
    return TemplateFile(
        name=name,
        title=shape.title,
        description=shape.description,
        language=shape.language,
        tags=tuple(shape.tags),
        content=shape.to_draft(),
    )


def write(template: TemplateFile) -> str:
    """Return the text of a template's file."""
    head = {
        "title": dict(template.title),
        "description": dict(template.description),
        "language": template.language,
        "tags": list(template.tags),
    }
    return _toml({**head, **data_of(template.content)})


def write_content(content: TemplateDraft) -> str:
    """Return a version's content as its file holds it: for comparing versions."""
    return _toml(data_of(content))


def built_in() -> list[TemplateFile]:
    """Return the templates that come with the program, by name."""
    folder = resources.files("prompts") / "templates"
    files = sorted((one for one in folder.iterdir() if one.name.endswith(".toml")), key=lambda one: one.name)
    return [parse(one.read_text(encoding="utf-8"), name=one.name.removesuffix(".toml")) for one in files]


def check(content: TemplateDraft) -> None:
    """See that a version may be saved. Raises InvalidTemplate with the first thing that is wrong."""
    checked(data_of(content), shape=ContentData)


def check_name(name: str, *, file: str = "") -> None:
    """See that a template may have this name. Raises InvalidTemplate."""
    if len(name) > _MAX_NAME or not _NAME.fullmatch(name):
        reason = f"lower-case letters, digits and single hyphens, at most {_MAX_NAME}"
        raise InvalidTemplate(reason, key="name", file=file)


def content_hash(content: TemplateDraft) -> str:
    """Return the SHA-256 of the content's canonical JSON, as hex."""
    text = json.dumps(data_of(content), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _toml(data: dict[str, Any]) -> str:
    document = tomlkit.document()
    for key, value in data.items():
        if key == "system":
            document.append(key, tomlkit.string("\n" + value + "\n", multiline=True))
        elif key == "variables":
            document.append(key, _tables(value))
        else:
            document.append(key, _item(key, value))
    return tomlkit.dumps(document)


def _tables(variables: list[dict[str, Any]]) -> Any:
    tables = tomlkit.aot()
    for variable in variables:
        table = tomlkit.table()
        for key, value in variable.items():
            table.append(key, _item(key, value))
        tables.append(table)
    return tables


def _item(key: str, value: Any) -> Any:
    if key in _WORDS:
        words = tomlkit.inline_table()
        words.update(value)
        return words
    if key == "examples":
        lines = tomlkit.array().multiline(multiline=True)
        lines.extend(value)
        return lines
    return tomlkit.item(value)
