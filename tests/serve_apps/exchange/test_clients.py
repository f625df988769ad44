"""Public trading clients, unmodified but for their base URLs, against a venue that listens.

They live in an environment of their own, which ``make test`` installs from its hashed lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from persistence.tasks import end_tasks
from tests.serve_apps.exchange.venue import (
    SYMBOL,
    Refusal,
    Trader,
    Venue,
    eventually,
    open_venue,
)

ROOT = Path(__file__).resolve().parents[3]
PYTHON = ROOT / ".venv-clients/bin/python"
SCRIPTS = Path(__file__).parent / "clients"
PATIENCE_S = 150.0


async def run(venue: Venue, script: str) -> None:
    """Let a client trade; it says itself what is wrong."""
    name = script.removesuffix(".py")
    ann = await venue.trader(f"ann.{name}", USD=1_000_000)
    ben = await venue.trader(f"ben.{name}", BTC=100, USD=1_000_000)
    given = {
        "url": venue.url,
        "ann_key": ann.key,
        "ann_secret": ann.secret,
        "ben_key": ben.key,
        "ben_secret": ben.secret,
    }
    process = await asyncio.create_subprocess_exec(
        PYTHON, SCRIPTS / script, json.dumps(given),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE_S):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        output, _ = await process.communicate()
        said = output.decode()
        raise AssertionError(f"{script} did not end:\n{said[:2_500]}\n{said[-2_500:]}") from None
    assert process.returncode == 0, output.decode()[-8_000:]


@asynccontextmanager
async def busy(venue: Venue) -> AsyncIterator[None]:
    """Somebody who quotes and trades without end, some thirty times a second."""
    maker = await venue.trader("maker", BTC=1_000, USD=5_000_000)
    working = asyncio.create_task(_trade_without_end(maker, random.Random(7)))
    await eventually(lambda: _has_traded(venue))
    try:
        yield
        if working.done():
            await working
    finally:
        working.cancel()


async def _has_traded(venue: Venue) -> bool:
    found = await venue.http.get("/api/v3/trades", params={"symbol": SYMBOL})
    return bool(found.json())


async def _trade_without_end(maker: Trader, chance: random.Random) -> None:
    resting: deque[int] = deque()
    while True:
        middle = 50_000 + chance.randint(-20, 20)
        for side, away in (("BUY", -1), ("SELL", 1)):
            for _ in range(3):
                price = middle + away * chance.randint(0, 12)
                quantity = f"0.{chance.randint(100, 9_000):05d}"
                found = await maker.place(side, f"{price}.{chance.randint(0, 99):02d}", quantity)
                resting.append(found["orderId"])
        while len(resting) > 60:
            with contextlib.suppress(Refusal):  # it may have traded
                await maker.send("DELETE", "order", symbol=SYMBOL, orderId=resting.popleft())
        # Long enough that what is read now and then is a state that is streamed, too.
        await asyncio.sleep(0.3)


FOLLOWERS = ("with_ccxt_pro.py", "with_python_binance.py")


@pytest.fixture(scope="module")
async def following(
    shared_database_url: str, redis_url: str
) -> AsyncIterator[dict[str, asyncio.Task[None]]]:
    """Clients that follow a busy market, all at once: they mostly wait for what comes."""
    async with open_venue(shared_database_url, redis_url, project=True) as venue, busy(venue):
        clients = {script: asyncio.create_task(run(venue, script)) for script in FOLLOWERS}
        yield clients
        await end_tasks(list(clients.values()))


@pytest.mark.parametrize("script", FOLLOWERS)
async def test_who_follows_a_busy_market(
    following: dict[str, asyncio.Task[None]], script: str
) -> None:
    await following[script]
