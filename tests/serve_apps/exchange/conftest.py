"""Fixtures of the trading API's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.serve_apps.exchange.venue import Trader, Venue, open_venue


@pytest.fixture
async def venue(database_url: str, redis_url: str) -> AsyncIterator[Venue]:
    """A venue with one market."""
    async with open_venue(database_url, redis_url) as opened:
        yield opened


@pytest.fixture
async def ann(venue: Venue) -> Trader:
    """Somebody with a million dollars."""
    return await venue.trader("ann", USD=1_000_000)


@pytest.fixture
async def ben(venue: Venue) -> Trader:
    """Somebody with a hundred bitcoins."""
    return await venue.trader("ben", BTC=100, USD=100_000)
