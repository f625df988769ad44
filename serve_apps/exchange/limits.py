"""Limits of the trading API: request weights by address and key, orders by customer, bans.

They are counted as ``serve_apps.gateway.counts`` says: in memory, shared ten times a second.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
import redis.asyncio
import redis.exceptions
import structlog

from serve_apps.exchange.errors import Refused
from serve_apps.gateway.counts import SharedCounts

log = structlog.get_logger("kontor.limits")

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
    in ten seconds and in a day, and requests to trade (cancels among them) in a minute; of an API
    key the weight of its requests that do not trade.
    """

    weight_1m: int = 6_000
    requests_1m: int = 1_200_000
    orders_10s: int = 20_000
    orders_1d: int = 50_000_000
    key_weight_1m: int = 12_000


class OrderCount(msgspec.Struct, frozen=True):
    """Orders of a customer in the current ten seconds and in the current day."""

    in_10s: int
    in_1d: int


class Limits:
    """Counts, and refuses what is too much."""

    def __init__(self, settings: LimitSettings, counts: SharedCounts) -> None:
        self.settings = settings
        self._counts = counts
        self._clock = counts.now
        self._violations: dict[str, tuple[int, int]] = {}
        self._bans: dict[str, float] = {}
        counts.follow(BANS, self._read_bans)

    def charge(self, address: str, weight: int) -> int:
        """Count a request; the weight used in this minute. Raises ``Refused`` (429, 418).

        What has no address is counted by user (``user 123``), or together; neither is banned.
        """
        now = self._clock()
        if address and self._bans:
            until = self._bans.get(address, 0.0)
            if until > now:
                raise _banned(until, now)
        window = self._counts.window(("weight", address, 60), now)
        limit = self.settings.weight_1m
        if window.used + weight > (limit if address else limit * SHARED_FACTOR):
            raise self._exceeded(address, now)
        window.untold += weight
        return window.used

    def charge_requests(self, customer: int) -> None:
        """Count a request to trade. Raises ``Refused`` (429)."""
        now = self._clock()
        window = self._counts.window(("requests", str(customer), 60), now)
        if window.used >= self.settings.requests_1m:
            raise Refused(
                -1003,
                "Too many requests; current limit is"
                f" {self.settings.requests_1m} requests per 1 MINUTE.",
                429,
                retry_after_s=60 - int(now) % 60,
            )
        window.untold += 1

    def charge_key(self, number: int, weight: int) -> None:
        """Count a request by its API key. Raises ``Refused`` (429)."""
        now = self._clock()
        window = self._counts.window(("key", str(number), 60), now)
        if window.used + weight > self.settings.key_weight_1m:
            raise Refused(
                -1003,
                "Too much request weight used by this API key; current limit is"
                f" {self.settings.key_weight_1m} request weight per 1 MINUTE.",
                429,
                retry_after_s=60 - int(now) % 60,
            )
        window.untold += weight

    def weight(self, address: str) -> int:
        """The weight that an address has used in this minute."""
        return self._counts.window(("weight", address, 60), self._clock()).used

    def charge_orders(self, customer: int, count: int) -> OrderCount:
        """Count orders about to be placed. Raises ``Refused`` (429); then none is counted."""
        now = self._clock()
        name = str(customer)
        short = self._counts.window(("orders", name, 10), now)
        day = self._counts.window(("orders", name, 86_400), now)
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
            self._counts.window(("orders", name, 10), now).used,
            self._counts.window(("orders", name, 86_400), now).used,
        )

    async def _read_bans(self, bans: dict[bytes, bytes]) -> None:
        now = self._clock()
        self._bans = {
            address.decode(): until
            for address, text in bans.items()
            if (until := float(text)) > now
        }
        over = [address for address in bans if address.decode() not in self._bans]
        if over:
            await self._counts.redis.hdel(BANS, *over)

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
            times = int(await self._counts.redis.incr(name))
            await self._counts.redis.expire(name, BAN_MAX_S)
            until = now + min(BAN_FIRST_S * 2 ** min(times - 1, 20), BAN_MAX_S)
            self._bans[address] = until
            await self._counts.redis.hset(BANS, address, str(until))
        except (redis.exceptions.RedisError, OSError) as error:
            log.warning("ban_not_published", error=repr(error))


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
