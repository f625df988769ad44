"""What books and customers' accounts write about orders, held against each other row by row.

Two kinds of journals tell of the same orders: here is who was asked, who paid, what was traded and
what was settled, in plain dictionaries and by no code of either machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from cluster.simulation.model import must
from domain.accounts import events as ev
from domain.accounts import trading as tr
from domain.accounts.numbers import customer_of
from domain.orders import RATE_UNIT, Fill, OrderStatus, Place, Side, Update
from domain.trading import events as be

Order = tuple[int, int]
"""A customer and the number that the customer's entity gave the order."""

CENT = 10**6
"""Units in a cent."""
_REF_BITS = 29


class Paid(msgspec.Struct):
    """An order whose funds were put aside; ``filled`` and ``quote`` are what the book has done."""

    place: Place
    symbol: str
    terms: tr.Terms
    filled: int = 0
    quote: int = 0
    over: OrderStatus | None = None


class Exchange:
    """All orders and trades. ``asked`` are commands by id and fingerprint."""

    def __init__(self, asked: dict[bytes, dict[bytes, Any]]) -> None:
        self.asked = asked
        self.orders: dict[Order, Paid] = {}
        self.trades: dict[str, list[be.Trade]] = {}
        self.settled: dict[Order, set[int]] = {}
        self.units: dict[int, dict[str, int]] = {}
        """By customer and asset, what there must be in the brokerage."""
        self.cents: dict[int, int] = {}
        """By account, what there must be in current accounts."""
        self._last_ref: dict[int, int] = {}
        self._sent: dict[bytes, int] = {}
        self._done: set[bytes] = set()
        self._updates: dict[str, int] = {}
        self._follow: dict[type, Callable[[str, Any], None]] = {
            be.OrdersWorked: self._matched,
            be.OrdersExpired: self._happened,
            be.StatusChanged: self._happened,
            ev.AccountOpened: self._opened,
            ev.BonusCredited: self._bonus,
            ev.OrdersPlaced: self._placed,
            ev.OrdersWorked: self._settled,
            ev.OrdersSettled: self._settled,
            ev.BrokerageFunded: self._funded,
            ev.BrokerageWithdrawn: self._withdrawn,
            ev.AssetIssued: self._issued,
        }

    def follow(self, key: str, event: Any) -> None:
        """Make an event happen here, if it is right."""
        follow = self._follow.get(type(event))
        if follow is not None:
            follow(key, event)

    # -- books ----------------------------------------------------------------------------

    def _matched(self, symbol: str, event: be.OrdersWorked) -> None:
        customer = event.customer
        for action in event.actions:
            order = self.orders.get((customer, action.ref))
            paid = order is not None and order.symbol == symbol
            must(2, paid, "in the book and not paid for:", symbol, customer, action)
        self._happened(symbol, event)
        for action, update in zip(event.actions, event.updates, strict=True):
            if not update.code:
                self._update(customer, update)
            elif type(action) is Place:
                order = self.orders[customer, action.ref]
                must(8, order.over is None and not order.filled, "refused and done:", order)
                order.over = OrderStatus.REJECTED

    def _happened(self, symbol: str, event: Any) -> None:
        must(4, event.update >= self._updates.get(symbol, 0), "updates go back:", symbol, event)
        self._updates[symbol] = event.update
        for trade in getattr(event, "trades", ()):
            self._trade(symbol, trade)
        for touched in event.touched:
            self._update(touched.customer, touched.update)

    def _trade(self, symbol: str, trade: be.Trade) -> None:
        trades = self.trades.setdefault(symbol, [])
        must(4, trade.id == len(trades) + 1, "trades are not numbered without gaps:", trade)
        trades.append(trade)
        other = Side.SELL if trade.side is Side.BUY else Side.BUY
        for number, side, fee in (
            (trade.maker, other, trade.maker_fee),
            (trade.taker, trade.side, trade.taker_fee),
        ):
            order = self.orders.get((number >> _REF_BITS, number % (1 << _REF_BITS)))
            must(2, order is not None, "traded and not paid for:", trade)
            assert order is not None
            place, terms = order.place, order.terms
            must(3, order.over is None, "traded after its end:", order, trade)
            must(5, (order.symbol, place.side) == (symbol, side), "traded otherwise:", order, trade)
            if place.price:
                worse = trade.price > place.price if side is Side.BUY else trade.price < place.price
                must(8, not worse, "traded at a worse price:", order, trade)
            order.filled += trade.quantity
            order.quote += trade.price * trade.quantity
            must(8, not place.quantity or order.filled <= place.quantity, "too much:", order)
            must(8, not place.budget or order.quote <= place.budget, "too dear:", order)
            got = trade.quantity * terms.lot
            if side is Side.SELL:
                got = trade.price * trade.quantity * terms.unit
            fees = {-(-got * rate // RATE_UNIT) for rate in (terms.maker, terms.taker)}
            must(5, fee in fees, "another fee:", trade, fees)

    def _update(self, customer: int, update: Update) -> None:
        order = self.orders[customer, update.ref]
        have, told = (order.filled, order.quote), (update.filled, update.quote)
        must(5, told <= have, "an update tells of more than was traded:", order, update)
        if update.status >= OrderStatus.FILLED:
            must(5, told == have, "ended with another quantity:", order, update)
            must(4, order.over in (None, update.status), "ended twice:", order, update)
            order.over = update.status

    # -- accounts -------------------------------------------------------------------------

    def _opened(self, key: str, event: ev.AccountOpened) -> None:
        self.cents[event.account] = 0

    def _bonus(self, key: str, event: ev.BonusCredited) -> None:
        self._once(event.transfer, event)
        self.cents[event.account] += event.amount

    def _placed(self, key: str, event: ev.OrdersPlaced) -> None:
        command = self.asked.get(event.trade, {}).get(event.fingerprint)
        must(3, isinstance(command, tr.Trade), "nobody asked for", event)
        assert isinstance(command, tr.Trade)
        asked = (str(command.customer), command.symbol)
        must(3, asked == (key, event.symbol), "asked for elsewhere:", command, event)
        places = [action for action in event.actions if type(action) is Place]
        sent = self._sent[event.trade] = self._sent.get(event.trade, 0) + len(places)
        wanted = sum(type(action) is tr.PlaceOrder for action in command.actions)
        must(4, sent <= wanted, "more orders than were asked for:", command, event)
        for place, held in zip(places, event.holds, strict=True):
            ref = self._last_ref.get(event.customer, 0) + 1
            must(4, place.ref == ref, "orders are not numbered without gaps:", place, ref)
            must(2, held > 0, "an order that costs nothing:", place)
            self._last_ref[event.customer] = ref
            self.orders[event.customer, ref] = Paid(place, event.symbol, event.terms)

    def _settled(self, key: str, event: ev.OrdersWorked | ev.OrdersSettled) -> None:
        must(3, str(event.customer) == key, "settled at the wrong customer:", event)
        for update in event.updates:
            for fill in update.fills:
                self._fill((event.customer, update.ref), event.symbol, fill)

    def _fill(self, name: Order, symbol: str, fill: Fill) -> None:
        order = self.orders.get(name)
        must(3, order is not None, "settled, and nobody paid for it:", name, fill)
        assert order is not None
        must(5, self._of(name, symbol, fill), "settled otherwise than traded:", name, fill)
        done = self.settled.setdefault(name, set())
        must(3, fill.trade not in done, "settled twice:", name, fill)
        done.add(fill.trade)
        base, quote = fill.quantity * order.terms.lot, fill.price * fill.quantity * order.terms.unit
        if order.place.side is Side.BUY:
            self._change(name[0], order.terms.base, base - fill.fee)
            self._change(name[0], order.terms.quote, -quote)
        else:
            self._change(name[0], order.terms.base, -base)
            self._change(name[0], order.terms.quote, quote - fill.fee)

    def _of(self, name: Order, symbol: str, fill: Fill) -> bool:
        """Whether a fill is an order's side of a trade."""
        trades = self.trades.get(symbol, [])
        if not 0 < fill.trade <= len(trades):
            return False
        trade, number = trades[fill.trade - 1], (name[0] << _REF_BITS) + name[1]
        sides = {(trade.maker, trade.maker_fee), (trade.taker, trade.taker_fee)}
        same = (fill.price, fill.quantity) == (trade.price, trade.quantity)
        return same and (number, fill.fee) in sides

    def _change(self, customer: int, asset: str, units: int) -> None:
        have = self.units.setdefault(customer, {})
        have[asset] = have.get(asset, 0) + units

    def _funded(self, key: str, event: ev.BrokerageFunded) -> None:
        self._moved(event, 1)

    def _withdrawn(self, key: str, event: ev.BrokerageWithdrawn) -> None:
        self._moved(event, -1)

    def _moved(self, event: ev.BrokerageFunded | ev.BrokerageWithdrawn, sign: int) -> None:
        self._once(event.transfer, event)
        must(5, event.quantity == event.amount * CENT, "units are not the cents:", event)
        self.cents[event.account] -= sign * event.amount
        self._change(customer_of(event.account), event.currency, sign * event.quantity)

    def _issued(self, key: str, event: ev.AssetIssued) -> None:
        self._once(event.id, event)
        self._change(event.customer, event.asset, event.quantity)

    def _once(self, command_id: bytes, event: Any) -> None:
        must(3, command_id in self.asked, "nobody asked for", event)
        must(4, command_id not in self._done, "done twice:", event)
        self._done.add(command_id)

    # -- what is told, and what is left ---------------------------------------------------

    def acknowledged(self, customer: int, reports: Iterable[tr.OrderReport]) -> None:
        """What a customer was told is durable in the book's journal and in the customer's."""
        for report in reports:
            name = (customer, report.ref)
            if not report.ref or report.code:
                continue
            order = self.orders.get(name)
            must(3, order is not None, "told of an order that is not durable:", report)
            assert order is not None
            if report.status >= OrderStatus.FILLED:
                must(3, order.over == report.status, "told of an end that is none:", order, report)
            for fill in report.fills:
                must(3, self._of(name, report.symbol, fill), "told of what was not traded:", report)

    def unsettled(self) -> list[str]:
        """Sides of trades that no customer has settled."""
        found = []
        for symbol, trades in self.trades.items():
            for trade in trades:
                for number in (trade.maker, trade.taker):
                    name = (number >> _REF_BITS, number % (1 << _REF_BITS))
                    if trade.id not in self.settled.get(name, ()):
                        found.append(f"{symbol} {trade.id} of {name}")
        return found
