"""Trading as a customer's entity is asked to do it, and its answers.

Prices are ticks, quantities lots, budgets ticks x lots, amounts of assets units of 10^-8, but for
what moves between a current account and the brokerage: that is minor units of the currency. Ids
are 16 bytes chosen by the caller, as in ``commands``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from domain.orders import (
    Action,
    Amend,
    Cancel,
    Fill,
    OrderStatus,
    OrderType,
    SelfTrade,
    Side,
    TimeInForce,
)

ORDER_VALUE_MAX: Final = 10**18
"""The most that an order may be worth, in units."""

HOLDING_MAX: Final = 10**16
"""The most of an asset that a customer may be issued or bring to the brokerage, in units: what all
customers of a partition have together must fit into 64 bits."""

CLIENT_ID_MAX: Final = 36
"""Characters of an order id that a client has chosen."""


class OrderCode(StrEnum):
    """Why the customer's side refuses an action of a trade, in order of precedence.

    The book has codes of its own, which are passed on as they are.
    """

    FILTER_QUANTITY = "filter_quantity"
    """The quantity, or its visible part, is none that can be, or a limit order has a budget."""
    FILTER_PRICE = "filter_price"
    """A price or trigger is missing, negative or too large."""
    FILTER_NOTIONAL = "filter_notional"
    """The order is worth more than an order may be."""
    EXPIRY_INVALID = "expiry_invalid"
    """The order's end is in the past, or more than ten years ahead."""
    CLIENT_ID_INVALID = "client_id_invalid"
    """An order id of a client has at most 36 characters, none of them a control character."""
    DUPLICATE_CLIENT_ID = "duplicate_client_id"
    """The client has chosen the id for another order before."""
    TOO_MANY_ORDERS = "too_many_orders"
    """The customer has as many open orders as one may."""
    UNKNOWN_ORDER = "unknown_order"
    """The customer has no such open order of this instrument."""
    NOT_ATTEMPTED = "not_attempted"
    """The action before was refused, and this one was to follow only upon its success."""
    INSUFFICIENT_BALANCE = "insufficient_balance"
    """Less is available (total minus held) than the order could cost."""


class _Wire(msgspec.Struct, frozen=True, array_like=True, gc=False):
    pass


class Terms(_Wire, frozen=True):
    """What an instrument is and costs, as the catalogue says when an order is made.

    ``lot`` is in units of the base, ``unit`` the units of the quote in one tick times one lot,
    ``maker`` and ``taker`` are the customer's fee rates in millionths.
    """

    base: str
    quote: str
    lot: int
    unit: int
    maker: int
    taker: int


class _Asked(msgspec.Struct, frozen=True, array_like=True, gc=False, tag_field="action"):
    """Base of the actions: one of them has a field of its own that is called ``type``."""


class PlaceOrder(_Asked, frozen=True, tag=1):
    """A new order; see ``domain.orders.Place``.

    ``price`` of a market order is the worst that it may trade at, 0 for any. An order with a
    ``budget`` and no quantity spends or earns that much. ``client`` is the client's own id for the
    order, empty for none, and ``id``, where there is one, 16 bytes that stand for it: it will be
    remembered for ever. With ``after`` it is placed only if the action before it was carried out.
    """

    client: str
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    price: int
    quantity: int
    trigger: int = 0
    display: int = 0
    self_trade: SelfTrade = SelfTrade.NONE
    expires_at: int = 0
    budget: int = 0
    id: bytes = b""
    after: bool = False


class CancelOrder(_Asked, frozen=True, tag=2):
    """Cancel an open order, named by its number or by the client's id."""

    ref: int = 0
    client: str = ""


class AmendOrder(_Asked, frozen=True, tag=3):
    """Reduce an open order to ``quantity`` lots in all; it keeps its place in the book."""

    ref: int = 0
    client: str = ""
    quantity: int = 0


class CancelAll(_Asked, frozen=True, tag=4):
    """Cancel every open order of the instrument; there is a report for each of them."""


TradeAction = PlaceOrder | CancelOrder | AmendOrder | CancelAll


class Trade(_Wire, frozen=True, tag=41):
    """Carry out actions on one instrument, in order. Each succeeds or is refused by itself."""

    id: bytes
    fingerprint: bytes
    customer: int
    symbol: str
    terms: Terms
    actions: tuple[TradeAction, ...]


class FundBrokerage(_Wire, frozen=True, tag=42):
    """Move ``amount`` minor units from a current account to the customer's brokerage."""

    id: bytes
    fingerprint: bytes
    account: int
    amount: int


class WithdrawBrokerage(_Wire, frozen=True, tag=43):
    """Move ``amount`` minor units from the customer's brokerage to a current account."""

    id: bytes
    fingerprint: bytes
    account: int
    amount: int


class IssueAsset(_Wire, frozen=True, tag=44):
    """Bring ``quantity`` units of an asset into being, in the hands of ``customer``."""

    id: bytes
    fingerprint: bytes
    customer: int
    asset: str
    quantity: int


class CancelAfter(_Wire, frozen=True, tag=45):
    """Dead man's switch: cancel all orders of ``symbol`` at ``at`` unless asked again before.

    An empty symbol stands for all instruments; an ``at`` of 0 switches it off.
    """

    id: bytes
    fingerprint: bytes
    customer: int
    symbol: str
    at: int


class ReadBrokerage(_Wire, frozen=True, tag=46):
    """Ask for balances and orders as they are now.

    A ``symbol``, ``ref`` or ``client`` leaves only orders out that are others; ``orders`` says
    whether orders are wanted at all.
    """

    customer: int
    symbol: str = ""
    ref: int = 0
    client: str = ""
    orders: bool = True


class WakeCustomer(_Wire, frozen=True, tag=47):
    """End the holds whose time has come, and fire dead man's switches. Sent by the runtime."""

    customer: int


Command = (
    Trade
    | FundBrokerage
    | WithdrawBrokerage
    | IssueAsset
    | CancelAfter
    | ReadBrokerage
    | WakeCustomer
)
"""What a client may ask."""


class BalanceView(_Wire, frozen=True):
    """What a customer has of an asset, in units; ``held`` is what open orders can cost."""

    asset: str
    total: int
    held: int

    @property
    def available(self) -> int:
        """What can be spent: total minus held."""
        return self.total - self.held


class OrderReport(_Wire, frozen=True):
    """An order as its owner sees it.

    ``code`` says why an action was refused. A refused order has no number: ``ref`` is 0. Of an
    unknown order that was to be cancelled only ref, client and symbol mean something. ``filled``
    is in lots and ``quote`` in ticks x lots, both of the order's whole life; ``fills`` are only
    those of the action reported. ``previous`` is the client's id of the order that it replaced.
    """

    ref: int
    client: str
    symbol: str
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    price: int
    quantity: int
    trigger: int
    display: int
    self_trade: SelfTrade
    status: OrderStatus
    filled: int
    quote: int
    fills: tuple[Fill, ...]
    code: str
    placed_at: int
    updated_at: int
    previous: str = ""
    budget: int = 0
    expires_at: int = 0


class PlaceLater(_Wire, frozen=True, tag=48):
    """Message of a customer to themselves: place what waited for the funds that a cancel frees.

    ``done`` and ``orders`` are the reports that are known and the orders that are left, each with
    its place in the answer; ``parts`` the ids of single actions so far, with theirs.
    """

    trade: bytes
    fingerprint: bytes
    customer: int
    symbol: str
    terms: Terms
    done: tuple[tuple[int, OrderReport], ...]
    orders: tuple[tuple[int, PlaceOrder, str], ...]
    parts: tuple[tuple[int, bytes], ...] = ()


class TradeReply(_Wire, frozen=True, tag=51):
    """A report for each action, in order, but one for each order that a ``CancelAll`` meant."""

    at: int
    reports: tuple[OrderReport, ...]


class BrokerageReply(_Wire, frozen=True, tag=52):
    """What came to the brokerage, or left it, with what there is of the asset now.

    ``amount`` minor units of ``account`` were ``quantity`` units of the asset; both are 0 where
    no account had part in it.
    """

    id: bytes
    customer: int
    quantity: int
    balance: BalanceView
    at: int
    account: int = 0
    amount: int = 0


class BrokerageView(_Wire, frozen=True, tag=53):
    """Balances, open orders, and those that ended lately, the oldest first.

    ``switches`` are the dead man's switches that are set: a symbol or nothing, and the time.
    """

    customer: int
    balances: tuple[BalanceView, ...]
    orders: tuple[OrderReport, ...]
    recent: tuple[OrderReport, ...]
    switches: tuple[tuple[str, int], ...] = ()


Reply = TradeReply | BrokerageReply | BrokerageView
"""What a command may be answered with."""


class OrdersNews(_Wire, frozen=True):
    """News after a commit: reports of orders that something happened to, in order.

    Where the customer's own actions did it, ``actions`` has one for each report.
    """

    customer: int
    reports: tuple[OrderReport, ...]
    actions: tuple[Action, ...] = ()


_KINDS: Final = {
    OrderStatus.PENDING: "NEW",
    OrderStatus.NEW: "NEW",
    OrderStatus.CANCELED: "CANCELED",
    OrderStatus.REJECTED: "REJECTED",
    OrderStatus.EXPIRED: "EXPIRED",
    OrderStatus.EXPIRED_IN_MATCH: "TRADE_PREVENTION",
}


def news_kind(report: OrderReport, action: Action | None = None) -> str:
    """What happened to an order, in a word of Binance's execution reports.

    An update with fills is a trade first; what else its status says comes on top of that.
    """
    if report.code:
        return "REJECTED"
    if report.fills:
        return "TRADE"
    if type(action) is Cancel:
        return "CANCELED"
    if type(action) is Amend:
        return "REPLACED"
    return _KINDS.get(report.status, "NEW")
