"""What all tables share: the metadata, column types, and the way between a row and a frozen dataclass.

Columns bear the names of the dataclass's fields, and column types give the field's own type back. So a row *is* the
dataclass, and a repository holds queries and nothing else. The tables stand beside their repositories.
"""

from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar, Generic, TypeVar, cast

from sqlalchemy import Column, CursorResult, DateTime, Dialect, MetaData, Select, Table, Text, select
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeDecorator

from app.domain.errors import StorageCorrupt
from app.domain.verdicts import ReleasedText
from storage import codec

Value = TypeVar("Value")
Choices = TypeVar("Choices", bound=StrEnum)


class PlainText(TypeDecorator[str]):
    """Text without what a database cannot hold: NUL (PostgreSQL) and lone surrogates (both) become U+FFFD."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's name
        """Return what can be stored."""
        return None if value is None else storable(value)


class ShownText(TypeDecorator[ReleasedText]):
    """Text that passed the filter before it was stored; the one place where storage restores that proof."""

    impl = PlainText
    cache_ok = True

    def process_result_value(self, value: Any | None, dialect: Dialect) -> ReleasedText | None:  # noqa: ARG002
        """Return the text as what it is."""
        return None if value is None else ReleasedText(value)


class UtcTime(TypeDecorator[datetime]):
    """An aware time in UTC. SQLite keeps it without a zone, to the microsecond; naive ones are refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Raise ValueError for a naive time: nobody could know what it means."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored")
        in_utc = value.astimezone(UTC)
        return in_utc.replace(tzinfo=None) if dialect.name == "sqlite" else in_utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return an aware time."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class Choice(TypeDecorator[Choices], Generic[Choices]):
    """A member of a StrEnum, kept as its value."""

    impl = Text
    cache_ok = True

    def __init__(self, kind: type[Choices]) -> None:
        """`kind` is the enum."""
        super().__init__()
        self.kind = kind

    def process_bind_param(self, value: Choices | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Return the value."""
        return None if value is None else str(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Choices | None:  # noqa: ARG002
        """Raise StorageCorrupt for a value that this program does not know."""
        if value is None:
            return None
        try:
            return self.kind(value)
        except ValueError:
            raise StorageCorrupt(f"a stored {self.kind.__name__} is none") from None


class Json(TypeDecorator[Any]):
    """A frozen dataclass, or a mapping or tuple of strings, as JSON in a text column (see `storage.codec`)."""

    impl = PlainText
    cache_ok = True

    def __init__(self, kind: Any) -> None:
        """`kind` is the type, as an annotation spells it."""
        super().__init__()
        self.kind = kind

    def process_bind_param(self, value: Any | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Return the JSON."""
        return None if value is None else storable(codec.encode(self.kind, value))

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Any | None:  # noqa: ARG002
        """Raise StorageCorrupt for JSON that is not of this kind."""
        return None if value is None else codec.decode(self.kind, value)


def storable(text: str) -> str:
    """Return the text with NUL and lone surrogates replaced by U+FFFD."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return str(text)


class Base(DeclarativeBase):
    """The root of all rows."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: PlainText(),
        ReleasedText: ShownText(),
        datetime: UtcTime(),
    }


def table_of(row: type[Base]) -> Table:
    """Return the table of a row class."""
    return cast("Table", row.__table__)


class Record(Generic[Value]):
    """The way between a table and a dataclass whose fields are among its columns."""

    def __init__(self, row: type[Base], kind: type[Value]) -> None:
        """Columns that are no fields (a password's hash, a folded name) are left to the repository."""
        self._kind = kind
        self._names = [field.name for field in fields(cast("Any", kind))]
        self._columns: list[Column[Any]] = [table_of(row).c[name] for name in self._names]

    def select(self) -> Select[Any]:
        """Return a query for whole values, not yet restricted."""
        return select(*self._columns)

    def values(self, value: Value) -> dict[str, Any]:
        """Return the columns of a new row."""
        return {name: getattr(value, name) for name in self._names}

    def first(self, result: CursorResult[Any]) -> Value | None:
        """Return the first value, if there is one."""
        row = result.first()
        return None if row is None else self._kind(**row._mapping)  # noqa: SLF001 - public, in spite of its name

    def all(self, result: CursorResult[Any]) -> Sequence[Value]:
        """Return all values."""
        return [self._kind(**row._mapping) for row in result]  # noqa: SLF001 - as above
