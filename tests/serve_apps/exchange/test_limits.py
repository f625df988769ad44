"""Limits: exact in one replica, shared between several, kept while Redis is away."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from serve_apps.exchange.errors import Refused
from serve_apps.exchange.limits import BAN_FIRST_S, VIOLATIONS_MAX, Limits, LimitSettings
from serve_apps.gateway.counts import SharedCounts

SETTINGS = LimitSettings(
    weight_1m=100, requests_1m=5, orders_10s=10, orders_1d=25, key_weight_1m=30
)
CUSTOMER = 1_000_000_001


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The time."""
    return Clock()


@pytest.fixture
async def connection(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    """A connection to a real Redis."""
    opened = redis.asyncio.Redis.from_url(redis_url)
    yield opened
    await opened.aclose()


def replica(clock: Clock, connection: redis.asyncio.Redis) -> Limits:
    """A replica's limits, which share when they are told to."""
    counts = SharedCounts(clock)
    counts.redis = connection
    return Limits(SETTINGS, counts)


def statuses(limits: Limits, address: str, count: int) -> list[int]:
    """The statuses of so many requests of weight 10."""
    found = []
    for _ in range(count):
        try:
            limits.charge(address, 10)
            found.append(200)
        except Refused as error:
            found.append(error.status)
    return found


async def test_a_minute_has_its_weight(clock: Clock, connection: redis.asyncio.Redis) -> None:
    limits = replica(clock, connection)
    assert statuses(limits, "192.0.2.1", 12) == [200] * 10 + [429] * 2
    assert statuses(limits, "192.0.2.2", 1) == [200]
    clock.now += 60
    assert limits.charge("192.0.2.1", 10) == 10


async def test_orders_in_ten_seconds_and_in_a_day(
    clock: Clock, connection: redis.asyncio.Redis
) -> None:
    limits = replica(clock, connection)
    assert limits.charge_orders(CUSTOMER, 8).in_10s == 8
    with pytest.raises(Refused, match="10 orders per 10 SECOND"):
        limits.charge_orders(CUSTOMER, 3)
    assert limits.charge_orders(CUSTOMER, 2).in_10s == 10  # what was refused does not count
    clock.now += 10
    limits.charge_orders(CUSTOMER, 10)
    clock.now += 10
    with pytest.raises(Refused, match="25 orders per 1 DAY"):
        limits.charge_orders(CUSTOMER, 6)
    assert limits.orders(CUSTOMER).in_1d == 20


async def test_requests_to_trade(clock: Clock, connection: redis.asyncio.Redis) -> None:
    limits = replica(clock, connection)
    for _ in range(5):
        limits.charge_requests(CUSTOMER)
    with pytest.raises(Refused) as refused:
        limits.charge_requests(CUSTOMER)
    assert (refused.value.status, refused.value.code) == (429, -1003)
    limits.charge_requests(CUSTOMER + 1)


async def test_a_key_has_its_weight(clock: Clock, connection: redis.asyncio.Redis) -> None:
    limits = replica(clock, connection)
    for _ in range(3):
        limits.charge_key(1, 10)
    with pytest.raises(Refused, match="current limit is 30 request weight") as refused:
        limits.charge_key(1, 1)
    assert (refused.value.status, refused.value.code) == (429, -1003)
    limits.charge_key(2, 10)
    clock.now += 60
    limits.charge_key(1, 30)


async def test_replicas_share(clock: Clock, connection: redis.asyncio.Redis) -> None:
    one, two = replica(clock, connection), replica(clock, connection)
    address = f"test {uuid.uuid4()}"
    for limits, weight in ((one, 60), (two, 30)):
        limits.charge(address, weight)
        await limits._counts.sync()
    assert two.weight(address) == 90
    assert one.weight(address) == 60  # as it last asked
    await one._counts.sync()
    assert one.weight(address) == 90
    assert statuses(one, address, 2) == [200, 429]
    await one._counts.sync()
    assert two.weight(address) == 90
    await two._counts.sync()
    assert statuses(two, address, 1) == [429]


async def test_bans_grow_and_hold_everywhere(clock: Clock, connection: redis.asyncio.Redis) -> None:
    one, two = replica(clock, connection), replica(clock, connection)
    address = f"test {uuid.uuid4()}"
    for expected in (BAN_FIRST_S, 2 * BAN_FIRST_S):
        found = statuses(one, address, 10 + VIOLATIONS_MAX + 2)
        assert found == [200] * 10 + [429] * VIOLATIONS_MAX + [418] * 2
        await one._banning
        await two._counts.sync()
        assert statuses(two, address, 1) == [418]
        clock.now += expected - 1
        assert statuses(two, address, 1) == [418]
        clock.now += 61  # in a later minute
        await one._counts.sync()
        await two._counts.sync()
        assert statuses(two, address, 1) == [200]
    assert await connection.hget("kontor:exchange:bans", address) is None


async def test_limits_hold_without_redis(clock: Clock) -> None:
    away = redis.asyncio.Redis(host="127.0.0.1", port=1, retry=Retry(NoBackoff(), 0))
    limits = replica(clock, away)
    assert statuses(limits, "192.0.2.1", 5) == [200] * 5
    with pytest.raises(redis.exceptions.ConnectionError):
        await limits._counts.sync()
    assert statuses(limits, "192.0.2.1", 7) == [200] * 5 + [429] * 2
    await away.aclose()


async def test_who_has_no_address_is_not_banned(
    clock: Clock, connection: redis.asyncio.Redis
) -> None:
    limits = replica(clock, connection)
    assert set(statuses(limits, f"user {CUSTOMER}", 300)) == {200, 429}
    assert statuses(limits, "", 200) == [200] * 200
    assert set(statuses(limits, "", 200)) == {429}
