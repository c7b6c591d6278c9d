"""One's own conversation as a file: the branch that is shown, judged anew, labelled."""

import asyncio
from collections.abc import Sequence

from app.domain.errors import Conflict, InvalidInput
from app.domain.models import Account, Message, now
from app.domain.ports import Storage
from app.domain.words import Language
from app.services.chat import own_conversation
from app.services.export_formats import Document, ExportFile, ExportFormat, write
from app.services.outgoing import Customs

MAX_CHARACTERS = 20_000_000
"""Of all messages together: a minute of the filter's time."""


class ExportDesk:
    """Makes files. One at a time for an account."""

    def __init__(self, storage: Storage, *, customs: Customs, operator: str) -> None:
        """`operator` is who the labels name as the producer."""
        self._storage = storage
        self._customs = customs
        self._operator = operator
        self._busy: set[str] = set()

    async def export(
        self, account: Account, conversation_id: str, *, kind: ExportFormat, language: Language
    ) -> ExportFile:
        """Return the file, whole: nothing of it is written before all of it was judged.

        Raises NotFound, Conflict while an answer or another export is being written, InvalidInput where the
        conversation is too large, SafetyUnavailable.
        """
        if account.id in self._busy:
            raise Conflict(kind="exporting")
        self._busy.add(account.id)
        try:
            async with self._storage.read() as unit:
                conversation = await own_conversation(unit, account, conversation_id)
                messages = await unit.messages.branch(conversation.leaf_id) if conversation.leaf_id else []
            if any(not message.state.is_final for message in messages):
                raise Conflict(kind="running")
            _require_size(messages)
            cleared = await self._customs.clear(conversation, messages, layers=account.policy_layers)
        finally:
            self._busy.discard(account.id)
        document = Document(
            conversation=cleared, producer=self._operator, language=language, exported_at=now().replace(microsecond=0)
        )
        return await asyncio.to_thread(write, document, kind)


def _require_size(messages: Sequence[Message]) -> None:
    """Raise InvalidInput where they are too much for one file."""
    if sum(len(message.text) for message in messages) > MAX_CHARACTERS:
        detail = f"a file holds at most {MAX_CHARACTERS} characters"
        raise InvalidInput(detail, kind="export_large", limit=MAX_CHARACTERS)
