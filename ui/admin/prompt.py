"""Prompt: one template – edit its content, compare its versions, choose the live one, save it as a file."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.errors import InvalidInput, NotFound
from app.domain.models import Template, TemplateVersion, Variable, VariableKind
from app.services.prompt_library import MAX_MESSAGE, PromptLibrary
from prompts import library
from ui.admin.call import Fields, Reply, Visitor
from ui.admin.difference import difference
from ui.admin.editor import NUMBERS, SAMPLING, draft_of, row_of
from ui.admin.links import link
from ui.admin.markup import draw
from ui.admin.words import say


@dataclass(frozen=True, slots=True, kw_only=True)
class Binder:
    """A template with all its versions, newest first."""

    template: Template
    versions: Sequence[TemplateVersion]

    @property
    def newest(self) -> TemplateVersion:
        """The one with the highest number."""
        return self.versions[0]

    @property
    def live(self) -> TemplateVersion:
        """The one that new conversations get."""
        return next(one for one in self.versions if one.id == self.template.live_version_id)

    def version(self, number: int) -> TemplateVersion:
        """Return a version; 0 is the live one.

        Raises NotFound.
        """
        if not number:
            return self.live
        version = next((one for one in self.versions if one.number == number), None)
        if version is None:
            raise NotFound(kind="template")
        return version


class PromptPage:
    """One template."""

    def __init__(self, prompts: PromptLibrary) -> None:
        """All is decided in the service."""
        self._prompts = prompts
        self.handlers = {
            "show": self.show,
            "review": self.review,
            "save": self.save,
            "compare": self.compare,
            "ask_live": self.ask_live,
            "set_live": self.set_live,
            "export": self.export,
        }

    async def show(self, visitor: Visitor, fields: Fields) -> Reply:
        """Draw the editor, filled with the version `number` or the live one, and the list of versions.

        Raises NotFound.
        """
        binder = await self._open(visitor, fields)
        version = binder.version(fields.number("number"))
        page = draw(
            "prompt.html",
            language=visitor.language,
            binder=binder,
            version=version,
            blank_variable=row_of(Variable(name="", label={})),
            variables=[row_of(variable) for variable in version.content.variables],
            kinds=[kind.value for kind in VariableKind],
            sampling={name: getattr(version.content.sampling, name) for name in SAMPLING},
            decimals=NUMBERS,
            links={one.number: link("prompt", name=binder.template.name, number=one.number) for one in binder.versions},
        )
        return Reply(html=page)

    async def review(self, visitor: Visitor, fields: Fields) -> Reply:
        """Show what the form changes against the version that it began with, and ask for a message.

        Raises InvalidInput where nothing changed or the content is impossible, NotFound.
        """
        binder = await self._open(visitor, fields)
        draft = draft_of(fields)
        library.check(draft)
        lines = difference(
            library.write_content(binder.version(fields.number("number")).content), library.write_content(draft)
        )
        if not lines:
            raise InvalidInput("nothing was changed", param="system", kind="unchanged")
        dialog = draw(
            "prompt_review.html",
            language=visitor.language,
            lines=lines,
            number=fields.number("based_on") + 1,
            max_message=MAX_MESSAGE,
        )
        return Reply(dialog=dialog)

    async def save(self, visitor: Visitor, fields: Fields) -> Reply:
        """Make a new version.

        Raises InvalidInput, NotFound, Conflict where somebody saved one since the form was drawn, ContentBlocked.
        """
        is_live = fields.is_set("is_live")
        version = await self._prompts.save(
            visitor.account,
            fields.text("name"),
            content=draft_of(fields),
            message=fields.text("message"),
            based_on=fields.number("based_on"),
            is_live=is_live,
        )
        said = say("prompt.saved_live" if is_live else "prompt.saved", language=visitor.language, number=version.number)
        number = 0 if is_live else version.number
        return Reply(go=link("prompt", name=fields.text("name"), number=number), said=said)

    async def compare(self, visitor: Visitor, fields: Fields) -> Reply:
        """Show the difference between two versions, the older one first.

        Raises NotFound.
        """
        binder = await self._open(visitor, fields)
        pair = [binder.version(fields.number("number")), binder.version(fields.number("other"))]
        older, newer = sorted(pair, key=lambda one: one.number)
        lines = difference(library.write_content(older.content), library.write_content(newer.content))
        dialog = draw("prompt_compare.html", language=visitor.language, older=older, newer=newer, lines=lines)
        return Reply(dialog=dialog)

    async def ask_live(self, visitor: Visitor, fields: Fields) -> Reply:
        """Say what making another version live will do, and ask.

        Raises NotFound.
        """
        binder = await self._open(visitor, fields)
        version = binder.version(fields.number("number"))
        lines = difference(library.write_content(binder.live.content), library.write_content(version.content))
        dialog = draw("prompt_live.html", language=visitor.language, binder=binder, version=version, lines=lines)
        return Reply(dialog=dialog)

    async def set_live(self, visitor: Visitor, fields: Fields) -> Reply:
        """Make a version the live one.

        Raises NotFound.
        """
        name = fields.text("name")
        version = await self._prompts.set_live(visitor.account, name, number=fields.number("number"))
        said = say("prompt.now_live", language=visitor.language, number=version.number)
        return Reply(go=link("prompt", name=name), said=said)

    async def export(self, visitor: Visitor, fields: Fields) -> Reply:
        """Offer the live version as a file.

        Raises NotFound.
        """
        file = await self._prompts.export(visitor.account, fields.text("name"))
        return Reply(file_name=f"{file.name}.toml", file_text=library.write(file))

    async def _open(self, visitor: Visitor, fields: Fields) -> Binder:
        template, versions = await self._prompts.versions(visitor.account, fields.text("name"))
        return Binder(template=template, versions=versions)
