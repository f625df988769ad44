"""Fixtures that several tests of actors share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from cluster.books import check
from domain.orders import BOOKS
from persistence.database import Pool
from persistence.journal import prepare_streams
from tests.actors.exchange import Exchange
from tests.persistence.site import running_site


@pytest.fixture
async def exchange(pool: Pool) -> AsyncIterator[Exchange]:
    """An exchange with one market."""
    await prepare_streams(pool, BOOKS, 1)
    async with running_site(pool) as site:
        made = Exchange(site, pool)
        await made.open()
        yield made
        await made.quiet()
        made.prove()
        await made.books.stop()
    report = await check(pool)
    assert report.ok, report.findings
