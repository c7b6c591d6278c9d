"""Review: one decision – what was decided and why, what the person says, the text where it is kept, and the outcome."""

from collections.abc import Sequence

from app.domain.models import Hit
from app.domain.verdicts import Action
from app.services.accounts import AccountDesk
from app.services.evidence import MAX_REASON, EvidenceDesk
from app.services.reviews import MAX_NOTE, ReviewDesk, allow_line
from ui.admin.call import Fields, Reply, Visitor
from ui.admin.links import link
from ui.admin.markup import draw
from ui.admin.names import names_of_accounts
from ui.admin.words import say


class ReviewPage:
    """One decision."""

    def __init__(self, reviews: ReviewDesk, *, evidence: EvidenceDesk, accounts: AccountDesk) -> None:
        """`evidence` opens texts, `accounts` gives the names."""
        self._reviews = reviews
        self._evidence = evidence
        self._accounts = accounts
        self.handlers = {
            "show": self.show,
            "ask_text": self.ask_text,
            "text": self.text,
            "uphold": self.uphold,
            "overturn": self.overturn,
        }

    async def show(self, visitor: Visitor, fields: Fields) -> Reply:
        """Draw all about a decision but its text.

        Raises NotFound.
        """
        dossier = await self._reviews.open(visitor.account, fields.text("decision"))
        acted = [hit for hit in dossier.hits if not hit.is_shadow]
        first = dossier.hits[0]
        names = await names_of_accounts(self._accounts, visitor.account)
        page = draw(
            "review.html",
            language=visitor.language,
            dossier=dossier,
            first=first,
            action=max((hit.action for hit in acted), default=Action.ALLOW),
            owner=dossier.review.account_name
            if dossier.review
            else names.get(first.account_id or "", first.account_id or "–"),
            max_note=MAX_NOTE,
        )
        return Reply(html=page)

    async def ask_text(self, visitor: Visitor, fields: Fields) -> Reply:
        """Say that opening a text is written down, and ask why."""
        dialog = draw(
            "review_ask_text.html", language=visitor.language, decision=fields.text("decision"), max_reason=MAX_REASON
        )
        return Reply(dialog=dialog)

    async def text(self, visitor: Visitor, fields: Fields) -> Reply:
        """Show the text behind a decision, with what was found in it marked.

        Raises InvalidInput without a reason, NotFound where nothing is kept, EvidenceSealed.
        """
        decision_id = fields.text("decision")
        dossier = await self._reviews.open(visitor.account, decision_id)
        sealed = await self._evidence.open(visitor.account, decision_id, reason=fields.text("reason"))
        text = sealed.unsealed()
        is_refused = any(hit.action >= Action.REFUSE and not hit.is_shadow for hit in dossier.hits)
        dialog = draw(
            "review_text.html",
            language=visitor.language,
            pieces=pieces_of(text, dossier.hits, start=sealed.start),
            allow=allow_line(text, dossier.hits, start=sealed.start) if is_refused else "",
            is_refused=is_refused,
        )
        return Reply(dialog=dialog)

    async def uphold(self, visitor: Visitor, fields: Fields) -> Reply:
        """Let a refusal stand.

        Raises NotFound, Conflict, InvalidInput, ContentBlocked.
        """
        return await self._decide(visitor, fields, is_overturned=False)

    async def overturn(self, visitor: Visitor, fields: Fields) -> Reply:
        """Take a refusal back, with what followed from it.

        Raises NotFound, Conflict, InvalidInput, ContentBlocked.
        """
        return await self._decide(visitor, fields, is_overturned=True)

    async def _decide(self, visitor: Visitor, fields: Fields, *, is_overturned: bool) -> Reply:
        decision_id = fields.text("decision")
        await self._reviews.decide(visitor.account, decision_id, is_overturned=is_overturned, note=fields.text("note"))
        key = "review.overturned_said" if is_overturned else "review.upheld_said"
        return Reply(go=link("review", decision=decision_id), said=say(key, language=visitor.language))


def pieces_of(text: str, hits: Sequence[Hit], *, start: int = 0) -> list[tuple[str, bool]]:
    """Return the text in pieces, each with whether something was found there.

    `start` is where `text` begins in the whole that the hits' offsets count in.
    """
    is_found = [False] * len(text)
    for hit in hits:
        for at in range(max(0, hit.start - start), min(len(text), hit.end - start)):
            is_found[at] = True
    pieces: list[tuple[str, bool]] = []
    begin = 0
    for end in range(1, len(text) + 1):
        if end == len(text) or is_found[end] is not is_found[begin]:
            pieces.append((text[begin:end], is_found[begin]))
            begin = end
    return pieces
