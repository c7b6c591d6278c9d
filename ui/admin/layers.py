"""The dialog in which policy layers are given: to an account, or to an API key."""

from app.domain.ports import SITE_LAYER
from app.services.policies import PolicyDesk
from ui.admin.call import Reply, Visitor
from ui.admin.markup import draw


async def ask_layers(policies: PolicyDesk, visitor: Visitor, *, page: str, key: str, name: str, now: str) -> Reply:
    """Open it. `page` takes what is typed, with `key` as the field `id`; `now` are the layers given already."""
    known = [one.layer for one in await policies.layers(visitor.account) if one.layer != SITE_LAYER]
    dialog = draw("layers_give.html", language=visitor.language, page=page, id=key, name=name, now=now, known=known)
    return Reply(dialog=dialog)
