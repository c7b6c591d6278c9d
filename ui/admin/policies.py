"""Policies: the filter policy in force, and its layers – written, run dry, published, put back."""

from collections.abc import Sequence

from app.domain.errors import NotFound
from app.domain.models import PolicyVersion
from app.domain.ports import SITE_LAYER
from app.services.policies import MAX_MESSAGE, PolicyDesk
from app.services.replay import ReplayDesk
from ui.admin.call import Fields, Reply, Visitor
from ui.admin.difference import difference
from ui.admin.links import link
from ui.admin.markup import draw
from ui.admin.words import say

DAYS = 30


class PoliciesPage:
    """The list of layers."""

    def __init__(self, policies: PolicyDesk) -> None:
        """All is decided in the service."""
        self._policies = policies
        self.handlers = {"show": self.show, "ask_add": self.ask_add, "add": self.add}

    async def show(self, visitor: Visitor, _: Fields) -> Reply:
        """Draw what is in force, and the list."""
        layers = await self._policies.layers(visitor.account)
        page = draw(
            "policies.html",
            language=visitor.language,
            policy=self._policies.policy,
            fault=self._policies.fault,
            rows=[(layer, link("policy", layer=layer.layer)) for layer in layers],
            site=link("policy", layer=SITE_LAYER),
            has_site=any(layer.layer == SITE_LAYER for layer in layers),
        )
        return Reply(html=page)

    async def ask_add(self, visitor: Visitor, _: Fields) -> Reply:
        """Open the form for a new layer."""
        return Reply(dialog=draw("policy_add.html", language=visitor.language))

    async def add(self, visitor: Visitor, fields: Fields) -> Reply:
        """Go to the editor of a layer that is not there yet; it is made when it is published.

        Raises InvalidInput for an impossible name.
        """
        name = fields.text("layer").strip()
        await self._policies.try_out(visitor.account, name, "")
        return Reply(go=link("policy", layer=name))


class PolicyPage:
    """One layer."""

    def __init__(self, policies: PolicyDesk, *, replays: ReplayDesk) -> None:
        """`replays` runs drafts dry."""
        self._policies = policies
        self._replays = replays
        self.handlers = {
            "show": self.show,
            "review": self.review,
            "save": self.save,
            "compare": self.compare,
            "ask_live": self.ask_live,
            "set_live": self.set_live,
        }

    async def show(self, visitor: Visitor, fields: Fields) -> Reply:
        """Draw the editor, filled with the version `number` or the live one, and the list of versions."""
        layer = fields.text("layer")
        versions = await self._versions(visitor, layer)
        number = fields.number("number")
        shown = next((one for one in versions if (one.number == number if number else one.is_live)), None)
        if number and shown is None:
            raise NotFound(kind="policy")
        page = draw(
            "policy.html",
            language=visitor.language,
            layer=layer,
            is_site=layer == SITE_LAYER,
            versions=versions,
            shown=shown,
            newest=versions[0].number if versions else 0,
            links={one.number: link("policy", layer=layer, number=one.number) for one in versions},
            days=DAYS,
        )
        return Reply(html=page)

    async def review(self, visitor: Visitor, fields: Fields) -> Reply:
        """Run the draft dry, show what it changes, and ask for a message.

        Raises InvalidInput, InvalidPolicy with every fault.
        """
        layer, text = fields.text("layer"), fields.text("text")
        versions = await self._versions(visitor, layer)
        live = next((one.text for one in versions if one.is_live), "")
        replay = await self._replays.layer(visitor.account, layer, text, days=fields.number("days", DAYS))
        dialog = draw(
            "policy_review.html",
            language=visitor.language,
            lines=difference(live, text),
            replay=replay,
            number=(versions[0].number if versions else 0) + 1,
            days=fields.number("days", DAYS),
            max_message=MAX_MESSAGE,
        )
        return Reply(dialog=dialog)

    async def save(self, visitor: Visitor, fields: Fields) -> Reply:
        """Put a new version in force.

        Raises InvalidInput, InvalidPolicy, Conflict where somebody published one since the form was drawn.
        """
        layer = fields.text("layer")
        version = await self._policies.publish(
            visitor.account,
            layer,
            fields.text("text"),
            message=fields.text("message"),
            based_on=fields.number("based_on"),
        )
        said = say("policy.published", language=visitor.language, number=version.number)
        return Reply(go=link("policy", layer=layer), said=said)

    async def compare(self, visitor: Visitor, fields: Fields) -> Reply:
        """Show the difference between two versions, the older one first. Raises NotFound."""
        versions = await self._policies.versions(visitor.account, fields.text("layer"))
        pair = sorted((_numbered(versions, fields.number(name)) for name in ("number", "other")), key=_number)
        lines = difference(pair[0].text, pair[1].text)
        dialog = draw("prompt_compare.html", language=visitor.language, older=pair[0], newer=pair[1], lines=lines)
        return Reply(dialog=dialog)

    async def ask_live(self, visitor: Visitor, fields: Fields) -> Reply:
        """Say what putting another version in force will do, and ask. Raises NotFound."""
        versions = await self._policies.versions(visitor.account, fields.text("layer"))
        version = _numbered(versions, fields.number("number"))
        live = next(one for one in versions if one.is_live)
        dialog = draw(
            "policy_live.html", language=visitor.language, version=version, lines=difference(live.text, version.text)
        )
        return Reply(dialog=dialog)

    async def set_live(self, visitor: Visitor, fields: Fields) -> Reply:
        """Put a version in force again. Raises NotFound, InvalidPolicy where it no longer fits."""
        layer = fields.text("layer")
        version = await self._policies.set_live(visitor.account, layer, number=fields.number("number"))
        said = say("policy.now_live", language=visitor.language, number=version.number)
        return Reply(go=link("policy", layer=layer), said=said)

    async def _versions(self, visitor: Visitor, layer: str) -> Sequence[PolicyVersion]:
        """Return the versions; none for a layer that is about to be made."""
        try:
            return await self._policies.versions(visitor.account, layer)
        except NotFound:
            await self._policies.try_out(visitor.account, layer, "")
            return ()


def _numbered(versions: Sequence[PolicyVersion], number: int) -> PolicyVersion:
    version = next((one for one in versions if one.number == number), None)
    if version is None:
        raise NotFound(kind="policy")
    return version


def _number(version: PolicyVersion) -> int:
    return version.number
