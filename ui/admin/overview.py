"""Overview: how the service does, at a glance. The script asks again every two seconds while it is shown."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.domain.models import MessageState
from app.services.overview import OverviewDesk
from ui.admin.call import Fields, Reply, Visitor
from ui.admin.markup import draw

_FINAL_STATES = tuple(state for state in MessageState if state.is_final)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The answers of one state."""

    state: str
    count: int
    percent: float


class OverviewPage:
    """The first page."""

    def __init__(self, overview: OverviewDesk) -> None:
        """Only reads."""
        self._overview = overview
        self.handlers = {"show": self.show}

    async def show(self, visitor: Visitor, _: Fields) -> Reply:
        """Draw the present state."""
        look = await self._overview.look(visitor.account)
        page = draw("overview.html", language=visitor.language, look=look, shares=shares(look.answers))
        return Reply(html=page)


def shares(answers: Mapping[MessageState, int]) -> list[Share]:
    """Return a share for each final state, in a fixed order; all are 0 % where there were no answers."""
    total = sum(answers.get(state, 0) for state in _FINAL_STATES)
    return [
        Share(state=state.value, count=count, percent=100 * count / total if total else 0.0)
        for state in _FINAL_STATES
        for count in [answers.get(state, 0)]
    ]
