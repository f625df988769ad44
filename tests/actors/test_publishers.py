"""Publishers end when they are told to, even in the moment in which Redis forgets it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis.asyncio

from actors.live import LivePublisher
from actors.marketdata import MarketPublisher
from actors.userdata import CustomerPublisher
from domain.accounts.events import AssetIssued, TransferReceived

EVENTS = [
    ("1", TransferReceived(bytes(16), 10_000, 20_000, 1, "USD")),
    ("1", AssetIssued(b"i" * 16, 1, "A", 5, 1)),
]


@pytest.mark.parametrize("kind", [CustomerPublisher, LivePublisher, MarketPublisher])
async def test_a_cancellation_that_redis_forgets_is_told_again(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    asked = asyncio.Event()

    async def forgetful(*_: object, **__: object) -> list[Any]:
        asked.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            # As ``asyncio.wait_for`` of Python 3.11 does when the answer has just come.
            return []
        raise AssertionError("nobody has cancelled it")

    monkeypatch.setattr(redis.asyncio.Redis, "execute_command", forgetful)
    publisher = kind(redis_url)
    publisher.publish(1, EVENTS, [])
    async with asyncio.timeout(20):
        await asked.wait()
    closing = asyncio.create_task(publisher.close())
    done, _ = await asyncio.wait([closing], timeout=10)
    assert done, "it waits for ever"
    await closing
