"""The prompt library: templates, their immutable versions, and which of them is live."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum

import structlog

from app.domain.errors import Conflict, ContentBlocked, InvalidInput, NotFound, SafetyUnavailable
from app.domain.models import Account, Template, TemplateDraft, TemplateFile, TemplateVersion, new_id, now
from app.domain.ports import Filter, Filters, Storage, Unit
from app.domain.verdicts import Stage
from app.services.accounts import operator, require_admin
from prompts import library
from prompts.template_schema import fill

log = structlog.get_logger()

MAX_MESSAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """A template with its live version, as the chat offers it."""

    template: Template
    live: TemplateVersion


class PromptLibrary:
    """Lists, edits, compares, rolls back."""

    def __init__(self, storage: Storage, *, filters: Filters) -> None:
        """What an admin publishes goes through the filter too."""
        self._storage = storage
        self._filters = filters

    async def import_built_in(self) -> int:
        """Add the templates that came with the program and are not here yet, as version 1; return how many.

        One that a policy refuses is left out: it keeps nobody from starting.
        """
        async with self._storage.read() as unit:
            known = {template.name for template in await unit.templates.all()}
        new = [one for one in library.built_in() if one.name not in known and await self._may_be_shown(one)]
        return await self._add(new, author=operator("Haina"))

    async def import_files(self, admin: Account, files: Iterable[TemplateFile]) -> int:
        """Add templates; of those that are here take over what differs, content as a new live version.

        Returns how many changed.

        Raises AccessDenied for anybody but an admin, ContentBlocked for a text that the filter refuses; nothing is
        imported then.
        """
        require_admin(admin)
        files = list(files)
        for file in files:
            await require_clean(self._filters.site, file)
        return await self._add(files, author=admin)

    async def _add(self, files: Sequence[TemplateFile], *, author: Account) -> int:
        changed = 0
        async with self._storage.write() as unit:
            for file in files:
                changed += await self._import(unit, file, author=author.name)
            await unit.commit()
        return changed

    async def shelf(self) -> Sequence[Shelf]:
        """Return every template with its live version, by name."""
        async with self._storage.read() as unit:
            shelf = []
            for template in await unit.templates.all():
                live = await unit.templates.version(template.live_version_id)
                if live is not None:
                    shelf.append(Shelf(template=template, live=live))
            return shelf

    async def versions(self, admin: Account, name: str) -> tuple[Template, Sequence[TemplateVersion]]:
        """Return a template and its versions, newest first.

        Raises AccessDenied for anybody but an admin, NotFound.
        """
        require_admin(admin)
        async with self._storage.read() as unit:
            template = await _template(unit, name)
            return template, await unit.templates.versions(template.id)

    async def save(
        self, admin: Account, name: str, *, content: TemplateDraft, message: str, based_on: int, is_live: bool = True
    ) -> TemplateVersion:
        """Make a new version, and the live one of it if wanted.

        Raises AccessDenied, NotFound, InvalidInput where nothing changed or the message is missing, Conflict where
        somebody else saved a version after `based_on`, ContentBlocked.
        """
        require_admin(admin)
        message = message.strip()
        if not message or len(message) > MAX_MESSAGE:
            detail = f"say in 1 to {MAX_MESSAGE} characters what changed and why"
            raise InvalidInput(detail, param="message", kind="version_message", limit=MAX_MESSAGE)
        library.check(content)
        await require_clean(self._filters.site, content)
        await _require_clean_text(self._filters.site, message, place="message")
        async with self._storage.write() as unit:
            template = await _template(unit, name)
            newest, *_ = versions = await unit.templates.versions(template.id)
            if newest.number != based_on:
                raise Conflict(kind="version")
            live = next(one for one in versions if one.id == template.live_version_id)
            content_hash = library.content_hash(content)
            if live.content_hash == content_hash:
                raise InvalidInput("nothing was changed", param="system", kind="unchanged")
            version = TemplateVersion(
                id=new_id(),
                template_id=template.id,
                number=newest.number + 1,
                content=content,
                content_hash=content_hash,
                message=message,
                author=admin.name,
                created_at=now(),
            )
            await unit.templates.add_version(version)
            if is_live:
                await unit.templates.set_live(template.id, version.id)
            await unit.commit()
        log.info("template_version_saved", template=name, number=version.number, by=admin.id)
        return version

    async def set_live(self, admin: Account, name: str, *, number: int) -> TemplateVersion:
        """Make a version the one that new conversations get: forward, or back.

        Raises AccessDenied, NotFound.
        """
        require_admin(admin)
        async with self._storage.write() as unit:
            template = await _template(unit, name)
            versions = await unit.templates.versions(template.id)
            version = next((one for one in versions if one.number == number), None)
            if version is None:
                raise NotFound(kind="template")
            await unit.templates.set_live(template.id, version.id)
            await unit.commit()
        log.info("template_version_live", template=name, number=number, by=admin.id)
        return version

    async def export(self, admin: Account, name: str) -> TemplateFile:
        """Return the live version as a file holds it.

        Raises AccessDenied for anybody but an admin, NotFound.
        """
        require_admin(admin)
        async with self._storage.read() as unit:
            template = await _template(unit, name)
            live = await unit.templates.version(template.live_version_id)
        if live is None:
            raise NotFound(kind="template")
        return TemplateFile(
            name=template.name,
            title=template.title,
            description=template.description,
            language=template.language,
            tags=template.tags,
            content=live.content,
        )

    async def _import(self, unit: Unit, file: TemplateFile, *, author: str) -> int:
        content_hash = library.content_hash(file.content)
        version = TemplateVersion(
            id=new_id(),
            template_id=new_id(),
            number=1,
            content=file.content,
            content_hash=content_hash,
            message="Imported",
            author=author,
            created_at=now(),
        )
        known = await unit.templates.by_name(file.name)
        if known is None:
            template = Template(
                id=version.template_id,
                name=file.name,
                title=file.title,
                description=file.description,
                language=file.language,
                tags=file.tags,
                live_version_id=version.id,
                created_at=version.created_at,
            )
            await unit.templates.add(template, version)
            return 1
        has_other_head = _head(known) != _head(file)
        if has_other_head:
            await unit.templates.set_head(known.id, file)
        versions = await unit.templates.versions(known.id)
        live = next(one for one in versions if one.id == known.live_version_id)
        if live.content_hash == content_hash:
            return int(has_other_head)
        version = replace(version, template_id=known.id, number=versions[0].number + 1)
        await unit.templates.add_version(version)
        await unit.templates.set_live(known.id, version.id)
        return 1

    async def _may_be_shown(self, file: TemplateFile) -> bool:
        try:
            await require_clean(self._filters.site, file, with_guards=False)
        except ContentBlocked as error:
            log.warning("built_in_template_left_out", where=error.detail, category=error.data["category"])
            return False
        return True


async def require_clean(
    content_filter: Filter, template: TemplateFile | TemplateDraft, *, with_guards: bool = True
) -> None:
    """See that the filter lets every text of a template pass: everybody reads it, or the model does.

    Each text is judged for itself, and the system prompt once more with the defaults in its blanks. Guard models are
    asked once, about the whole; not about what comes with the program, or a start would take minutes and need them.
    Raises ContentBlocked, whose detail says which text it was.
    """
    texts = list(_texts(template))
    for place, text in texts:
        await _require_clean_text(content_filter, text, place=place, with_guards=False)
    if with_guards:
        whole = "\n".join(dict.fromkeys(text for _, text in texts))
        await _require_clean_text(content_filter, whole, place=_at(template, "system"))
    content = template.content if isinstance(template, TemplateFile) else template
    filled = fill(content.system, {one.name: one.default for one in content.variables})
    if content.variables:
        await _require_clean_text(content_filter, filled, place=_at(template, "system"), with_guards=False)


async def _require_clean_text(content_filter: Filter, text: str, *, place: str, with_guards: bool = True) -> None:
    checked = await content_filter.check(text, stage=Stage.INPUT, with_guards=with_guards)
    if checked.decision.is_degraded:
        raise SafetyUnavailable(decision_id=checked.decision.id)
    if checked.text is None:
        raise ContentBlocked(place, category=checked.decision.category or "", decision_id=checked.decision.id)


def _texts(template: TemplateFile | TemplateDraft) -> Iterator[tuple[str, str]]:
    """Yield every text of a template and its place, as the file spells it; a new field cannot be forgotten."""
    for key, text in _inside(template):
        yield _at(template, key.removeprefix("content.")), text


def _inside(value: object, key: str = "") -> Iterator[tuple[str, str]]:
    items: Iterable[tuple[object, object]] = ()
    if isinstance(value, Enum):
        return
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, tuple):
        items = enumerate(value)
    elif is_dataclass(value):
        items = ((one.name, getattr(value, one.name)) for one in fields(value))
    for name, item in items:
        yield from _inside(item, f"{key}.{name}" if key else str(name))


def _at(template: TemplateFile | TemplateDraft, key: str) -> str:
    return f"{template.name}: {key}" if isinstance(template, TemplateFile) else key


def _head(template: Template | TemplateFile) -> tuple[object, ...]:
    return dict(template.title), dict(template.description), template.language, tuple(template.tags)


async def _template(unit: Unit, name: str) -> Template:
    template = await unit.templates.by_name(name)
    if template is None:
        raise NotFound(kind="template")
    return template
