"""A turn's log: read from any number, as it comes, and never a moment after the end."""

import asyncio

from app.domain.events import Ended, Released
from app.domain.models import Message, MessageState, Role, new_id, now
from app.domain.verdicts import NOTHING, ReleasedText
from app.services.turns import TurnLog


def end() -> Ended:
    return Ended(
        answer=Message(
            id=new_id(), conversation_id=new_id(), parent_id=new_id(), role=Role.ASSISTANT, text=NOTHING,
            state=MessageState.COMPLETE, created_at=now(),
        )
    )  # fmt: skip


async def sizes(log: TurnLog, *, after: int = 0) -> list[int]:
    return [len(batch) async for batch in log.read(after)]


async def write(log: TurnLog, count: int) -> None:
    for n in range(count):
        log.append(Released(ReleasedText(f"{n} ")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    log.append(end())


async def test_a_reader_gets_every_event_as_it_comes() -> None:
    log = TurnLog()
    reading = asyncio.create_task(sizes(log))
    await asyncio.sleep(0)
    await write(log, 5)
    assert await reading == [1] * 6


async def test_who_comes_late_gets_the_rest_in_one_batch() -> None:
    log = TurnLog()
    await write(log, 5)
    assert await sizes(log, after=3) == [3]


async def test_silence_is_an_empty_batch_and_leaves_nothing_behind() -> None:
    log = TurnLog()
    batches = log.read(beat_s=0.01)
    assert await anext(batches) == []
    assert not log._readers
    log.append(end())
    assert len(await anext(batches)) == 1
