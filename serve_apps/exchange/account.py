"""What a customer asks of themselves: balances, orders, trades, limits, listen keys.

Balances and orders come from the customer's entity, so an effect is seen as soon as it was
answered. Orders that ended long ago and trades come from the history, which follows within a
second.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec

from domain.accounts.trading import BrokerageView, OrderReport, ReadBrokerage
from domain.durable import Rejection, Unavailable
from domain.orders import OrderStatus, Side
from persistence.trading import history
from serve_apps.exchange import errors, orders, reports
from serve_apps.exchange import parameters as p
from serve_apps.exchange.calls import Call
from serve_apps.exchange.limits import LimitSettings, OrderCount
from serve_apps.exchange.numbers import asset_text

if TYPE_CHECKING:
    from serve_apps.exchange.desk import Desk

LIMIT: Final = 500
LIMIT_MAX: Final = 1_000
RATE: Final = 1_000
"""Standard commission in millionths; an instrument may have its own."""


class Balance(msgspec.Struct):
    """What there is of an asset."""

    asset: str
    free: str
    locked: str


class OwnTrade(msgspec.Struct, rename="camel"):
    """A trade of the customer."""

    symbol: str
    id: int
    order_id: int
    order_list_id: int
    price: str
    qty: str
    quote_qty: str
    commission: str
    commission_asset: str
    time: int
    is_buyer: bool
    is_maker: bool
    is_best_match: bool


async def read(desk: Desk, command: ReadBrokerage) -> BrokerageView:
    """Ask the customer's entity. Raises ``Refused`` when it does not answer."""
    reply = await desk.services.accounts.call(command)
    if isinstance(reply, BrokerageView):
        return reply
    if isinstance(reply, Rejection):
        return BrokerageView(command.customer, (), (), ())
    assert isinstance(reply, Unavailable), reply
    raise errors.unavailable()


async def account(desk: Desk, call: Call) -> Any:
    """``account.status``"""
    some = p.flag(call.params, "omitZeroBalances")
    view = await read(desk, ReadBrokerage(call.user, orders=False))
    rate = asset_text(RATE * 100)
    return {
        "makerCommission": RATE // 100,
        "takerCommission": RATE // 100,
        "buyerCommission": 0,
        "sellerCommission": 0,
        "commissionRates": {
            "maker": rate,
            "taker": rate,
            "buyer": reports.ZERO,
            "seller": reports.ZERO,
        },
        "canTrade": call.key.may("trade", call.address),
        "canWithdraw": False,
        "canDeposit": False,
        "brokered": False,
        "requireSelfTradePrevention": False,
        "preventSor": True,
        "updateTime": call.now // 1_000,
        "accountType": "SPOT",
        "balances": [
            Balance(row.asset, asset_text(row.available), asset_text(row.held))
            for row in view.balances
            if row.total or not some
        ],
        "permissions": ["SPOT"],
        "uid": call.user,
    }


async def query_order(desk: Desk, call: Call) -> Any:
    """``order.status``: from memory; what ended long ago from the history."""
    instrument = desk.instrument(p.symbol(call.params))
    ref, client = orders.named(call.params)
    report = await _find(desk, call.user, instrument.symbol, ref, client)
    if report is None or (ref and client and report.client != client):
        raise errors.no_such_order()
    return reports.order(report, instrument)


async def _find(desk: Desk, user: int, symbol: str, ref: int, client: str) -> OrderReport | None:
    question = ReadBrokerage(user, symbol, ref, "" if ref else client)
    view = await read(desk, question)
    for report in (*view.orders, *view.recent):
        if report.symbol == symbol and (report.ref == ref if ref else report.client == client):
            return report
    row = await history.order(
        desk.services.pool, user, ref=ref, client="" if ref else client, symbol=symbol
    )
    return None if row is None or row.report.code else row.report


async def open_orders(desk: Desk, call: Call) -> Any:
    """``openOrders.status``: of one instrument or of all, from memory."""
    symbol = desk.instrument(p.symbol(call.params)).symbol if call.params.get("symbol") else ""
    view = await read(desk, ReadBrokerage(call.user, symbol))
    return [
        reports.order(report, desk.instrument(report.symbol))
        for report in view.orders
        if not symbol or report.symbol == symbol
    ]


async def all_orders(desk: Desk, call: Call) -> Any:
    """``allOrders``: the history, with what memory knows better."""
    params = call.params
    instrument = desk.instrument(p.symbol(params))
    symbol = instrument.symbol
    first = p.integer(params, "orderId")
    start, end = p.moment(params, "startTime"), p.moment(params, "endTime")
    limit = p.limit(params, LIMIT, LIMIT_MAX)
    view, rows = await asyncio.gather(
        read(desk, ReadBrokerage(call.user, symbol)),
        history.all_orders(
            desk.services.pool, call.user, symbol, from_ref=first, start=start, end=end,
            limit=limit,
        ),
    )  # fmt: skip
    found = {report.ref: report for report in rows}
    if not rows or first is None:
        lowest = min(found, default=0)
        for report in (*view.orders, *view.recent):
            fits = (start is None or report.placed_at >= start) and (
                end is None or report.placed_at <= end
            )
            if report.symbol == symbol and fits and report.ref >= max(first or 0, lowest):
                found[report.ref] = report
    else:
        for report in (*view.orders, *view.recent):
            if report.symbol == symbol and report.ref >= first:
                found[report.ref] = report
    numbers = sorted(found)
    numbers = numbers[:limit] if first is not None or start is not None else numbers[-limit:]
    return [reports.order(found[number], instrument) for number in numbers]


async def own_trades(desk: Desk, call: Call) -> Any:
    """``myTrades``: from the history."""
    params = call.params
    instrument = desk.instrument(p.symbol(params))
    rows = await history.own_trades(
        desk.services.pool,
        call.user,
        instrument.symbol,
        order=p.integer(params, "orderId"),
        start=p.moment(params, "startTime"),
        end=p.moment(params, "endTime"),
        from_id=p.integer(params, "fromId"),
        limit=p.limit(params, LIMIT, LIMIT_MAX),
    )
    answers = []
    for row in rows:
        buyer = row.side == Side.BUY
        answers.append(
            OwnTrade(
                instrument.symbol,
                row.trade,
                row.ref,
                reports.NO_LIST,
                asset_text(row.price * instrument.tick),
                asset_text(row.quantity * instrument.lot),
                asset_text(row.price * row.quantity * instrument.unit),
                asset_text(row.fee),
                instrument.base if buyer else instrument.quote,
                row.at // 1_000,
                buyer,
                row.maker,
                True,
            )
        )
    return answers


async def prevented(desk: Desk, call: Call) -> Any:
    """``myPreventedMatches``: orders that ended because of it, as far as they are known.

    The order is named by its own number; who would have been on the other side is not kept.
    """
    params = call.params
    instrument = desk.instrument(p.symbol(params))
    ref = p.integer(params, "orderId") or p.integer(params, "preventedMatchId")
    if ref is None:
        raise errors.missing("orderId")
    report = await _find(desk, call.user, instrument.symbol, ref, "")
    if report is None or report.status is not OrderStatus.EXPIRED_IN_MATCH:
        return []
    return [
        {
            "symbol": instrument.symbol,
            "preventedMatchId": report.ref,
            "takerOrderId": report.ref,
            "makerSymbol": instrument.symbol,
            "selfTradePreventionMode": report.self_trade.name,
            "price": asset_text(report.price * instrument.tick),
            "transactTime": report.updated_at // 1_000,
        }
    ]


async def order_limits(desk: Desk, call: Call) -> Any:
    """``account.rateLimits.orders``"""
    return order_rates(desk.limits.settings, desk.limits.orders(call.user))


def order_rates(settings: LimitSettings, count: OrderCount) -> list[dict[str, Any]]:
    """How many orders were placed, as the dialect writes it."""
    return [
        _rate("SECOND", 10, settings.orders_10s, count.in_10s),
        _rate("DAY", 1, settings.orders_1d, count.in_1d),
    ]


def _rate(interval: str, number: int, limit: int, count: int) -> dict[str, Any]:
    return {
        "rateLimitType": "ORDERS",
        "interval": interval,
        "intervalNum": number,
        "limit": limit,
        "count": count,
    }


async def open_listen_key(desk: Desk, call: Call) -> Any:
    """An old kind of user stream: a key that stands for the customer in an address."""
    return {"listenKey": await desk.listen_keys.open(call.user)}


async def keep_listen_key(desk: Desk, call: Call) -> Any:
    """A listen key lives for an hour from now."""
    await desk.listen_keys.keep(p.required(call.params, "listenKey"), call.user)
    return {}


async def close_listen_key(desk: Desk, call: Call) -> Any:
    """A listen key is not needed any more."""
    await desk.listen_keys.close(p.required(call.params, "listenKey"), call.user)
    return {}
