"""Placing, cancelling and amending orders: from a call to a ticket for the customer's entity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from domain.accounts.trading import (
    CancelAfter,
    CancelAll,
    OrderReport,
    PlaceOrder,
    TradeAction,
    TradeReply,
)
from domain.orders import OrderType
from persistence.trading.catalogue import Instrument
from serve_apps.exchange import errors, orders, reports
from serve_apps.exchange import parameters as p
from serve_apps.exchange.calls import Answer, Call, Ticket, client_from
from serve_apps.exchange.errors import ErrorBody, Refused
from serve_apps.exchange.numbers import asset_text
from serve_apps.exchange.orders import make_trade, order_id

if TYPE_CHECKING:
    from serve_apps.exchange.desk import Desk

SWITCH_MS_MAX = 24 * 3_600_000
_SHORT = frozenset({"ACK", "RESULT", "FULL"})
_FULL_BY_DEFAULT = frozenset({OrderType.LIMIT, OrderType.MARKET})


class ReplaceAnswer(msgspec.Struct, rename="camel"):
    """What became of a cancel and of the order that was to follow it."""

    cancel_result: str
    new_order_result: str
    cancel_response: Any
    new_order_response: Any


def place_order(desk: Desk, call: Call) -> Ticket:
    """``order.place``"""
    params = call.params
    orders.unknown(params, orders.ORDER_PARAMETERS)
    instrument = desk.instrument(p.symbol(params))
    chosen = p.client_id(params, "newClientOrderId")
    number = order_id(call.user, chosen) if chosen else call.number("order")
    order = orders.place(params, instrument, chosen or client_from(number))
    style = response_type(params, order)
    call.count = desk.limits.charge_orders(call.user, 1)
    trade = make_trade(number, call.user, instrument.symbol, desk.terms(instrument), (order,))

    def finish(reply: TradeReply) -> Any:
        return placed(reply.reports[0], instrument, reply.at, style, amount_of(order))

    return Ticket(trade, finish)


def response_type(params: p.Parameters, order: PlaceOrder) -> str:
    """How long the answer to an order is to be. Raises ``Refused``."""
    asked = p.text(params, "newOrderRespType")
    if not asked:
        return "FULL" if order.type in _FULL_BY_DEFAULT else "ACK"
    if asked not in _SHORT:
        raise errors.invalid("newOrderRespType")
    return asked


def amount_of(order: PlaceOrder) -> int:
    """How much of the quote an order is to spend or earn; 0 for one by quantity."""
    return 0 if order.quantity else order.budget


def placed(
    report: OrderReport, instrument: Instrument, at: int, style: str, amount: int = 0
) -> Any:
    """The answer to an order. Raises ``Refused`` when it was not taken."""
    if report.code:
        raise errors.placing(report.code)
    if style == "ACK":
        return reports.ack(report, at)
    return reports.result(report, instrument, at, full=style == "FULL", amount=amount)


async def test_order(desk: Desk, call: Call) -> Any:
    """``order.test``: judged as an order would be, and not placed."""
    params = call.params
    orders.unknown(params, orders.ORDER_PARAMETERS)
    instrument = desk.instrument(p.symbol(params))
    client = p.client_id(params, "newClientOrderId") or "test"
    response_type(params, orders.place(params, instrument, client))
    if not p.flag(params, "computeCommissionRates"):
        return {}
    rates = {
        "maker": asset_text(instrument.maker * 100),
        "taker": asset_text(instrument.taker * 100),
    }
    none = {"maker": reports.ZERO, "taker": reports.ZERO}
    return {
        "standardCommissionForOrder": rates,
        "specialCommissionForOrder": none,
        "taxCommissionForOrder": none,
        "discount": {
            "enabledForAccount": False, "enabledForSymbol": False, "discountAsset": "",
            "discount": reports.ZERO,
        },
    }  # fmt: skip


def cancel_order(desk: Desk, call: Call) -> Ticket:
    """``order.cancel``"""
    params = call.params
    instrument = desk.instrument(p.symbol(params))
    action = orders.cancel(params)
    chosen = p.client_id(params, "newClientOrderId")
    number = call.number("cancel")
    client = chosen or client_from(number)
    trade = make_trade(number, call.user, instrument.symbol, desk.terms(instrument), (action,))

    def finish(reply: TradeReply) -> Any:
        report = reply.reports[0]
        if report.code:
            raise errors.cancelling(report.code)
        return reports.cancelled(report, instrument, reply.at, client)

    return Ticket(trade, finish)


def cancel_open(desk: Desk, call: Call) -> Ticket:
    """``openOrders.cancelAll``: of one instrument."""
    instrument = desk.instrument(p.symbol(call.params))
    number = call.number("cancel all")
    client = client_from(number)
    terms = desk.terms(instrument)
    trade = make_trade(number, call.user, instrument.symbol, terms, (CancelAll(),))

    def finish(reply: TradeReply) -> Any:
        done = [report for report in reply.reports if not report.code]
        if not done:
            raise errors.cancelling("unknown_order")
        return [reports.cancelled(report, instrument, reply.at, client) for report in done]

    return Ticket(trade, finish)


def amend_order(desk: Desk, call: Call) -> Ticket:
    """``order.amend.keepPriority``: an order may shrink and keep its place."""
    params = call.params
    instrument = desk.instrument(p.symbol(params))
    action = orders.amend(params, instrument)
    p.client_id(params, "newClientOrderId")
    terms = desk.terms(instrument)
    trade = make_trade(call.number("amend"), call.user, instrument.symbol, terms, (action,))

    def finish(reply: TradeReply) -> Any:
        report = reply.reports[0]
        if report.code:
            same = report.code == "amend_quantity" and report.quantity == action.quantity
            raise errors.amending("no_change" if same else report.code)
        return reports.amended(report, instrument, reply.at, reply.at, report.client)

    return Ticket(trade, finish)


def replace_order(desk: Desk, call: Call) -> Ticket:
    """``order.cancelReplace``: both in one turn of the book."""
    params = call.params
    orders.unknown(params, orders.REPLACE_PARAMETERS)
    instrument = desk.instrument(p.symbol(params))
    mode = p.required(params, "cancelReplaceMode")
    if mode not in ("STOP_ON_FAILURE", "ALLOW_FAILURE"):
        raise errors.invalid("cancelReplaceMode")
    exceeding = p.text(params, "orderRateLimitExceededMode") or "DO_NOTHING"
    if exceeding not in ("DO_NOTHING", "CANCEL_ONLY"):
        raise errors.invalid("orderRateLimitExceededMode")
    cancel = orders.cancel(params, "cancelOrderId", "cancelOrigClientOrderId")
    number = call.number("replace")
    chosen = p.client_id(params, "newClientOrderId")
    order = orders.place(
        params, instrument, chosen or client_from(number), after=mode == "STOP_ON_FAILURE"
    )
    if chosen:
        order = msgspec.structs.replace(order, id=order_id(call.user, chosen))
    style = response_type(params, order)
    actions: tuple[TradeAction, ...] = (cancel, order)
    refused: Refused | None = None
    try:
        call.count = desk.limits.charge_orders(call.user, 1)
    except Refused as error:
        if exceeding == "DO_NOTHING":
            raise
        refused, actions = error, (cancel,)
    client = p.client_id(params, "cancelNewClientOrderId") or client_from(number)
    terms = desk.terms(instrument)
    trade = make_trade(number, call.user, instrument.symbol, terms, actions)

    def finish(reply: TradeReply) -> Any:
        return _replaced(reply, instrument, client, (style, amount_of(order)), refused)

    return Ticket(trade, finish)


def _replaced(
    reply: TradeReply,
    instrument: Instrument,
    client: str,
    style: tuple[str, int],
    refused: Refused | None,
) -> Any:
    old = reply.reports[0]
    cancelled: Any
    if old.code:
        cancelled = errors.cancelling(old.code).body
    else:
        cancelled = reports.cancelled(old, instrument, reply.at, client)
    placed_result, answer = "SUCCESS", None
    if refused is not None:
        placed_result, answer = ("NOT_ATTEMPTED", None) if old.code else ("FAILURE", refused.body)
    else:
        new = reply.reports[1]
        if new.code in ("not_attempted", "previous_refused"):
            placed_result = "NOT_ATTEMPTED"
        elif new.code:
            placed_result, answer = "FAILURE", errors.placing(new.code).body
        else:
            answer = placed(new, instrument, reply.at, *style)
    data = ReplaceAnswer("FAILURE" if old.code else "SUCCESS", placed_result, cancelled, answer)
    if not old.code and placed_result == "SUCCESS":
        return data
    partly = not old.code or placed_result == "SUCCESS"
    body = (
        ErrorBody(-2021, "Order cancel-replace partially failed.", data)
        if partly
        else ErrorBody(-2022, "Order cancel-replace failed.", data)
    )
    return Answer(body, 429 if refused is not None else 409 if partly else 400)


def cancel_after(desk: Desk, call: Call) -> Ticket:
    """``order.cancelAfter``, the dead man's switch: cancel all unless asked again in time."""
    params = call.params
    symbol = desk.instrument(p.symbol(params)).symbol if params.get("symbol") else ""
    wait = p.integer(params, "countdownTime")
    if wait is None:
        raise errors.missing("countdownTime")
    if wait > SWITCH_MS_MAX:
        raise errors.invalid("countdownTime")
    number = call.number("cancel after")
    at = call.now + wait * 1_000 if wait else 0
    # What is asked is how long, not until when: a repeat is the same request.
    fingerprint = orders.digest(symbol, wait)
    command = CancelAfter(number, fingerprint, call.user, symbol, at)

    def finish(reply: Any) -> Any:
        return {"symbol": symbol, "countdownTime": wait, "cancelAt": at // 1_000}

    return Ticket(command, finish)
