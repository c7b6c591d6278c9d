"""A template filled in, and two versions of one compared."""

import difflib
import unicodedata
from collections.abc import Mapping

from app.domain.errors import InvalidInput
from app.domain.models import TemplateDraft, Variable, VariableKind
from app.domain.words import Language
from prompts.library import write_content
from prompts.template_schema import MAX_VALUE, blanks_in, fill, is_number, is_printable

_FAULTS: Mapping[str, str] = {
    "missing": "is missing",
    "choice": "is not one of the choices",
    "number": "is not a number",
    "long": f"is longer than {MAX_VALUE:,} characters",
    "control": "contains control characters",
}


def render(content: TemplateDraft, variables: Mapping[str, str], *, language: Language) -> str:
    """Return the system prompt with its blanks filled; a value is put in as it is, also where it looks like a blank.

    What is left out, or has only spaces, is as by default.
    Raises InvalidInput. `data`: `param` is the variable's name, `label` its label in the reader's `language`, and
    `kind` begins with `variable_` and chooses the words.
    """
    for name in variables.keys() - {one.name for one in content.variables}:
        raise InvalidInput("the template has no such variable", param=name, label=name, kind="variable_unknown")
    values = {one.name: _value(one, variables.get(one.name, ""), language=language) for one in content.variables}
    return fill(content.system, values)


def variables_in(system: str) -> list[str]:
    """Return the names of the variables in a system prompt, each once, as they appear."""
    return blanks_in(system)


def diff(old: TemplateDraft, new: TemplateDraft) -> list[str]:
    """Return what changed from one version to another as a unified diff of their files' lines; empty if nothing."""
    before, after = (write_content(one).splitlines() for one in (old, new))
    return list(difflib.unified_diff(before, after, "old", "new", lineterm=""))


def _value(variable: Variable, given: str, *, language: Language) -> str:
    given = given.replace("\r\n", "\n").strip()
    if len(given) > MAX_VALUE:
        raise _fault("long", variable, language)
    if not is_printable(given):
        raise _fault("control", variable, language)
    match variable.kind:
        case VariableKind.NUMBER:
            given = unicodedata.normalize("NFKC", given)  # １２ as Chinese keyboards write it
        case VariableKind.TEXT:
            given = given.replace("\n", " ")
    value = given or variable.default
    if not value and variable.is_required:
        raise _fault("missing", variable, language)
    if value and variable.kind is VariableKind.SELECT and value not in variable.choices:
        raise _fault("choice", variable, language)
    if value and variable.kind is VariableKind.NUMBER and not is_number(value):
        raise _fault("number", variable, language)
    return value


def _fault(fault: str, variable: Variable, language: Language) -> InvalidInput:
    label = variable.label.get(language) or variable.name
    return InvalidInput(f"{label} {_FAULTS[fault]}", param=variable.name, label=label, kind=f"variable_{fault}")
