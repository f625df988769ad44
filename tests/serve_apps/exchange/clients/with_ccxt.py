"""Trades with ccxt as it is, only its base URLs set. Run in the clients' environment.

Takes the venue's URL and the keys of two traders as JSON; what it finds wrong raises.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import ccxt

SYMBOL = "BTC/USD"


def client(url: str, key: str, secret: str) -> Any:
    """A client with every base URL moved to the venue."""
    exchange = ccxt.binance({"apiKey": key, "secret": secret})
    addresses = exchange.urls["api"]
    for name, address in addresses.items():
        addresses[name] = url + urlsplit(address).path
    return exchange


def main(url: str, ann_key: str, ann_secret: str, ben_key: str, ben_secret: str) -> None:
    """All that a trader does in a day."""
    ann, ben = client(url, ann_key, ann_secret), client(url, ben_key, ben_secret)
    read_markets(ann)
    trade(ann, ben)
    change(ann)
    refuse(ann)
    look_back(ann)


def read_markets(ann: Any) -> None:
    """Instruments and what may be done with them."""
    markets = ann.load_markets()
    market = markets[SYMBOL]
    assert list(markets) == [SYMBOL], list(markets)
    assert (market["spot"], market["active"]) == (True, True), market
    assert market["precision"]["price"] == 0.01, market["precision"]
    assert market["precision"]["amount"] == 0.00001, market["precision"]
    assert market["limits"]["cost"]["min"] == 1.0, market["limits"]
    assert abs(ann.fetch_time() - time.time() * 1_000) < 2_000
    assert {"BTC", "USD"} <= set(ann.currencies)


def trade(ann: Any, ben: Any) -> None:
    """Orders that meet, and what they leave."""
    ben.load_markets()
    offer = ben.create_order(SYMBOL, "limit", "sell", 0.5, 50_000)
    assert (offer["status"], offer["id"], offer["remaining"]) == ("open", "1", 0.5), offer
    book = ann.fetch_order_book(SYMBOL)
    assert (book["asks"][0][:2], book["bids"]) == ([50_000.0, 0.5], []), book
    bought = ann.create_order(SYMBOL, "market", "buy", 0.2)
    assert (bought["status"], bought["filled"], bought["cost"]) == ("closed", 0.2, 10_000.0), bought
    assert bought["fees"][0] == {"currency": "BTC", "cost": 0.0004}, bought["fees"]
    spent = ann.create_market_buy_order_with_cost(SYMBOL, 5_000)
    assert (spent["filled"], spent["cost"]) == (0.1, 5_000.0), spent
    balance = ann.fetch_balance()
    assert balance["BTC"]["total"] == 0.2994, balance["BTC"]
    assert balance["USD"] == {"free": 985_000.0, "used": 0.0, "total": 985_000.0}, balance["USD"]
    wait(lambda: ben.fetch_order(offer["id"], SYMBOL)["filled"] == 0.3)
    (left,) = ben.fetch_open_orders(SYMBOL)
    assert (left["remaining"], left["average"]) == (0.2, 50_000.0), left
    ticker = ann.fetch_ticker(SYMBOL)
    assert (ticker["last"], ticker["ask"], ticker["baseVolume"]) == (50_000.0, 50_000.0, 0.3), (
        ticker
    )


def change(ann: Any) -> None:
    """Amending, replacing and cancelling."""
    order = ann.create_order(SYMBOL, "limit", "buy", 0.1, 40_000, {"postOnly": True})
    edited = ann.edit_order(order["id"], SYMBOL, "limit", "buy", 0.2, 39_000)
    assert (edited["id"] != order["id"], edited["price"]) == (True, 39_000.0), edited
    assert ann.fetch_order(order["id"], SYMBOL)["status"] == "canceled"
    request = {"symbol": "BTCUSD", "orderId": edited["id"], "newQty": "0.15"}
    amended = ann.request("order/amend/keepPriority", ["private"], "PUT", request)
    assert amended["amendedOrder"]["qty"] == "0.15000000", amended
    assert ann.fetch_order(edited["id"], SYMBOL)["amount"] == 0.15
    stop = ann.create_order(SYMBOL, "limit", "sell", 0.1, 44_000, {"stopLossPrice": 45_000})
    assert (stop["status"], stop["triggerPrice"]) == ("open", 45_000.0) or stop["id"], stop
    assert len(ann.fetch_open_orders(SYMBOL)) == 2
    cancelled = ann.cancel_order(edited["id"], SYMBOL)
    assert (cancelled["status"], cancelled["id"]) == ("canceled", edited["id"]), cancelled
    ann.cancel_all_orders(SYMBOL)
    assert ann.fetch_open_orders(SYMBOL) == []
    assert ann.fetch_balance()["USD"]["used"] == 0.0


def refuse(ann: Any) -> None:
    """What cannot be done is what ccxt has names for."""
    for error, arguments in (
        (ccxt.InsufficientFunds, ("limit", "buy", 1_000, 50_000)),
        (ccxt.BadRequest, ("limit", "buy", 0.00002, 10)),
        (ccxt.OrderImmediatelyFillable, ("limit", "buy", 0.1, 60_000, {"postOnly": True})),
    ):
        raises(error, lambda arguments=arguments: ann.create_order(SYMBOL, *arguments))
    raises(ccxt.OrderNotFound, lambda: ann.cancel_order("999", SYMBOL))
    raises(ccxt.OrderNotFound, lambda: ann.fetch_order("999", SYMBOL))
    right = ann.secret
    ann.secret = "x" * 64
    raises(ccxt.AuthenticationError, ann.fetch_balance)
    ann.secret = right


def look_back(ann: Any) -> None:
    """History, which follows within a moment."""
    wait(lambda: len(ann.fetch_my_trades(SYMBOL)) == 2)
    first, second = ann.fetch_my_trades(SYMBOL)
    assert (first["price"], first["amount"], first["takerOrMaker"]) == (50_000.0, 0.2, "taker")
    assert second["fee"] == {"currency": "BTC", "cost": 0.0002}, second["fee"]
    assert [row["status"] for row in ann.fetch_orders(SYMBOL)].count("closed") == 2
    trades = ann.fetch_trades(SYMBOL)
    assert [row["amount"] for row in trades] == [0.2, 0.1], trades
    candles = ann.fetch_ohlcv(SYMBOL, "1m")
    assert sum(row[5] for row in candles) == 0.3 or round(sum(r[5] for r in candles), 8) == 0.3


def raises(error: type[Exception], act: Any) -> None:
    """``act`` fails in this way."""
    try:
        act()
    except error:
        return
    raise AssertionError(f"no {error.__name__}")


def wait(look: Any) -> None:
    """Until ``look`` is satisfied."""
    deadline = time.monotonic() + 10
    while not look():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
