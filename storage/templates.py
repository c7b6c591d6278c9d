"""Prompt templates and their immutable versions: tables and repository."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import ForeignKey, UniqueConstraint, exists, insert, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.errors import Conflict, NotFound
from app.domain.models import Template, TemplateDraft, TemplateFile, TemplateVersion
from storage.connections import Duplicate
from storage.rows import Base, Json, Record


class TemplateRow(Base):
    """A name under which versions are kept."""

    __tablename__ = "templates"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    title: Mapped[Mapping[str, str]] = mapped_column(Json(dict[str, str]))
    description: Mapped[Mapping[str, str]] = mapped_column(Json(dict[str, str]))
    language: Mapped[str]
    tags: Mapped[tuple[str, ...]] = mapped_column(Json(tuple[str, ...]))
    live_version_id: Mapped[str]
    """No foreign key: versions refer to templates. `set_live` sees to it."""
    created_at: Mapped[datetime]


class TemplateVersionRow(Base):
    """An immutable version."""

    __tablename__ = "template_versions"

    id: Mapped[str] = mapped_column(primary_key=True)
    template_id: Mapped[str] = mapped_column(ForeignKey("templates.id", ondelete="CASCADE"))
    number: Mapped[int]
    content: Mapped[TemplateDraft] = mapped_column(Json(TemplateDraft))
    content_hash: Mapped[str]
    message: Mapped[str]
    author: Mapped[str]
    created_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("template_id", "number"),)


_TEMPLATE = Record(TemplateRow, Template)
_VERSION = Record(TemplateVersionRow, TemplateVersion)


class SqlTemplates:
    """`app.domain.ports.Templates` over a connection."""

    def __init__(self, connection: AsyncConnection) -> None:
        """Work within the connection's transaction."""
        self._connection = connection

    async def all(self) -> Sequence[Template]:
        """By name."""
        # Names are ASCII; sorted here, for every database sorts text in its own way.
        return sorted(
            _TEMPLATE.all(await self._connection.execute(_TEMPLATE.select())), key=lambda template: template.name
        )

    async def get(self, template_id: str) -> Template | None:
        """Return a template."""
        return _TEMPLATE.first(await self._connection.execute(_TEMPLATE.select().where(TemplateRow.id == template_id)))

    async def by_name(self, name: str) -> Template | None:
        """Return a template."""
        return _TEMPLATE.first(await self._connection.execute(_TEMPLATE.select().where(TemplateRow.name == name)))

    async def version(self, version_id: str) -> TemplateVersion | None:
        """Return a version."""
        query = _VERSION.select().where(TemplateVersionRow.id == version_id)
        return _VERSION.first(await self._connection.execute(query))

    async def versions(self, template_id: str) -> Sequence[TemplateVersion]:
        """Newest first."""
        query = _VERSION.select().where(TemplateVersionRow.template_id == template_id)
        return _VERSION.all(await self._connection.execute(query.order_by(TemplateVersionRow.number.desc())))

    async def add(self, template: Template, first: TemplateVersion) -> None:
        """Raises Conflict(kind="name") where the name is taken."""
        try:
            await self._connection.execute(insert(TemplateRow).values(_TEMPLATE.values(template)))
        except Duplicate as error:
            raise Conflict(kind="name") from error
        await self.add_version(first)

    async def add_version(self, version: TemplateVersion) -> None:
        """Raises Conflict(kind="version") where somebody else made this number first."""
        try:
            await self._connection.execute(insert(TemplateVersionRow).values(_VERSION.values(version)))
        except Duplicate as error:
            raise Conflict(kind="version") from error

    async def set_head(self, template_id: str, head: TemplateFile) -> None:
        """Take over title, description, language and tags. Raises NotFound."""
        values = {name: getattr(head, name) for name in ("title", "description", "language", "tags")}
        result = await self._connection.execute(
            update(TemplateRow).where(TemplateRow.id == template_id).values(**values)
        )
        if result.rowcount == 0:
            raise NotFound(kind="template")

    async def set_live(self, template_id: str, version_id: str) -> None:
        """Raises NotFound where the version is not this template's."""
        is_its_own = exists().where(TemplateVersionRow.id == version_id, TemplateVersionRow.template_id == template_id)
        result = await self._connection.execute(
            update(TemplateRow).where(TemplateRow.id == template_id, is_its_own).values(live_version_id=version_id)
        )
        if result.rowcount == 0:
            raise NotFound(kind="template")
