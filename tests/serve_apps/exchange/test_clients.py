"""Public trading clients, unmodified but for their base URLs, against a venue that listens.

They live in an environment of their own, which ``make test`` installs from its hashed lock.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.serve_apps.exchange.venue import Venue, open_venue

ROOT = Path(__file__).resolve().parents[3]
PYTHON = ROOT / ".venv-clients/bin/python"
SCRIPTS = Path(__file__).parent / "clients"
PATIENCE_S = 90.0


@pytest.fixture
async def exchange(database_url: str, redis_url: str) -> AsyncIterator[Venue]:
    """A venue with history."""
    async with open_venue(database_url, redis_url, project=True) as opened:
        yield opened


async def run(venue: Venue, script: str) -> None:
    """Let a client trade; it says itself what is wrong."""
    ann = await venue.trader("ann", USD=1_000_000)
    ben = await venue.trader("ben", BTC=100, USD=1_000_000)
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
        raise AssertionError(f"{script} did not end:\n{output.decode()[-5_000:]}") from None
    assert process.returncode == 0, output.decode()[-8_000:]


async def test_ccxt(exchange: Venue) -> None:
    await run(exchange, "with_ccxt.py")
