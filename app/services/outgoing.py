"""A conversation on its way out of the chat: every text is judged anew, at the stage of export.

What was stored passed the filter of its day; the policy may be stricter now. So files and shared pages are made of an
`Outgoing`, which only `Customs` makes: what is refused is left out and marked, what is masked is masked, and where a
part of the filter fails there is nothing at all.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from app.domain.models import Conversation, Message, MessageState, Role
from app.domain.ports import Filter, Filters
from app.domain.verdicts import NOTHING, Checked, ReleasedText, Stage
from app.services.answering import refusal

_KEPT_VERDICTS = 20_000
_AT_ONCE = 2
"""Texts that are judged at the same time, for all who read and export: running answers share the process with them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingMessage:
    """A message as it may leave."""

    id: str
    role: Role
    text: ReleasedText
    """Empty where it is withheld."""
    created_at: datetime
    is_withheld: bool = False
    """The filter refuses it: now, or when it was written."""
    is_prepared: bool = False
    """An answer that was written in advance: no model made it."""
    is_partial: bool = False
    """An answer that ended before its model was done."""
    model: ReleasedText = NOTHING

    @property
    def is_generated(self) -> bool:
        """Whether AI made it, so that it has to be labelled."""
        return self.role is not Role.USER and not self.is_prepared


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A conversation as it may leave."""

    id: str
    title: ReleasedText
    """One line; empty where there is none, and where it is withheld."""
    is_title_withheld: bool
    created_at: datetime
    policy: str
    """The policy that judged."""
    messages: Sequence[OutgoingMessage]


class Customs:
    """Judges what leaves. Keeps verdicts that cannot change: of a text, under a policy."""

    def __init__(self, filters: Filters) -> None:
        """Uses the policy in force."""
        self._filters = filters
        self._verdicts: OrderedDict[bytes, bool] = OrderedDict()
        """By policy and text: it passes as it is, or not at all. What is masked is judged each time."""
        self._judging = asyncio.Semaphore(_AT_ONCE)

    async def clear(
        self,
        conversation: Conversation,
        messages: Sequence[Message],
        *,
        title: ReleasedText | None = None,
        layers: str = "",
    ) -> Outgoing:
        """Return these messages of a conversation as they may leave; `title` stands in place of its own.

        `layers` lie over the site's policy for whom they go to: none for the public.
        Raises SafetyUnavailable where a part of the filter failed.
        """
        content_filter = await self._filters.over(layers)
        models = {message.receipt.model for message in messages if message.receipt is not None}
        cleared = {model: (await self._judged(content_filter, model)).text or NOTHING for model in sorted(models)}
        line = await self._cleared(content_filter, conversation.title if title is None else title)
        return Outgoing(
            id=conversation.id,
            title=line or NOTHING,
            is_title_withheld=line is None,
            created_at=conversation.created_at,
            policy=content_filter.policy,
            messages=[await self._message(content_filter, message, models=cleared) for message in messages],
        )

    async def _message(
        self, content_filter: Filter, message: Message, *, models: Mapping[str, ReleasedText]
    ) -> OutgoingMessage:
        # What a refused answer began with was shown, but the page has the refusal in its place; so has everything else.
        text = None if message.state is MessageState.BLOCKED else await self._cleared(content_filter, message.text)
        return OutgoingMessage(
            id=message.id,
            role=message.role,
            text=text or NOTHING,
            created_at=message.created_at,
            is_withheld=text is None,
            is_prepared=message.is_prepared,
            is_partial=text is not None and _is_partial(message),
            model=models[message.receipt.model] if message.receipt else NOTHING,
        )

    async def _cleared(self, content_filter: Filter, text: ReleasedText) -> ReleasedText | None:
        """Return a text that was stored as it may leave; None where the filter refuses it now."""
        if not text:
            return NOTHING
        key = hashlib.sha256(f"{content_filter.policy}\n{text}".encode("utf-8", "surrogatepass")).digest()
        passes = self._verdicts.get(key)
        if passes is not None:
            self._verdicts.move_to_end(key)
            return text if passes else None
        checked = await self._judged(content_filter, text)
        cleared = checked.text
        # A text that a guard could not judge is not known to pass.
        if (cleared is None or cleared == text) and not checked.decision.unguarded_by:
            self._verdicts[key] = cleared is not None
            if len(self._verdicts) > _KEPT_VERDICTS:
                self._verdicts.popitem(last=False)
        return cleared

    async def _judged(self, content_filter: Filter, text: str) -> Checked:
        async with self._judging:
            await asyncio.sleep(0)  # many short texts would else take the whole process
            checked = await content_filter.check(text, stage=Stage.EXPORT)
        if checked.decision.is_degraded:
            raise refusal(checked.decision)
        return checked


def _is_partial(message: Message) -> bool:
    if message.role is not Role.ASSISTANT:
        return False
    is_cut = message.receipt is not None and message.receipt.finish_reason == "length"
    return message.state is not MessageState.COMPLETE or is_cut
