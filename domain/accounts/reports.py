"""Orders as their owners see them: reports made from the state of a brokerage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from domain.accounts import trading as tr
from domain.accounts.brokerage import Brokerage, Order
from domain.accounts.trading import OrderReport
from domain.orders import Fill, OrderStatus, OrderType, SelfTrade, Side, TimeInForce, Update

_PARTIALLY_FILLED: Final = OrderStatus.PARTIALLY_FILLED
_REJECTED: Final = OrderStatus.REJECTED
_PENDING: Final = OrderStatus.PENDING
_NO_FILLS: Final[tuple[Fill, ...]] = ()


def order_report(ref: int, order: Order, code: str = "") -> OrderReport:
    """An order as it is now."""
    place = order.place
    return OrderReport(
        ref,
        order.client,
        order.symbol,
        place.side,
        place.type,
        place.time_in_force,
        place.price,
        order.quantity,
        place.trigger,
        place.display,
        place.self_trade,
        order.status,
        order.filled,
        order.quote,
        _NO_FILLS,
        code,
        order.at,
        order.updated_at,
        order.previous,
        place.budget,
        place.expires_at,
    )


def update_report(order: Order, update: Update, at: int) -> OrderReport:
    """An order as the book says that it is after ``update``, which was not refused."""
    place = order.place
    return OrderReport(
        update.ref,
        order.client,
        order.symbol,
        place.side,
        place.type,
        place.time_in_force,
        place.price,
        update.quantity,
        place.trigger,
        place.display,
        place.self_trade,
        update.status,
        update.filled,
        update.quote,
        update.fills,
        "",
        order.at,
        at,
        order.previous,
        place.budget,
        place.expires_at,
    )


class SettledNews:
    """News of orders that something happened to without their owner's doing.

    The reports are made when somebody wants to read them: mostly nobody does. What they are made
    of does not change after an order is placed.
    """

    __slots__ = ("_at", "_orders", "_updates", "customer")

    actions: Final = ()

    def __init__(
        self, customer: int, orders: Sequence[Order], updates: Sequence[Update], at: int
    ) -> None:
        self.customer = customer
        self._orders = orders
        self._updates = updates
        self._at = at

    @property
    def reports(self) -> tuple[OrderReport, ...]:
        """The orders after what has happened."""
        pairs = zip(self._orders, self._updates, strict=True)
        return tuple(update_report(order, update, self._at) for order, update in pairs)


def refused_order_report(ref: int, order: Order, at: int, code: str) -> OrderReport:
    """A new order that the book has refused; its number is no other's."""
    place = order.place
    return OrderReport(
        ref,
        order.client,
        order.symbol,
        place.side,
        place.type,
        place.time_in_force,
        place.price,
        place.quantity,
        place.trigger,
        place.display,
        place.self_trade,
        _REJECTED,
        0,
        0,
        _NO_FILLS,
        code,
        order.at,
        at,
        order.previous,
        place.budget,
        place.expires_at,
    )


def refused_place_report(symbol: str, order: tr.PlaceOrder, code: str, now: int) -> OrderReport:
    """A new order that never came to be."""
    return OrderReport(
        0,
        order.client,
        symbol,
        order.side,
        order.type,
        order.time_in_force,
        order.price,
        order.quantity,
        order.trigger,
        order.display,
        order.self_trade,
        _REJECTED,
        0,
        0,
        _NO_FILLS,
        code,
        now,
        now,
        "",
        order.budget,
        order.expires_at,
    )


def unknown_order_report(ref: int, client: str, symbol: str, code: str, now: int) -> OrderReport:
    """An order that was named and is not there."""
    return OrderReport(
        ref,
        client,
        symbol,
        Side.BUY,
        OrderType.LIMIT,
        TimeInForce.GTC,
        0,
        0,
        0,
        0,
        SelfTrade.NONE,
        _REJECTED,
        0,
        0,
        _NO_FILLS,
        code,
        now,
        now,
    )


def brokerage_view(brokerage: Brokerage, asked: tr.ReadBrokerage) -> tr.BrokerageView:
    """Balances by name of the asset, and the orders that were asked for."""
    open_orders: tuple[OrderReport, ...] = ()
    recent: tuple[OrderReport, ...] = ()
    if asked.orders:
        open_orders = tuple(_wanted(brokerage, brokerage.orders, asked))
        recent = tuple(_wanted(brokerage, brokerage.ended, asked))
    return tr.BrokerageView(
        asked.customer,
        tuple(
            tr.BalanceView(asset, balance.total, balance.held)
            for asset, balance in sorted(brokerage.balances.items())
        ),
        open_orders,
        recent,
        tuple(sorted(brokerage.switches.items())),
    )


def _wanted(
    brokerage: Brokerage, orders: dict[int, Order], asked: tr.ReadBrokerage
) -> list[OrderReport]:
    ref = asked.ref
    if asked.client:
        ref = ref or brokerage.clients.get(asked.client, -1)
    found = orders.items()
    if ref:
        found = {ref: orders[ref]}.items() if ref in orders else {}.items()
    return [
        order_report(number, order)
        for number, order in found
        if (not asked.symbol or order.symbol == asked.symbol)
        and (not asked.client or order.client == asked.client)
    ]
