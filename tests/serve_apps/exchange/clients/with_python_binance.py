"""Trades with python-binance as it is, only its base URLs set. Run in the clients' environment.

Takes the venue's URL and the keys of two traders as JSON; what it finds wrong raises. Somebody
else trades all the while.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from binance import AsyncClient, BinanceSocketManager, Client, DepthCacheManager
from binance.exceptions import BinanceAPIException

SYMBOL = "BTCUSD"
COMPARED = 20
PATIENCE_S = 120


def point(url: str) -> None:
    """Move every base URL to the venue."""
    there = url.replace("http", "ws", 1)
    for kind in (Client, AsyncClient):
        kind.API_URL = url + "/api"
        kind.MARGIN_API_URL = url + "/sapi"
        kind.WS_API_URL = there + "/ws-api/v3"
    BinanceSocketManager.STREAM_URL = there + "/"


async def main(url: str, ann_key: str, ann_secret: str, ben_key: str, ben_secret: str) -> None:
    """Markets, orders, the user stream, and a depth cache that stays equal."""
    point(url)
    ann = await AsyncClient.create(ann_key, ann_secret)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await read_markets(ann)
            await trade(ann)
            await follow_depth(ann)
            await follow_self(ann)
            await trade_by_socket(ann)
    finally:
        await ann.close_connection()


async def read_markets(ann: Any) -> None:
    """Instruments and prices."""
    info = await ann.get_exchange_info()
    assert [row["symbol"] for row in info["symbols"]] == [SYMBOL], info
    assert (await ann.get_symbol_info(SYMBOL))["baseAsset"] == "BTC"
    assert float((await ann.get_symbol_ticker(symbol=SYMBOL))["price"]) > 0
    assert float((await ann.get_orderbook_ticker(symbol=SYMBOL))["askPrice"]) > 0
    assert (await ann.get_ticker(symbol=SYMBOL))["symbol"] == SYMBOL
    assert await ann.get_recent_trades(symbol=SYMBOL)
    await until(lambda: ann.get_aggregate_trades(symbol=SYMBOL))
    assert await ann.get_klines(symbol=SYMBOL, interval="1m")
    assert (await ann.get_avg_price(symbol=SYMBOL))["mins"] == 5


async def trade(ann: Any) -> None:
    """Place, look, replace, amend, cancel."""
    await ann.create_test_order(
        symbol=SYMBOL, side="BUY", type="LIMIT", timeInForce="GTC", quantity="0.01", price="30000"
    )
    order = await ann.order_limit_buy(symbol=SYMBOL, quantity="0.01", price="30000.00")
    assert order["status"] == "NEW", order
    assert (await ann.get_order(symbol=SYMBOL, orderId=order["orderId"]))["price"] == (
        "30000.00000000"
    )
    assert len(await ann.get_open_orders(symbol=SYMBOL)) == 1
    assert (await ann.get_asset_balance("USD"))["locked"] == "300.00000000"
    replaced = await ann.cancel_replace_order(
        symbol=SYMBOL, side="BUY", type="LIMIT", timeInForce="GTC", quantity="0.02", price="29000",
        cancelReplaceMode="STOP_ON_FAILURE", cancelOrderId=order["orderId"],
    )  # fmt: skip
    assert replaced["cancelResult"] == replaced["newOrderResult"] == "SUCCESS", replaced
    number = replaced["newOrderResponse"]["orderId"]
    amended = await ann._put(
        "order/amend/keepPriority", True, data={
            "symbol": SYMBOL, "orderId": number, "newQty": "0.015",
        }, version="v3",
    )  # fmt: skip
    assert amended["amendedOrder"]["qty"] == "0.01500000", amended
    bought = await ann.order_market_buy(symbol=SYMBOL, quantity="0.001")
    assert bought["status"] == "FILLED", bought
    assert (await ann.cancel_order(symbol=SYMBOL, orderId=number))["status"] == "CANCELED"
    refused = ""
    try:
        await ann.cancel_order(symbol=SYMBOL, orderId=number)
    except BinanceAPIException as error:
        refused = f"{error.code} {error.message}"
    assert refused == "-2011 Unknown order sent.", refused
    assert {row["orderId"] for row in await ann.get_all_orders(symbol=SYMBOL)} >= {number}
    await until(lambda: ann.get_my_trades(symbol=SYMBOL))


async def until(look: Any) -> None:
    """The history follows within a moment."""
    for _ in range(100):
        if await look():
            return
        await asyncio.sleep(0.1)
    raise AssertionError("it did not come")


async def follow_depth(ann: Any) -> None:
    """The depth cache equals what is read, again and again, while others trade.

    A client that gets too little of the processor to read what comes ends its own reading: then
    its manager says to begin anew, as is done here.
    """
    seen: dict[int, Any] = {}
    compared = 0
    while compared < COMPARED:
        manager = DepthCacheManager(ann, SYMBOL, limit=1_000, ws_interval=100, conv_type=str)
        async with manager as cached:
            following = asyncio.create_task(keep_depth(cached, seen))
            while compared < COMPARED and cached._socket._handle_read_loop:
                read = await ann.get_order_book(symbol=SYMBOL, limit=1_000)
                await asyncio.sleep(0.15)
                found = seen.get(read["lastUpdateId"])
                if found is not None:
                    assert found == (read["bids"], read["asks"]), (found, read)
                    compared += 1
            following.cancel()


async def keep_depth(cached: Any, seen: dict[int, Any]) -> None:
    """Each state of the cache by the number of its last update."""
    while True:
        cache = await cached.recv()
        seen[cached._last_update_id] = (cache.get_bids(), cache.get_asks())


async def follow_self(ann: Any) -> None:
    """Own orders and balances are told; trades of everybody too."""
    manager = BinanceSocketManager(ann)
    async with manager.trade_socket(SYMBOL) as socket:
        assert (await socket.recv())["e"] == "trade"
    async with manager.user_socket() as socket:
        order = await ann.order_limit_buy(symbol=SYMBOL, quantity="0.01", price="30000.00")
        report = await event(socket, "executionReport")
        assert (report["i"], report["x"], report["X"]) == (order["orderId"], "NEW", "NEW"), report
        position = await event(socket, "outboundAccountPosition")
        assert {row["a"]: row["l"] for row in position["B"]}["USD"] == "300.00000000", position
        await ann.cancel_order(symbol=SYMBOL, orderId=order["orderId"])
        report = await event(socket, "executionReport")
        assert (report["i"], report["x"]) == (order["orderId"], "CANCELED"), report


async def event(socket: Any, kind: str) -> Any:
    """The next event of a kind."""
    while True:
        message = await socket.recv()
        if message["e"] == kind:
            return message


async def trade_by_socket(ann: Any) -> None:
    """Orders by the websocket API, and listen keys of old."""
    order = await ann.ws_create_order(
        symbol=SYMBOL, side="BUY", type="LIMIT", timeInForce="GTC", quantity="0.01",
        price="30000.00",
    )  # fmt: skip
    assert order["status"] == "NEW", order
    found = await ann.ws_get_order(symbol=SYMBOL, orderId=order["orderId"])
    assert found["origQty"] == "0.01000000", found
    cancelled = await ann.ws_cancel_order(symbol=SYMBOL, orderId=order["orderId"])
    assert cancelled["status"] == "CANCELED", cancelled
    assert (await ann.ws_get_order_book(symbol=SYMBOL))["bids"]
    key = await ann.stream_get_listen_key()
    await ann.stream_keepalive(key)
    await ann.stream_close(key)


if __name__ == "__main__":
    asyncio.run(main(**json.loads(sys.argv[1])))
