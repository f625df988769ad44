"""Limits of the trading API: request weights by address, orders by customer, bans.

A replica counts in memory and adds what it has counted to Redis ten times a second, where it
reads what the other replicas have counted. So a check costs nothing, and several replicas
together let through at most what arrives in a tenth of a second beyond the limit. While Redis is
away each replica goes on by its own count: no limit is lifted, but with n replicas a client that
reaches all of them has up to n times as much.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import msgspec
import redis.asyncio
import redis.exceptions
import structlog

from serve_apps.exchange.errors import Refused
from serve_apps.tasks import end_tasks

log = structlog.get_logger("kontor.limits")

SYNC_S: Final = 0.1
KEYS_MAX: Final = 100_000
VIOLATIONS_MAX: Final = 50
"""Requests beyond the limit within its minute that are answered with 429; then comes a ban."""

BAN_FIRST_S: Final = 120
BAN_MAX_S: Final = 3 * 86_400
SHARED_FACTOR: Final = 20
"""Clients whose address nobody knows share this many times the weight, and are never banned."""

BANS: Final = "kontor:exchange:bans"
_PREFIX: Final = "kontor:exchange:"


class LimitSettings(msgspec.Struct, frozen=True):
    """What is allowed: of an address the weight of its requests in a minute; of a customer orders
    in ten seconds and in a day, and requests to trade (cancels among them) in a minute.
    """

    weight_1m: int = 6_000
    requests_1m: int = 1_200_000
    orders_10s: int = 20_000
    orders_1d: int = 50_000_000


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


class OrderCount(msgspec.Struct, frozen=True):
    """Orders of a customer in the current ten seconds and in the current day."""

    in_10s: int
    in_1d: int


class Limits:
    """Counts, and refuses what is too much."""

    def __init__(self, settings: LimitSettings, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self._clock = clock
        self._windows: dict[tuple[str, str, int], Window] = {}
        self._dirty: set[tuple[str, str, int]] = set()
        self._violations: dict[str, tuple[int, int]] = {}
        self._bans: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None
        self._redis: redis.asyncio.Redis
        self._away = False

    def open(self, redis_client: redis.asyncio.Redis) -> None:
        """Start telling and reading counts."""
        self._redis = redis_client
        self._task = asyncio.create_task(self._forever())

    async def close(self) -> None:
        """Stop; what was not told is forgotten."""
        if self._task is not None:
            await end_tasks([self._task])

    def charge(self, address: str, weight: int) -> int:
        """Count a request; the weight used in this minute. Raises ``Refused`` (429, 418).

        What has no address is counted by user (``user 123``), or together; neither is banned.
        """
        now = self._clock()
        if address and self._bans:
            until = self._bans.get(address, 0.0)
            if until > now:
                raise _banned(until, now)
        window = self._window(("weight", address, 60), now)
        limit = self.settings.weight_1m
        if window.used + weight > (limit if address else limit * SHARED_FACTOR):
            raise self._exceeded(address, now)
        window.untold += weight
        return window.used

    def charge_requests(self, customer: int) -> None:
        """Count a request to trade. Raises ``Refused`` (429)."""
        now = self._clock()
        window = self._window(("requests", str(customer), 60), now)
        if window.used >= self.settings.requests_1m:
            raise Refused(
                -1003,
                "Too many requests; current limit is"
                f" {self.settings.requests_1m} requests per 1 MINUTE.",
                429,
                retry_after_s=60 - int(now) % 60,
            )
        window.untold += 1

    def weight(self, address: str) -> int:
        """The weight that an address has used in this minute."""
        return self._window(("weight", address, 60), self._clock()).used

    def charge_orders(self, customer: int, count: int) -> OrderCount:
        """Count orders about to be placed. Raises ``Refused`` (429); then none is counted."""
        now = self._clock()
        name = str(customer)
        short = self._window(("orders", name, 10), now)
        day = self._window(("orders", name, 86_400), now)
        settings = self.settings
        if short.used + count > settings.orders_10s:
            raise _too_many_orders(settings.orders_10s, "10 SECOND", 10, now)
        if day.used + count > settings.orders_1d:
            raise _too_many_orders(settings.orders_1d, "1 DAY", 86_400, now)
        short.untold += count
        day.untold += count
        return OrderCount(short.used, day.used)

    def orders(self, customer: int) -> OrderCount:
        """What a customer has placed."""
        now = self._clock()
        name = str(customer)
        return OrderCount(
            self._window(("orders", name, 10), now).used,
            self._window(("orders", name, 86_400), now).used,
        )

    async def sync(self) -> None:
        """Tell Redis what was counted here, and read what was counted everywhere."""
        now = self._clock()
        dirty, self._dirty = self._dirty, set()
        told: list[tuple[Window, int, int]] = []
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                for key in dirty:
                    window = self._windows.get(key)
                    if window is None:
                        continue
                    name = f"{_PREFIX}{key[0]}:{key[2]}:{key[1]}:{window.number}"
                    pipe.incrby(name, window.untold)
                    pipe.expire(name, key[2] + 10)
                    told.append((window, window.number, window.untold))
                pipe.hgetall(BANS)
                results = await pipe.execute()
        except BaseException:
            self._dirty |= dirty
            raise
        for index, (window, number, count) in enumerate(told):
            if window.number == number:
                window.known = int(results[2 * index])
                window.untold -= count
        await self._read_bans(results[-1], now)

    async def _read_bans(self, bans: dict[bytes, bytes], now: float) -> None:
        self._bans = {
            address.decode(): until
            for address, text in bans.items()
            if (until := float(text)) > now
        }
        over = [address for address in bans if address.decode() not in self._bans]
        if over:
            await self._redis.hdel(BANS, *over)

    def _window(self, key: tuple[str, str, int], now: float) -> Window:
        window = self._windows.get(key)
        if window is None:
            if len(self._windows) >= KEYS_MAX:
                self._sweep(now)
            window = self._windows[key] = Window()
        window.roll(int(now) // key[2])
        self._dirty.add(key)
        return window

    def _sweep(self, now: float) -> None:
        """Forget what belongs to intervals that are over; if that is nothing, everything."""
        over = [key for key, window in self._windows.items() if window.number < now // key[2]]
        for key in over or list(self._windows):
            del self._windows[key]
            self._dirty.discard(key)

    def _exceeded(self, address: str, now: float) -> Refused:
        minute = int(now) // 60
        number, count = self._violations.get(address, (minute, 0))
        count = count + 1 if number == minute else 1
        if len(self._violations) >= KEYS_MAX:
            self._violations.clear()
        self._violations[address] = (minute, count)
        if address and not address.startswith("user ") and count > VIOLATIONS_MAX:
            return self._ban(address, now)
        return Refused(
            -1003,
            f"Too much request weight used; current limit is {self.settings.weight_1m} request"
            " weight per 1 MINUTE. Please use WebSocket Streams for live updates to avoid polling"
            " the API.",
            429,
            retry_after_s=60 - int(now) % 60,
        )

    def _ban(self, address: str, now: float) -> Refused:
        until = now + BAN_FIRST_S
        self._bans[address] = until
        self._violations.pop(address, None)
        self._banning = asyncio.ensure_future(self._publish_ban(address, now))
        return _banned(until, now)

    async def _publish_ban(self, address: str, now: float) -> None:
        """Ban everywhere, twice as long as the last time within three days."""
        name = f"{_PREFIX}banned:{address}"
        try:
            times = int(await self._redis.incr(name))
            await self._redis.expire(name, BAN_MAX_S)
            until = now + min(BAN_FIRST_S * 2 ** min(times - 1, 20), BAN_MAX_S)
            self._bans[address] = until
            await self._redis.hset(BANS, address, str(until))
        except (redis.exceptions.RedisError, OSError) as error:
            log.warning("ban_not_published", error=repr(error))

    async def _forever(self) -> None:
        while True:
            await asyncio.sleep(SYNC_S)
            try:
                await self.sync()
                self._away = False
            except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
                if not self._away:
                    log.warning("limits_not_shared", error=repr(error))
                self._away = True


def _too_many_orders(limit: int, interval: str, seconds: int, now: float) -> Refused:
    return Refused(
        -1015,
        f"Too many new orders; current limit is {limit} orders per {interval}.",
        429,
        retry_after_s=seconds - int(now) % seconds,
    )


def _banned(until: float, now: float) -> Refused:
    return Refused(
        -1003,
        f"Way too much request weight used; IP banned until {int(until * 1_000)}."
        " Please use WebSocket Streams for live updates to avoid bans.",
        418,
        retry_after_s=max(1, int(until - now) + 1),
    )
