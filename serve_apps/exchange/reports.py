"""Orders and trades as the dialect writes them, from what accounts say of them.

Amounts come as integers and leave as text with eight decimals; times leave in milliseconds.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from domain.accounts.trading import OrderReport
from domain.orders import Fill, OrderStatus, OrderType, Side
from persistence.trading.catalogue import Instrument
from serve_apps.exchange.numbers import asset_text
from serve_apps.exchange.orders import LIMITED, STOPS

NO_LIST: Final = -1
ZERO: Final = "0.00000000"

STATUS: Final[dict[int, str]] = {
    **{status: status.name for status in OrderStatus},
    OrderStatus.PENDING: "NEW",
}
SIDE: Final[dict[int, str]] = {side: side.name for side in Side}
TYPE: Final[dict[int, str]] = {kind: kind.name for kind in OrderType}

Text = str | UnsetType


class FillAnswer(msgspec.Struct, rename="camel"):
    """A trade in the answer to an order."""

    price: str
    qty: str
    commission: str
    commission_asset: str
    trade_id: int


class Ack(msgspec.Struct, rename="camel"):
    """The shortest answer to an order."""

    symbol: str
    order_id: int
    order_list_id: int
    client_order_id: str
    transact_time: int


class Result(msgspec.Struct, rename="camel"):
    """The answer to an order; with ``fills`` it is a full one."""

    symbol: str
    order_id: int
    order_list_id: int
    client_order_id: str
    transact_time: int
    price: str
    orig_qty: str
    executed_qty: str
    orig_quote_order_qty: str
    cummulative_quote_qty: str
    status: str
    time_in_force: str
    type: str
    side: str
    working_time: int
    self_trade_prevention_mode: str
    fills: list[FillAnswer] | UnsetType = UNSET
    stop_price: Text = UNSET
    iceberg_qty: Text = UNSET


class CancelAnswer(msgspec.Struct, rename="camel"):
    """The answer to a cancel."""

    symbol: str
    orig_client_order_id: str
    order_id: int
    order_list_id: int
    client_order_id: str
    transact_time: int
    price: str
    orig_qty: str
    executed_qty: str
    orig_quote_order_qty: str
    cummulative_quote_qty: str
    status: str
    time_in_force: str
    type: str
    side: str
    self_trade_prevention_mode: str
    stop_price: Text = UNSET
    iceberg_qty: Text = UNSET


class OrderAnswer(msgspec.Struct, rename="camel"):
    """An order as a query shows it."""

    symbol: str
    order_id: int
    order_list_id: int
    client_order_id: str
    price: str
    orig_qty: str
    executed_qty: str
    cummulative_quote_qty: str
    status: str
    time_in_force: str
    type: str
    side: str
    stop_price: str
    iceberg_qty: str
    time: int
    update_time: int
    is_working: bool
    working_time: int
    orig_quote_order_qty: str
    self_trade_prevention_mode: str


class AmendedOrder(msgspec.Struct, rename="camel"):
    """An order after it was reduced."""

    symbol: str
    order_id: int
    order_list_id: int
    orig_client_order_id: str
    client_order_id: str
    price: str
    qty: str
    executed_qty: str
    prevented_qty: str
    quote_order_qty: str
    cumulative_quote_qty: str
    status: str
    time_in_force: str
    type: str
    side: str
    working_time: int
    self_trade_prevention_mode: str


class AmendAnswer(msgspec.Struct, rename="camel"):
    """The answer to an amendment."""

    transact_time: int
    execution_id: int
    amended_order: AmendedOrder


def time_in_force(report: OrderReport) -> str:
    """As the dialect says it: orders without a limit are GTC there."""
    return report.time_in_force.name if report.type in LIMITED else "GTC"


def working(report: OrderReport) -> bool:
    """Whether the order is known to be, or have been, in the book: a stop is once it has traded."""
    return report.type not in STOPS or report.filled > 0


def ack(report: OrderReport, at: int) -> Ack:
    """The shortest answer."""
    return Ack(report.symbol, report.ref, NO_LIST, report.client, at // 1_000)


def result(
    report: OrderReport, instrument: Instrument, at: int, *, full: bool, amount: int = 0
) -> Result:
    """The answer with the order's state; ``full`` with its trades.

    ``amount`` is how much of the quote an order was to spend or earn, in ticks x lots.
    """
    tick, lot, unit = instrument.tick, instrument.lot, instrument.unit
    at //= 1_000
    answer = Result(
        report.symbol,
        report.ref,
        NO_LIST,
        report.client,
        at,
        asset_text(report.price * tick),
        asset_text(report.quantity * lot),
        asset_text(report.filled * lot),
        asset_text(amount * unit),
        asset_text(report.quote * unit),
        STATUS[report.status],
        time_in_force(report),
        TYPE[report.type],
        SIDE[report.side],
        at if working(report) else -1,
        report.self_trade.name,
    )
    if full:
        received = instrument.base if report.side is Side.BUY else instrument.quote
        answer.fills = [_fill(fill, tick, lot, received) for fill in report.fills]
    if report.trigger:
        answer.stop_price = asset_text(report.trigger * tick)
    if report.display:
        answer.iceberg_qty = asset_text(report.display * lot)
    return answer


def _fill(fill: Fill, tick: int, lot: int, received: str) -> FillAnswer:
    return FillAnswer(
        asset_text(fill.price * tick),
        asset_text(fill.quantity * lot),
        asset_text(fill.fee),
        received,
        fill.trade,
    )


def cancelled(report: OrderReport, instrument: Instrument, at: int, client: str) -> CancelAnswer:
    """The answer to a cancel; ``client`` is the cancel's own id."""
    tick, lot, unit = instrument.tick, instrument.lot, instrument.unit
    answer = CancelAnswer(
        report.symbol,
        report.client,
        report.ref,
        NO_LIST,
        client,
        at // 1_000,
        asset_text(report.price * tick),
        asset_text(report.quantity * lot),
        asset_text(report.filled * lot),
        asset_text(report.budget * unit) if not report.quantity else ZERO,
        asset_text(report.quote * unit),
        STATUS[report.status],
        time_in_force(report),
        TYPE[report.type],
        SIDE[report.side],
        report.self_trade.name,
    )
    if report.trigger:
        answer.stop_price = asset_text(report.trigger * tick)
    if report.display:
        answer.iceberg_qty = asset_text(report.display * lot)
    return answer


def order(report: OrderReport, instrument: Instrument) -> OrderAnswer:
    """An order as a query shows it."""
    tick, lot, unit = instrument.tick, instrument.lot, instrument.unit
    placed = report.placed_at // 1_000
    works = working(report)
    return OrderAnswer(
        report.symbol,
        report.ref,
        NO_LIST,
        report.client,
        asset_text(report.price * tick),
        asset_text(report.quantity * lot),
        asset_text(report.filled * lot),
        asset_text(report.quote * unit),
        STATUS[report.status],
        time_in_force(report),
        TYPE[report.type],
        SIDE[report.side],
        asset_text(report.trigger * tick),
        asset_text(report.display * lot),
        placed,
        report.updated_at // 1_000,
        works,
        placed if works else -1,
        asset_text(report.budget * unit) if not report.quantity else ZERO,
        report.self_trade.name,
    )


def amended(
    report: OrderReport, instrument: Instrument, at: int, execution: int, client: str
) -> AmendAnswer:
    """The answer to an amendment. An order keeps its client's id when it is amended."""
    tick, lot, unit = instrument.tick, instrument.lot, instrument.unit
    return AmendAnswer(
        at // 1_000,
        execution,
        AmendedOrder(
            report.symbol,
            report.ref,
            NO_LIST,
            report.client,
            client,
            asset_text(report.price * tick),
            asset_text(report.quantity * lot),
            asset_text(report.filled * lot),
            ZERO,
            ZERO,
            asset_text(report.quote * unit),
            STATUS[report.status],
            time_in_force(report),
            TYPE[report.type],
            SIDE[report.side],
            report.placed_at // 1_000,
            report.self_trade.name,
        ),
    )
