"""Follows a market and its own orders with ccxt.pro as it is, only its base URLs set.

Run in the clients' environment. Takes the venue's URL and the keys of two traders as JSON; what it
finds wrong raises. Somebody else trades all the while.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any
from urllib.parse import urlsplit

import ccxt.pro

SYMBOL = "BTC/USD"
COMPARED = 20
PATIENCE_S = 120


def client(url: str, key: str, secret: str) -> Any:
    """A client with every base URL moved to the venue."""
    exchange = ccxt.pro.binance({"apiKey": key, "secret": secret})
    addresses = exchange.urls["api"]
    for name, address in addresses.items():
        if name != "ws":
            addresses[name] = url + urlsplit(address).path
    there = url.replace("http", "ws", 1)
    addresses["ws"]["spot"] = there + "/stream/ws"
    addresses["ws"]["ws-api"]["spot"] = there + "/ws-api/v3"
    return exchange


async def main(url: str, ann_key: str, ann_secret: str, ben_key: str, ben_secret: str) -> None:
    """The book stays equal, and one's own orders and balances are told."""
    ann = client(url, ann_key, ann_secret)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await follow_book(ann)
            await follow_market(ann)
            await follow_orders(ann)
            await trade_by_socket(ann)
    finally:
        await ann.close()


async def follow_book(ann: Any) -> None:
    """What is followed equals what is read, again and again, while others trade."""
    seen: dict[int, Any] = {}
    compared = 0
    following = asyncio.create_task(keep_books(ann, seen))
    while compared < COMPARED:
        # All of it: there are never a hundred prices. For more it waits longer before it asks.
        read = await ann.fetch_order_book(SYMBOL, 100)
        await asyncio.sleep(0.15)
        found = seen.get(read["nonce"])
        if found is not None:
            assert found == (read["bids"], read["asks"]), (found, read)
            compared += 1
    following.cancel()


async def keep_books(ann: Any, seen: dict[int, Any]) -> None:
    """Each state of the book by the number of its last update."""
    while True:
        book = await ann.watch_order_book(SYMBOL, 1_000)
        plain = [[list(level[:2]) for level in side] for side in (book["bids"], book["asks"])]
        seen[book["nonce"]] = tuple(plain)


async def follow_market(ann: Any) -> None:
    """Trades, candles and the ticker move."""
    (trade, *_) = await ann.watch_trades(SYMBOL)
    assert trade["symbol"] == SYMBOL
    ticker = await ann.watch_ticker(SYMBOL)
    assert ticker["last"] > 0
    (candle, *_) = await ann.watch_ohlcv(SYMBOL, "1m")
    assert candle[5] > 0


async def follow_orders(ann: Any) -> None:
    """Orders, trades and balances of one's own are told as they change."""
    orders = asyncio.create_task(ann.watch_orders(SYMBOL))
    balances = asyncio.create_task(ann.watch_balance())
    await asyncio.sleep(0.5)
    placed = await ann.create_order(SYMBOL, "limit", "buy", 0.01, 30_000)
    told = (await orders)[-1]
    assert (told["id"], told["status"]) == (placed["id"], "open"), told
    assert (await balances)["USD"]["used"] >= 300.0
    mine = asyncio.create_task(ann.watch_my_trades(SYMBOL))
    await asyncio.sleep(0.2)
    bought = await ann.create_order(SYMBOL, "market", "buy", 0.001)
    (trade, *_) = await mine
    assert (trade["order"], trade["side"]) == (bought["id"], "buy"), trade
    ending = asyncio.create_task(ann.watch_orders(SYMBOL))
    await asyncio.sleep(0.2)
    await ann.cancel_order(placed["id"], SYMBOL)
    (*_, told) = await ending
    assert (told["id"], told["status"]) == (placed["id"], "canceled"), told


async def trade_by_socket(ann: Any) -> None:
    """Orders by the websocket API."""
    order = await ann.create_order_ws(SYMBOL, "limit", "buy", 0.01, 30_000)
    assert order["status"] == "open", order
    assert (await ann.fetch_order_ws(order["id"], SYMBOL))["amount"] == 0.01
    assert [row["id"] for row in await ann.fetch_open_orders_ws(SYMBOL)] == [order["id"]]
    edited = await ann.edit_order_ws(order["id"], SYMBOL, "limit", "buy", 0.02, 29_000)
    assert edited["price"] == 29_000.0, edited
    cancelled = await ann.cancel_order_ws(edited["id"], SYMBOL)
    assert cancelled["id"] == edited["id"], cancelled
    assert (await ann.fetch_balance())["USD"]["used"] == 0.0


if __name__ == "__main__":
    asyncio.run(main(**json.loads(sys.argv[1])))
