"""Counts that all replicas share, at no cost for the request that is counted.

A replica counts in memory and adds what it has counted to Redis ten times a second, where it reads
what the other replicas have counted. So a check costs nothing, and several replicas together let
through at most what arrives in a tenth of a second beyond a limit. While Redis is away each
replica goes on by its own count: no limit is lifted, but with n replicas somebody who reaches all
of them has up to n times as much.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import redis.asyncio
import redis.exceptions
import structlog

from persistence.tasks import end_tasks

log = structlog.get_logger("kontor.counts")

SYNC_S: Final = 0.1
KEYS_MAX: Final = 100_000
_PREFIX: Final = "kontor:count:"

Key = tuple[str, str, int]
"""What is counted, for whom, and the length of the interval in seconds."""

Read = Callable[[dict[bytes, bytes]], Awaitable[None]]


class Window:
    """What one key has used in one interval: by all replicas as last read, and not yet told."""

    __slots__ = ("known", "number", "untold")

    def __init__(self) -> None:
        self.number = 0
        self.known = 0
        self.untold = 0

    def roll(self, number: int) -> None:
        """Begin the interval with this number, if it is another."""
        if number != self.number:
            self.number, self.known, self.untold = number, 0, 0

    @property
    def used(self) -> int:
        """Used in the interval, as far as is known."""
        return self.known + self.untold


class SharedCounts:
    """The counts of a replica. ``now`` is the clock's reading in seconds since the epoch."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.now = clock
        self._windows: dict[Key, Window] = {}
        self._dirty: set[Key] = set()
        self._followed: dict[str, Read] = {}
        self._task: asyncio.Task[None] | None = None
        self._away = False
        self.version = 0
        """Another one when windows that somebody holds may no longer be those that are shared."""

        self.redis: redis.asyncio.Redis

    def open(self, redis_client: redis.asyncio.Redis) -> None:
        """Start telling and reading counts."""
        self.redis = redis_client
        self._task = asyncio.create_task(self._forever())

    async def close(self) -> None:
        """Stop; what was not told is forgotten."""
        if self._task is not None:
            await end_tasks([self._task])

    def follow(self, name: str, read: Read) -> None:
        """Call ``read`` with the fields of the hash ``name`` whenever counts were shared."""
        self._followed[name] = read

    def window(self, key: Key, now: float) -> Window:
        """The interval of ``key`` that ``now`` lies in. Whoever uses something adds to ``untold``.

        Its count is read again with the next sharing, even if nothing is added.
        """
        window = self._windows.get(key)
        if window is None:
            if len(self._windows) >= KEYS_MAX:
                self._sweep(now)
            window = self._windows[key] = Window()
        number = int(now) // key[2]
        if number != window.number:
            window.roll(number)
        self._dirty.add(key)
        return window

    def touch(self, keys: Iterable[Key]) -> None:
        """Share these with the next sharing: something is about to be added to their windows."""
        self._dirty.update(keys)

    async def sync(self) -> None:
        """Tell Redis what was counted here, and read what was counted everywhere."""
        dirty, self._dirty = self._dirty, set()
        told: list[tuple[Key, Window, int, int]] = []
        try:
            async with self.redis.pipeline(transaction=False) as pipe:
                for key in dirty:
                    window = self._windows.get(key)
                    if window is None:
                        continue
                    name = f"{_PREFIX}{key[0]}:{key[2]}:{key[1]}:{window.number}"
                    pipe.incrby(name, window.untold)
                    pipe.expire(name, key[2] + 10)
                    told.append((key, window, window.number, window.untold))
                for followed in self._followed:
                    pipe.hgetall(followed)
                if not told and not self._followed:
                    return
                results = await pipe.execute()
        except BaseException:
            self._dirty |= dirty
            raise
        for index, (key, window, number, count) in enumerate(told):
            if window.number == number:
                window.known = int(results[2 * index])
                window.untold -= count
                if window.untold:
                    self._dirty.add(key)  # used meanwhile
        rest = results[2 * len(told) :]
        for read, fields in zip(self._followed.values(), rest, strict=True):
            await read(fields)

    def _sweep(self, now: float) -> None:
        """Forget what belongs to intervals that are over; if that is nothing, everything."""
        self.version += 1
        over = [key for key, window in self._windows.items() if window.number < now // key[2]]
        for key in over or list(self._windows):
            del self._windows[key]
            self._dirty.discard(key)

    async def _forever(self) -> None:
        while True:
            await asyncio.sleep(SYNC_S)
            try:
                await self.sync()
                self._away = False
            except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
                if not self._away:
                    log.warning("counts_not_shared", error=repr(error))
                self._away = True
