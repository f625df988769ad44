"""Listen keys: the old way to a user stream, an address that whoever knows it may listen at.

Kept in Redis for an hour, as they hold nothing that must last: a client makes a new one.
"""

from __future__ import annotations

import re
import secrets
import string
from typing import Final

import redis.asyncio
import redis.exceptions
import structlog

from serve_apps.exchange.errors import Refused, unavailable

log = structlog.get_logger("kontor.exchange")

LIFE_S: Final = 3_600
LENGTH: Final = 60

_ALPHABET: Final = string.ascii_letters + string.digits
_KEY: Final = re.compile(r"[A-Za-z0-9]{60}", re.ASCII)
_OWNER: Final = "kontor:exchange:listen:"
_MINE: Final = "kontor:exchange:listener:"


def unknown_key() -> Refused:
    """There is no such listen key, or no longer."""
    return Refused(-1125, "This listenKey does not exist.")


class ListenKeys:
    """The listen keys of all replicas. Methods raise ``Refused`` when Redis is away."""

    def __init__(self, connection: redis.asyncio.Redis) -> None:
        self._redis = connection

    async def open(self, customer: int) -> str:
        """The customer's key, for an hour from now; a new one if there is none."""
        key = "".join(secrets.choice(_ALPHABET) for _ in range(LENGTH))
        try:
            name = f"{_MINE}{customer}"
            if not await self._redis.set(name, key, nx=True, ex=LIFE_S):
                known = await self._redis.get(name)
                key = known.decode() if isinstance(known, bytes) else key
            await self._redis.set(name, key, ex=LIFE_S)
            await self._redis.set(_OWNER + key, customer, ex=LIFE_S)
        except (redis.exceptions.RedisError, OSError) as error:
            raise self._away(error) from error
        return key

    async def keep(self, key: str, customer: int) -> None:
        """Another hour. Raises ``Refused`` (-1125)."""
        if await self.customer(key) != customer:
            raise unknown_key()
        try:
            await self._redis.expire(_OWNER + key, LIFE_S)
            await self._redis.expire(f"{_MINE}{customer}", LIFE_S)
        except (redis.exceptions.RedisError, OSError) as error:
            raise self._away(error) from error

    async def close(self, key: str, customer: int) -> None:
        """End a key. Raises ``Refused`` (-1125)."""
        if await self.customer(key) != customer:
            raise unknown_key()
        try:
            await self._redis.delete(_OWNER + key, f"{_MINE}{customer}")
        except (redis.exceptions.RedisError, OSError) as error:
            raise self._away(error) from error

    async def customer(self, key: str) -> int | None:
        """Whose key it is; ``None`` when there is no such key, or Redis is away."""
        if _KEY.fullmatch(key) is None:
            return None
        try:
            found = await self._redis.get(_OWNER + key)
        except (redis.exceptions.RedisError, OSError) as error:
            self._away(error)
            return None
        return None if found is None else int(found)

    def _away(self, error: Exception) -> Refused:
        log.warning("listen_keys_away", error=repr(error))
        return unavailable()
