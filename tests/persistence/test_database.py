"""What a lost database looks like to those who use it."""

from __future__ import annotations

import asyncio

from persistence.database import OUTAGES, connection, is_outage, open_pool


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
