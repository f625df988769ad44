"""What each version's replicas measure while a canary runs beside the stable one.

A replica asks Redis once a second whether a canary is under way. While there is none, that is all
that a canary costs, beside a look at an empty text for each request. While there is one, requests
are counted by duration and by whether they failed, and the counts are added up in Redis.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import redis.asyncio
import structlog
from redis.exceptions import RedisError

from persistence.releases import Comparison, Side
from persistence.tasks import end_tasks

log = structlog.get_logger("kontor.canary")

STABLE: Final = "stable"
CANARY: Final = "canary"
ACTIVE_KEY: Final = "kontor:canary"
"""Holds the number of the canary under way, and goes by itself if nobody says so any more."""
ACTIVE_S: Final = 10
KEPT_S: Final = 7 * 86_400
SHARE_EVERY_S: Final = 1.0

_STEP: Final = 1.1
# From 0.1 ms to two minutes, each a tenth longer than the one before.
BOUNDS_S: Final = tuple(1e-4 * _STEP**power for power in range(147))


def counts_key(release: str, side: str) -> str:
    """Where the counts of one version are added up."""
    return f"kontor:canary:{release}:{side}"


class Meter:
    """Counts the requests of one replica while ``release`` is not empty."""

    def __init__(self, side: str) -> None:
        self._side = side
        self.release = ""
        self._counts: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None

    def count(self, status: int, seconds: float) -> None:
        """Count an answer."""
        counts = self._counts
        name = f"b{bisect_left(BOUNDS_S, seconds)}"
        counts[name] = counts.get(name, 0) + 1
        if status >= 500:
            counts["errors"] = counts.get("errors", 0) + 1

    def start(self, client: redis.asyncio.Redis) -> None:
        """Look for canaries from now on."""
        self._task = asyncio.create_task(self._run(client))

    async def stop(self, client: redis.asyncio.Redis) -> None:
        """Hand over what has been counted."""
        if self._task is not None:
            await end_tasks([self._task])
            await self._tell(client)

    async def _run(self, client: redis.asyncio.Redis) -> None:
        while True:
            await self.look(client)
            await asyncio.sleep(SHARE_EVERY_S)

    async def look(self, client: redis.asyncio.Redis) -> None:
        """Hand over what has been counted, and see whether a canary is still under way."""
        await self._tell(client)
        try:
            found: Any = await client.get(ACTIVE_KEY)
        except (RedisError, OSError):
            return
        release = "" if found is None else found.decode()
        if release != self.release:
            self._counts = {}
            self.release = release

    async def _tell(self, client: redis.asyncio.Redis) -> None:
        if not self._counts:
            return
        counts, self._counts = self._counts, {}
        key = counts_key(self.release, self._side)
        try:
            async with client.pipeline(transaction=True) as pipeline:
                for name, number in counts.items():
                    pipeline.hincrby(key, name, number)
                pipeline.expire(key, KEPT_S)
                await pipeline.execute()
        except (RedisError, OSError) as error:
            log.info("canary_counts_wait", error=str(error))
            for name, number in counts.items():
                self._counts[name] = self._counts.get(name, 0) + number


def side_of(counts: Mapping[str, int]) -> Side:
    """What counts say. A time is that of the slowest request of its class, at most a tenth off."""
    classes = sorted((int(name[1:]), count) for name, count in counts.items() if name[0] == "b")
    total = sum(count for _, count in classes)

    def percentile(part: float) -> float:
        wanted, seen = part * total, 0
        for place, count in classes:
            seen += count
            if seen >= wanted:
                return BOUNDS_S[min(place, len(BOUNDS_S) - 1)]
        return 0.0

    return Side(total, counts.get("errors", 0), percentile(0.5), percentile(0.99), percentile(0.95))


class Measured(NamedTuple):
    """The counts of both versions, added up."""

    stable: Mapping[str, int]
    canary: Mapping[str, int]

    @property
    def comparison(self) -> Comparison:
        """What the counts say."""
        return Comparison(side_of(self.stable), side_of(self.canary))

    def since(self, before: Measured) -> Measured:
        """What was counted after ``before``."""
        return Measured(*(_less(now, then) for now, then in zip(self, before, strict=True)))


def _less(now: Mapping[str, int], then: Mapping[str, int]) -> Mapping[str, int]:
    more = ((name, count - then.get(name, 0)) for name, count in now.items())
    return {name: count for name, count in more if count}


async def measured(client: redis.asyncio.Redis, release: str) -> Measured:
    """What both versions have counted since the canary began. Raises ``RedisError``."""
    sides = []
    for side in (STABLE, CANARY):
        found: Mapping[Any, Any] = await client.hgetall(counts_key(release, side))
        sides.append({name.decode(): int(count) for name, count in found.items()})
    return Measured(*sides)


async def say_under_way(client: redis.asyncio.Redis, release: str) -> None:
    """Have replicas measure for the next seconds; to be said again and again."""
    await client.set(ACTIVE_KEY, release, ex=ACTIVE_S)


async def say_over(client: redis.asyncio.Redis) -> None:
    """Have replicas stop measuring."""
    await client.delete(ACTIVE_KEY)
