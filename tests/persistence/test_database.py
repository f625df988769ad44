"""What a lost database looks like to those who use it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from persistence import database
from persistence.database import (
    OUTAGES,
    Pool,
    Standing,
    close_pool,
    connection,
    is_outage,
    open_pool,
)


async def test_a_connection_that_is_cut_is_an_outage_at_every_moment(database_url: str) -> None:
    """A statement may meet its connection before, while and after that learns of its end."""
    failures: list[Exception] = []
    async with connection(database_url, name="the test's knife") as knife:
        pool = await open_pool(database_url, name="the test", size_max=1)
        try:
            for turns in range(60):
                process = None
                while process is None:
                    try:
                        process = await pool.fetchval("SELECT pg_backend_pid()")
                    except OUTAGES:
                        continue
                await knife.execute("SELECT pg_terminate_backend($1)", process)
                for _ in range(turns % 40):
                    await asyncio.sleep(0)
                try:
                    await pool.fetchval("SELECT 1")
                except Exception as error:
                    failures.append(error)
        finally:
            pool.terminate()
    assert failures
    assert [error for error in failures if not is_outage(error)] == []


def test_a_group_is_an_outage_when_nothing_else_is_in_it() -> None:
    lost = ConnectionError("lost")
    assert is_outage(ExceptionGroup("", [lost, ExceptionGroup("", [TimeoutError()])]))
    assert not is_outage(ExceptionGroup("", [lost, ValueError()]))
    assert not is_outage(KeyError("a bug"))


async def test_a_pool_closes_whoever_still_holds_a_connection(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "CLOSE_TIMEOUT_S", 0.05)
    pool = await open_pool(database_url, name="the test", size_max=1)
    held = await pool.acquire()
    async with asyncio.timeout(5):
        await close_pool(pool)
    with pytest.raises(asyncpg.InterfaceError):
        await held.fetchval("SELECT 1")
    other = await open_pool(database_url, name="the test", size_max=1)
    await close_pool(other)
    with pytest.raises(asyncpg.InterfaceError):
        await other.fetchval("SELECT 1")


PROCESS = "SELECT pg_backend_pid()"


@pytest.fixture
async def standing(pool: Pool) -> AsyncIterator[Standing]:
    standing = Standing(pool)
    yield standing
    # Or the pool would never close.
    await standing.close()


async def test_what_stands_asks_over_one_connection(pool: Pool, standing: Standing) -> None:
    first = await standing.fetchval(PROCESS)
    assert [row[0] for row in await standing.fetch(PROCESS)] == [first]
    assert await pool.fetchval(PROCESS) != first


async def test_who_comes_while_another_asks_is_answered_too(standing: Standing) -> None:
    slow = "SELECT pg_backend_pid() FROM pg_sleep(0.02)"
    processes = await asyncio.gather(
        standing.fetchval(slow), standing.fetchval(slow), standing.fetchval(slow)
    )
    assert len(set(processes)) == 3


async def test_a_connection_that_was_lost_meanwhile_is_not_missed(
    pool: Pool, standing: Standing
) -> None:
    lost = await standing.fetchval(PROCESS)
    await pool.execute("SELECT pg_terminate_backend($1)", lost)
    async with asyncio.timeout(5):
        while not standing._lost():
            await pool.fetchval("SELECT 1")
    assert await standing.fetchval(PROCESS) != lost


async def test_a_question_that_failed_or_was_given_up_is_followed_by_others(
    standing: Standing,
) -> None:
    with pytest.raises(Exception, match="division by zero"):
        await standing.fetchval("SELECT 1 / $1::int", 0)
    given_up = asyncio.create_task(standing.fetch("SELECT pg_sleep(20)"))
    await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    assert await standing.fetchval("SELECT 1 / $1::int", 1) == 1
