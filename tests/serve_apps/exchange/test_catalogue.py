"""A replica's copy of the catalogue: what books commit shows up, also after an outage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from domain.trading.events import StatusChanged
from domain.trading.rules import BookStatus
from persistence.database import Pool
from persistence.journal import to_microseconds
from serve_apps.exchange import catalogue as module
from serve_apps.exchange.catalogue import Catalogue
from tests.persistence.trading.listing import AT, Book, listed


@pytest.fixture
async def catalogue(pool: Pool, database_url: str) -> AsyncIterator[Catalogue]:
    catalogue = Catalogue()
    await catalogue.open(pool, database_url)
    yield catalogue
    await catalogue.close()


async def until_status(catalogue: Catalogue, symbol: str, status: str) -> None:
    """Wait until the copy says so, without asking Postgres for it."""
    async with asyncio.timeout(30):
        while True:
            row = catalogue.get(symbol)
            if row is not None and row.status == status:
                return
            await asyncio.sleep(0.01)


def halt() -> tuple[str, StatusChanged]:
    return "BTCUSD", StatusChanged(BookStatus.HALTED, "news", to_microseconds(AT), 0, 1, (), ())


_LISTENERS = """
SELECT pid FROM pg_stat_activity
WHERE application_name = 'kontor catalogue' AND datname = current_database()
    AND query ILIKE 'listen%' AND state = 'idle'"""


async def listening(pool: Pool) -> int:
    """Wait until the copy listens; the process that tells it."""
    async with asyncio.timeout(30):
        while True:
            rows = await pool.fetch(_LISTENERS)
            if rows:
                return int(rows[0]["pid"])
            await asyncio.sleep(0.02)


async def deafen(pool: Pool) -> None:
    """End the connection over which the copy hears."""
    await pool.execute("SELECT pg_terminate_backend($1)", await listening(pool))


async def test_changes_are_heard(
    catalogue: Catalogue, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COMPARE_S", 60.0)
    await listening(pool)
    book = await Book.open(pool)
    await book.turn([listed("BTC", "Bitcoin", "crypto", maker=10, taker=20)])
    await until_status(catalogue, "BTCUSD", "trading")
    row = catalogue.get("BTCUSD")
    assert row is not None
    terms = catalogue.terms(row)
    assert (terms.base, terms.quote, terms.lot, terms.unit) == ("BTC", "USD", 10_000, 100)
    assert (terms.maker, terms.taker) == (10, 20)
    assert [row.symbol for row in catalogue.all()] == ["BTCUSD"]
    await book.turn([halt()])
    await until_status(catalogue, "BTCUSD", "halted")


async def test_what_was_not_heard_is_found_by_comparison(
    catalogue: Catalogue, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COMPARE_S", 0.1)
    monkeypatch.setattr(module, "AGAIN_S", 60.0)
    await deafen(pool)
    await asyncio.sleep(0.3)
    book = await Book.open(pool)
    await book.turn([listed("BTC", "Bitcoin", "crypto")])
    await until_status(catalogue, "BTCUSD", "trading")


async def test_a_lost_connection_is_made_again(
    catalogue: Catalogue, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COMPARE_S", 60.0)
    monkeypatch.setattr(module, "AGAIN_S", 0.05)
    await deafen(pool)
    await listening(pool)
    book = await Book.open(pool)
    await book.turn([listed("BTC", "Bitcoin", "crypto")])
    await until_status(catalogue, "BTCUSD", "trading")


async def test_what_is_not_known_yet_is_looked_up(pool: Pool) -> None:
    catalogue = Catalogue()
    catalogue._pool = pool  # open, but deaf
    book = await Book.open(pool)
    await book.turn([listed("BTC", "Bitcoin", "crypto")])
    assert catalogue.get("BTCUSD") is None
    found = await catalogue.find("BTCUSD")
    assert found is not None
    assert catalogue.get("BTCUSD") == found
    assert await catalogue.find("NOPE") is None
