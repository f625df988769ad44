"""Trading from a form: what people type becomes the actions of a trade, and refusals sentences.

Used by the pages. Prices become ticks and quantities lots by the instrument as the catalogue has
it; the customer's entity judges and the book decides. May use the accounts client only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

import msgspec

from domain.accounts.trading import (
    AmendOrder,
    BrokerageView,
    CancelAll,
    CancelOrder,
    OrderReport,
    PlaceOrder,
    Terms,
    Trade,
    TradeAction,
    TradeReply,
)
from domain.durable import Rejection, Unavailable
from domain.orders import OrderType, SelfTrade, Side, TimeInForce
from serve_apps import brokerage
from serve_apps.accounts import command_id, microseconds
from serve_apps.exchange.numbers import parse
from serve_apps.problems import sentence
from serve_apps.services import Services

SIDES: Final = {"buy": Side.BUY, "sell": Side.SELL}
TYPES: Final = {
    "limit": OrderType.LIMIT,
    "market": OrderType.MARKET,
    "limit_maker": OrderType.LIMIT_MAKER,
    "stop_limit": OrderType.STOP_LOSS_LIMIT,
    "stop_market": OrderType.STOP_LOSS,
    "take_profit_limit": OrderType.TAKE_PROFIT_LIMIT,
    "take_profit_market": OrderType.TAKE_PROFIT,
}
FORCES: Final = {
    "gtc": TimeInForce.GTC,
    "ioc": TimeInForce.IOC,
    "fok": TimeInForce.FOK,
    "gtd": TimeInForce.GTD,
}
SELF_TRADES: Final = {
    "none": SelfTrade.NONE,
    "expire_taker": SelfTrade.EXPIRE_TAKER,
    "expire_maker": SelfTrade.EXPIRE_MAKER,
    "expire_both": SelfTrade.EXPIRE_BOTH,
    "decrement": SelfTrade.DECREMENT,
}
_AT_ONCE: Final = (OrderType.MARKET, OrderType.STOP_LOSS, OrderType.TAKE_PROFIT)
_PRICED: Final = (
    OrderType.LIMIT,
    OrderType.LIMIT_MAKER,
    OrderType.STOP_LOSS_LIMIT,
    OrderType.TAKE_PROFIT_LIMIT,
)
_TRIGGERED: Final = (
    OrderType.STOP_LOSS,
    OrderType.STOP_LOSS_LIMIT,
    OrderType.TAKE_PROFIT,
    OrderType.TAKE_PROFIT_LIMIT,
)
_CHOOSES_FORCE: Final = (
    OrderType.LIMIT,
    OrderType.STOP_LOSS_LIMIT,
    OrderType.TAKE_PROFIT_LIMIT,
)

SENTENCES: Final[dict[str, str]] = {
    "insufficient_balance": "Less is available than this order could cost.",
    "unknown_order": "The order is not open any more.",
    "duplicate_client_id": "This form has already placed an order.",
    "too_many_orders": "You have as many open orders as one may.",
    "filter_quantity": "The quantity is not one that this instrument admits.",
    "filter_price": "The price is not one that this instrument admits.",
    "filter_notional": "The order is worth less, or more, than an order may be.",
    "filter_band": "The price lies too far from the last price.",
    "would_match": "It would trade at once, and a maker-only order may not.",
    "would_trigger": "The last price has reached the stop price already.",
    "market_halted": "Trading is halted: orders can be cancelled, not placed.",
    "market_closed": "This instrument is not traded any more.",
    "auction_limit_only": "During an auction only limit orders are taken.",
    "iceberg_slices": "The part that is shown must be a hundredth of the order or more.",
    "expiry_invalid": "The end of the order must be in the future.",
    "order_expired": "The end of the order must be in the future.",
    "amend_quantity": "An order can only be reduced, and not below what is filled.",
    "invalid_order": "These choices do not go together.",
    "not_attempted": "The old order could not be cancelled, so the new one was not placed.",
    "id_reused": "This form has already placed an order. Load the page again for another one.",
}
"""Code of a refused action to a sentence for people."""

_FIELD_OF: Final[dict[str, str]] = {
    "insufficient_balance": "quantity",
    "filter_quantity": "quantity",
    "filter_notional": "quantity",
    "filter_price": "price",
    "filter_band": "price",
    "would_match": "price",
    "would_trigger": "trigger",
    "iceberg_slices": "display",
    "expiry_invalid": "until",
    "order_expired": "until",
    "amend_quantity": "quantity",
}
Errors = dict[str, str]
"""Sentences by field; those of the whole form under the empty name."""


class Listed(Protocol):
    """What of an instrument an order needs."""

    @property
    def symbol(self) -> str:
        """Base and quote."""

    @property
    def base(self) -> str:
        """The asset that is traded."""

    @property
    def quote(self) -> str:
        """The asset that it is paid with."""

    @property
    def tick(self) -> int:
        """Size of a tick."""

    @property
    def lot(self) -> int:
        """Size of a lot."""

    @property
    def unit(self) -> int:
        """Units of the quote in one tick times one lot."""

    @property
    def maker(self) -> int:
        """Fee rate of the maker, in millionths."""

    @property
    def taker(self) -> int:
        """Fee rate of the taker."""


class Ticket(msgspec.Struct, frozen=True):
    """An order as it is typed. ``total`` is in the quote, ``until`` a time in UTC."""

    key: str
    side: str = "buy"
    type: str = "limit"
    price: str = ""
    trigger: str = ""
    quantity: str = ""
    total: str = ""
    force: str = "gtc"
    until: str = ""
    display: str = ""
    self_trade: str = "none"


def explain(code: str) -> str:
    """A refused action in words."""
    known = SENTENCES.get(code) or sentence(code)
    return "The order was refused." if known == code else known


def terms_of(listed: Listed) -> Terms:
    """What the customer's entity must know of an instrument."""
    return Terms(listed.base, listed.quote, listed.lot, listed.unit, listed.maker, listed.taker)


async def view(services: Services, user: int) -> BrokerageView | None:
    """Balances and orders of a customer; ``None`` while they cannot be read."""
    found = await brokerage.view(services, user)
    return found if isinstance(found, BrokerageView) else None


async def place(
    services: Services, user: int, listed: Listed, ticket: Ticket
) -> OrderReport | Errors | Unavailable:
    """Place an order. The same ticket (by its key) places one order, however often it is sent."""
    read = read_ticket(listed, ticket, services.now())
    if isinstance(read, dict):
        return read
    reports = await trade(services, user, listed, [read], ticket.key)
    if not isinstance(reports, tuple):
        return reports
    report = reports[0]
    return _refused(report.code, read) if report.code else report


def _refused(code: str, order: PlaceOrder) -> Errors:
    field = _FIELD_OF.get(code, "")
    if field == "quantity" and order.budget and not order.quantity:
        field = "total"
    return {field: explain(code)}


async def cancel(
    services: Services, user: int, listed: Listed, ref: int
) -> Errors | Unavailable | None:
    """Cancel one open order."""
    reports = await trade(services, user, listed, [CancelOrder(ref)], None)
    return _outcome(reports)


async def cancel_all(services: Services, user: int, listed: Listed) -> Errors | Unavailable | None:
    """Cancel every open order of an instrument."""
    reports = await trade(services, user, listed, [CancelAll()], None)
    return _outcome(reports)


async def amend(
    services: Services,
    user: int,
    listed: Listed,
    order: OrderReport,
    price: str,
    quantity: str,
    key: str,
) -> Errors | Unavailable | None:
    """Change an open order: less at the same price keeps its place, anything else is a new one."""
    lots = parse(quantity, listed.lot)
    ticks = parse(price, listed.tick) if price else order.price
    if isinstance(lots, Rejection):
        return {"quantity": _number(lots, "quantity", listed.base)}
    if isinstance(ticks, Rejection):
        return {"price": _number(ticks, "price", listed.quote)}
    if ticks == order.price and lots == order.quantity:
        return None
    if ticks == order.price and lots < order.quantity:
        actions: list[TradeAction] = [AmendOrder(order.ref, quantity=lots)]
    elif lots <= order.filled:
        return {"quantity": explain("amend_quantity")}
    else:
        fresh = PlaceOrder(
            "", order.side, order.type, order.time_in_force, ticks, lots - order.filled,
            order.trigger, order.display, order.self_trade, order.expires_at, after=True,
        )  # fmt: skip
        actions = [CancelOrder(order.ref), fresh]
    return _outcome(await trade(services, user, listed, actions, key))


def _outcome(
    reports: tuple[OrderReport, ...] | Errors | Unavailable,
) -> Errors | Unavailable | None:
    if not isinstance(reports, tuple):
        return reports
    code = next((report.code for report in reports if report.code), "")
    return {"": explain(code)} if code else None


async def trade(
    services: Services,
    user: int,
    listed: Listed,
    actions: Sequence[TradeAction],
    key: str | None,
) -> tuple[OrderReport, ...] | Errors | Unavailable:
    """Carry out actions on one instrument; a report for each."""
    asked = tuple(actions)
    print_ = brokerage.fingerprint_of(asked)
    command = Trade(
        command_id(user, "trade", key), print_, user, listed.symbol, terms_of(listed), asked
    )
    reply = await services.accounts.call(command)
    if isinstance(reply, TradeReply):
        return reply.reports
    if isinstance(reply, Rejection):
        return {_FIELD_OF.get(reply.code, ""): explain(reply.code)}
    return Unavailable(getattr(reply, "reason", "unavailable"))


def read_ticket(listed: Listed, ticket: Ticket, now: datetime) -> PlaceOrder | Errors:
    """The order that a ticket describes, or what is wrong with its fields."""
    errors: Errors = {}
    side, kind = SIDES.get(ticket.side), TYPES.get(ticket.type)
    own = SELF_TRADES.get(ticket.self_trade)
    force = FORCES.get(ticket.force) if kind in _CHOOSES_FORCE else _implied(kind)
    if side is None or kind is None or own is None or force is None:
        return {"": "These choices do not go together."}
    price = _read(errors, "price", ticket.price, listed) if kind in _PRICED else 0
    trigger = _read(errors, "trigger", ticket.trigger, listed) if kind in _TRIGGERED else 0
    display = 0
    if ticket.display and kind in (OrderType.LIMIT, OrderType.LIMIT_MAKER):
        display = _read(errors, "display", ticket.display, listed)
    quantity, budget = 0, 0
    if not ticket.quantity and ticket.total and kind in _AT_ONCE:
        budget = _read(errors, "total", ticket.total, listed)
    elif not ticket.quantity and ticket.total and price:
        quantity = _read(errors, "total", ticket.total, listed) // price
        if not quantity and "total" not in errors:
            errors["total"] = "This buys less than the smallest quantity."
    else:
        quantity = _read(errors, "quantity", ticket.quantity, listed)
    until = 0
    if force == TimeInForce.GTD:
        until = _until(errors, ticket.until, now)
    if errors:
        return errors
    return PlaceOrder("", side, kind, force, price, quantity, trigger, display, own, until, budget)


def _implied(kind: OrderType | None) -> TimeInForce | None:
    """What holds for types that leave no choice."""
    if kind is None:
        return None
    return TimeInForce.GTC if kind == OrderType.LIMIT_MAKER else TimeInForce.IOC


_WORDS: Final[Mapping[str, str]] = {
    "price": "price",
    "trigger": "stop price",
    "quantity": "quantity",
    "display": "part that is shown",
    "total": "total",
}


def _read(errors: Errors, name: str, text: str, listed: Listed) -> int:
    """A field as ticks, lots, or ticks x lots; 0 with an error noted."""
    if not text:
        errors[name] = f"Enter a {_WORDS[name]}."
        return 0
    text = text.replace(",", "").replace(" ", "").replace("\u00a0", "")
    if name in ("price", "trigger"):
        found = parse(text, listed.tick)
        unit = listed.quote
    elif name == "total":
        found = parse(text, 1)
        unit = listed.quote
        if isinstance(found, int):
            return found // listed.unit
    else:
        found = parse(text, listed.lot)
        unit = listed.base
    if isinstance(found, int):
        return found
    errors[name] = _number(found, _WORDS[name], unit)
    return 0


def _number(refused: Rejection, name: str, unit: str) -> str:
    if refused.code == "step_invalid":
        step = refused.fields.get("step", "")
        return f"The {name} must be a multiple of {step} {unit}, and more than zero."
    return f"The {name} is not a number."


def _until(errors: Errors, text: str, now: datetime) -> int:
    try:
        at = datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        errors["until"] = "Choose day and time at which the order ends."
        return 0
    if at <= now:
        errors["until"] = SENTENCES["expiry_invalid"]
    return microseconds(at)
