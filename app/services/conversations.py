"""The list of conversations, and one of them as it is read: the branch that is shown, and what lies beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from app.domain.errors import InvalidInput, NotFound
from app.domain.models import Account, Conversation, Message, Review, TemplateVersion, now
from app.domain.ports import Filters, Storage, Unit
from app.domain.verdicts import Stage
from app.services.answering import refusal
from app.services.chat import ChosenTemplate, own_conversation, template_of
from app.services.hits import Recorder

MAX_TITLE = 200
KEEP_DELETED = timedelta(days=7)
"""How long a deleted conversation can be brought back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """A conversation as it is read."""

    conversation: Conversation
    messages: Sequence[Message]
    """The shown branch, oldest first."""
    siblings: Mapping[str, tuple[str, ...]]
    """By message id: the ids with the same parent and role, oldest first, itself included."""
    outside_context: int
    """How many of the shown messages the model no longer saw when it gave the last answer."""
    template: ChosenTemplate | None = None
    reviews: Mapping[str, Review] = field(default_factory=dict)
    """By decision: those about the shown messages."""


class ConversationDesk:
    """Lists, opens, renames, deletes, restores."""

    def __init__(self, storage: Storage, *, filters: Filters, recorder: Recorder) -> None:
        """Titles that people type go through the filter."""
        self._storage = storage
        self._filters = filters
        self._recorder = recorder

    async def page(
        self, account: Account, *, query: str = "", before: datetime | None = None, limit: int = 50
    ) -> tuple[Sequence[Conversation], bool]:
        """Return one's conversations, latest first, and whether there are more."""
        async with self._storage.read() as unit:
            found = await unit.conversations.page(account.id, query=query[:200], before=before, limit=limit + 1)
        return found[:limit], len(found) > limit

    async def templates_of(self, conversations: Sequence[Conversation]) -> Mapping[str, ChosenTemplate]:
        """Return the template and version of each conversation that has one, by conversation id."""
        async with self._storage.read() as unit:
            by_id = {template.id: template for template in await unit.templates.all()}
            found: dict[str, ChosenTemplate] = {}
            versions: dict[str, TemplateVersion | None] = {}
            for conversation in conversations:
                version_id = conversation.template_version_id
                if version_id and version_id not in versions:
                    versions[version_id] = await unit.templates.version(version_id)
                version = versions.get(version_id or "")
                if version is not None and version.template_id in by_id:
                    found[conversation.id] = (by_id[version.template_id], version)
            return found

    async def open(self, account: Account, conversation_id: str) -> Thread:
        """Return one's conversation.

        Raises NotFound.
        """
        async with self._storage.read() as unit:
            conversation = await own_conversation(unit, account, conversation_id)
            return await self._thread(unit, conversation)

    async def rename(self, account: Account, conversation_id: str, *, title: str) -> Conversation:
        """Give a title of one line.

        Raises InvalidInput where it is empty or too long, ContentBlocked, NotFound.
        """
        line = " ".join("".join(char if char.isprintable() else " " for char in title).split())
        if not line:
            raise InvalidInput("the title is empty", param="title", kind="title_empty")
        if len(line) > MAX_TITLE:
            detail = f"a title has at most {MAX_TITLE} characters"
            raise InvalidInput(detail, param="title", kind="title_long", limit=MAX_TITLE)
        content_filter = await self._filters.over(account.policy_layers)
        checked = await content_filter.check(line, stage=Stage.INPUT)
        if checked.text is None:
            async with self._storage.write() as unit:
                await self._recorder.write(unit, self._recorder.note(checked.case, account_id=account.id))
                await unit.commit()
            raise refusal(checked.decision)
        async with self._storage.write() as unit:
            conversation = await own_conversation(unit, account, conversation_id)
            await unit.conversations.set_title(conversation.id, checked.text, is_by_owner=True)
            await unit.commit()
        return replace(conversation, title=checked.text, is_titled_by_owner=True)

    async def show_branch(self, account: Account, conversation_id: str, *, message_id: str) -> Thread:
        """Show the branch that goes through a message, down to its newest leaf.

        Raises NotFound.
        """
        async with self._storage.write() as unit:
            conversation = await own_conversation(unit, account, conversation_id)
            messages = await unit.messages.thread(conversation.id)
            if all(message.id != message_id for message in messages):
                raise NotFound(kind="message")
            newest_child = {message.parent_id: message.id for message in messages}  # oldest first: the last one stays
            leaf_id = message_id
            while leaf_id in newest_child:
                leaf_id = newest_child[leaf_id]
            await unit.conversations.set_leaf(conversation.id, leaf_id, conversation.updated_at)
            thread = await self._thread(unit, replace(conversation, leaf_id=leaf_id))
            await unit.commit()
        return thread

    async def delete(self, account: Account, conversation_id: str) -> None:
        """Take it off the list; it can be brought back for a week.

        Raises NotFound.
        """
        async with self._storage.write() as unit:
            conversation = await own_conversation(unit, account, conversation_id)
            await unit.conversations.delete(conversation.id, now())
            await unit.commit()

    async def restore(self, account: Account, conversation_id: str) -> Conversation:
        """Bring a deleted one back.

        Raises NotFound.
        """
        async with self._storage.write() as unit:
            conversation = await own_conversation(unit, account, conversation_id, with_deleted=True)
            await unit.conversations.restore(conversation.id)
            await unit.commit()
        return replace(conversation, deleted_at=None)

    async def purge(self) -> int:
        """Remove for good what was deleted long enough ago."""
        async with self._storage.write() as unit:
            count = await unit.conversations.purge(deleted_before=now() - KEEP_DELETED)
            await unit.commit()
        return count

    async def _thread(self, unit: Unit, conversation: Conversation) -> Thread:
        messages = await unit.messages.thread(conversation.id)
        by_id = {message.id: message for message in messages}
        branch: list[Message] = []
        step = by_id.get(conversation.leaf_id or "")
        while step is not None:
            branch.append(step)
            step = by_id.get(step.parent_id or "")
        branch.reverse()
        children: dict[str | None, list[str]] = {}
        for message in messages:
            children.setdefault(message.parent_id, []).append(message.id)
        siblings = {message.id: tuple(children[message.parent_id]) for message in branch}
        receipts = [message.receipt for message in branch if message.receipt is not None]
        return Thread(
            conversation=conversation,
            messages=branch,
            siblings=siblings,
            outside_context=receipts[-1].dropped_messages if receipts else 0,
            template=await template_of(unit, conversation),
            reviews={one.decision_id: one for one in await unit.reviews.of(_decisions(branch))},
        )


def _decisions(messages: Sequence[Message]) -> list[str]:
    """Return the decisions that refused messages."""
    return [str(message.error_data["decision_id"]) for message in messages if "decision_id" in message.error_data]
