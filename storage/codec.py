"""Values as JSON, for columns that hold a whole dataclass: receipts, template contents, names by language.

Written by the dataclass's own fields, read strictly: a missing or wrong value is a damaged row, never a guess. A key
that is unknown (a later version wrote it) is left out, and one that is missing gets the field's default, so values
may grow without a migration.
"""

import json
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from app.domain.errors import StorageCorrupt


def encode(kind: Any, value: Any) -> str:
    """Return `value`, which is of the type `kind`, as compact JSON."""
    return json.dumps(_adapter(kind).dump_python(value), ensure_ascii=False, separators=(",", ":"))


def decode(kind: Any, text: str) -> Any:
    """Return the value of the type `kind` that `encode` made the text of.

    Raises StorageCorrupt; it does not quote the text.
    """
    try:
        return _adapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        places = sorted({".".join(map(str, fault["loc"])) or "$" for fault in error.errors(include_input=False)})
        raise StorageCorrupt(f"a stored {getattr(kind, '__name__', kind)} cannot be read: {places}") from None


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
