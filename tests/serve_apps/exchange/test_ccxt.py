"""ccxt as it is against a market that is nobody else's; those that follow are in ``test_clients``.

In a file of its own because venues speak over one Redis: there is one at a time.
"""

from __future__ import annotations

from tests.serve_apps.exchange.test_clients import run
from tests.serve_apps.exchange.venue import open_venue


async def test_ccxt(database_url: str, redis_url: str) -> None:
    async with open_venue(database_url, redis_url, project=True) as venue:
        await run(venue, "with_ccxt.py")
