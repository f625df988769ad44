"""Sessions in a replica's memory: fast, and yet never trusted for longer than five seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest
import redis.asyncio

from persistence import identity as store
from persistence import roles
from persistence.database import Pool
from serve_apps.services import utc_now
from serve_apps.sessions import Sessions, new_token, token_hash

USER = 4820193756


class Clock:
    """The database's side of time."""

    def __init__(self) -> None:
        self.offset = timedelta()

    def __call__(self) -> datetime:
        return utc_now() + self.offset


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def sessions(pool: Pool, redis_url: str, clock: Clock) -> AsyncIterator[Sessions]:
    """Sessions that follow revocations only when told to; one user exists."""
    await store.add_user(
        pool, user=USER, email="ann@example.com", name="Ann", password_hash="x", now=utc_now()
    )
    client = redis.asyncio.Redis.from_url(redis_url)
    followed = Sessions(clock)
    followed._pool, followed._redis = pool, client
    await followed.read_revocations()
    yield followed
    await client.aclose()


async def start(sessions: Sessions, idle_s: int = 3_600) -> tuple[str, int]:
    """A token and its session's number."""
    token = new_token("kontor_")
    now = utc_now()
    number = await sessions.start(
        store.NewSession(
            token_hash(token), "api", USER, "csrf", now, now + timedelta(days=1), idle_s, "", ""
        )
    )
    return token, number


class Counting:
    """A pool that counts what is asked of it."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.queries = 0

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        self.queries += 1
        return await self.pool.fetch(query, *arguments)


async def test_postgres_is_asked_once(sessions: Sessions, pool: Pool) -> None:
    tokens = [(await start(sessions))[0] for _ in range(20)]
    counting = Counting(pool)
    sessions._pool = counting  # type: ignore[assignment]
    found = await asyncio.gather(*(sessions.find(token) for token in tokens * 3))
    assert all(item is not None and item.user == USER for item in found)
    assert counting.queries <= 2, "what gathers while a query runs goes into the next"
    for token in tokens:
        assert await sessions.find(token)
    assert counting.queries <= 2


async def test_unknown_tokens_are_not_remembered(sessions: Sessions) -> None:
    token, _ = await start(sessions)
    assert await sessions.find(token + "x") is None
    assert len(sessions._entries) == 0


async def test_a_revocation_elsewhere_is_seen_without_redis(sessions: Sessions, pool: Pool) -> None:
    token, number = await start(sessions)
    assert await sessions.find(token)
    await store.revoke_session(pool, USER, number, utc_now())
    assert await sessions.find(token), "not known here yet"
    await sessions.read_revocations()
    assert await sessions.find(token) is None


async def test_a_role_that_is_given_or_taken_counts_after_the_next_reading(
    sessions: Sessions, pool: Pool
) -> None:
    token, _ = await start(sessions)

    async def held() -> set[str]:
        principal = await sessions.find(token)
        assert principal is not None
        return set(principal.roles)

    assert await held() == {"customer"}
    await roles.grant(pool, USER, "operator", "a test")
    await sessions.read_revocations()
    assert await held() == {"customer", "operator"}
    await roles.revoke(pool, USER, "operator", "a test")
    await sessions.read_revocations()
    assert await held() == {"customer"}


async def test_after_a_long_time_without_news_nothing_is_remembered(
    sessions: Sessions, pool: Pool, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica that was frozen for a minute finds no word of what was revoked before."""
    token, number = await start(sessions)
    assert await sessions.find(token)
    await store.revoke_session(pool, USER, number, utc_now())
    later = time.monotonic() + 60
    monkeypatch.setattr(time, "monotonic", lambda: later)
    clock.offset = timedelta(seconds=60)
    await sessions.read_revocations()
    assert await sessions.find(token) is None


async def test_without_news_for_five_seconds_nothing_is_trusted(
    sessions: Sessions, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, number = await start(sessions)
    assert await sessions.find(token)
    await store.revoke_session(pool, USER, number, utc_now())
    later = time.monotonic() + 5.1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert await sessions.find(token) is None


async def test_unused_it_ends_and_used_it_goes_on(
    sessions: Sessions, pool: Pool, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, _ = await start(sessions, idle_s=60)
    real = time.time
    for seconds in (0, 50, 100):
        monkeypatch.setattr(time, "time", lambda passed=seconds: real() + passed)
        clock.offset = timedelta(seconds=seconds)
        assert await sessions.find(token)
        await sessions.flush_seen()
    seen = await pool.fetchval("select last_seen_at from sessions")
    assert abs((seen - utc_now()).total_seconds() - 100) < 5
    clock.offset = timedelta(seconds=161)
    monkeypatch.setattr(time, "time", lambda: real() + 161)
    assert await sessions.find(token) is None


async def test_at_its_end_it_ends_however_much_it_is_used(
    sessions: Sessions, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, _ = await start(sessions, idle_s=100_000_000)
    assert await sessions.find(token)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 86_401)
    clock.offset = timedelta(seconds=86_401)
    assert await sessions.find(token) is None


async def test_an_outage_is_an_error_and_not_a_logout(sessions: Sessions) -> None:
    token, _ = await start(sessions)

    class Gone:
        async def fetch(self, *_: object) -> None:
            raise ConnectionRefusedError

    kept, sessions._pool = sessions._pool, Gone()  # type: ignore[assignment]
    with pytest.raises(ConnectionRefusedError):
        await sessions.find(token)
    sessions._pool = kept
    assert await sessions.find(token)


async def test_memory_is_bounded(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sessions, "entries_max", 3)
    for _ in range(5):
        assert await sessions.find((await start(sessions))[0])
    assert len(sessions._entries) == 3


async def test_following_begins_again_after_redis_was_away(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = redis.asyncio.Redis.from_url(redis_url)
    followed = Sessions(utc_now)
    failures = 0
    subscribe = client.pubsub

    def pubsub(**options: object) -> object:
        nonlocal failures
        failures += 1
        if failures == 1:
            raise redis.exceptions.ConnectionError("away")
        return subscribe(**options)

    monkeypatch.setattr(client, "pubsub", pubsub)
    forgotten: list[bytes] = []
    monkeypatch.setattr(followed, "_forget", forgotten.append)
    await followed.open(pool, client)
    for _ in range(300):
        await client.publish(Sessions.channel, b"digest")
        if forgotten:
            break
        await asyncio.sleep(0.01)
    assert forgotten[0] == b"digest"
    await followed.close()
    await client.aclose()
