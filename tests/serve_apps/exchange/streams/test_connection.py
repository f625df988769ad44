"""What a client may ask of the stream server, what it is answered, and who is disconnected."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from serve_apps.exchange.streams import connection as module
from serve_apps.exchange.streams.wire import PONG_WITHIN_S, QueuedWire, SharedWire
from tests.serve_apps.exchange.streams.server import KEY, Server, Talk, serving, talking, until
from tests.serve_apps.exchange.streams.site import Book

TRADE = [(100, 1, 1, False)]


@pytest.fixture(params=[True, False], ids=["shared", "queued"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    book = Book()
    book.change([(1, 99, 5), (2, 101, 6)])
    async with serving(book, shared=request.param) as running:
        yield running


async def test_a_stream_is_named_in_the_address(server: Server) -> None:
    async with (
        talking(server, "/ws/btcusd@trade") as raw,
        talking(server, "/stream?streams=btcusd@trade/btcusd@depth@100ms") as combined,
        talking(server, "/ws/nothing@trade/0") as vain,
    ):
        server.change([(1, 98, 1)], TRADE)
        assert (await raw.next())["e"] == "trade"
        both = {event["stream"]: event["data"] for event in [await combined.next() for _ in "ab"]}
        assert both["btcusd@trade"]["t"] == 1
        assert both["btcusd@depth@100ms"]["b"] == [["0.98000000", "0.00100000"]]
        assert await raw.quiet()
        assert await vain.quiet()


async def test_an_address_that_clients_make_up_is_raw(server: Server) -> None:
    async with talking(server, "/stream/ws/0") as talk:
        assert await talk.ask("SUBSCRIBE", "btcusd@trade", number=3) == {"result": None, "id": 3}
        server.change([], TRADE)
        assert (await talk.next())["t"] == 1


async def test_subscriptions_come_and_go(server: Server) -> None:
    async with talking(server, "/ws") as talk:
        assert await talk.ask("LIST_SUBSCRIPTIONS") == {"result": [], "id": 1}
        await talk.ask("SUBSCRIBE", "btcusd@trade", "btcusd@aggTrade", "!bookTicker")
        await talk.ask("SUBSCRIBE", "btcusd@trade")
        listed = await talk.ask("LIST_SUBSCRIPTIONS", number="a")
        assert listed == {"result": ["btcusd@trade", "btcusd@aggTrade", "!bookTicker"], "id": "a"}
        assert await talk.ask("UNSUBSCRIBE", "btcusd@aggTrade", "btcusd@depth") == {
            "result": None,
            "id": 1,
        }
        server.change([(1, 100, 5)], TRADE)
        heard = [await talk.next(), await talk.next()]
        assert [event.get("e", "bookTicker") for event in heard] == ["trade", "bookTicker"]
        assert await talk.quiet()
        await talk.ask("UNSUBSCRIBE", "btcusd@trade", "!bookTicker")
        server.change([(1, 100, 6)], TRADE)
        assert await talk.quiet()
        assert server.market.boards["BTCUSD"].topics == {}
        assert server.market.markets == {}


async def test_the_form_of_events_can_be_changed(server: Server) -> None:
    async with talking(server, "/ws/btcusd@trade") as talk:
        assert (await talk.ask("GET_PROPERTY", "combined"))["result"] is False
        assert (await talk.ask("SET_PROPERTY", "combined", True))["result"] is None
        assert (await talk.ask("GET_PROPERTY", "combined"))["result"] is True
        server.change([], TRADE)
        assert (await talk.next())["stream"] == "btcusd@trade"
        assert (await talk.ask("SET_PROPERTY", "combined", 1))["error"]["code"] == 1
        assert (await talk.ask("SET_PROPERTY", "other", True))["error"]["code"] == 0
        assert (await talk.ask("GET_PROPERTY", "other"))["error"]["code"] == 0


@pytest.mark.parametrize(
    ("sent", "code", "text"),
    [
        ("{", 3, "Invalid JSON"),
        ("", 3, "Invalid JSON"),
        (b"\x00\xff\xfe rubbish", 3, "Invalid JSON"),
        (b'{"method":"LIST_SUBSCRIPTIONS","id":1}', 3, "Invalid JSON"),
        ("[" * 100_000, 3, "Invalid JSON"),
        ("[]", 2, "Invalid request"),
        ("7", 2, "Invalid request"),
        ("{}", 2, "missing field `method`"),
        ('{"method":"EXPLODE","id":1}', 2, "unknown variant `EXPLODE`"),
        ('{"method":{},"id":1}', 2, "unknown variant"),
        ('{"method":"SUBSCRIBE","id":1}', 2, "params"),
        ('{"method":"SUBSCRIBE","params":[1],"id":1}', 2, "strings"),
        ('{"method":"SUBSCRIBE","params":["btcusd@nothing"],"id":1}', 2, "unknown stream"),
        ('{"method":"SUBSCRIBE","params":["BTCUSD@trade"],"id":1}', 2, "unknown stream"),
        ('{"method":"SUBSCRIBE","params":["ethusd@trade"],"id":1}', 2, "unknown symbol"),
        ('{"method":"SUBSCRIBE","params":["btcusd@kline_7m"],"id":1}', 2, "unknown stream"),
        ('{"method":"SUBSCRIBE","params":[],"id":{}}', 2, "request ID"),
        ('{"method":"SUBSCRIBE","params":[],"id":1.5}', 2, "request ID"),
        (json.dumps({"method": "SUBSCRIBE", "params": [], "id": "x" * 37}), 2, "request ID"),
        (
            json.dumps(
                {
                    "method": "SUBSCRIBE",
                    "params": [f"btcusd@kline_{n}" for n in range(10_000)],
                    "id": 1,
                }
            ),
            2,
            "at most 1024",
        ),
    ],
)
async def test_what_cannot_be_is_answered_and_changes_nothing(
    server: Server, sent: str | bytes, code: int, text: str
) -> None:
    async with talking(server, "/ws") as talk:
        await talk.socket.send(sent)
        answer = await talk.next()
        assert set(answer) == {"error", "id"}
        assert answer["error"]["code"] == code
        assert text in answer["error"]["msg"]
        assert await talk.ask("LIST_SUBSCRIPTIONS") == {"result": [], "id": 1}


async def test_all_of_a_request_or_nothing(server: Server) -> None:
    async with talking(server, "/ws") as talk:
        assert "error" in await talk.ask("SUBSCRIBE", "btcusd@trade", "ethusd@trade")
        assert (await talk.ask("LIST_SUBSCRIPTIONS"))["result"] == []


async def test_streams_of_a_connection_are_limited_in_all(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STREAMS_MAX", 2)
    async with talking(server, "/ws/btcusd@trade") as talk:
        assert "error" in await talk.ask("SUBSCRIBE", "btcusd@depth", "btcusd@aggTrade")
        assert (await talk.ask("SUBSCRIBE", "btcusd@depth"))["result"] is None


async def _storm(talk: Talk) -> None:
    for _ in range(10_000):
        await talk.ask("LIST_SUBSCRIPTIONS")


async def test_who_asks_too_often_is_disconnected(server: Server) -> None:
    async with talking(server, "/ws") as talk:
        with pytest.raises(ConnectionClosed) as closed:
            await _storm(talk)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


async def test_a_huge_request_ends_the_connection(server: Server) -> None:
    async with talking(server, "/ws") as talk:
        with pytest.raises(ConnectionClosed) as closed:
            await talk.ask("SUBSCRIBE", "x" * 600_000)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


async def test_a_client_that_never_reads_is_dropped_and_holds_nobody_up(server: Server) -> None:
    with socket.socket() as sleeper:
        sleeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        host, port = server.url.removeprefix("ws://").split(":")
        await asyncio.to_thread(sleeper.connect, (host, int(port)))
        sleeper.sendall(
            b"GET /ws/btcusd@trade HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
            b"Sec-WebSocket-Version: 13\r\n\r\n"
        )
        async with talking(server, "/ws/btcusd@trade") as awake:
            assert len(server.connections) == 2
            trades, rounds = TRADE * 500, 0
            while len(server.connections) == 2:
                server.change([], trades)
                rounds += 1
                for number in range(500):
                    assert (await awake.next())["t"] == rounds * 500 - 499 + number
                assert rounds < 400
        # A buffer's worth, and what the system itself has taken.
        assert rounds * 500 * 130 > 1024 * 1024


async def test_a_connection_that_is_lost_is_forgotten(server: Server) -> None:
    async with talking(server, "/ws/btcusd@trade/btcusd@kline_1m/!ticker@arr") as talk:
        assert server.market.boards["BTCUSD"].topics
        talk.socket.transport.abort()
        await until(lambda: not server.connections)
    assert server.market.boards["BTCUSD"].topics == {}
    assert server.market.markets == {}


async def test_who_leaves_takes_nothing_from_the_others(server: Server) -> None:
    path = "/ws/btcusd@trade/btcusd@depth@100ms"
    async with talking(server, path) as stays:
        async with talking(server, path):
            pass
        await until(lambda: len(server.connections) == 1)
        server.change([(1, 98, 1)], TRADE)
        assert {(await stays.next())["e"] for _ in range(2)} == {"trade", "depthUpdate"}


async def test_own_events_over_a_listen_key(server: Server) -> None:
    async with (
        talking(server, f"/ws/{KEY}") as raw,
        talking(server, f"/stream?streams={KEY}") as combined,
        talking(server, "/ws/" + "x" * 40) as stranger,
    ):
        (first, second) = server.users.deliveries[7]
        for deliver in (first, second):
            deliver(b'{"e":"executionReport"}')
        assert await raw.next() == {"e": "executionReport"}
        assert await combined.next() == {"stream": KEY, "data": {"e": "executionReport"}}
        assert await stranger.quiet()
        assert (await raw.ask("LIST_SUBSCRIPTIONS"))["result"] == [KEY]
    await until(lambda: not server.users.deliveries[7])


async def test_a_client_has_a_minute_to_answer_pings(server: Server) -> None:
    async with talking(server, "/ws"):
        (connection,) = server.connections
        wire: Any = connection._wire
        assert isinstance(wire, SharedWire if server.shared else QueuedWire)
        if server.shared:
            transport: Any = wire
            protocol = transport._transport.get_protocol()
            assert (protocol.ping_interval, protocol.ping_timeout) == (20, PONG_WITHIN_S)


async def test_compression_that_a_client_offers_does_no_harm(server: Server) -> None:
    async with talking(server, "/ws/btcusd@trade", compression="deflate") as talk:
        server.change([], TRADE * 300)
        assert [(await talk.next())["t"] for _ in range(300)] == list(range(1, 301))
        assert (await talk.ask("LIST_SUBSCRIPTIONS"))["result"] == ["btcusd@trade"]


async def test_what_only_tells_of_changes_begins_with_what_there_is(server: Server) -> None:
    async with talking(server, "/ws") as talk:
        for name, key in (
            ("btcusd@bookTicker", "u"),
            ("btcusd@depth5", "lastUpdateId"),
            ("btcusd@state", "state"),
        ):
            assert (await talk.ask("SUBSCRIBE", name))["result"] is None
            assert key in await talk.next()
