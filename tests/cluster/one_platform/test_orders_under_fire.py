"""Trading on a whole platform whose books and accounts are killed: nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import json
import signal

import pytest

from cluster import books
from cluster.chaos.trading import SYMBOL, TradingLoad, judge_trading, open_traders
from persistence.database import open_pool
from tests.cluster.running import Running, kontor

pytestmark = pytest.mark.cluster

ACCOUNTS, BOOKS = "ray::AccountActor", "ray::OrderBookActor"


async def all_back(platform: Running, killed: set[int]) -> None:
    """Wait until nobody who was killed is still to be replaced."""
    async with asyncio.timeout(60):
        for mark, count in ((ACCOUNTS, 2), (BOOKS, 1)):
            while len({process.pid for process in platform.children(mark)} - killed) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.1)


async def strike(platform: Running, load: TradingLoad, killed: set[int]) -> None:
    """Kill the books' actor, the accounts', and both at once, while orders are on their way."""
    for marks in ((BOOKS,), (ACCOUNTS,), (BOOKS, ACCOUNTS), (BOOKS,)):
        await all_back(platform, killed)
        done = load.batches
        for mark in marks:
            for process in platform.children(mark):
                process.send_signal(signal.SIGKILL)
                killed.add(process.pid)
        async with asyncio.timeout(60):
            # Everybody goes on before the next blow.
            while load.batches < done + 40:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    load.stop()


async def trade(platform: Running) -> tuple[TradingLoad, list[str], int, books.Report]:
    """Orders under fire; what is wrong afterwards."""
    traders = await open_traders(platform, 6)
    load = TradingLoad(platform.url, traders, seed=1)
    killed: set[int] = set()
    async with asyncio.timeout(200):
        await asyncio.gather(load.run(), strike(platform, load, killed))
    assert len(killed) == 1 + 2 + 3 + 1, "each blow struck actors that had come back"
    pool = await open_pool(platform.database_url(), name="tests", size_max=2)
    try:
        findings, trades = await judge_trading(load, pool, rest_s=30)
        report = await books.check(pool)
        assert all(chain.ok for chain in await books.verify(pool))
    finally:
        await pool.close()
    return load, findings, trades, report


def test_no_acknowledged_order_is_lost_when_actors_are_killed(platform: Running) -> None:
    load, findings, trades, report = asyncio.run(trade(platform))
    assert findings == []
    assert report.findings == []
    assert len(load.placed) > 200
    assert load.cancelled
    assert trades > 20


def test_a_hot_book_gets_an_actor_of_its_own(platform: Running) -> None:
    def actors() -> list[str]:
        done = kontor("status", "--json", data_dir=platform.data_dir)
        found = json.loads(done.stdout)["actors"]
        return sorted(one["hosts"] for one in found if one["kind"] == "OrderBookActor")

    pinned = kontor("pin", "books", SYMBOL.lower(), "--json", data_dir=platform.data_dir)
    assert pinned.returncode == 0, pinned.stderr
    assert json.loads(pinned.stdout)["done"]
    assert f"OrderBookActor({SYMBOL})" in actors()
    assert len(actors()) == 2
    unpinned = kontor("unpin", "books", SYMBOL, "--json", data_dir=platform.data_dir)
    assert unpinned.returncode == 0, unpinned.stderr
    unknown = kontor("pin", "books", "NOSUCHUSD", data_dir=platform.data_dir)
    assert "There is no instrument NOSUCHUSD." in unknown.stderr


def test_books_scale_like_accounts(platform: Running) -> None:
    for count in (2, 1):
        done = kontor("scale", "books", str(count), "--json", data_dir=platform.data_dir)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["done"]
    done = kontor("check", "--json", data_dir=platform.data_dir)
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["counts"]["books"] >= 1
