"""The benchmark of live connections in a small size: it counts what happens, losses included."""

from __future__ import annotations

import psutil
import pytest

from benchmarks import sockets
from benchmarks.population import Population
from persistence.database import Pool
from serve_apps.notification_feed import Feed
from tests.serve_apps.inprocess import make_config
from tests.serve_apps.test_live_notifications import Replica


async def measured(
    pool: Pool, database_url: str, redis_url: str, clients: int, patience_s: float = 30
) -> sockets.Measured:
    """A few clients on a replica in this process."""
    async with Replica(make_config(database_url, redis_url)).run() as replica:
        people = Population(clients)
        await people.log_in(pool)
        return await sockets.measure(
            pool,
            redis_url,
            replica.url,
            people,
            lambda: [psutil.Process()],
            sockets.Options(
                clients=clients, rounds=3, singles=5, kill=False, settle_s=0, patience_s=patience_s
            ),
            lambda text: None,
        )


async def test_everybody_hears_everything_once(
    pool: Pool, database_url: str, redis_url: str
) -> None:
    result = await measured(pool, database_url, redis_url, 12)
    assert (result["clients"], result["told"], result["heard"]) == (12, 12 * 3 + 5, 12 * 3 + 5)
    assert (result["lost"], result["repeated"], result["gaps"]) == (0, 0, 0)
    assert (result["everybody"]["heard"], result["one"]["heard"]) == (36, 5)
    assert 0 < result["everybody"]["p50_ms"] <= result["everybody"]["p99_ms"]


async def test_what_is_lost_or_comes_twice_is_counted(
    pool: Pool, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a feed that forgets a little, and says a little twice."""
    bring = Feed._bring

    async def badly(self: Feed, page: str, user: int, since: int, rows: object) -> None:
        kept = [row for row in rows if row.seq != 2]  # type: ignore[attr-defined]
        await bring(self, page, user, since, kept)
        if kept and kept[-1].seq == 3:
            await self._send(page, kept[-1:])

    monkeypatch.setattr(Feed, "_bring", badly)
    result = await measured(pool, database_url, redis_url, 4, patience_s=1)
    assert (result["gaps"], result["lost"], result["repeated"]) == (4, 4, 4)
