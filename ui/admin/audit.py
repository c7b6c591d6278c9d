"""Audit: who did what, when, on what."""

from app.services.audit import AuditDesk
from ui.admin.call import Fields, Reply, Visitor
from ui.admin.links import link
from ui.admin.markup import draw

PAGE_SIZE = 100


class AuditPage:
    """The trail."""

    def __init__(self, audit: AuditDesk) -> None:
        """Reads only."""
        self._audit = audit
        self.handlers = {"show": self.show}

    async def show(self, visitor: Visitor, fields: Fields) -> Reply:
        """Draw the trail, or what is about one `subject`; `offset` pages on."""
        subject, offset = fields.text("subject"), fields.number("offset")
        rows = await self._audit.page(visitor.account, subject=subject, limit=PAGE_SIZE + 1, offset=offset)
        page = draw(
            "audit.html",
            language=visitor.language,
            entries=rows[:PAGE_SIZE],
            subject=subject,
            newer=link("audit", subject=subject, offset=max(0, offset - PAGE_SIZE)) if offset else "",
            older=link("audit", subject=subject, offset=offset + PAGE_SIZE) if len(rows) > PAGE_SIZE else "",
        )
        return Reply(html=page)
