"""The servers that a platform brings along: they keep data, come back, and never stay behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import redis.asyncio

from cluster.embedded import EmbeddedPostgres
from cluster.processes import wait_until
from persistence.database import Pool, connection
from persistence.migrate import available


async def test_a_fresh_database_has_all_migrations(pool: Pool) -> None:
    versions = await pool.fetch("SELECT version FROM schema_migrations ORDER BY version")
    assert [row["version"] for row in versions] == [item.version for item in available()]


async def test_sessions_have_the_settings_that_the_code_relies_on(pool: Pool) -> None:
    assert await pool.fetchval("SHOW jit") == "off"
    assert await pool.fetchval("SHOW timezone") == "UTC"


async def test_redis_answers_on_its_socket(redis_url: str) -> None:
    client = redis.asyncio.from_url(redis_url)
    try:
        assert await client.publish("nobody-listens", b"x") == 0
        await client.set("kept", b"7", ex=5)
        assert await client.get("kept") == b"7"
    finally:
        await client.aclose()


async def test_a_killed_postgres_comes_back_with_what_was_committed(tmp_path: Path) -> None:
    sockets = Path(f"/tmp/kontor-t{os.getpid()}")
    sockets.mkdir(mode=0o700)
    server = EmbeddedPostgres(
        tmp_path / "postgres", sockets, tmp_path / "log", instance="t-restart", fsync=False
    )
    server.start()
    try:
        async with connection(server.url(), name="tests") as conn:
            await conn.execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)")
        assert server.pid is not None
        first = psutil.Process(server.pid)
        os.kill(server.pid, signal.SIGKILL)
        assert wait_until(lambda: not server.alive(), timeout_s=30)
        server.restart()
        assert not first.is_running()
        async with connection(server.url(), name="tests") as conn:
            assert await conn.fetchval("SELECT n FROM kept") == 7
    finally:
        server.stop()
        (sockets / "pg").rmdir()
        sockets.rmdir()
    assert not server.alive()
