"""Hits: what the filter stopped or marked. Rules, places and times; never a text."""

from app.services.accounts import AccountDesk
from app.services.hits import HitsDesk
from ui.admin.call import Fields, Reply, Visitor
from ui.admin.links import link
from ui.admin.markup import draw
from ui.admin.names import names_of_accounts

PAGE_SIZE = 50
DAYS = 7
TEST_PHRASES = ("haina-blocked-test-phrase", "海纳测试禁语")
"""Harmless, and refused by every policy."""


class HitsPage:
    """Counts by rule, and the list."""

    def __init__(self, hits: HitsDesk, *, accounts: AccountDesk) -> None:
        """`accounts` gives the names."""
        self._hits = hits
        self._accounts = accounts
        self.handlers = {"show": self.show}

    async def show(self, visitor: Visitor, fields: Fields) -> Reply:
        """Draw both; `category` and `rule` restrict the list, `offset` pages on."""
        category, rule, offset = fields.text("category"), fields.text("rule"), fields.number("offset")
        by_rule = await self._hits.by_rule(visitor.account, days=DAYS)
        rows = await self._hits.page(visitor.account, category=category, rule=rule, limit=PAGE_SIZE + 1, offset=offset)
        has_next = len(rows) > PAGE_SIZE
        page = draw(
            "hits.html",
            language=visitor.language,
            by_rule=by_rule,
            most=max((count for _, _, count in by_rule), default=1),
            hits=rows[:PAGE_SIZE],
            names=await names_of_accounts(self._accounts, visitor.account) if rows else {},
            category=category,
            rule=rule,
            categories=sorted({one for one, _, _ in by_rule} | ({category} - {""})),
            rules=sorted({one for _, one, _ in by_rule} | ({rule} - {""})),
            test_phrases=TEST_PHRASES,
            days=DAYS,
            newer=link("hits", category=category, rule=rule, offset=max(0, offset - PAGE_SIZE)) if offset else "",
            older=link("hits", category=category, rule=rule, offset=offset + PAGE_SIZE) if has_next else "",
        )
        return Reply(html=page)
