"""Customers who trade in books that a child could check: what the brokerage tests are written in.

A book here is a list of orders, searched from end to end for each trade. What it has to say waits,
answers to trades and news of other orders apart, until a test delivers it, in any order that is
allowed: the news for a customer in the order in which they happened, and so the answers.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Any

import msgspec

from domain.accounts import brokerage as br
from domain.accounts import trading as tr
from domain.durable import Decision, Message, Rejection
from domain.orders import (
    BOOKS,
    RATE_UNIT,
    Action,
    Amend,
    Cancel,
    Fill,
    OrderStatus,
    OrderType,
    Place,
    SelfTrade,
    Settle,
    Side,
    TimeInForce,
    Update,
    Work,
    Worked,
)
from tests.domain.accounts.bank import ALICE, BOB, CAROL, Bank, usd

TERMS = tr.Terms("BTC", "USD", 10_000, 100, 1_000, 2_000)
"""A lot is 0.0001 BTC, a tick 0.01 dollars."""

SYMBOL = "BTCUSD"
CENTS = 10**6
"""Units in a cent."""

LIMIT, MARKET, MAKER = OrderType.LIMIT, OrderType.MARKET, OrderType.LIMIT_MAKER
BUY, SELL = Side.BUY, Side.SELL


def fee_of(amount: int, rate: int) -> int:
    """A fee, rounded up."""
    return -(-amount * rate // RATE_UNIT)


class Resting:
    """An order as the naive book has it."""

    def __init__(self, customer: int, place: Place, maker: int) -> None:
        self.customer, self.place, self.maker = customer, place, maker
        self.quantity, self.filled, self.quote = place.quantity, 0, 0

    @property
    def left(self) -> int:
        """Lots that are still to be traded."""
        return self.quantity - self.filled

    def update(self, status: OrderStatus, fills: tuple[Fill, ...] = ()) -> Update:
        """The order as it is now."""
        quantity = self.quantity or self.filled
        return Update(self.place.ref, status, quantity, self.filled, self.quote, fills)

    def trade(self, quantity: int, price: int) -> None:
        """Take note of a fill."""
        self.filled += quantity
        self.quote += quantity * price


class NaiveBook:
    """One instrument. ``balances`` are what customers will have when all is settled."""

    def __init__(self, terms: tr.Terms, balances: dict[tuple[int, str], int]) -> None:
        self.terms, self.balances = terms, balances
        self.orders: list[Resting] = []
        self.news: list[tuple[int, Update]] = []
        self.trades = 0
        self.fees: dict[str, int] = defaultdict(int)
        self.halted = ""

    def work(self, work: Work) -> Worked | Rejection:
        """Carry out a customer's actions; ``news`` is what happened to other orders."""
        if self.halted:
            return Rejection(self.halted)
        updates: list[Update] = []
        for action in work.actions:
            refused = bool(updates) and bool(updates[-1].code)
            if type(action) is Place and action.after and refused:
                updates.append(_refused(action, "previous_refused"))
            else:
                updates.append(self._act(work, action))
        return Worked(1_000 + self.trades, tuple(updates))

    def _act(self, work: Work, action: Action) -> Update:
        if type(action) is Place:
            return self._place(Resting(work.customer, action, work.maker), work.taker)
        order = self.find(work.customer, action.ref)
        if order is None:
            return _refused(action, "unknown_order")
        if type(action) is Amend:
            if not order.filled < action.quantity < order.quantity:
                return _refused(action, "amend_quantity")
            order.quantity = action.quantity
            return order.update(_open_status(order))
        self.orders.remove(order)
        return order.update(OrderStatus.CANCELED)

    def find(self, customer: int, ref: int) -> Resting | None:
        """A customer's open order."""
        found = [o for o in self.orders if (o.customer, o.place.ref) == (customer, ref)]
        return found[0] if found else None

    def _place(self, taker: Resting, rate: int) -> Update:
        place = taker.place
        if place.type is MAKER and self._best(taker) is not None:
            return _refused(place, "would_match")
        fills: list[Fill] = []
        while (maker := self._best(taker)) is not None:
            quantity = min(maker.left, self._wanted(taker, maker.place.price))
            if not quantity:
                break
            if maker.customer == taker.customer and place.self_trade is SelfTrade.DECREMENT:
                maker.quantity -= quantity
                taker.quantity -= quantity
                self._touched(maker, ())
                continue
            fills.append(self._trade(maker, taker, quantity, rate))
        if place.quantity and not taker.left:
            decremented = taker.quantity < place.quantity
            ended = OrderStatus.EXPIRED_IN_MATCH if decremented else OrderStatus.FILLED
            return taker.update(ended, tuple(fills))
        if place.type is MARKET or place.time_in_force is not TimeInForce.GTC:
            return taker.update(OrderStatus.EXPIRED, tuple(fills))
        self.orders.append(taker)
        return taker.update(_open_status(taker), tuple(fills))

    def _best(self, taker: Resting) -> Resting | None:
        buys, worst = taker.place.side is BUY, taker.place.price
        others = [
            o
            for o in self.orders
            if o.place.side is not taker.place.side
            and (not worst or (o.place.price <= worst if buys else o.place.price >= worst))
        ]
        if not others or (taker.place.quantity and not taker.left):
            return None
        return min(others, key=lambda o: o.place.price if buys else -o.place.price)

    def _wanted(self, taker: Resting, price: int) -> int:
        affordable = (taker.place.budget - taker.quote) // price if taker.place.budget else 10**9
        return min(affordable, taker.left) if taker.place.quantity else affordable

    def _trade(self, maker: Resting, taker: Resting, quantity: int, rate: int) -> Fill:
        self.trades += 1
        price = maker.place.price
        maker.trade(quantity, price)
        taker.trade(quantity, price)
        mine = self._book(taker, quantity, price, rate, False)
        self._touched(maker, (self._book(maker, quantity, price, maker.maker, True),))
        return mine

    def _book(self, order: Resting, quantity: int, price: int, rate: int, maker: bool) -> Fill:
        terms, owner = self.terms, order.customer
        shares, cash = quantity * terms.lot, quantity * price * terms.unit
        buys = order.place.side is BUY
        fee = fee_of(shares if buys else cash, rate)
        self.fees[terms.base if buys else terms.quote] += fee
        self.balances[owner, terms.base] += shares - fee if buys else -shares
        self.balances[owner, terms.quote] += -cash if buys else cash - fee
        return Fill(self.trades, price, quantity, fee, maker)

    def _touched(self, order: Resting, fills: tuple[Fill, ...]) -> None:
        status = _open_status(order)
        if not order.left:
            status = OrderStatus.FILLED if fills else OrderStatus.EXPIRED_IN_MATCH
            self.orders.remove(order)
        self.news.append((order.customer, order.update(status, fills)))

    def expire(self, order: Resting) -> None:
        """End an order without its owner's doing."""
        self.orders.remove(order)
        self.news.append((order.customer, order.update(OrderStatus.EXPIRED)))


def _open_status(order: Resting) -> OrderStatus:
    return OrderStatus.PARTIALLY_FILLED if order.filled else OrderStatus.NEW


def _refused(action: Action, code: str) -> Update:
    return Update(action.ref, OrderStatus.REJECTED, 0, 0, 0, (), code)


class Floor(Bank):
    """A bank whose customers have brokerages, and one book."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self.balances: dict[tuple[int, str], int] = defaultdict(int)
        self.book = NaiveBook(TERMS, self.balances)
        self.works: deque[tuple[int, Work]] = deque()
        self.said: dict[int, deque[tuple[Work, Any]]] = defaultdict(deque)
        self.settles: dict[int, deque[Settle]] = defaultdict(deque)
        self.durable: list[Decision] = []
        self.news: list[tr.OrdersNews] = []

    # -- what happens ---------------------------------------------------------------------

    def _enact(self, customer: int, decision: Decision) -> None:
        here: list[Message] = []
        others: list[Message] = []
        for message in decision.messages:
            if message.kind == BOOKS:
                assert message.to == SYMBOL
                self.works.append((customer, message.body))
            else:
                (here if message.to == str(customer) else others).append(message)
        self.news.extend(decision.news)
        self.durable.append(decision)
        super()._enact(customer, msgspec.structs.replace(decision, messages=others))
        for message in here:
            reaction = self._judge(customer, message.body)
            assert isinstance(reaction, Decision)
            self._enact(customer, reaction)
            assert not self.machine.acknowledge(
                self._state(customer), message.body, reaction.reply, self.now
            ).events

    def match(self) -> None:
        """Let the book carry out the oldest trade that it was sent."""
        customer, work = self.works.popleft()
        self.said[customer].append((work, self.book.work(work)))
        self.tell()

    def tell(self) -> None:
        """Let the news of the book leave it."""
        for customer, update in self.book.news:
            self.settles[customer].append(Settle(SYMBOL, 2_000 + self.book.trades, (update,)))
        self.book.news.clear()

    def answer(self, customer: int) -> None:
        """Deliver the oldest answer to one of the customer's trades."""
        work, outcome = self.said[customer].popleft()
        before = self._encoded(customer)
        decision = self.machine.acknowledge(self._state(customer), work, outcome, self.now)
        assert self._encoded(customer) == before
        self._enact(customer, decision)

    def settle(self, customer: int) -> None:
        """Deliver the oldest news of the customer's orders."""
        reaction = self._judge(customer, self.settles[customer].popleft())
        assert isinstance(reaction, Decision), reaction
        self._enact(customer, reaction)

    def run(self) -> None:
        """Until nothing is on its way any more."""
        while self.works or any(self.said.values()) or any(self.settles.values()):
            if self.works:
                self.match()
            for customer in list(self.said):
                while self.said[customer]:
                    self.answer(customer)
            for customer in list(self.settles):
                while self.settles[customer]:
                    self.settle(customer)

    # -- usual commands -------------------------------------------------------------------

    def trader(self, customer: int, cents: int = 0, coins: int = 0) -> None:
        """A customer with dollars and bitcoins (units) in the brokerage."""
        self.open(customer, cents + 100_000)
        if cents:
            self.put(tr.FundBrokerage(self.id(), b"", usd(customer), cents))
            self.balances[customer, "USD"] += cents * CENTS
        if coins:
            self.put(tr.IssueAsset(self.id(), b"", customer, "BTC", coins))
            self.balances[customer, "BTC"] += coins

    def order(self, customer: int, *actions: Any, trade: bytes | None = None) -> tr.Trade:
        """A trade of these actions."""
        return tr.Trade(trade or self.id(), b"", customer, SYMBOL, TERMS, tuple(actions))

    def say(self, customer: int, *actions: Any) -> list[tr.OrderReport]:
        """Trade, and see it through; the reports."""
        command = self.order(customer, *actions)
        reply = self.put(command, deliver=False)
        if reply is None:
            self.run()
            reply = self.answers[command.id]
        assert isinstance(reply, tr.TradeReply), reply
        return list(reply.reports)

    # -- looking --------------------------------------------------------------------------

    def brokerage(self, customer: int) -> br.Brokerage:
        """A customer's brokerage."""
        brokerage = self.customers[customer].brokerage
        assert brokerage is not None
        return brokerage

    def has(self, customer: int, asset: str) -> tuple[int, int]:
        """Total and held of an asset."""
        balance = self.brokerage(customer).balances.get(asset, br.Balance())
        return balance.total, balance.held

    def prove(self) -> None:
        """What must be true at every moment."""
        for customer in self.customers.values():
            if customer.brokerage is not None:
                assert br.discrepancies(customer.brokerage) == []
        sums: dict[str, int] = defaultdict(int)
        for _, event in self.events:
            own: dict[str, int] = defaultdict(int)
            for posting in self.machine.postings(event):
                own[posting.asset] += posting.amount
                sums[posting.asset] += posting.amount
            assert not any(own.values()), event
        assert not any(sums.values())

    def prove_settled(self) -> None:
        """What must be true when nothing is on its way."""
        self.prove()
        for (customer, asset), amount in self.balances.items():
            assert self.has(customer, asset)[0] == amount, (customer, asset)
        house: dict[tuple[str, str], int] = defaultdict(int)
        for _, event in self.events:
            for account, asset, amount in self.machine.house_postings(event):
                house[account, asset] += amount
        assert house["clearing", "USD.8"] == house["clearing", "BTC.8"] == 0
        assert house["brokerage", "USD"] * CENTS + house["brokerage", "USD.8"] == 0
        for asset in ("USD", "BTC"):
            assert house["trading fees", f"{asset}.8"] == self.book.fees[asset]
        for number, state in self.customers.items():
            if state.brokerage is not None:
                assert not state.brokerage.trades
                open_there = {o.place.ref for o in self.book.orders if o.customer == number}
                assert set(state.brokerage.orders) == open_there


def limit(side: Side, price: int, quantity: int, client: str = "", **fields: Any) -> tr.PlaceOrder:
    """A limit order, good till cancelled."""
    given = {"type": LIMIT, "time_in_force": TimeInForce.GTC, **fields}
    return tr.PlaceOrder(client, side, price=price, quantity=quantity, **given)


def market(side: Side, quantity: int, **fields: Any) -> tr.PlaceOrder:
    """A market order."""
    given = {"price": 0, "time_in_force": TimeInForce.IOC, **fields}
    return tr.PlaceOrder("", side, type=MARKET, quantity=quantity, **given)


def floor() -> Floor:
    """Three customers, of whom Alice has dollars, Bob bitcoins and Carol both."""
    made = Floor()
    made.trader(ALICE, cents=1_000_000)
    made.trader(BOB, coins=10**8)
    made.trader(CAROL, cents=500_000, coins=10**8)
    return made


__all__ = [
    "BUY",
    "CENTS",
    "MAKER",
    "MARKET",
    "SELL",
    "SYMBOL",
    "TERMS",
    "Cancel",
    "Floor",
    "NaiveBook",
    "Resting",
    "fee_of",
    "floor",
    "limit",
    "market",
]
