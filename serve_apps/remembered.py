"""What a replica remembers of Postgres, and may trust: sessions, API keys.

Asking Postgres for each request would cost a query each. What is remembered may be trusted because
what was revoked lately is read every two seconds: with no such reading for five seconds nothing
remembered counts, and Postgres is asked. Redis carries revocations at once, but is not relied on.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Final, Generic, TypeVar

import redis.asyncio
import redis.exceptions
import structlog

from persistence.database import OUTAGES, Pool
from persistence.tasks import end_tasks
from serve_apps.gathering import Gathering

log = structlog.get_logger("kontor.remembered")

POLL_S: Final = 2.0
TRUST_S: Final = 5.0
LOOK_BACK: Final = timedelta(seconds=30)
TOUCH_S: Final = 30.0

Key = TypeVar("Key", bytes, str)
Entry = TypeVar("Entry")
Value = TypeVar("Value")


class Remembered(ABC, Generic[Key, Entry, Value]):
    """``Value`` by ``Key``, kept in memory as ``Entry``; ``_seen`` is when each was last used."""

    channel: ClassVar[str]
    """Where replicas tell each other of what was revoked."""
    entries_max: ClassVar[int]

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._entries: dict[Key, Entry] = {}
        self._seen: dict[Key, float] = {}
        self._loading: Gathering[Key, Value] = Gathering(self._load)
        self._trusted_until = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._pool: Pool
        self._redis: redis.asyncio.Redis

    @abstractmethod
    async def _load(self, keys: list[Key]) -> Mapping[Key, Value]:
        """Look these up in Postgres, and remember what is there."""

    @abstractmethod
    async def _revoked_since(self, since: datetime) -> Iterable[Key]:
        """Of which what is remembered may be wrong since then."""

    @abstractmethod
    async def _touch(self, seen: Sequence[tuple[Key, datetime]]) -> None:
        """Note in Postgres when they were last used."""

    @abstractmethod
    def _key(self, message: bytes) -> Key:
        """What a message on the channel names."""

    async def open(self, pool: Pool, redis_client: redis.asyncio.Redis) -> None:
        """Start following revocations."""
        self._pool, self._redis = pool, redis_client
        await self.read_revocations()
        self._tasks = [
            asyncio.create_task(self._forever(self.read_revocations, POLL_S)),
            asyncio.create_task(self._forever(self._listen, 0.5)),
            asyncio.create_task(self._forever(self.flush_seen, TOUCH_S)),
        ]

    async def close(self) -> None:
        """Stop following, and note what was used last."""
        await end_tasks(self._tasks)
        with contextlib.suppress(*OUTAGES):
            await self.flush_seen()

    async def ended(self, keys: Iterable[Key]) -> None:
        """Forget what was revoked, here and on all replicas."""
        for key in keys:
            self._forget(key)
            try:
                await self._redis.publish(self.channel, key)
            except (redis.exceptions.RedisError, OSError) as error:
                log.warning("revocation_not_published", channel=self.channel, error=repr(error))

    async def read_revocations(self) -> None:
        """Forget what was revoked lately; from then on the rest is trusted for a while."""
        started = time.monotonic()
        async with asyncio.timeout(TRUST_S):
            keys = await self._revoked_since(self._now() - LOOK_BACK)
        if started - self._trusted_until > LOOK_BACK.total_seconds() - TRUST_S:
            # Nothing was read for so long that something may have been missed.
            self._entries.clear()
        for key in keys:
            self._forget(key)
        self._trusted_until = started + TRUST_S

    async def flush_seen(self) -> None:
        """Note in Postgres what was used since the last time."""
        seen, self._seen = self._seen, {}
        if seen:
            await self._touch([(key, datetime.fromtimestamp(at, UTC)) for key, at in seen.items()])

    def _remember(self, key: Key, entry: Entry) -> None:
        if len(self._entries) >= self.entries_max:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = entry
        self._seen[key] = time.time()

    def _forget(self, key: Key) -> None:
        self._entries.pop(key, None)
        self._seen.pop(key, None)

    async def _listen(self) -> None:
        async with self._redis.pubsub(ignore_subscribe_messages=True) as subscription:
            await subscription.subscribe(self.channel)
            while True:
                message = await subscription.get_message(timeout=None)
                if message is not None:
                    self._forget(self._key(message["data"]))

    async def _forever(self, work: Callable[[], Awaitable[None]], pause_s: float) -> None:
        while True:
            try:
                await work()
            except Exception as error:
                log.warning("not_followed", channel=self.channel, error=repr(error))
            await asyncio.sleep(pause_s)
