"""What piles up in a database over the years, written by the product's own repositories: rows as it writes them."""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from app.domain.models import (
    Account,
    AccountRole,
    Conversation,
    Message,
    MessageState,
    Receipt,
    Role,
    Sampling,
    new_id,
    now,
)
from app.domain.verdicts import ReleasedText
from storage.database import open_storage

MESSAGES = 20
"""Of a conversation."""
LONG_MESSAGES = 200
"""Of one conversation of the visitor."""
RARE_WORD = "Zürcher"
"""In the title of one conversation of the visitor: a search for it goes through all of theirs."""
_AT_ONCE = 5000
_ANSWER = """\
Rivers carry more than water. They carry sand and stones from the mountains, leaves from the woods, and the news of \
the rain that fell a week ago.

**Three things** are worth knowing:

- it is slow where it is deep
- it is clear where it is cold
- it is loud where it is young

所有的江河都流入大海，海却不会满。江河从哪里流来，仍旧归到哪里去。
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is written; one long conversation of the visitor comes on top."""

    visitors: int
    """The visitor's conversations."""
    others: int = 0
    """Conversations of all others together."""
    owners: int = 0
    """How many others there are."""

    @property
    def messages(self) -> int:
        """How many messages that is."""
        return (self.visitors + self.others) * MESSAGES + LONG_MESSAGES


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """What was written for the visitor: ids of conversations."""

    short: Sequence[str]
    long: str


async def write(url: str, *, visitor_id: str, size: Size) -> Archive:
    """Write an archive into a migrated database that has the visitor's account already."""
    began = now() - timedelta(days=700)
    others = [_guest(began) for _ in range(size.owners)]
    mine = [_conversation(visitor_id, began, n=n) for n in range(size.visitors)]
    long = _conversation(visitor_id, began, n=size.visitors)
    owners = itertools.cycle(others)
    theirs = [_conversation(next(owners).id, began, n=n) for n in range(size.others)]
    conversations = [*mine, long, *theirs]
    messages = _messages([*mine, *theirs] * (MESSAGES // 2) + [long] * (LONG_MESSAGES // 2), began=began)
    leaves = {message.conversation_id: message for message in messages}  # in order: the last one stays
    storage = await open_storage(url)
    try:
        async with storage.write() as unit:
            for account in others:
                await unit.accounts.add(account)
            for conversation in conversations:
                leaf = leaves[conversation.id]
                await unit.conversations.add(replace(conversation, leaf_id=leaf.id, updated_at=leaf.created_at))
            for start in range(0, len(messages), _AT_ONCE):
                await unit.messages.add(*messages[start : start + _AT_ONCE])
            await unit.commit()
    finally:
        await storage.close()
    return Archive(short=[conversation.id for conversation in mine], long=long.id)


def _messages(rounds: list[Conversation], *, began: datetime) -> list[Message]:
    """Return a question and its answer for each round, in the order of time: all conversations go on side by side."""
    random.Random(0).shuffle(rounds)
    pause = (now() - began) / (len(rounds) + 1)
    leaves: dict[str, str] = {}
    messages = []
    for n, conversation in enumerate(rounds):
        question, answer = _round(conversation.id, leaves.get(conversation.id), at=began + n * pause, n=n)
        leaves[conversation.id] = answer.id
        messages += [question, answer]
    return messages


def _round(conversation_id: str, parent_id: str | None, *, at: datetime, n: int) -> tuple[Message, Message]:
    question = Message(
        id=new_id(),
        conversation_id=conversation_id,
        parent_id=parent_id,
        role=Role.USER,
        text=ReleasedText(f"What do rivers carry, question {n}? 江河里有什么？"),
        state=MessageState.COMPLETE,
        created_at=at,
        finished_at=at,
    )
    receipt = Receipt(
        model="Scripted",
        sampling=Sampling(temperature=0.0, seed=n, max_tokens=1024),
        policy="builtin",
        prompt_tokens=100,
        completion_tokens=120,
        first_token_s=0.1,
        total_s=5.0,
        finish_reason="stop",
    )
    answer = replace(
        question,
        id=new_id(),
        parent_id=question.id,
        role=Role.ASSISTANT,
        text=ReleasedText(f"{_ANSWER}\n{n}"),
        finished_at=at + timedelta(seconds=5),
        receipt=receipt,
    )
    return question, answer


def _guest(at: datetime) -> Account:
    account_id = new_id()
    return Account(id=account_id, name=f"guest-{account_id}", role=AccountRole.GUEST, created_at=at)


def _conversation(owner_id: str, at: datetime, *, n: int) -> Conversation:
    title = ReleasedText(f"What do rivers carry, {n} – 江河" if n else f"{RARE_WORD} Flüsse")
    return Conversation(id=new_id(), owner_id=owner_id, title=title, created_at=at, updated_at=at)
