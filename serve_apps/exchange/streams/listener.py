"""Brings to the markets of a replica what is published of them over Redis."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

import msgspec
import redis.asyncio
import structlog
from redis.exceptions import RedisError

from actors.marketdata import CHANNEL, MarketBatch, decode_batch

log = structlog.get_logger("kontor.market")

BACK_OFF_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
SUBSCRIBE_S: Final = 1.0
LISTEN_S: Final = 30.0


class Hearer(Protocol):
    """Who is told."""

    def hearing(self, hears: bool) -> None:
        """Whether what is published arrives from now on."""

    def receive(self, batch: MarketBatch) -> None:
        """Something was published."""


async def listen(connection: redis.asyncio.Redis, hearer: Hearer) -> None:
    """Listen for ever; when Redis is away, ask for it again less and less often."""
    failures = 0
    while True:
        try:
            async with connection.pubsub(ignore_subscribe_messages=True) as channel:
                await channel.subscribe(CHANNEL)
                await channel.get_message(timeout=SUBSCRIBE_S)
                failures = 0
                hearer.hearing(True)
                while True:
                    message = await channel.get_message(timeout=LISTEN_S)
                    if message is not None:
                        _pass_on(message["data"], hearer)
        except (RedisError, OSError) as error:
            pause_s = BACK_OFF_S[min(failures, len(BACK_OFF_S) - 1)]
            failures += 1
            log.warning("market_channel_lost", error=repr(error), retry_in_s=pause_s)
            hearer.hearing(False)
            await asyncio.sleep(pause_s)
        finally:
            hearer.hearing(False)


def _pass_on(data: bytes, hearer: Hearer) -> None:
    try:
        batch = decode_batch(data)
    except msgspec.DecodeError as error:
        log.warning("market_message_unreadable", error=str(error))
        return
    hearer.receive(batch)
