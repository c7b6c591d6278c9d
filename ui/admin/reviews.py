"""Reviews: the queue of decisions that a person has to look at – appeals, and what the filter handed over."""

from app.domain.models import ReviewState
from app.domain.verdicts import Action
from app.services.reviews import ReviewDesk
from ui.admin.call import Fields, Reply, Visitor
from ui.admin.links import link
from ui.admin.markup import draw

PAGE_SIZE = 50
EVERY = "every"
"""In place of a state: all of them."""


class ReviewsPage:
    """The queue."""

    def __init__(self, reviews: ReviewDesk) -> None:
        """All is decided in the service."""
        self._reviews = reviews
        self.handlers = {"show": self.show}

    async def show(self, visitor: Visitor, fields: Fields) -> Reply:
        """Draw the open ones, or those in `state`; `offset` pages on."""
        wanted, offset = fields.text("state", ReviewState.OPEN.value), fields.number("offset")
        state = next((one for one in ReviewState if one.value == wanted), None)
        rows = await self._reviews.page(visitor.account, state=state, limit=PAGE_SIZE + 1, offset=offset)
        shown = rows[:PAGE_SIZE]
        hits = await self._reviews.hits_of(visitor.account, shown)
        page = draw(
            "reviews.html",
            language=visitor.language,
            reviews=shown,
            gravest={
                decision_id: max(found, key=lambda hit: (not hit.is_shadow, hit.action, -hit.start), default=None)
                for decision_id, found in hits.items()
            },
            refuse=Action.REFUSE,
            state=state.value if state else EVERY,
            states=[*(one.value for one in ReviewState), EVERY],
            links={one.decision_id: link("review", decision=one.decision_id) for one in shown},
            newer=link("reviews", state=wanted, offset=max(0, offset - PAGE_SIZE)) if offset else "",
            older=link("reviews", state=wanted, offset=offset + PAGE_SIZE) if len(rows) > PAGE_SIZE else "",
        )
        return Reply(html=page)
