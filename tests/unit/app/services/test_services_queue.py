"""The queue: fair, bounded, without leaks, and honest about one's place."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.errors import EngineBusy
from app.services.queue import FairQueue, Place


async def test_a_free_slot_is_given_at_once() -> None:
    queue = FairQueue(slots=1)
    async with queue.enter("ann") as place:
        assert [waiting async for waiting in place.wait()] == []
        assert (queue.running, queue.waiting) == (1, 0)
    assert (queue.running, queue.waiting) == (0, 0)


async def test_one_question_of_another_account_is_not_behind_all_of_the_first_ones() -> None:
    queue = FairQueue(slots=1)
    served: list[str] = []

    async def ask(name: str) -> None:
        async with queue.enter(name) as place:
            async for _ in place.wait():
                pass
            served.append(name)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for name in ["ann"] * 5 + ["bob"]:
            group.create_task(ask(name))
    assert served.index("bob") == 1
    assert Counter(served) == {"ann": 5, "bob": 1}


async def test_the_position_is_told_each_time_that_it_changes() -> None:
    queue = FairQueue(slots=1)
    told: list[int] = []
    first, second = queue.enter("ann"), queue.enter("bob")
    await first.__aenter__()
    await second.__aenter__()

    async def wait() -> None:
        async with queue.enter("cy") as place:
            told.extend([waiting.position async for waiting in place.wait()])

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    await first.__aexit__(None, None, None)
    await asyncio.sleep(0)
    await second.__aexit__(None, None, None)
    await task
    assert told == [2, 1]


async def test_a_place_that_is_cancelled_while_it_waits_leaves_the_line() -> None:
    queue = FairQueue(slots=1)
    async with queue.enter("ann"):

        async def wait() -> None:
            async with queue.enter("bob") as place:
                async for _ in place.wait():
                    pass

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        assert queue.waiting == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert queue.waiting == 0
    assert queue.running == 0


async def test_beyond_the_limit_the_queue_says_when_to_come_back() -> None:
    queue = FairQueue(slots=1, waiting_limit=1)
    async with queue.enter("ann"), queue.enter("bob"):
        with pytest.raises(EngineBusy) as caught:
            queue.enter("cy")
    assert caught.value.retry_after_s >= 1


async def test_more_slots_let_those_in_who_wait() -> None:
    queue = FairQueue(slots=1)
    async with queue.enter("ann"), queue.enter("bob") as second:
        assert second.granted_at is None
        queue.resize(2)
        assert second.granted_at is not None


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=40),
)
def test_slots_are_never_exceeded_nor_lost_whoever_comes_and_goes(slots: int, steps: list[tuple[str, bool]]) -> None:
    async def run() -> None:
        queue = FairQueue(slots=slots)
        async with AsyncExitStack():
            inside: list[Place] = []
            for account, is_leaving in steps:
                if is_leaving and inside:
                    await inside.pop(0).__aexit__(None, None, None)
                else:
                    inside.append(await queue.enter(account).__aenter__())
                granted = [place for place in inside if place.granted_at is not None]
                assert queue.running == len(granted) == min(slots, len(inside))
                positions = sorted(place.position for place in inside if place.granted_at is None)
                assert positions == list(range(1, len(positions) + 1))
            for place in inside:
                await place.__aexit__(None, None, None)
            assert (queue.running, queue.waiting) == (0, 0)

    asyncio.run(run())
