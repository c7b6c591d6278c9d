"""A turn's log: read from any number, gathered or not, and never a moment after the end."""

import asyncio
from time import monotonic

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


async def sizes(log: TurnLog, *, gather_s: float = 0.0, after: int = 0) -> list[int]:
    return [len(batch) async for batch in log.read(after, gather_s=gather_s)]


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


async def test_a_gathering_reader_gets_the_first_at_once_and_the_end_without_waiting() -> None:
    log = TurnLog()
    began = monotonic()
    reading = asyncio.create_task(sizes(log, gather_s=1000.0))
    await asyncio.sleep(0)
    await write(log, 5)
    assert await reading == [1, 5]
    assert monotonic() - began < 500


async def test_who_comes_late_gets_the_rest_in_one_batch() -> None:
    log = TurnLog()
    await write(log, 5)
    assert await sizes(log, gather_s=1000.0, after=3) == [3]


async def test_silence_is_an_empty_batch_and_leaves_nothing_behind() -> None:
    log = TurnLog()
    batches = log.read(beat_s=0.01)
    assert await anext(batches) == []
    assert not log._readers
    log.append(end())
    assert len(await anext(batches)) == 1
