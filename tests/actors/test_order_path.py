"""The path of an order over real partitions of both kinds, which are killed on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from actors.accounts import accounts_codec
from actors.books import BooksCodec
from actors.durable.local import LocalPartitions
from actors.durable.options import Options
from cluster.books import check
from domain.accounts import brokerage as br
from domain.accounts import trading as tr
from domain.accounts.numbers import account_number
from domain.durable import Rejection, Unavailable
from domain.orders import BOOKS, OrderStatus, Side, Worked
from domain.trading import commands as books
from domain.trading.machine import BooksMachine
from domain.trading.rules import About, InstrumentType, Rules
from persistence.database import Pool
from persistence.journal import prepare_streams
from persistence.trading.projection import BooksProjection
from tests.domain.accounts.floor import fee_of, limit, market
from tests.persistence.site import Site, running_site

RULES = Rules("BTC", "USD", 10**6, 10**4, 1, 10**6, 10**6)
"""A tick is a cent, a lot 0.0001 BTC: a unit is a millionth of a dollar."""

TERMS = tr.Terms("BTC", "USD", RULES.lot, RULES.unit, 1_000, 2_000)
SYMBOL = "BTCUSD"
CENTS = 10**6
BOOK = "books/0"


class Exchange:
    """Two partitions of customers and one of books, and what the tests ask of them."""

    def __init__(self, site: Site, pool: Pool) -> None:
        self.site = site
        self.books = LocalPartitions(
            pool,
            BOOKS,
            machine=BooksMachine(),
            codec=BooksCodec(),
            projection=BooksProjection(),
            clock=site._clock,
            options=Options(checkpoint_interval_s=0.2),
        )
        self.books.joined(site.local)
        self.seller, self.buyer = site.customers("accounts/0", 1) + site.customers("accounts/1", 1)

    async def open(self) -> None:
        """A listed instrument, a customer with coins, one with dollars."""
        site = self.site
        await self.books.start(BOOK)
        await site.open(self.seller, self.buyer)
        about = About(InstrumentType.CRYPTO, "Bitcoin")
        listing = books.ListInstrument(site.id(), b"l", SYMBOL, RULES, about)
        (listed,) = await self.books.owner(listing).request([listing])
        assert isinstance(listed, books.InstrumentReply), listed
        for command in (
            tr.IssueAsset(site.id(), b"i", self.seller, "BTC", 10**8),
            tr.FundBrokerage(site.id(), b"f", account_number(self.buyer, 0), 90_000),
        ):
            await site.call(command, tr.BrokerageReply)

    def trade(self, customer: int, *actions: Any) -> tr.Trade:
        """A trade of these actions."""
        return tr.Trade(self.site.id(), b"t", customer, SYMBOL, TERMS, actions)

    async def ask(self, command: Any) -> Any:
        """The answer, asked for until there is one, as a gateway does it."""
        async with asyncio.timeout(20):
            while True:
                try:
                    async with asyncio.timeout(1):
                        (reply,) = await self.site.ask(command)
                except (TimeoutError, KeyError):
                    await asyncio.sleep(0.01)
                    continue
                if not isinstance(reply, Unavailable):
                    return reply
                await asyncio.sleep(0.01)

    async def say(self, customer: int, *actions: Any) -> list[tr.OrderReport]:
        """Trade; the reports."""
        reply = await self.ask(self.trade(customer, *actions))
        assert isinstance(reply, tr.TradeReply), reply
        return list(reply.reports)

    async def balances(self, customer: int) -> dict[str, tuple[int, int]]:
        """Total and held by asset."""
        view = await self.site.call(tr.ReadBrokerage(customer), tr.BrokerageView)
        return {each.asset: (each.total, each.held) for each in view.balances}

    async def kill(self) -> None:
        """End all partitions without notice, and start them again."""
        await self.books.kill(BOOK)
        await self.site.restart()
        await self.books.start(BOOK)

    async def quiet(self) -> None:
        """Wait until nothing is on its way, nor waits to be written."""
        partitions = [*self.site.partitions.values(), *self.books.partitions.values()]
        for _ in range(1_000):
            if not any(each._work.partition.outbox or each._commit for each in partitions):
                return
            await asyncio.sleep(0.01)
        raise AssertionError("something is on its way for ever")

    def prove(self) -> None:
        """Holds equal open orders, and nothing is left at the clearing."""
        house: dict[tuple[str, str], int] = {}
        for partition in self.site.partitions.values():
            for entity in partition._work.entities.values():
                if entity.state.brokerage is not None:
                    assert br.discrepancies(entity.state.brokerage) == []
            for account, sums in partition._work.partition.house.items():
                for asset, amount in sums.items():
                    house[account, asset] = house.get((account, asset), 0) + amount
        assert [house.get(("clearing", asset), 0) for asset in ("BTC.8", "USD.8")] == [0, 0]
        assert house["brokerage", "USD"] * CENTS + house["brokerage", "USD.8"] == 0


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


async def test_a_trade_moves_both_sides(exchange: Exchange) -> None:
    (asked,) = await exchange.say(exchange.seller, limit(Side.SELL, 100, 50, "s1"))
    assert (asked.ref, asked.status, asked.code) == (1, OrderStatus.NEW, "")
    assert (await exchange.balances(exchange.seller))["BTC"] == (10**8, 50 * RULES.lot)
    (bought,) = await exchange.say(exchange.buyer, limit(Side.BUY, 110, 60))
    assert (bought.status, bought.filled, bought.quote) == (
        OrderStatus.PARTIALLY_FILLED,
        50,
        5_000,
    )
    await exchange.quiet()
    coins, cash = 50 * RULES.lot, 5_000 * RULES.unit
    assert await exchange.balances(exchange.buyer) == {
        "BTC": (coins - fee_of(coins, TERMS.taker), 0),
        "USD": (90_000 * CENTS - cash, 10 * 110 * RULES.unit),
    }
    assert await exchange.balances(exchange.seller) == {
        "BTC": (10**8 - coins, 0),
        "USD": (cash - fee_of(cash, TERMS.maker), 0),
    }
    (cancelled,) = await exchange.say(exchange.buyer, tr.CancelOrder(bought.ref))
    assert cancelled.status == OrderStatus.CANCELED
    assert (await exchange.balances(exchange.buyer))["USD"] == (90_000 * CENTS - cash, 0)


async def test_answers_stay_and_nothing_is_done_twice(exchange: Exchange) -> None:
    one = exchange.trade(
        exchange.seller,
        limit(Side.SELL, 100, 5, "a", id=b"a" * 16),
        limit(Side.SELL, 0, 5, "b", id=b"b" * 16),
        limit(Side.SELL, 101, 5, "c", id=b"c" * 16),
    )
    first = await exchange.ask(one)
    assert [report.code for report in first.reports] == ["", "filter_price", ""]
    refused = exchange.trade(exchange.buyer, market(Side.SELL, 1))
    answer = await exchange.ask(refused)
    assert answer.reports[0].code == "insufficient_balance"
    await exchange.kill()
    assert await exchange.ask(one) == first
    assert await exchange.ask(refused) == answer
    part = tr.Trade(b"c" * 16, b"", exchange.seller, SYMBOL, TERMS, one.actions[2:])
    (report,) = (await exchange.ask(part)).reports
    assert report == first.reports[2]
    again = exchange.trade(exchange.seller, limit(Side.SELL, 100, 5, "z", id=b"a" * 16))
    assert await exchange.ask(again) == Rejection("id_reused")
    other = tr.Trade(one.id, b"other", *(getattr(one, name) for name in one.__struct_fields__[2:]))
    assert await exchange.ask(other) == Rejection("id_reused")
    view = await exchange.site.call(tr.ReadBrokerage(exchange.seller), tr.BrokerageView)
    assert [order.client for order in view.orders] == ["a", "c"]


async def test_killed_again_and_again(exchange: Exchange) -> None:
    """Orders of both sides while everything dies; each is answered, and the books are right."""
    buyer, seller = exchange.buyer, exchange.seller

    async def trade(customer: int, side: Side) -> list[tr.OrderReport]:
        reports: list[tr.OrderReport] = []
        for number in range(12):
            price = 100 + (number * 7) % 5
            reports += await exchange.say(customer, limit(side, price, 3 + number % 4))
            if number % 4 == 3:
                cancel, order = tr.CancelOrder(reports[-1].ref), limit(side, 102, 4, after=True)
                reports += await exchange.say(customer, cancel, order)
        return reports

    async def kill() -> None:
        for _ in range(4):
            await asyncio.sleep(0.15)
            await exchange.kill()

    bought, sold, _ = await asyncio.gather(trade(buyer, Side.BUY), trade(seller, Side.SELL), kill())
    assert len(bought) == len(sold) == 12 + 6
    await exchange.quiet()
    for customer, side in ((buyer, Side.BUY), (seller, Side.SELL)):
        for report in await exchange.say(customer, tr.CancelAll()):
            assert (report.side, report.code) == (side, "")
    await exchange.quiet()
    for customer in (buyer, seller):
        assert not any(held for _, held in (await exchange.balances(customer)).values())


async def test_a_dead_mans_switch_goes_off(exchange: Exchange) -> None:
    await exchange.say(exchange.seller, limit(Side.SELL, 100, 5), limit(Side.SELL, 101, 5))
    site = exchange.site
    for at in (site.now + 500_000, site.now + 10**9):
        await exchange.ask(tr.CancelAfter(site.id(), b"c", exchange.seller, "", at))
    home = site.partitions[site.owner(str(exchange.seller))]
    site.now += 600_000
    await home.fire()
    assert (await exchange.balances(exchange.seller))["BTC"] == (10**8, 10 * RULES.lot)
    site.now += 10**9
    await home.fire()
    await exchange.quiet()
    assert (await exchange.balances(exchange.seller))["BTC"] == (10**8, 0)
    view = await site.call(tr.ReadBrokerage(exchange.seller), tr.BrokerageView)
    assert (view.orders, view.switches) == ((), ())
    assert [order.status for order in view.recent] == [OrderStatus.CANCELED] * 2


def test_every_answer_to_a_message_can_be_read() -> None:
    """Also a customer's own, where a message to oneself has left the turn."""
    codec = accounts_codec()
    for answer in (None, Worked(1, ()), tr.TradeReply(1, ())):
        assert codec.decode_answer(codec.encode(answer)) == answer
