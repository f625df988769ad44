"""Lookups that gather while a query runs."""

from __future__ import annotations

import asyncio

import pytest

from serve_apps.gathering import Gathering


class Source:
    """Doubles numbers below 100, when it is let go."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.open = asyncio.Event()
        self.error: Exception | None = None

    async def fetch(self, keys: list[int]) -> dict[int, int]:
        self.asked.append(sorted(keys))
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return {key: key * 2 for key in keys if key < 100}


async def test_what_gathers_goes_together() -> None:
    source = Source()
    gathering = Gathering(source.fetch)
    tasks = [asyncio.create_task(gathering.get(1))]
    await asyncio.sleep(0.01)
    tasks += [asyncio.create_task(gathering.get(key)) for key in (2, 3, 2, 100)]
    await asyncio.sleep(0.01)
    assert source.asked == [[1]]
    source.open.set()
    assert await asyncio.gather(*tasks) == [2, 4, 6, 4, None]
    assert source.asked == [[1], [2, 3, 100]]
    assert await gathering.get(1) == 2, "nothing is remembered here"
    await gathering.get_many([])
    await gathering.get_many([5, 6])
    assert source.asked[2:] == [[1], [5, 6]]


async def test_one_who_leaves_does_not_take_the_others_along() -> None:
    source = Source()
    gathering = Gathering(source.fetch)
    leaving, staying = (asyncio.create_task(gathering.get(1)) for _ in range(2))
    await asyncio.sleep(0.01)
    leaving.cancel()
    source.open.set()
    assert await staying == 2


async def test_an_error_is_everybodys_and_then_over() -> None:
    source = Source()
    source.error = ConnectionRefusedError()
    source.open.set()
    gathering = Gathering(source.fetch)
    results = await asyncio.gather(*(gathering.get(key) for key in (1, 2)), return_exceptions=True)
    assert [type(result) for result in results] == [ConnectionRefusedError] * 2
    with pytest.raises(ConnectionRefusedError):
        await gathering.get_many([3])
    source.error = None
    assert await gathering.get(1) == 2
