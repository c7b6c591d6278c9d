"""The form in which a template's content is edited: content to fields, and fields back to content.

Proven by round trips: `draft_of(fields_of(draft)) == draft` for every draft that the library accepts.
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields as dataclass_fields

from app.domain.errors import InvalidInput
from app.domain.models import Sampling, TemplateDraft, Variable, VariableKind
from app.domain.words import LANGUAGES
from ui.admin.call import Fields

WHOLE_NUMBERS = ("top_k", "seed", "max_tokens")
NUMBERS = ("temperature", "top_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
SAMPLING = tuple(one.name for one in dataclass_fields(Sampling) if one.name != "stop")
VARIABLE_COLUMNS = ("name", "label_en", "label_zh", "kind", "default", "choices", "required")
"""A variable is a row; each of these is sent once a row, as `variable_name` and so on."""
_TYPED = ("name", "label_en", "label_zh", "default", "choices")
"""A row in which all of these are empty is none."""


def fields_of(draft: TemplateDraft) -> dict[str, list[str]]:
    """Return the form's values."""
    values = {
        "system": [draft.system],
        "stop": list(draft.sampling.stop),
        "example": list(draft.examples),
    }
    for name in SAMPLING:
        value = getattr(draft.sampling, name)
        values[name] = ["" if value is None else str(value)]
    rows = [row_of(variable) for variable in draft.variables]
    for column in VARIABLE_COLUMNS:
        values[f"variable_{column}"] = [row[column] for row in rows]
    return values


def row_of(variable: Variable) -> dict[str, str]:
    """Return a variable as a row of the form."""
    return {
        "name": variable.name,
        "label_en": variable.label.get("en", ""),
        "label_zh": variable.label.get("zh", ""),
        "kind": variable.kind.value,
        "default": variable.default,
        "choices": "\n".join(variable.choices),
        "required": "on" if variable.is_required else "",
    }


def draft_of(fields: Fields) -> TemplateDraft:
    """Return the content that a form holds; the library then checks what it means.

    Raises InvalidInput for a number that is none, or rows that do not fit together.
    """
    numbers = {name: _number(fields, name, whole=name in WHOLE_NUMBERS) for name in SAMPLING}
    return TemplateDraft(
        system=fields.text("system"),
        variables=tuple(_variables(fields)),
        sampling=Sampling(**numbers, stop=_given(fields.all("stop"))),  # type: ignore[arg-type]
        examples=_given(fields.all("example")),
    )


def _variables(fields: Fields) -> list[Variable]:
    columns = [fields.all(f"variable_{column}") for column in VARIABLE_COLUMNS]
    if len({len(column) for column in columns}) > 1:
        raise InvalidInput("the rows of variables do not fit together", param="variables", kind="call")
    rows = [dict(zip(VARIABLE_COLUMNS, row, strict=True)) for row in zip(*columns, strict=True)]
    return [_variable(row) for row in rows if any(row[column].strip() for column in _TYPED)]


def _variable(row: Mapping[str, str]) -> Variable:
    kind = next((kind for kind in VariableKind if kind.value == row["kind"]), None)
    if kind is None:
        raise InvalidInput(f"{row['name']}: there is no such kind of variable", param="variables", kind="call")
    labels = {language: row[f"label_{language}"].strip() for language in LANGUAGES}
    return Variable(
        name=row["name"].strip(),
        label={language: label for language, label in labels.items() if label},
        kind=kind,
        default=row["default"],
        choices=_lines(row["choices"]),
        is_required=row["required"] == "on",
    )


def _number(fields: Fields, name: str, *, whole: bool) -> int | float | None:
    text = fields.text(name).strip()
    if not text:
        return None
    try:
        return int(text) if whole else float(text)
    except ValueError as error:
        kind = "number_whole" if whole else "number"
        raise InvalidInput(f"{name} is {'a whole' if whole else 'a'} number", param=name, kind=kind) from error


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line for line in text.split("\n") if line.strip())


def _given(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(value for value in values if value)
