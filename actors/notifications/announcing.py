"""Who has been told something, said to replicas over Redis after the commit.

A message names people and nothing else: a replica with pages of theirs reads the rest from
Postgres. Who misses a message finds out by asking every few seconds, so that Redis may be away.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec
import redis.asyncio
import structlog
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

CHANNEL: Final = "kontor:notifications"
USERS_MAX: Final = 10_000
"""People in one message."""

_encode: Final = msgspec.msgpack.Encoder().encode
decode_told: Final = msgspec.msgpack.Decoder(list[int]).decode


class Announcer:
    """Says who has been told something; what Redis cannot take is lost."""

    def __init__(self, redis_url: str) -> None:
        self._redis = redis.asyncio.Redis.from_url(
            redis_url, socket_timeout=1.0, socket_connect_timeout=1.0
        )

    async def announce(self, users: Collection[int]) -> None:
        """Tell replicas that there is something new for these people."""
        told = list(users)
        try:
            for start in range(0, len(told), USERS_MAX):
                await self._redis.publish(CHANNEL, _encode(told[start : start + USERS_MAX]))
        except (RedisError, OSError) as error:
            log.info("not announced", people=len(told), error=f"{type(error).__name__}: {error}")

    async def close(self) -> None:
        """Announce nothing more."""
        await self._redis.aclose()
