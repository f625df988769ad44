"""A whole exchange in one process over a real database, with one market, and its proof at rest."""

from __future__ import annotations

import asyncio
from typing import Any

from actors.books import BooksCodec
from actors.durable.local import LocalPartitions
from actors.durable.options import Options
from domain.accounts import brokerage as br
from domain.accounts import trading as tr
from domain.accounts.numbers import account_number
from domain.durable import Unavailable
from domain.orders import BOOKS
from domain.trading import commands as books
from domain.trading.machine import BooksMachine
from domain.trading.rules import About, InstrumentType, Rules
from persistence.database import Pool
from persistence.trading.projection import BooksProjection
from tests.persistence.site import Site

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
