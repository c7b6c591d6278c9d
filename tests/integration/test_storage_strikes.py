"""Many tabs at once over a real database: each refused question counts once, and one pause comes of them."""

import asyncio
from datetime import timedelta

import pytest

from app.domain.errors import Suspended
from app.domain.models import now
from app.services.strikes import StrikeLimits
from storage.database import open_storage
from tests.fakes.house import make_house
from tests.fakes.sweets import REFUSED, sweets


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


async def test_of_eight_tabs_three_are_counted_and_five_are_told_of_the_pause(url: str) -> None:
    storage = await open_storage(url)
    try:
        house = make_house(content_filter=sweets(), limits=StrikeLimits(in_row=3, per_day=5), inner=storage)
        async with storage.write() as unit:
            await unit.accounts.add(house.ann)
            await unit.commit()
        tabs = [house.ask(f"{n} {REFUSED}") for n in range(8)]
        results = await asyncio.gather(*tabs, return_exceptions=True)
        async with storage.read() as unit:
            standing = await unit.strikes.suspended([house.ann.id], at=now())
            used = [await unit.strikes.of_suspension(one.id) for one in standing]
            left = await unit.strikes.counting(house.ann.id, since=now() - timedelta(days=1))
    finally:
        await storage.close()
    assert sum(isinstance(one, Suspended) for one in results) == 5
    assert sum(isinstance(one, BaseException) for one in results) == 5
    assert [len(strikes) for strikes in used] == [3]
    assert list(left) == []
