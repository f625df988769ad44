"""``kontor check`` over both kinds: right at every moment, wrong when one side is made to lie."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from actors.durable.records import Codec
from cluster import books
from domain.accounts import trading as tr
from domain.orders import BOOKS, OrderStatus, Side
from persistence.database import Pool
from persistence.journal import GENESIS, prepare_streams, row_hash, to_microseconds
from tests.actors.exchange import BOOK, Exchange
from tests.domain.accounts.floor import limit
from tests.persistence.site import running_site


@pytest.fixture
async def exchange(pool: Pool) -> AsyncIterator[Exchange]:
    """An exchange with one market, whose end nobody proves."""
    await prepare_streams(pool, BOOKS, 1)
    async with running_site(pool) as site:
        made = Exchange(site, pool)
        await made.open()
        yield made
        await made.books.stop()


async def trade(exchange: Exchange) -> None:
    """An order that rests, one that trades with a part of it, and one that is refused."""
    await exchange.say(exchange.seller, limit(Side.SELL, 100, 50))
    (bought,) = await exchange.say(exchange.buyer, limit(Side.BUY, 100, 20))
    assert bought.status == OrderStatus.FILLED
    (refused,) = await exchange.say(exchange.buyer, limit(Side.BUY, 10**6 + 1, 1))
    assert refused.code
    await exchange.quiet()


async def test_right_at_rest(exchange: Exchange, pool: Pool) -> None:
    await trade(exchange)
    report = await books.check(pool)
    assert report.findings == []
    assert report.ok
    counts = report.counts
    assert (counts["books"], counts["trades"], counts["open_orders"]) == (1, 1, 1)
    assert counts["brokerages"] == 2
    assert "trading_messages_in_transit" not in counts
    assert report.sums["BTC.8"] == report.sums["USD.8"] == 0


async def test_right_while_trades_are_on_their_way(exchange: Exchange, pool: Pool) -> None:
    """Whatever moment the proof looks at, what only one side knows is in a message."""
    under_way = 0
    done = asyncio.Event()
    home = exchange.site.owner(str(exchange.seller))

    async def go_on(customer: int, side: Side) -> None:
        number = 0
        while not done.is_set():
            number += 1
            orders = [limit(side, 100 + (number * k) % 3, 1 + k) for k in range(3)]
            reports = await exchange.say(customer, *orders)
            await exchange.say(customer, tr.CancelOrder(reports[0].ref), tr.CancelAll())

    async def look() -> None:
        nonlocal under_way
        for turn in range(24):
            away = turn % 8 == 3
            if away:
                # The seller's side is not there: what the book has done waits for it.
                await exchange.site.local.kill(home)
                await asyncio.sleep(0.05)
            report = await books.check(pool)
            assert report.findings == []
            under_way += report.counts.get("trading_messages_in_transit", 0)
            if away:
                await exchange.site.local.start(home)
        done.set()

    await asyncio.gather(go_on(exchange.buyer, Side.BUY), go_on(exchange.seller, Side.SELL), look())
    assert under_way, "nothing was ever on its way, so nothing was shown"
    await exchange.quiet()
    assert (await books.check(pool)).ok


async def shortened(pool: Pool, stream: str) -> list[str]:
    """What is found when the end of a journal is cut off, so that one side has forgotten."""
    await asyncio.sleep(0.2)  # until what was noted last is written
    await pool.execute("DELETE FROM checkpoints")
    await pool.execute("DELETE FROM snapshots")
    await pool.execute(
        "DELETE FROM journal WHERE stream = $1"
        " AND seq = (SELECT max(seq) FROM journal WHERE stream = $1)",
        stream,
    )
    report = await books.check(pool)
    assert not report.ok
    return report.findings


async def test_an_order_that_its_book_has_not(exchange: Exchange, pool: Pool) -> None:
    await exchange.say(exchange.seller, limit(Side.SELL, 100, 50))
    await exchange.quiet()
    found = await shortened(pool, BOOK)
    assert f"Order ({exchange.seller}, 1) is open for its customer and in no book." in found


async def test_an_order_that_its_customer_has_not(exchange: Exchange, pool: Pool) -> None:
    await exchange.say(exchange.seller, limit(Side.SELL, 100, 50))
    await exchange.say(exchange.seller, tr.CancelOrder(1))
    await exchange.quiet()
    found = await shortened(pool, BOOK)
    assert f"Order ({exchange.seller}, 1) is in a book and not open for its customer." in found


async def test_a_trade_that_only_one_side_has_posted(exchange: Exchange, pool: Pool) -> None:
    await trade(exchange)
    report = await books.check(pool)
    assert report.ok
    # The seller's side forgets what it was told last, and that it was told.
    stream = exchange.site.owner(str(exchange.seller))
    found = await shortened(pool, stream)
    assert any("are in clearing, but the trades on their way come to" in text for text in found)
    assert any(f"Order ({exchange.seller}, 1) is OpenOrder" in text for text in found)


async def rewritten(pool: Pool, codec: Codec[Any, Any]) -> None:
    """Raise the fee of the last trade, and make a chain of hashes anew as a forger would."""
    rows = await pool.fetch("SELECT * FROM journal WHERE stream = $1 ORDER BY seq", BOOK)
    previous = GENESIS
    last = max(row["seq"] for row in rows if _traded(codec.decode_turn(row["entries"])))
    for row in rows:
        record = codec.decode_turn(row["entries"])
        if row["seq"] == last:
            record.events = [(key, _dearer(event)) for key, event in record.events]
        entries, at = codec.encode(record), to_microseconds(row["at"])
        new = row_hash(previous, BOOK, row["seq"], row["epoch"], at, entries)
        await pool.execute(
            "UPDATE journal SET entries = $3, previous_hash = $4, hash = $5"
            " WHERE stream = $1 AND seq = $2",
            BOOK, row["seq"], entries, previous, new,
        )  # fmt: skip
        previous = new


def _traded(record: Any) -> bool:
    return any(getattr(event, "trades", ()) for _, event in record.events)


def _dearer(event: Any) -> Any:
    if not getattr(event, "trades", ()):
        return event
    trades = [
        msgspec.structs.replace(trade, taker_fee=trade.taker_fee + 1) for trade in event.trades
    ]
    return msgspec.structs.replace(event, trades=tuple(trades))


async def test_a_journal_whose_trades_are_not_what_matching_gives(
    exchange: Exchange, pool: Pool
) -> None:
    await trade(exchange)
    await rewritten(pool, exchange.books._codec)
    chains = {chain.stream: chain for chain in await books.verify(pool)}
    assert chains[BOOK].ok, "the forger knows how to make hashes"
    report = await books.check(pool)
    assert any(text.startswith("Diverged: The book BTCUSD") for text in report.findings)


async def test_the_journal_of_books_is_shown(exchange: Exchange, pool: Pool) -> None:
    await trade(exchange)
    rows = await books.journal(pool, stream=BOOK, limit=100)
    events = [event["event"] for row in rows for event in row["events"]]
    assert events[0] == "InstrumentListed"
    assert "OrdersWorked" in events
    assert {message["message"] for row in rows for message in row["sent"]} == {"Settle"}
