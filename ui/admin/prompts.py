"""Prompts: the list of templates, and taking templates in from files."""

from typing import Literal

from app.domain.errors import NotFound
from app.domain.models import Account, TemplateFile
from app.services.prompt_library import PromptLibrary
from prompts import library
from ui.admin.call import Fields, Reply, Visitor
from ui.admin.difference import DiffLine, difference
from ui.admin.links import link
from ui.admin.markup import draw
from ui.admin.words import say

Effect = Literal["new", "version", "head"]
"""Of an import: a new template, a new version of one, or another title, description, language or tags."""


class PromptsPage:
    """All templates."""

    def __init__(self, prompts: PromptLibrary) -> None:
        """All is decided in the service."""
        self._prompts = prompts
        self.handlers = {
            "show": self.show,
            "ask_import": self.ask_import,
            "review_import": self.review_import,
            "import": self.import_file,
        }

    async def show(self, visitor: Visitor, _: Fields) -> Reply:
        """Draw the list."""
        rows = []
        for shelf in await self._prompts.shelf():
            template, versions = await self._prompts.versions(visitor.account, shelf.template.name)
            rows.append((shelf, len(versions), link("prompt", name=template.name)))
        return Reply(html=draw("prompts.html", language=visitor.language, rows=rows))

    async def ask_import(self, visitor: Visitor, _: Fields) -> Reply:
        """Open the form that takes a file."""
        return Reply(dialog=draw("prompt_import.html", language=visitor.language))

    async def review_import(self, visitor: Visitor, fields: Fields) -> Reply:
        """Say what importing a file would do, and ask.

        Raises InvalidInput where the text is not a template.
        """
        text = fields.text("file") or fields.text("text")
        file = library.parse(text, name=_name_in(fields))
        effect, number, lines = await self._change(visitor.account, file)
        dialog = draw(
            "prompt_import_review.html",
            language=visitor.language,
            file=file,
            effect=effect,
            number=number,
            lines=lines,
            text=text,
        )
        return Reply(dialog=dialog)

    async def import_file(self, visitor: Visitor, fields: Fields) -> Reply:
        """Take a template in.

        Raises InvalidInput, ContentBlocked.
        """
        file = library.parse(fields.text("text"), name=fields.text("name"))
        await self._prompts.import_files(visitor.account, [file])
        said = say("prompts.imported", language=visitor.language, name=file.name)
        return Reply(go=link("prompt", name=file.name), said=said)

    async def _change(self, admin: Account, file: TemplateFile) -> tuple[Effect, int, list[DiffLine]]:
        """Return what importing would make, the number of the version then live, and what differs from the live one."""
        after = library.write(file)
        try:
            template, versions = await self._prompts.versions(admin, file.name)
            before = await self._prompts.export(admin, file.name)
        except NotFound:
            return "new", 1, difference("", after)
        lines = difference(library.write(before), after)
        if library.content_hash(before.content) == library.content_hash(file.content):
            live = next(one for one in versions if one.id == template.live_version_id)
            return "head", live.number, lines
        return "version", versions[0].number + 1, lines


def _name_in(fields: Fields) -> str:
    """Return the name that was typed, else the chosen file's, without its ending."""
    return fields.text("name").strip() or fields.text("file_name").removesuffix(".toml")
