"""The table of everything that the trading API can do, on REST and on the websocket."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from serve_apps.exchange import account, batch, market, trading
from serve_apps.exchange.calls import Answer, Call, Operation
from serve_apps.exchange.desk import Desk
from serve_apps.exchange.openapi import description
from serve_apps.exchange.parameters import Parameters

V3: Final = "/api/v3/"


def _orders_weight(params: Parameters) -> int:
    return 6 if "symbol" in params else 80


_day_weight: Final = market.ticker_weight(2, 80)
_ticker_weight: Final = market.ticker_weight(2, 4)

TRADING: Final = (
    Operation(
        "order.place", "POST", V3 + "order", "trade", "Place an order", order=trading.place_order
    ),
    Operation(
        "order.cancel", "DELETE", V3 + "order", "trade", "Cancel an order",
        order=trading.cancel_order,
    ),
    Operation(
        "order.placeBatch", "POST", V3 + "batchOrders", "trade",
        "Up to a thousand orders, cancels and amendments of one instrument",
        order=batch.place_batch, ours=True, batch=True,
    ),
    Operation(
        "order.cancelReplace", "POST", V3 + "order/cancelReplace", "trade",
        "Cancel an order and place another", order=trading.replace_order,
    ),
    Operation(
        "order.amend.keepPriority", "PUT", V3 + "order/amend/keepPriority", "trade",
        "Reduce an order; it keeps its place", order=trading.amend_order,
    ),
    Operation(
        "openOrders.cancelAll", "DELETE", V3 + "openOrders", "trade",
        "Cancel every open order of an instrument", order=trading.cancel_open,
    ),
    Operation(
        "order.cancelAfter", "POST", V3 + "countdownCancelAll", "trade",
        "Dead man's switch: cancel all unless asked again in time", order=trading.cancel_after,
        ours=True,
    ),
    Operation(
        "order.test", "POST", V3 + "order/test", "trade", "Judge an order without placing it",
        ask=trading.test_order,
    ),
)  # fmt: skip
"""What changes something, the busiest first."""

ACCOUNT: Final = (
    Operation("account.status", "GET", V3 + "account", "read", "Balances", 20, account.account),
    Operation("order.status", "GET", V3 + "order", "read", "An order", 4, account.query_order),
    Operation(
        "openOrders.status", "GET", V3 + "openOrders", "read", "Open orders", _orders_weight,
        account.open_orders,
    ),
    Operation(
        "allOrders", "GET", V3 + "allOrders", "read", "Orders, ended ones too", 20,
        account.all_orders,
    ),
    Operation(
        "myTrades", "GET", V3 + "myTrades", "read", "The customer's trades", 20,
        account.own_trades,
    ),
    Operation(
        "account.rateLimits.orders", "GET", V3 + "rateLimit/order", "read",
        "How many orders were placed", 40, account.order_limits,
    ),
    Operation(
        "myPreventedMatches", "GET", V3 + "myPreventedMatches", "read",
        "Orders that ended because the customer would have traded with themselves", 20,
        account.prevented,
    ),
    Operation(
        "userDataStream.start", "POST", V3 + "userDataStream", "key", "Make a listen key", 2,
        account.open_listen_key,
    ),
    Operation(
        "userDataStream.ping", "PUT", V3 + "userDataStream", "key", "Keep a listen key", 2,
        account.keep_listen_key,
    ),
    Operation(
        "userDataStream.stop", "DELETE", V3 + "userDataStream", "key", "End a listen key", 2,
        account.close_listen_key,
    ),
    Operation(
        "", "GET", "/sapi/v1/capital/config/getall", "read", "The assets that are traded", 10,
        market.currencies,
    ),
)  # fmt: skip
"""What a customer asks of themselves."""

MARKET: Final = (
    Operation("ping", "GET", V3 + "ping", "anyone", "Whether anybody answers", 1, market.ping),
    Operation("time", "GET", V3 + "time", "anyone", "The time", 1, market.time),
    Operation(
        "exchangeInfo", "GET", V3 + "exchangeInfo", "anyone", "Instruments and their rules", 20,
        market.exchange_info, fresh_s=1,
    ),
    Operation(
        "depth", "GET", V3 + "depth", "anyone", "The order book", market.depth_weight,
        market.depth, fresh_s=1,
    ),
    Operation(
        "trades.recent", "GET", V3 + "trades", "anyone", "The last trades", 25, market.trades,
        fresh_s=1,
    ),
    Operation(
        "trades.historical", "GET", V3 + "historicalTrades", "anyone", "Trades from one on", 25,
        market.old_trades, fresh_s=1,
    ),
    Operation(
        "trades.aggregate", "GET", V3 + "aggTrades", "anyone",
        "Trades, those of one order at one price as one", 4, market.aggregate_trades, fresh_s=1,
    ),
    Operation(
        "klines", "GET", V3 + "klines", "anyone", "Candles", 2, market.klines, fresh_s=1,
    ),
    Operation(
        "uiKlines", "GET", V3 + "uiKlines", "anyone", "Candles", 2, market.klines, fresh_s=1,
    ),
    Operation(
        "avgPrice", "GET", V3 + "avgPrice", "anyone", "Average price of five minutes", 2,
        market.average_price, fresh_s=1,
    ),
    Operation(
        "ticker.24hr", "GET", V3 + "ticker/24hr", "anyone", "The last 24 hours", _day_weight,
        market.ticker_day, fresh_s=1,
    ),
    Operation(
        "ticker.price", "GET", V3 + "ticker/price", "anyone", "The last price", _ticker_weight,
        market.ticker_price, fresh_s=1,
    ),
    Operation(
        "ticker.book", "GET", V3 + "ticker/bookTicker", "anyone", "Best bid and offer",
        _ticker_weight, market.ticker_book, fresh_s=1,
    ),
    Operation(
        "", "GET", "/fapi/v1/exchangeInfo /dapi/v1/exchangeInfo /eapi/v1/exchangeInfo", "anyone",
        "There are no derivatives", 1, market.no_markets,
    ),
    Operation(
        "", "GET", "/sapi/v1/margin/allPairs /sapi/v1/margin/isolated/allPairs", "anyone",
        "Nothing is traded on margin", 1, market.no_pairs,
    ),
)  # fmt: skip
"""What everybody may know."""


async def _describe(desk: Desk, call: Call) -> Any:
    """The OpenAPI document of all this."""
    return _DOCUMENT


OPERATIONS: Final = (
    *TRADING,
    *ACCOUNT,
    *MARKET,
    Operation(
        "",
        "GET",
        V3 + "openapi.json",
        "anyone",
        "This description",
        1,
        _describe,
        ours=True,
        fresh_s=300,
    ),
)

_DOCUMENT: Final = Answer(msgspec.json.encode(description(OPERATIONS)))
