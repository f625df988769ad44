"""The catalogue: written with the turns of books, searched by text and type."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from domain.orders import UNIT
from domain.trading.events import RulesChanged, StatusChanged
from domain.trading.rules import About, BookStatus, InstrumentType
from persistence.cursors import CursorInvalid
from persistence.database import Pool
from persistence.journal import to_datetime, to_microseconds
from persistence.trading import catalogue
from tests.persistence.trading.listing import AT, Book, listed, rules


def status(now: BookStatus, reason: str = "", until: int = 0) -> StatusChanged:
    """A change of a book's status without consequences."""
    return StatusChanged(now, reason, to_microseconds(AT), until, 1, (), ())


async def fill(pool: Pool) -> Book:
    """A market of several kinds."""
    book = await Book.open(pool)
    await book.turn(
        [
            listed("BTC", "Bitcoin", "crypto", description="Money of the internet, without a bank"),
            listed("ETH", "Ether", "crypto", description="Runs programs; second to Bitcoin"),
            listed("KTRA", "Kontor Railways", issued=1_000 * UNIT, issuer=1_000_000_007),
            listed("KTRB", "Kontor Retail Bank", description="Lends to railways"),
            listed("BTCB", "Bitter Coffee Bond 2031", "bond"),
            listed("WLDX", "World index 100%", "fund"),
            listed("AMIN", "Btc Miners", "fund"),
        ]
    )
    return book


async def found(pool: Pool, text: str, **options: object) -> list[str]:
    page = await catalogue.search(pool, text, **options)  # type: ignore[arg-type]
    return [row.symbol for row in page.rows]


async def test_a_listing_is_there_with_all_its_terms(pool: Pool) -> None:
    await fill(pool)
    row = await catalogue.instrument(pool, "KTRAUSD")
    assert row is not None
    assert (row.base, row.quote, row.type, row.status) == ("KTRA", "USD", "stock", "trading")
    assert (row.tick, row.lot, row.unit) == (UNIT // 100, UNIT // 10_000, 100)
    assert (row.issued, row.issuer, row.maker) == (1_000 * UNIT, 1_000_000_007, 1_000)
    assert row.listed_at == row.changed_at == AT
    assert await catalogue.instrument(pool, "NOPEUSD") is None


async def test_changes_of_one_turn_become_one_row(pool: Pool) -> None:
    book = await fill(pool)
    later = AT + timedelta(minutes=5)
    end = to_microseconds(later)
    about = About(InstrumentType.STOCK, "Kontor Airways", maker=50, taker=75)
    await book.turn(
        [
            ("KTRAUSD", status(BookStatus.HALTED, "news")),
            ("KTRAUSD", RulesChanged(rules("KTRA", orders_max=7), about, end)),
            ("KTRBUSD", status(BookStatus.AUCTION, until=end)),
            listed("NEWX", "New"),
            ("NEWXUSD", status(BookStatus.HALTED, "not yet")),
        ],
        later,
    )
    first, second, third = [
        await catalogue.instrument(pool, symbol) for symbol in ("KTRAUSD", "KTRBUSD", "NEWXUSD")
    ]
    assert first is not None
    assert second is not None
    assert third is not None
    assert (first.status, first.reason, first.name) == ("halted", "news", "Kontor Airways")
    assert (first.orders_max, first.maker, first.taker, first.listed_at) == (7, 50, 75, AT)
    assert (second.status, second.until, second.changed_at) == ("auction", to_datetime(end), later)
    assert second.name == "Kontor Retail Bank"
    assert (third.status, third.reason, third.open) == ("halted", "not yet", False)
    await book.turn([("KTRBUSD", status(BookStatus.TRADING))], later)
    resumed = await catalogue.instrument(pool, "KTRBUSD")
    assert resumed is not None
    assert (resumed.status, resumed.until) == ("trading", None)


async def test_listeners_hear_of_a_change_once_it_is_committed(
    pool: Pool, database_url: str
) -> None:
    heard: asyncio.Queue[object] = asyncio.Queue()
    async with pool.acquire() as connection:
        await connection.add_listener(catalogue.CHANNEL, lambda *told: heard.put_nowait(told[-1]))
        before = await catalogue.version(pool)
        book = await Book.open(pool)
        await book.turn([listed("BTC", "Bitcoin", "crypto")])
        assert await asyncio.wait_for(heard.get(), 30) == "BTCUSD"
        assert await catalogue.version(pool) != before
        await connection.reset()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["AMINUSD", "BTCBUSD", "BTCUSD", "ETHUSD", "KTRAUSD", "KTRBUSD", "WLDXUSD"]),
        # Its ticker, then where it begins another's, then words of the description.
        ("btc", ["BTCUSD", "BTCBUSD", "AMINUSD"]),
        ("BTC/USD", ["BTCUSD", "AMINUSD", "BTCBUSD"]),
        ("btc usd", ["BTCUSD", "AMINUSD", "BTCBUSD"]),
        ("bitcoin", ["BTCUSD", "ETHUSD"]),
        ("kontor rail", ["KTRAUSD", "KTRBUSD"]),
        ("kontor", ["KTRAUSD", "KTRBUSD"]),
        # A word of the name comes before one of the description.
        ("railways", ["KTRAUSD", "KTRBUSD"]),
        ("bank", ["KTRBUSD", "BTCUSD"]),
        ("coffee 203", ["BTCBUSD"]),
        ("100%", ["WLDXUSD"]),
        ("nothing", []),
        ("%", []),
        ("' & !x:*", []),
        ("KTRA", ["KTRAUSD"]),
        ("ktrau", ["KTRAUSD"]),
    ],
)
async def test_search_finds_by_ticker_prefix_and_words(
    pool: Pool, text: str, expected: list[str]
) -> None:
    await fill(pool)
    assert await found(pool, text) == expected


async def test_search_by_type_and_status(pool: Pool) -> None:
    book = await fill(pool)
    assert await found(pool, "", types=["crypto"]) == ["BTCUSD", "ETHUSD"]
    assert await found(pool, "b", types=["bond", "fund"]) == ["BTCBUSD", "AMINUSD"]
    await book.turn([("ETHUSD", status(BookStatus.DELISTED, "gone"))])
    assert await found(pool, "eth") == []
    assert await found(pool, "eth", statuses=["delisted"]) == ["ETHUSD"]


async def test_pages_neither_repeat_nor_skip(pool: Pool) -> None:
    await fill(pool)
    everything = await found(pool, "b")
    assert len(everything) > 2
    cursor, walked = None, []
    for _ in everything:
        page = await catalogue.search(pool, "b", cursor=cursor, limit=1)
        walked += [row.symbol for row in page.rows]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert walked == everything
    with pytest.raises(CursorInvalid):
        await catalogue.search(pool, "b", cursor="%%%")
