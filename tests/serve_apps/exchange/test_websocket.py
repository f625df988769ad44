"""The websocket API: pipelined requests, batches, sessions, user streams, rubbish."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from websockets import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from serve_apps.exchange.batch import ROWS_MAX
from serve_apps.exchange.websocket import RUBBISH_MAX
from tests.serve_apps.exchange.venue import SYMBOL, Line, Trader, Venue, eventually, sign

ORDER = {
    "symbol": SYMBOL, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "price": "50000.00",
    "quantity": "0.001",
}  # fmt: skip
BUY, SELL, LIMIT, GTC = 1, 2, 1, 1
TICKS, LOTS = 5_000_000, 100  # 50,000.00 and 0.001


async def binary(line: Line, request: Any) -> Any:
    """The answer to a binary frame."""
    await line.socket.send(msgspec.msgpack.encode(request))
    answer = await asyncio.wait_for(line.socket.recv(), 10)
    assert isinstance(answer, bytes)
    return msgspec.msgpack.decode(answer)


async def open_orders(trader: Trader) -> list[Any]:
    """What is in the book."""
    found = await trader.send("GET", "openOrders", symbol=SYMBOL)
    assert isinstance(found, list)
    return found


async def test_signed_requests(venue: Venue, ann: Trader) -> None:
    async with venue.line("") as line:
        answer = await line.ask("order.place", ann.signed({**ORDER, "newOrderRespType": "RESULT"}))
        assert answer["status"] == 200, answer
        assert (answer["result"]["orderId"], answer["result"]["status"]) == (1, "NEW")
        kinds = [(rate["rateLimitType"], rate["count"]) for rate in answer["rateLimits"]]
        assert kinds[:2] == [("ORDERS", 1), ("ORDERS", 1)]
        answer = await line.ask("order.status", ann.signed({"symbol": SYMBOL, "orderId": 1}))
        assert answer["result"]["price"] == "50000.00000000"
        answer = await line.ask("account.status", ann.signed({"omitZeroBalances": True}))
        assert answer["result"]["balances"] == [
            {"asset": "USD", "free": "999950.00000000", "locked": "50.00000000"}
        ]
        answer = await line.ask("order.cancel", ann.signed({"symbol": SYMBOL, "orderId": 1}))
        assert answer["result"]["status"] == "CANCELED"
        answer = await line.ask("order.cancel", ann.signed({"symbol": SYMBOL, "orderId": 1}))
        assert (answer["status"], answer["error"]) == (
            400, {"code": -2011, "msg": "Unknown order sent."},
        )  # fmt: skip
        wrong = {**ann.signed(ORDER), "quantity": "0.002"}
        answer = await line.ask("order.place", wrong)
        assert answer["error"]["code"] == -1022
        answer = await line.ask("order.place", ORDER)
        assert answer["error"]["code"] == -2014
        answer = await line.ask("v3/time")
        assert answer["result"]["serverTime"] > 0
        answer = await line.ask("order.explode")
        assert (answer["status"], answer["error"]["code"]) == (404, -1020)
    assert await open_orders(ann) == []


async def test_what_is_pipelined_is_answered(venue: Venue, ann: Trader) -> None:
    async with venue.line() as line:
        await line.log_on(ann)
        for number in range(300):
            params = {**ORDER, "newOrderRespType": "ACK", "newClientOrderId": f"n-{number}"}
            request = {"id": f"r-{number}", "method": "order.place", "params": params}
            await line.socket.send(json.dumps(request))
        answers = [json.loads(await line.socket.recv()) for _ in range(300)]
    assert [answer["id"] for answer in answers] == [f"r-{number}" for number in range(300)]
    assert [answer["result"]["orderId"] for answer in answers] == list(range(1, 301))
    assert all("rateLimits" not in answer for answer in answers)
    assert len(await open_orders(ann)) == 300


async def test_batches_in_messagepack(venue: Venue, ann: Trader, ben: Trader) -> None:
    async with venue.line() as line:
        answer = await binary(line, [1, SYMBOL, [[4]]])
        assert answer[:3] == [1, 401, -2014]  # nobody has logged on
        await line.log_on(ben)
        rows: list[Any] = [[1, SELL, LIMIT, GTC, TICKS + n, LOTS, f"ask-{n}"] for n in range(200)]
        number, status, at, answers = await binary(line, [7, SYMBOL, rows])
        assert (number, status) == (7, 200)
        assert at > 1_700_000_000_000_000
        assert [row[:2] for row in answers] == [[n + 1, f"ask-{n}"] for n in range(200)]
        assert await binary(line, ["again", SYMBOL, rows]) == ["again", 200, at, answers]
        other = [[1, SELL, LIMIT, GTC, TICKS, LOTS, "new"], rows[0]]
        assert (await binary(line, [5, SYMBOL, other]))[1:3] == [400, -2010]  # one id is taken
        mixed = [
            [2, 1],  # cancel the best
            [3, 2, LOTS // 2],  # halve the next
            [1, SELL, LIMIT, GTC, 0, LOTS],  # without a price
            [1, SELL, LIMIT, GTC, TICKS, LOTS, "bad id"],
            [1, BUY, LIMIT, GTC, TICKS + 1, LOTS // 2],  # trades with oneself
            [2, 0, "ask-9"],
            [2, 999],
        ]
        _, status, _, answers = await binary(line, [8, SYMBOL, mixed])
        assert status == 200
        assert [row[5] for row in answers] == [
            "", "", "filter_price", "client_id_invalid", "", "", "unknown_order",
        ]  # fmt: skip
        assert answers[4][2:5] == [3, LOTS // 2, (TICKS + 1) * LOTS // 2]
        assert answers[4][6][0][1:3] == [TICKS + 1, LOTS // 2]
        _, status, _, answers = await binary(line, [9, SYMBOL, [[4]]])
        assert (status, sum(not row[5] for row in answers)) == (200, 197)

    async def none_open() -> bool:
        return await open_orders(ben) == []

    # The order that a trade with oneself has filled ends with the message that settles it.
    await eventually(none_open)
    assert (await ben.balances())["BTC"][1] == "0.00000000"


async def test_batches_in_json(venue: Venue, ann: Trader) -> None:
    async with venue.line() as line:
        await line.log_on(ann)
        rows: list[Any] = [[1, BUY, LIMIT, GTC, TICKS, LOTS], [1, BUY, LIMIT, GTC, TICKS, 10**12]]
        answer = await line.ask("order.placeBatch", {"symbol": SYMBOL, "rows": rows})
        assert answer["status"] == 200, answer
        assert [row[0] for row in answer["result"]["rows"]] == [1, 0]
        assert answer["result"]["rows"][1][5] == "filter_quantity"
        asked = [ORDER, {**ORDER, "price": "0.001"}, {**ORDER, "newOrderRespType": "ACK"}]
        answer = await line.ask("order.placeBatch", {"symbol": SYMBOL, "orders": asked})
        first, second, third = answer["result"]
        assert (first["orderId"], third["orderId"]) == (2, 3)
        assert second == {"code": -1013, "msg": "Filter failure: PRICE_FILTER"}
        for params in (
            {"symbol": SYMBOL},
            {"symbol": SYMBOL, "rows": [[9]]},
            {"symbol": SYMBOL, "rows": rows * ROWS_MAX},
            {"symbol": SYMBOL, "rows": [[4], [4]]},
            {"symbol": SYMBOL, "rows": rows, "orders": asked},
            {"symbol": "NOSUCH", "rows": rows},
        ):
            answer = await line.ask("order.placeBatch", params)
            assert answer["status"] == 400, params
    body = json.dumps({"symbol": SYMBOL, "rows": [[2, 1], [2, 2], [2, 3]]})
    query = ann.query({})  # the body is signed behind the query
    text = query.rpartition("&signature=")[0]
    found = await ann.raw(
        "POST", "batchOrders", f"{text}&signature={sign(ann.secret, text + body)}", content=body,
        headers={"content-type": "application/json"},
    )  # fmt: skip
    assert found.status_code == 200, found.text
    assert [row[5] for row in found.json()["rows"]] == ["", "", ""]
    assert await open_orders(ann) == []


async def test_a_batch_of_named_orders_is_carried_out_once_whenever_it_is_signed(
    ann: Trader,
) -> None:
    bodies: list[dict[str, Any]] = [
        {"symbol": SYMBOL, "rows": [[1, BUY, LIMIT, GTC, TICKS, LOTS, f"n-{n}"] for n in range(2)]},
        {"symbol": SYMBOL, "orders": [{**ORDER, "newClientOrderId": f"o-{n}"} for n in range(2)]},
    ]
    for body in bodies:
        text = json.dumps(body)
        answers = []
        for stamp in range(2):
            query = ann.query({"recvWindow": str(5_000 + stamp)}).rpartition("&signature=")[0]
            found = await ann.raw(
                "POST",
                "batchOrders",
                f"{query}&signature={sign(ann.secret, query + text)}",
                content=text,
                headers={"content-type": "application/json"},
            )
            assert found.status_code == 200, found.text
            answers.append(found.json())
        assert answers[0] == answers[1]
    assert len(await open_orders(ann)) == 4


async def test_own_events(venue: Venue, ann: Trader) -> None:
    async with venue.line() as line:
        answer = await line.ask("userDataStream.subscribe.signature", ann.signed({}))
        assert answer["result"] == {"subscriptionId": 0}
        twice = await line.ask("userDataStream.subscribe.signature", ann.signed({}))
        assert twice["error"]["code"] == -2035
        placed = await ann.place("BUY", "40000", "0.01", newClientOrderId="told")
        report = await line.event("executionReport")
        assert (report["i"], report["c"], report["x"]) == (placed["orderId"], "told", "NEW")
        position = await line.event("outboundAccountPosition")
        assert {row["a"]: row["l"] for row in position["B"]} == {"USD": "400.00000000"}
        answer = await line.ask("userDataStream.unsubscribe", {"subscriptionId": 0})
        assert answer["result"] == {}
        answer = await line.ask("userDataStream.unsubscribe", {"subscriptionId": 0})
        assert answer["error"]["code"] == -2036
        await ann.place("BUY", "40000", "0.01")
        assert (await line.ask("ping"))["result"] == {}
        # What was told of the funds before may have been left unread.
        told = [event["event"]["e"] for event in line.events]
        assert "executionReport" not in told


async def test_sessions_end_with_their_key(venue: Venue, ann: Trader) -> None:
    other = await venue.key(ann.user, "other")
    async with venue.line() as line:
        await line.log_on(other)
        assert (await line.ask("session.status"))["result"]["apiKey"] == other.key
        assert (await line.ask("order.place", ORDER))["status"] == 200
        assert await venue.app.services.api_keys.revoke(ann.user, other.number)
        refused = await line.ask("order.place", ORDER)
        assert (refused["status"], refused["error"]["code"]) == (401, -2015)
        assert (await line.ask("session.logout"))["result"]["apiKey"] is None
    assert len(await open_orders(ann)) == 1


async def test_the_dead_mans_switch(venue: Venue, ann: Trader) -> None:
    async def cancelled() -> bool:
        return await open_orders(ann) == []

    async with venue.line() as line:
        await line.log_on(ann)
        await line.ask("order.place", ORDER)
        wait = {"symbol": SYMBOL, "countdownTime": 300}
        answer = await line.ask("order.cancelAfter", wait)
        assert answer["result"]["countdownTime"] == 300, answer
        assert len(await open_orders(ann)) == 1
        await eventually(cancelled)
        await line.ask("order.place", ORDER)
        kept = {"symbol": SYMBOL, "countdownTime": 3_600_000, "onDisconnect": True}
        assert (await line.ask("order.cancelAfter", kept))["status"] == 200
        assert len(await open_orders(ann)) == 1
    await eventually(cancelled)


@pytest.mark.parametrize("rubbish", [b"\xc1\xff", b"", b"{}", b"\x93\x01\xa1X\x91\x91\x09"])
async def test_binary_rubbish_changes_nothing(venue: Venue, ann: Trader, rubbish: bytes) -> None:
    async with venue.line() as line:
        await line.log_on(ann)
        await line.socket.send(rubbish)
        answer = msgspec.msgpack.decode(await line.socket.recv())  # type: ignore[arg-type]
        assert answer[1:3] == [400, -1135]
        assert (await line.ask("order.place", ORDER))["status"] == 200


async def dropped(line: Line) -> bool:
    """Whether who sends nothing but rubbish is cut off."""
    try:
        for _ in range(RUBBISH_MAX + 10):
            await line.socket.send("{")
            await line.socket.recv()
    except ConnectionClosed:
        return True
    return False


async def test_malformed_frames(venue: Venue, ann: Trader) -> None:
    async with venue.line() as line:
        await line.log_on(ann)
        for text in (
            "",
            "{",
            "[]",
            "null",
            '{"id":1}',
            '{"method":5}',
            "[" * 100_000,
            '{"params":',
        ):
            await line.socket.send(text)
            answer = json.loads(await line.socket.recv())
            assert (answer["id"], answer["error"]["code"]) == (None, -1135), text
        wrong: list[dict[str, Any]] = [
            {"symbol": 5}, {"symbol": {}}, {"symbol": None}, {"price": [1]},
        ]  # fmt: skip
        for params in wrong:
            answer = await line.ask("order.place", {**ORDER, **params})
            assert answer["status"] == 400, params
        whole = await line.ask("order.place", {**ORDER, "price": 50_000, "quantity": 0.001})
        assert whole["status"] == 200, whole
        assert await dropped(line)
    assert len(await open_orders(ann)) == 1


async def test_each_address_is_somebodys_or_nobodys(venue: Venue) -> None:
    url = venue.url.replace("http", "ws")
    for path in ("/ws-api/v3", "/ws-api/v3/", "/ws", "/ws/", "/stream", "/ws/btcusd@trade"):
        async with connect(url + path):
            pass
    for path in ("/ws-api", "/ws-api/v4", "/ws-api/v3/x", "/wsx", "/streams", "/"):
        with pytest.raises(InvalidStatus) as refused:
            await connect(url + path)
        assert refused.value.response.status_code == 403, path
