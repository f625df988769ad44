"""The first page of a history, kept in Redis under the version of the customer that it is of.

The partition that owns a customer says which version of the customer this is. It says so when all
that makes up the version is committed, so what is read from Postgres after that, and kept under
that version, holds for whoever is told the same version later: nothing has happened in between.
What is out of date is never asked for again and goes by itself. Nobody has to invalidate anything,
so nothing is lost when Redis or a replica is. Without Redis, or the partition, Postgres answers.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from redis.exceptions import RedisError

from domain.accounts.commands import ReadVersion
from domain.durable import Version
from persistence.accounts import HistoryFilter, HistoryPage, TransferRow, history

if TYPE_CHECKING:
    from serve_apps.accounts import HistoryQuery
    from serve_apps.services import Services

ROWS_MAX: Final = 50
"""Longer pages are not kept."""
KEPT_S: Final = 600
WAIT_S: Final = 0.25
AWAY_S: Final = 1.0
"""So long Redis is left alone after it did not answer in time."""

_EVERYTHING: Final = HistoryFilter()
_ROWS: Final = msgspec.msgpack.Decoder(HistoryPage)

_FIELDS: Final = (*HistoryPage.__struct_fields__, *TransferRow.__struct_fields__)
_FORM: Final = f"{zlib.crc32(repr(_FIELDS).encode()):08x}"
"""Two versions of the code, one of them a canary, do not read what the other has kept."""

T = TypeVar("T")


def is_first_page(query: HistoryQuery) -> bool:
    """Whether this is what is kept: the newest of everything."""
    newest = query.sort == "date" and query.descending and query.cursor is None
    return newest and query.limit <= ROWS_MAX and query.filter == _EVERYTHING


class HotReads:
    """What one replica reads and keeps."""

    def __init__(self) -> None:
        self._away_until = 0.0

    async def page(self, services: Services, user: int, limit: int) -> HistoryPage:
        """The newest rows of a history. Raises what the database raises."""

        async def read() -> HistoryPage:
            return await history(services.pool, user, _EVERYTHING, limit=limit)

        if time.monotonic() < self._away_until:
            return await read()
        version = await services.accounts.call(ReadVersion(user))
        if not isinstance(version, Version):
            return await read()
        key = f"kontor:history:{_FORM}:{user}:{limit}:{version.value}"
        asked: Awaitable[Any] = services.redis.get(key)
        kept: bytes | None = await self._ask(asked)
        if kept is not None:
            return _ROWS.decode(kept)
        page = await read()
        if time.monotonic() >= self._away_until:
            await self._ask(services.redis.set(key, msgspec.msgpack.encode(page), ex=KEPT_S))
        return page

    async def _ask(self, answer: Awaitable[T]) -> T | None:
        """What Redis answers; ``None`` where it does not."""
        try:
            async with asyncio.timeout(WAIT_S):
                return await answer
        except (RedisError, OSError, TimeoutError):
            self._away_until = time.monotonic() + AWAY_S
            return None
