"""What a customer has at the exchange, for the trading page: orders, fills, balances."""

from __future__ import annotations

import secrets
from typing import Final

import msgspec

from domain.accounts.trading import BalanceView, BrokerageView, OrderReport
from persistence.trading.catalogue import Instrument
from persistence.trading.history import FillFilter, FillRow, fills_page
from serve_apps import trading
from serve_apps.services import Services

RECENT: Final = 25
FILLS: Final = 25


class OrderLine(msgspec.Struct, frozen=True):
    """An order with its instrument."""

    order: OrderReport
    instrument: Instrument


class FillLine(msgspec.Struct, frozen=True):
    """A fill with its instrument."""

    fill: FillRow
    instrument: Instrument


class Available(msgspec.Struct, frozen=True):
    """What can be spent, in units."""

    base: int = 0
    quote: int = 0


class Desk(msgspec.Struct, frozen=True):
    """Everything of a customer that the trading page shows."""

    open: list[OrderLine]
    recent: list[OrderLine]
    fills: list[FillLine]
    balances: list[BalanceView]
    key: str


async def read(services: Services, user: int) -> Desk | None:
    """The customer's desk; ``None`` while it cannot be read."""
    view = await trading.view(services, user)
    if view is None:
        return None
    page = await fills_page(services.pool, user, FillFilter(), limit=FILLS)
    listed = services.catalogue.get
    return Desk(
        [
            OrderLine(order, found)
            for order in reversed(view.orders)
            if (found := listed(order.symbol)) is not None
        ],
        [
            OrderLine(order, found)
            for order in list(reversed(view.recent))[:RECENT]
            if (found := listed(order.symbol)) is not None
        ],
        [FillLine(fill, found) for fill in page.rows if (found := listed(fill.symbol)) is not None],
        sorted((b for b in view.balances if b.total), key=lambda b: b.asset),
        secrets.token_hex(8),
    )


def available(desk: Desk | None, instrument: Instrument) -> Available:
    """What the customer can spend on this instrument."""
    free = {b.asset: b.available for b in desk.balances} if desk else {}
    return Available(free.get(instrument.base, 0), free.get(instrument.quote, 0))


def order_of(view: BrokerageView, symbol: str, ref: int) -> OrderReport | None:
    """One of the customer's open orders."""
    return next((o for o in view.orders if o.symbol == symbol and o.ref == ref), None)
