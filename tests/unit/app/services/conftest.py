"""A chat over an in-memory database, the real filter and a scripted engine."""

from collections.abc import AsyncIterator

import pytest

from tests.fakes.house import House, make_house


@pytest.fixture
async def house() -> AsyncIterator[House]:
    one = make_house()
    yield one
    for turn in one.turns.running():
        turn.stop()
