"""What the console's script asks, and what it gets back: plain values, checked at the border."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from app.domain.errors import InvalidInput
from app.domain.models import Account
from app.domain.words import Language


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """An admin who looks at the console; `ui.admin.guard` makes one, after it has checked the account."""

    account: Account
    language: Language


@dataclass(frozen=True, slots=True)
class Fields:
    """A form's fields, or a link's parameters. A name may come more than once, as rows of a table do."""

    values: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def text(self, name: str, default: str = "") -> str:
        """Return the first value of a field."""
        values = self.values.get(name)
        return values[0] if values else default

    def all(self, name: str) -> Sequence[str]:
        """Return every value of a field, in the form's order."""
        return self.values.get(name, ())

    def number(self, name: str, default: int = 0) -> int:
        """Return a whole number that is not negative.

        Raises InvalidInput.
        """
        text = self.text(name)
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and len(text) <= 9):  # noqa: PLR2004 - fits any database's integer
            raise InvalidInput(f"{name} is a whole number", param=name, kind="number_whole")
        return int(text)

    def is_set(self, name: str) -> bool:
        """Return whether a box was ticked."""
        return self.text(name) == "on"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A page, what to do on it, and with what."""

    page: str
    action: str
    fields: Fields

    @classmethod
    def parse(cls, data: object) -> Self:
        """Read what came over the wire: `{"page": …, "action": …, "fields": {name: [value, …]}}`.

        Raises InvalidInput.
        """
        if not isinstance(data, dict) or not isinstance(data.get("fields"), dict):
            raise InvalidInput("the call has no fields", kind="call")
        fields = {_text(name): [_text(value) for value in _list(values)] for name, values in data["fields"].items()}
        return cls(page=_text(data.get("page")), action=_text(data.get("action")), fields=Fields(fields))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the script then does: show a page or a dialog, say a sentence, go elsewhere, keep a file."""

    html: str = ""
    """The page, in place of the one that is shown."""
    dialog: str = ""
    """A dialog, opened over the page."""
    go: str = ""
    """The page to show next: `users?query=ann`."""
    said: str = ""
    """One sentence on what was done, or why not."""
    is_error: bool = False
    must_sign_in: bool = False
    file_name: str = ""
    """With it, `file_text` is offered for saving."""
    file_text: str = ""


def _list(values: object) -> list[object]:
    if not isinstance(values, list):
        raise InvalidInput("a field is a list of texts", kind="call")
    return values


def _text(value: object) -> str:
    """Return the text with plain line ends; half of a surrogate pair could not be stored."""
    if not isinstance(value, str):
        raise InvalidInput("a field is a list of texts", kind="call")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput("the text holds half of a character", kind="characters") from error
    return value.replace("\r\n", "\n").replace("\x00", "")
