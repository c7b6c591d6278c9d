"""Links with which anybody may read a conversation as it was when the link was made.

A link holds a token that is shown once and kept nowhere: here is its hash. What it shows is judged at each look, by the
policy of that day. Revoking removes the row; a link whose conversation is deleted, or whose owner is suspended, shows
nothing, and cannot be told from one that never was.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

import structlog

from app.domain.errors import AccessDenied, Conflict, NotFound
from app.domain.labels import Aigc
from app.domain.models import Account, Conversation, Message, Share, new_id, now
from app.domain.ports import Storage
from app.services.chat import own_conversation
from app.services.outgoing import Customs, Outgoing

log = structlog.get_logger()

MAX_SHARES = 100
"""Links that an account has at a time."""
PAGE_MESSAGES = 50
PAGE_CHARACTERS = 100_000
"""A page ends with the message that goes beyond either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPage:
    """A part of a shared conversation, as anybody may see it."""

    conversation: Outgoing
    """With the messages of this page only."""
    shared_at: datetime
    page: int
    """From 1."""
    pages: int
    aigc: Aigc


class ShareDesk:
    """Makes, lists, opens and revokes links."""

    def __init__(self, storage: Storage, *, customs: Customs, operator: str, is_on: bool) -> None:
        """`is_on` is False where the operator has switched sharing off: no link is made, and none opens anything."""
        self._storage = storage
        self._customs = customs
        self._operator = operator
        self.is_on = is_on

    async def make(self, account: Account, conversation_id: str, *, days: int | None) -> tuple[Share, str]:
        """Return a new link to one's own conversation as it is now, and its token; it ends after `days`, or never.

        Raises AccessDenied where sharing is off, NotFound, Conflict while an answer is being written and where there
        are too many links.
        """
        if not self.is_on:
            raise AccessDenied("shares")
        token, at = secrets.token_urlsafe(32), now()
        async with self._storage.write() as unit:
            conversation = await own_conversation(unit, account, conversation_id)
            leaf = await unit.messages.get(conversation.leaf_id or "")
            if leaf is None:
                raise NotFound(kind="message")
            if not leaf.state.is_final:
                raise Conflict(kind="running")
            if len(_open_at(at, await unit.shares.of_owner(account.id))) >= MAX_SHARES:
                raise Conflict(kind="shares", limit=MAX_SHARES)
            share = Share(
                id=new_id(),
                token_hash=_sha256(token),
                owner_id=account.id,
                conversation_id=conversation.id,
                leaf_id=leaf.id,
                title=conversation.title,
                created_at=at,
                expires_at=None if days is None else at + timedelta(days=days),
            )
            await unit.shares.add(share)
            await unit.commit()
        log.info("share_made", share_id=share.id, account_id=account.id, days=days)
        return share, token

    async def page(self, account: Account, *, conversation_id: str = "") -> Sequence[Share]:
        """Return one's links that still open something, newest first: all, or those to one conversation."""
        async with self._storage.read() as unit:
            found = _open_at(now(), await unit.shares.of_owner(account.id))
        return [share for share in found if conversation_id in ("", share.conversation_id)]

    async def revoke(self, account: Account, share_id: str) -> None:
        """Remove a link of one's own, for good.

        Raises NotFound where it is unknown, gone already or somebody else's.
        """
        async with self._storage.write() as unit:
            share = await unit.shares.get(share_id)
            if share is None or share.owner_id != account.id:
                raise NotFound(kind="share")
            await unit.shares.remove(share_id)
            await unit.commit()
        log.info("share_revoked", share_id=share_id, account_id=account.id)

    async def open(self, token: str, *, page: int = 1) -> SharedPage:
        """Return what a link shows.

        Raises NotFound(kind="page") for every link that shows nothing, whatever the reason, and beyond the last page;
        SafetyUnavailable where the filter cannot judge.
        """
        share, conversation, messages = await self._found(token)
        starts = _starts(messages)
        if not 1 <= page <= len(starts):
            raise NotFound(kind="page")
        first, end = [*pairwise([*starts, len(messages)])][page - 1]
        return SharedPage(
            conversation=await self._customs.clear(conversation, messages[first:end], title=share.title),
            shared_at=share.created_at,
            page=page,
            pages=len(starts),
            aigc=Aigc(
                producer=self._operator,
                produce_id=conversation.id,
                propagator=self._operator,
                propagate_id=share.id,
            ),
        )

    async def purge(self) -> int:
        """Remove links that have expired."""
        async with self._storage.write() as unit:
            count = await unit.shares.purge(expired_before=now())
            await unit.commit()
        return count

    async def _found(self, token: str) -> tuple[Share, Conversation, Sequence[Message]]:
        async with self._storage.read() as unit:
            share = await unit.shares.by_token(_sha256(token)) if self.is_on else None
            if share is None or not _open_at(now(), [share]):
                raise NotFound(kind="page")
            owner = await unit.accounts.get(share.owner_id)
            conversation = await unit.conversations.get(share.conversation_id)
            if owner is None or owner.is_suspended or conversation is None:
                raise NotFound(kind="page")
            return share, conversation, await unit.messages.branch(share.leaf_id)


def _open_at(at: datetime, shares: Sequence[Share]) -> list[Share]:
    return [share for share in shares if share.expires_at is None or share.expires_at > at]


def _starts(messages: Sequence[Message]) -> list[int]:
    """Return where each page begins."""
    starts: list[int] = []
    count = characters = 0
    for index, message in enumerate(messages):
        if not starts or count == PAGE_MESSAGES or characters + len(message.text) > PAGE_CHARACTERS:
            starts.append(index)
            count = characters = 0
        count += 1
        characters += len(message.text)
    return starts


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
