"""What customers and books do in a recording: every event of both, and orders on their way."""

from __future__ import annotations

from typing import Any

from domain.accounts import trading as tr
from domain.accounts.numbers import account_number
from domain.orders import ACCOUNTS, BOOKS, OrderType, SelfTrade, Side, TimeInForce
from domain.trading import commands as books
from domain.trading.rules import About, InstrumentType, Rules
from tests.golden.site import GoldenSite

BOOK = "books/0"
SYMBOL = "BTCUSD"
RULES = Rules("BTC", "USD", 10**6, 10**4, 1, 10**6, 10**6, 500_000, 500_000, 50, 10_000)
TERMS = tr.Terms("BTC", "USD", RULES.lot, RULES.unit, 1_000, 2_000)
ABOUT = About(InstrumentType.CRYPTO, "Bitcoin", "Digital gold — 比特币", issued=10**10)
BUY, SELL = Side.BUY, Side.SELL


def limit(side: Side, price: int, quantity: int, client: str = "", **more: Any) -> tr.PlaceOrder:
    """A limit order, good till cancelled."""
    given = {"time_in_force": TimeInForce.GTC, **more}
    return tr.PlaceOrder(client, side, OrderType.LIMIT, price=price, quantity=quantity, **given)


class Exchange:
    """One market and three who trade in it: a seller and a buyer of two partitions, a third."""

    def __init__(self, site: GoldenSite, seller: int, buyer: int, third: int) -> None:
        self.site = site
        self.seller, self.buyer, self.third = seller, buyer, third

    def trade(self, customer: int, *actions: Any) -> tr.Trade:
        """A trade of these actions."""
        return tr.Trade(self.site.id(), b"t", customer, SYMBOL, TERMS, actions)

    async def say(self, customer: int, *actions: Any) -> tuple[tr.OrderReport, ...]:
        """Trade; the reports."""
        reply = await self.site.say(self.trade(customer, *actions))
        assert isinstance(reply, tr.TradeReply), reply
        return reply.reports

    async def open(self) -> None:
        """List the market, bring funds there, and some back."""
        site = self.site
        await site.start(BOOK)
        listing = books.ListInstrument(site.id(), b"l", SYMBOL, RULES, ABOUT)
        assert isinstance(await site.say(listing, BOOKS), books.InstrumentReply)
        for customer in (self.seller, self.third):
            await site.say(tr.IssueAsset(site.id(), b"i", customer, "BTC", 5 * 10**9))
        for customer in (self.buyer, self.third):
            account = account_number(customer, 0)
            await site.say(tr.FundBrokerage(site.id(), b"f", account, 90_000))
            await site.say(tr.WithdrawBrokerage(site.id(), b"w", account, 10_000))
            await site.say(tr.WithdrawBrokerage(site.id(), b"w", account, 90_000))

    async def orders(self) -> None:
        """Orders of each kind: filled, in part, refused, cancelled, amended, replaced."""
        seller, buyer = self.seller, self.buyer
        await self.say(
            seller,
            *(limit(SELL, 10_000 + n, 5 + n, f"s{n}", id=self.site.id()) for n in range(4)),
            limit(SELL, 10_050, 100, display=10),
            limit(SELL, 0, 1),
        )
        await self.say(buyer, limit(BUY, 10_001, 20, "b0"), limit(BUY, 9_990, 3, "b0"))
        await self.say(
            buyer,
            tr.PlaceOrder("", BUY, OrderType.MARKET, TimeInForce.IOC, 0, 4),
            tr.PlaceOrder("", BUY, OrderType.MARKET, TimeInForce.IOC, 0, 0, budget=30_000),
            tr.PlaceOrder("", SELL, OrderType.LIMIT_MAKER, TimeInForce.GTC, 9_000, 1),
            limit(BUY, 10_003, 9, time_in_force=TimeInForce.FOK),
        )
        stop = tr.PlaceOrder(
            "stop", SELL, OrderType.STOP_LOSS_LIMIT, TimeInForce.GTC, 9_900, 5, 9_950
        )
        await self.say(seller, stop, tr.AmendOrder(client="s3", quantity=2))
        await self.say(self.third, limit(BUY, 9_940, 2), limit(SELL, 10_020, 6, "mine"))
        own = limit(BUY, 10_020, 2, self_trade=SelfTrade.DECREMENT)
        await self.say(self.third, own, tr.CancelOrder(999), tr.AmendOrder(1, quantity=9))
        await self.say(
            self.third, tr.CancelOrder(client="mine"), limit(SELL, 10_021, 3, after=True)
        )
        await self.say(seller, limit(SELL, 9_940, 2), tr.CancelOrder(client="stop"))

    async def replace(self) -> None:
        """Orders that wait for what a cancel frees, one of them in vain."""
        await self.say(self.buyer, tr.CancelAll())
        most = limit(BUY, 9_000, 80_000, "most")
        await self.say(self.buyer, most)
        bought = limit(BUY, 9_001, 79_000, "more", after=True)
        await self.say(self.buyer, tr.CancelOrder(client="most"), bought)
        vain = limit(BUY, 9_500, 90_000, "vain", after=True)
        await self.say(self.buyer, tr.CancelOrder(client="more"), vain)

    async def supervise(self) -> None:
        """What administrators do: other rules, a halt, an auction; and ends by themselves."""
        site = self.site
        rules = books.ChangeRules(site.id(), b"c", SYMBOL, RULES, ABOUT)
        await site.say(rules, BOOKS)
        soon = site.now + 3_600_000_000
        lapsing = limit(BUY, 9_100, 5, time_in_force=TimeInForce.GTD, expires_at=soon)
        await self.say(self.buyer, lapsing)
        await site.say(tr.CancelAfter(site.id(), b"d", self.seller, SYMBOL, soon))
        await site.say(tr.CancelAfter(site.id(), b"d", self.buyer, "", soon + 10**9))
        await site.say(books.Halt(site.id(), b"h", SYMBOL, "News"), BOOKS)
        await self.say(self.buyer, limit(BUY, 9_100, 5))
        auction = books.StartAuction(site.id(), b"a", SYMBOL, site.now + 1_800_000_000)
        await site.say(auction, BOOKS)
        await self.say(self.third, limit(SELL, 9_050, 4), limit(BUY, 9_100, 3))
        site.now += 2_000_000_000
        await site.put(BOOKS, books.WakeBook(SYMBOL))
        site.now += 2_000_000_000
        await site.put(BOOKS, books.WakeBook(SYMBOL))
        await site.put(ACCOUNTS, tr.WakeCustomer(self.seller))
        await site.quiet()

    async def again(self) -> None:
        """After the checkpoints: what only the tail of the journal has."""
        await self.say(self.seller, limit(SELL, 10_000, 30, "tail"))
        await self.say(self.buyer, limit(BUY, 10_000, 12, "tail"))
        await self.say(self.third, limit(BUY, 9_500, 7), limit(SELL, 10_500, 7))

    def taken(self) -> list[tr.Trade]:
        """What the book takes, whose answer is lost: it trades with somebody who does not know.

        The last may come late, in any order with what is ``stuck``: so it rests nowhere.
        """
        passing = limit(BUY, 9_000, 2, id=self.site.id(), time_in_force=TimeInForce.IOC)
        return [
            self.trade(self.buyer, limit(BUY, 10_000, 6, "taken")),
            self.trade(self.seller, limit(SELL, 9_500, 3)),
            self.trade(self.third, tr.CancelOrder(1), passing),
        ]

    def stuck(self) -> list[tr.Trade]:
        """What never arrives at the book."""
        return [
            self.trade(self.seller, limit(SELL, 10_001, 8, "stuck"), tr.CancelOrder(client="tail"))
        ]
