"""Books in a partition: kept across restarts, woken in time, moved with their numbers."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from actors.books import BooksCodec
from domain.accounts import trading as tr
from domain.durable import Rejection
from domain.orders import BOOKS, OrderStatus, Side, TimeInForce
from domain.trading import commands as cmd
from domain.trading.orderbook import OrderBook
from domain.trading.rules import BookStatus
from persistence import placement
from persistence.database import Pool
from persistence.trading.catalogue import instrument
from tests.actors.exchange import BOOK, RULES, SYMBOL, Exchange
from tests.domain.accounts.floor import limit
from tests.domain.trading.market import ABOUT


async def ask(exchange: Exchange, command: cmd.Command) -> cmd.Reply:
    reply: cmd.Reply
    (reply,) = await exchange.books.owner(command).request([command])
    return reply


async def book(exchange: Exchange) -> cmd.BookView:
    view = await ask(exchange, cmd.ReadBook(SYMBOL, 0))
    assert isinstance(view, cmd.BookView)
    return view


def test_a_stored_book_is_the_book() -> None:
    codec = BooksCodec()
    empty = OrderBook("KTRAUSD")
    stored = codec.encode(empty)
    found = codec.decode_entity(stored)
    assert isinstance(found, OrderBook)
    assert codec.encode(found) == stored
    with pytest.raises(TypeError):
        codec.encode(object())


async def test_numbers_go_on_after_a_restart(exchange: Exchange) -> None:
    await exchange.say(exchange.seller, limit(Side.SELL, 100, 50), limit(Side.SELL, 101, 50))
    await exchange.say(exchange.buyer, limit(Side.BUY, 100, 20))
    await exchange.quiet()
    before = await book(exchange)
    assert before.asks == ((100, 30), (101, 50))
    assert (before.last_trade, before.last_price) == (1, 100)
    for wait_s in (0.0, 0.6):  # from the journal alone, and from a checkpoint
        await asyncio.sleep(wait_s)
        await exchange.books.kill(BOOK)
        await exchange.books.start(BOOK)
        after = await book(exchange)
        assert msgspec.structs.replace(after, at=0) == msgspec.structs.replace(before, at=0)
    (bought,) = await exchange.say(exchange.buyer, limit(Side.BUY, 100, 1))
    assert bought.fills[0].trade == before.last_trade + 1
    assert (await book(exchange)).update == before.update + 1


async def test_an_order_expires_in_time(exchange: Exchange) -> None:
    until = exchange.site.now + 1_000_000
    order = msgspec.structs.replace(
        limit(Side.SELL, 100, 50), time_in_force=TimeInForce.GTD, expires_at=until
    )
    await exchange.say(exchange.seller, order)
    partition = exchange.books.partitions[BOOK]
    await asyncio.wait_for(partition.fire(), 30)
    assert (await book(exchange)).asks == ((100, 50),)
    exchange.site.now += 2_000_000
    await asyncio.wait_for(partition.fire(), 30)
    await exchange.quiet()
    assert (await book(exchange)).asks == ()
    view = await exchange.site.call(tr.ReadBrokerage(exchange.seller), tr.BrokerageView)
    assert [order.status for order in view.recent] == [OrderStatus.EXPIRED]
    assert [balance.held for balance in view.balances] == [0]
    # The next one is woken as well.
    again = exchange.site.now + 1_000_000
    await exchange.say(exchange.seller, msgspec.structs.replace(order, expires_at=again))
    exchange.site.now += 2_000_000
    await asyncio.wait_for(partition.fire(), 30)
    assert (await book(exchange)).asks == ()


async def test_an_auction_ends_in_time(exchange: Exchange, pool: Pool) -> None:
    site = exchange.site
    start = cmd.StartAuction(site.id(), b"a", SYMBOL, site.now + 1_000_000)
    await ask(exchange, start)
    await exchange.say(exchange.seller, limit(Side.SELL, 99, 10))
    await exchange.say(exchange.buyer, limit(Side.BUY, 101, 10))
    row = await instrument(pool, SYMBOL)
    assert row is not None
    assert row.status == "auction"
    site.now += 2_000_000
    await asyncio.wait_for(exchange.books.partitions[BOOK].fire(), 30)
    await exchange.quiet()
    view = await book(exchange)
    assert (view.status, view.last_trade) == (BookStatus.TRADING, 1)
    row = await instrument(pool, SYMBOL)
    assert row is not None
    assert row.status == "trading"


async def test_answers_are_remembered(exchange: Exchange) -> None:
    site = exchange.site
    halt = cmd.Halt(site.id(), b"h", SYMBOL, "a test")
    first = await ask(exchange, halt)
    assert isinstance(first, cmd.InstrumentReply)
    again = cmd.ListInstrument(site.id(), b"l", SYMBOL, RULES, ABOUT)
    assert await ask(exchange, again) == Rejection("already_listed", {"symbol": SYMBOL})
    await exchange.books.kill(BOOK)
    await exchange.books.start(BOOK)
    assert await ask(exchange, halt) == first
    assert await ask(exchange, again) == Rejection("already_listed", {"symbol": SYMBOL})
    other = cmd.Halt(halt.id, b"other", SYMBOL, "another")
    assert await ask(exchange, other) == Rejection("id_reused")
    (report,) = await exchange.say(exchange.seller, limit(Side.SELL, 100, 5))
    assert report.code == "market_halted"
    await ask(exchange, cmd.Resume(site.id(), b"r", SYMBOL))


async def test_a_book_is_pinned_while_it_trades(exchange: Exchange, pool: Pool) -> None:
    """It takes its orders, its numbers and what is on its way along."""
    done = asyncio.Event()

    async def trade(customer: int, side: Side) -> None:
        while not done.is_set():
            reports = await exchange.say(customer, limit(side, 100, 2), limit(side, 100, 1))
            assert not any(report.code for report in reports)
            await exchange.say(customer, tr.CancelAll())

    async def move() -> None:
        await asyncio.sleep(0.3)
        stream = await placement.pin(pool, BOOKS, SYMBOL)
        await exchange.books.start(stream)
        exchange.books.partitions[BOOK].nudge()
        while await placement.under_way(pool, BOOKS):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        await exchange.books.slots.load()
        await asyncio.sleep(0.3)
        done.set()

    async with asyncio.timeout(40):
        await asyncio.gather(
            trade(exchange.seller, Side.SELL), trade(exchange.buyer, Side.BUY), move()
        )
    assert exchange.books.slots.owner(SYMBOL) == "books/pin-1"
    assert exchange.books.partitions["books/pin-1"].hosted() == [SYMBOL]
    assert (await book(exchange)).last_trade > 0
