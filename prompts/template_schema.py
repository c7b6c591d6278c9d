"""What a template may be: the one place for its rules, whether it comes from a file, the console or the program.

A template is checked in the form that its file has, as plain data. Reading and writing files is in `prompts.library`.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from app.domain.errors import InvalidInput
from app.domain.models import Sampling, TemplateDraft, Variable, VariableKind
from app.domain.words import LANGUAGES, Language

MAX_SYSTEM = 20_000
MAX_VALUE = 4_000
"""Characters of one variable's value."""

_BLANK = re.compile(r"\{\{ *([a-z][a-z0-9_]*) *\}\}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{1,6})?")
_REASONS = {"extra_forbidden": "there is no such key", "missing": "is missing"}
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # make a text look like another one


class InvalidTemplate(InvalidInput):
    """`data`: `file` (empty where there is none), `key` (like `variables.0.default`), `reason`, in English.

    `kind` chooses the words for people; `name` is the variable that it is about.
    """

    def __init__(self, reason: str, *, key: str = "", file: str = "", kind: str = "", name: str = "") -> None:
        """The reason quotes names at most, never a template's text."""
        detail = ": ".join(filter(None, (file, key, reason)))
        super().__init__(detail, file=file, key=key, reason=reason, param=key, kind=f"template_{kind}", name=name)


def is_printable(text: str) -> bool:
    """Whether a text has no control characters but line breaks and tabs, and nothing that turns its direction."""
    return not any((unicodedata.category(one) in {"Cc", "Cs"} and one not in "\n\t") or one in _TURNING for one in text)


def is_number(text: str) -> bool:
    """Whether a text is a number as people write one: `12`, `-0.5`."""
    return _NUMBER.fullmatch(text) is not None


def blanks_in(system: str) -> list[str]:
    """Return the names of the variables in a system prompt, each once, as they appear."""
    return list(dict.fromkeys(_BLANK.findall(system)))


def fill(system: str, values: Mapping[str, str]) -> str:
    """Put values into the blanks, in one pass: what a value says is not looked at again."""
    return _BLANK.sub(lambda blank: values[blank[1]], system)


def _printable(text: str) -> str:
    if not is_printable(text):
        raise PydanticCustomError("characters", "control characters are not allowed")
    return text


def _single_line(text: str) -> str:
    if "\n" in text or "\t" in text or text != text.strip():
        raise PydanticCustomError("line", "must be one line, without spaces around it")
    return text


def _by_language(words: dict[str, str]) -> dict[str, str]:
    if not words.keys() <= set(LANGUAGES):
        raise ValueError(f"languages are {' and '.join(LANGUAGES)}")
    return words


def _distinct(items: list[str]) -> list[str]:
    if len(set(items)) < len(items):
        raise PydanticCustomError("twice", "must not say the same twice")
    return items


_Text = Annotated[str, AfterValidator(_printable)]
_Line = Annotated[_Text, StringConstraints(min_length=1, max_length=200), AfterValidator(_single_line)]
_Stop = Annotated[_Text, StringConstraints(min_length=1, max_length=200)]
_Example = Annotated[_Text, StringConstraints(min_length=1, max_length=2_000)]
_Words = Annotated[dict[str, _Line], Field(min_length=1), AfterValidator(_by_language)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class SamplingData(_Strict):
    """The table `[sampling]`; ranges as the API has them, so that no version asks an engine for what it refuses."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=-1, le=1_000_000)
    repetition_penalty: float | None = Field(default=None, ge=0.01, le=10)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    max_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    stop: Annotated[list[_Stop], Field(max_length=4), AfterValidator(_distinct)] = []


class VariableData(_Strict):
    """A table `[[variables]]`."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)
    label: _Words
    kind: Literal["text", "long_text", "select", "number"] = "text"
    choices: Annotated[list[_Line], Field(max_length=50), AfterValidator(_distinct)] = []
    default: _Text = Field(default="", max_length=MAX_VALUE)
    required: bool = False

    @model_validator(mode="after")
    def _kind_fits(self) -> Self:
        if (self.kind == "select") != bool(self.choices):
            raise PydanticCustomError("choices", "a select needs choices, and only a select has them")
        if self.kind == "select" and self.default and self.default not in self.choices:
            raise PydanticCustomError("default_choice", "the default is not one of the choices")
        if self.kind == "number" and self.default and not is_number(self.default):
            raise PydanticCustomError("default_number", "the default is not a number")
        if self.kind != "long_text" and "\n" in self.default:
            raise PydanticCustomError("default_lines", "only a long_text has a default of several lines")
        return self


class ContentData(_Strict):
    """What a version holds."""

    system: Annotated[_Text, Field(min_length=1, max_length=MAX_SYSTEM)]
    examples: Annotated[list[_Example], Field(max_length=12), AfterValidator(_distinct)] = []
    sampling: SamplingData = SamplingData()
    variables: Annotated[list[VariableData], Field(max_length=20)] = []

    @model_validator(mode="after")
    def _variables_fit(self) -> Self:
        if not self.system.strip():
            raise PydanticCustomError("missing", "system: must say something")
        if "{{" in _BLANK.sub("", self.system):
            raise PydanticCustomError("blank", "system: {{ must be followed by the name of a variable and }}")
        declared = Counter(one.name for one in self.variables)
        used = blanks_in(self.system)
        for name, times in declared.items():
            if times > 1:
                raise _of_variable("declared_twice", f"variables: {name} is declared {times} times", name)
            if name not in used:
                raise _of_variable("unused", f"variables: {name} is declared, but system does not use it", name)
        for name in used:
            if name not in declared:
                reason = f"system: {{{{{name}}}}} is used, but not declared under variables"
                raise _of_variable("undeclared", reason, name)
        return self

    def to_draft(self) -> TemplateDraft:
        """Return the domain's form."""
        sampling = self.sampling.model_dump()
        return TemplateDraft(
            system=self.system,
            variables=tuple(
                Variable(
                    name=one.name,
                    label=one.label,
                    kind=VariableKind(one.kind),
                    default=one.default,
                    choices=tuple(one.choices),
                    is_required=one.required,
                )
                for one in self.variables
            ),
            sampling=Sampling(**{**sampling, "stop": tuple(sampling["stop"])}),
            examples=tuple(self.examples),
        )


class TemplateData(ContentData):
    """A whole file."""

    title: _Words
    description: _Words
    language: Language
    tags: Annotated[list[_Line], Field(max_length=12), AfterValidator(_distinct)] = []


def data_of(content: TemplateDraft) -> dict[str, Any]:
    """Return a version's content as plain data, without what is as by default.

    So a field that is new one day, with a default, changes neither files nor hashes of those that do not use it.
    """
    data = {
        "system": content.system,
        "examples": list(content.examples),
        "sampling": _sampling_data(content.sampling),
        "variables": [_variable_data(one) for one in content.variables],
    }
    return _without_defaults(data)


def checked(data: Mapping[str, Any], *, shape: type[ContentData], file: str = "") -> Any:
    """Return plain data as a `shape`. Raises InvalidTemplate with the first thing that is wrong."""
    try:
        return shape.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        reason = _REASONS.get(first["type"]) or first["msg"].removeprefix("Value error, ")
        key = ".".join(str(part) for part in first["loc"])
        if not key and ": " in reason:
            key, reason = reason.split(": ", 1)
        name = str(first.get("ctx", {}).get("name", ""))
        # The cause would quote the text.
        raise InvalidTemplate(reason, key=key, file=file, kind=first["type"], name=name) from None


def _of_variable(kind: str, reason: str, name: str) -> PydanticCustomError:
    return PydanticCustomError(kind, "{reason}", {"reason": reason, "name": name})


def _sampling_data(sampling: Sampling) -> dict[str, Any]:
    data = {name: getattr(sampling, name) for name in SamplingData.model_fields}
    for name, field in SamplingData.model_fields.items():
        if field.annotation == float | None and data[name] is not None:
            with suppress(OverflowError):  # what is too large to be a float is refused as it is
                data[name] = float(data[name])  # 1 and 1.0 are one temperature, and have one hash
    return _without_defaults({**data, "stop": list(sampling.stop)})


def _variable_data(variable: Variable) -> dict[str, Any]:
    data = {
        "name": variable.name,
        "label": dict(variable.label),
        "kind": variable.kind.value,
        "choices": list(variable.choices),
        "default": variable.default,
        "required": variable.is_required,
    }
    return _without_defaults(data)


def _without_defaults(data: Mapping[str, Any]) -> dict[str, Any]:
    return {  # 0 is no default: a temperature of 0 is greedy
        key: value
        for key, value in data.items()
        if value is not None and value is not False and value not in ("", [], {})
    }
