"""Streams of a whole replica: real books and accounts, Redis between, clients over sockets."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import redis.asyncio
import socketio
from websockets.asyncio.client import ClientConnection, connect

from domain.accounts.trading import FundBrokerage
from tests.serve_apps.browser import Browser
from tests.serve_apps.exchange.streams.site import Rebuilt
from tests.serve_apps.exchange.venue import SYMBOL, Refusal, Trader, Venue

WAIT_S = 15.0


class Stream:
    """A connection to the stream server that keeps what it is told."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.events: list[dict[str, Any]] = []

    async def next(self) -> dict[str, Any]:
        """The next event."""
        async with asyncio.timeout(WAIT_S):
            event: dict[str, Any] = json.loads(await self.socket.recv())
        self.events.append(event)
        return event

    async def of(self, kind: str) -> dict[str, Any]:
        """The next event of a kind."""
        while True:
            event = await self.next()
            if event.get("e") == kind:
                return event

    async def balance(self, asset: str, free: str, locked: str) -> None:
        """Wait until a balance is told to be this."""
        wanted = {"a": asset, "f": free, "l": locked}
        while wanted not in (await self.of("outboundAccountPosition"))["B"]:
            pass

    async def drain(self, quiet_s: float = 0.4) -> list[dict[str, Any]]:
        """Everything so far, once nothing more comes."""
        with contextlib.suppress(TimeoutError):
            while True:
                async with asyncio.timeout(quiet_s):
                    self.events.append(json.loads(await self.socket.recv()))
        return self.events

    async def until(self, update: int, timeout_s: float = 30.0) -> None:
        """Go on until changes of a book up to this one have come, beside others."""
        async with asyncio.timeout(timeout_s):
            while not any(event["u"] >= update for event in self.events[-1:]):
                self.events.append(json.loads(await self.socket.recv()))


@contextlib.asynccontextmanager
async def stream(venue: Venue, path: str) -> AsyncIterator[Stream]:
    """Follow streams."""
    async with connect(venue.url.replace("http", "ws") + path, max_size=None) as socket:
        opened = Stream(socket)
        await socket.send('{"method":"LIST_SUBSCRIPTIONS","id":0}')
        while "result" not in await opened.next():
            pass
        opened.events.clear()
        yield opened


async def depth(venue: Venue) -> dict[str, Any]:
    """The book over REST."""
    answer = await venue.http.get("/api/v3/depth", params={"symbol": SYMBOL, "limit": 5_000})
    body: dict[str, Any] = answer.json()
    return body


async def test_a_trade_is_seen_by_everybody(venue: Venue, ann: Trader, ben: Trader) -> None:
    names = "btcusd@trade/btcusd@bookTicker/btcusd@kline_1m/btcusd@miniTicker/btcusd@depth5@100ms"
    async with stream(venue, f"/stream?streams={names}") as public:
        await ben.place("SELL", "50000.00", "0.5")
        await ann.place("BUY", "50000.00", "0.2")
        heard: dict[str, dict[str, Any]] = {}
        asks = [["50000.00000000", "0.30000000"]]
        while (
            len(heard) < 5
            or heard["btcusd@depth5@100ms"]["asks"] != asks
            or heard["btcusd@kline_1m"]["k"]["n"] != 1
            or heard["btcusd@miniTicker"]["q"] == "0.00000000"
        ):
            event = await public.next()
            heard[event["stream"]] = event["data"]
    trade = heard["btcusd@trade"]
    assert (trade["p"], trade["q"], trade["t"], trade["m"]) == (
        "50000.00000000", "0.20000000", 1, False,
    )  # fmt: skip
    assert heard["btcusd@kline_1m"]["k"]["v"] == "0.20000000"
    assert heard["btcusd@miniTicker"]["q"] == "10000.00000000"
    assert heard["btcusd@bookTicker"]["a"] == "50000.00000000"


async def test_a_book_made_of_the_stream_equals_rest(
    venue: Venue, ann: Trader, ben: Trader
) -> None:
    chance = random.Random(7)
    async with stream(venue, "/ws/btcusd@depth@100ms") as public:
        snapshots = [await depth(venue)]

        async def trade(trader: Trader, side: str) -> None:
            for index in range(40):
                price = f"{chance.randint(4_995, 5_005)}0.00"
                with contextlib.suppress(Refusal):
                    await trader.place(side, price, f"0.{chance.randint(1, 9)}")
                if index % 7 == 6:
                    await trader.send("DELETE", "openOrders", symbol=SYMBOL)
                if index % 10 == 5:
                    snapshots.append(await depth(venue))

        await asyncio.gather(trade(ann, "BUY"), trade(ben, "SELL"))
        await public.drain()
        last = await depth(venue)
        await public.until(last["lastUpdateId"])
        for snapshot in snapshots:
            rebuilt = Rebuilt()
            rebuilt.start(snapshot["lastUpdateId"], snapshot["bids"], snapshot["asks"])
            for event in public.events:
                rebuilt.take(event)
            assert rebuilt.update == last["lastUpdateId"]
            assert rebuilt.sides == {"b": dict(last["bids"]), "a": dict(last["asks"])}
    for before, after in itertools.pairwise(public.events):
        assert after["U"] == before["u"] + 1
    # One each 100 ms, however long it took.
    assert len(public.events) > 1


async def test_a_lost_connection_to_redis_is_no_gap(
    venue: Venue, redis_url: str, ann: Trader
) -> None:
    client = redis.asyncio.Redis.from_url(redis_url)
    async with stream(venue, "/ws/btcusd@depth@100ms") as public:
        for cents in range(30):
            if cents % 10 == 5:
                await client.client_kill_filter(_type="pubsub")
            await ann.place("BUY", f"100.{cents:02d}", "1")
        await public.drain(1.5)
        last = await depth(venue)
        await public.until(last["lastUpdateId"])
        rebuilt = Rebuilt()
        rebuilt.update = public.events[0]["U"] - 1
        for event in public.events:
            rebuilt.take(event)
        assert rebuilt.update == last["lastUpdateId"]
        assert len(last["bids"]) == 30
        assert rebuilt.sides["b"] == dict(last["bids"])
    await client.aclose()


async def test_own_events_over_a_listen_key_and_the_websocket_api(
    venue: Venue, ann: Trader, ben: Trader
) -> None:
    key = (await ann.raw("POST", "userDataStream")).json()["listenKey"]
    async with stream(venue, f"/ws/{key}") as own, venue.line() as line:
        answer = await line.ask("userDataStream.subscribe.signature", ann.signed({}))
        assert answer["status"] == 200, answer
        placed = await ann.place("BUY", "50000.00", "0.5", newClientOrderId="mine")
        new = await own.of("executionReport")
        assert (new["x"], new["X"], new["i"], new["c"], new["q"]) == (
            "NEW", "NEW", placed["orderId"], "mine", "0.50000000",
        )  # fmt: skip
        await own.balance("USD", "975000.00000000", "25000.00000000")
        await ben.place("SELL", "49000.00", "0.2")
        trade = await own.of("executionReport")
        assert (trade["x"], trade["X"], trade["l"], trade["L"], trade["z"], trade["m"]) == (
            "TRADE", "PARTIALLY_FILLED", "0.20000000", "50000.00000000", "0.20000000", True,
        )  # fmt: skip
        assert (trade["N"], trade["n"], trade["t"]) == ("BTC", "0.00020000", 1)
        await own.balance("BTC", "0.19980000", "0.00000000")
        await ann.send("DELETE", "order", symbol=SYMBOL, orderId=placed["orderId"])
        ended = await own.of("executionReport")
        assert (ended["x"], ended["X"], ended["C"]) == ("CANCELED", "CANCELED", "mine")
        await own.balance("USD", "990000.00000000", "0.00000000")
        for kind in ("NEW", "TRADE", "CANCELED"):
            assert (await line.event("executionReport"))["x"] == kind


async def test_own_events_go_on_after_a_lost_connection_to_redis(
    venue: Venue, redis_url: str, ann: Trader
) -> None:
    key = (await ann.raw("POST", "userDataStream")).json()["listenKey"]
    client = redis.asyncio.Redis.from_url(redis_url)
    async with stream(venue, f"/ws/{key}") as own:
        await ann.place("BUY", "100.00", "1")
        await own.balance("USD", "999900.00000000", "100.00000000")
        await client.client_kill_filter(_type="pubsub")
        await ann.place("BUY", "100.00", "1")
        # What happened meanwhile is seen in the balances at least.
        await own.balance("USD", "999800.00000000", "200.00000000")
        await ann.place("BUY", "100.00", "1", newClientOrderId="after")
        while (await own.of("executionReport"))["c"] != "after":
            pass
    await client.aclose()


async def test_others_hear_nothing(venue: Venue, ann: Trader, ben: Trader) -> None:
    key = (await ann.raw("POST", "userDataStream")).json()["listenKey"]
    async with stream(venue, f"/ws/{key}") as own:
        await ben.place("SELL", "49000.00", "0.2")
        assert [event for event in await own.drain(0.3) if event["e"] == "executionReport"] == []


async def test_an_open_page_hears_of_orders(venue: Venue) -> None:
    heard: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
    async with Browser(venue.app) as browser:
        await browser.sign_up("Cat Miller")
        page = socketio.AsyncClient(reconnection=False)
        page.on("order", lambda event: heard.put_nowait(("order", event)))
        page.on("balance", lambda event: heard.put_nowait(("balance", event)))
        cookies = "; ".join(f"{name}={value}" for name, value in browser.http.cookies.items())
        await page.connect(venue.url, headers={"Cookie": cookies}, transports=["websocket"])
        user = int(browser.accounts["USD"][:10])
        await venue.app.services.user_streams.ready(user)
        trader = await venue.key(user, "page")
        await venue._carry_out(FundBrokerage, int(browser.accounts["USD"]), 100_000)
        await trader.place("BUY", "100.00", "1")
        kinds: dict[str, Any] = {}
        async with asyncio.timeout(WAIT_S):
            while len(kinds) < 2:
                kind, event = await heard.get()
                kinds[kind] = event
        assert kinds["order"]["status"] == "NEW"
        assert kinds["order"]["price"] == "100.00000000"
        assert kinds["order"]["symbol"] == SYMBOL
        await page.disconnect()
