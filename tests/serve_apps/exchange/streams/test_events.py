"""Each event as the public specification of the dialect has it, and our own beside it."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from typing import Any

import pytest

from actors.userdata import AMENDED, BY_OTHERS, CANCELLED, PLACED, Moved, Reported
from cluster.simulation.virtual import run_virtual
from domain.accounts.trading import BalanceView, OrderReport
from domain.orders import Fill, OrderStatus, OrderType, SelfTrade, Side, TimeInForce
from domain.trading.commands import OrdersView, RestingOrder
from domain.trading.rules import BookStatus
from serve_apps.exchange.streams import execution, payloads
from serve_apps.exchange.streams.orders import OrdersCopy
from serve_apps.exchange.streams.topics import StreamName, Topic, parse
from tests.serve_apps.exchange.streams.site import (
    START,
    Book,
    Client,
    Steps,
    batch,
    make_market,
)

NUMBER = re.compile(r"-?[0-9]+\.[0-9]{2,8}")
# n: decimal text, i: integer, t: text, b: boolean, l: levels
SHAPES: dict[str, dict[str, str]] = {
    "trade": {"e": "t", "E": "i", "s": "t", "t": "i", "p": "n", "q": "n", "T": "i", "m": "b",
              "M": "b"},
    "aggTrade": {"e": "t", "E": "i", "s": "t", "a": "i", "p": "n", "q": "n", "f": "i", "l": "i",
                 "T": "i", "m": "b", "M": "b"},
    "depthUpdate": {"e": "t", "E": "i", "s": "t", "U": "i", "u": "i", "b": "l", "a": "l"},
    "24hrMiniTicker": {"e": "t", "E": "i", "s": "t", "c": "n", "o": "n", "h": "n", "l": "n",
                       "v": "n", "q": "n"},
    "24hrTicker": {"e": "t", "E": "i", "s": "t", "p": "n", "P": "n", "w": "n", "x": "n", "c": "n",
                   "Q": "n", "b": "n", "B": "n", "a": "n", "A": "n", "o": "n", "h": "n", "l": "n",
                   "v": "n", "q": "n", "O": "i", "C": "i", "F": "i", "L": "i", "n": "i"},
    "kline": {"t": "i", "T": "i", "s": "t", "i": "t", "f": "i", "L": "i", "o": "n", "c": "n",
              "h": "n", "l": "n", "v": "n", "n": "i", "x": "b", "q": "n", "V": "n", "Q": "n",
              "B": "t"},
    "bookTicker": {"u": "i", "s": "t", "b": "n", "B": "n", "a": "n", "A": "n"},
    "partial": {"lastUpdateId": "i", "bids": "l", "asks": "l"},
    "executionReport": {"e": "t", "E": "i", "s": "t", "c": "t", "S": "t", "o": "t", "f": "t",
                        "q": "n", "p": "n", "P": "n", "F": "n", "g": "i", "C": "t", "x": "t",
                        "X": "t", "r": "t", "i": "i", "l": "n", "z": "n", "L": "n", "n": "*",
                        "N": "*", "T": "i", "t": "i", "I": "i", "w": "b", "m": "b", "M": "b",
                        "O": "i", "Z": "n", "Y": "n", "Q": "n", "W": "i", "V": "t"},
}  # fmt: skip


def check(event: dict[str, Any], shape: dict[str, str]) -> None:
    """The fields, in this order, each of its kind."""
    assert list(event) == list(shape)
    for name, kind in shape.items():
        value = event[name]
        if kind == "n":
            assert NUMBER.fullmatch(value), (name, value)
        elif kind == "i":
            assert type(value) is int, (name, value)
        elif kind == "b":
            assert type(value) is bool, (name, value)
        elif kind == "t":
            assert isinstance(value, str), (name, value)
        elif kind == "l":
            for price, quantity in value:
                assert NUMBER.fullmatch(price)
                assert NUMBER.fullmatch(quantity)


@pytest.mark.parametrize(
    ("name", "stream"),
    [
        ("btcusd@trade", StreamName("trade", "BTCUSD")),
        ("btcusd@depth", StreamName("depth", "BTCUSD", "", 1_000)),
        ("btcusd@depth@100ms", StreamName("depth", "BTCUSD", "", 100)),
        ("btcusd@depth@1000ms", StreamName("depth", "BTCUSD", "", 1_000)),
        ("btcusd@depth5", StreamName("partial", "BTCUSD", "5", 1_000)),
        ("btcusd@depth20@100ms", StreamName("partial", "BTCUSD", "20", 100)),
        ("btcusd@kline_1M", StreamName("kline", "BTCUSD", "1M")),
        ("btcusd@kline_1m", StreamName("kline", "BTCUSD", "1m")),
        ("!ticker@arr", StreamName("!ticker@arr", "")),
        ("!bookTicker", StreamName("!bookTicker", "")),
        ("btcusd@depth7", None),
        ("btcusd@depth@250ms", None),
        ("BTCUSD@trade", None),
        ("btcusd@kline_2m", None),
        ("btcusd", None),
        ("@trade", None),
        ("btcusd@trade\n", None),
        ("btc/usd@trade", None),
        ("", None),
    ],
)
def test_names_of_streams(name: str, stream: StreamName | None) -> None:
    assert parse(name) == stream


def test_every_stream_has_its_shape() -> None:
    async def main() -> None:
        book = Book()
        market, books, _ = make_market(book)
        books.books["BTCUSD"].orders = (RestingOrder(7, 1, Side.BUY, 99, 5, 5),)
        await market.start()
        await market.depth("BTCUSD", 5)
        clients = {kind: Client() for kind in (
            "trade", "aggTrade", "depth@100ms", "depth", "miniTicker", "ticker", "kline_1m",
            "bookTicker", "depth5", "heartbeat", "state", "l3",
        )}  # fmt: skip
        for kind, client in clients.items():
            client.follow(market, f"btcusd@{kind}")
        arrays = {name: Client() for name in ("!ticker@arr", "!miniTicker@arr", "!bookTicker")}
        for name, client in arrays.items():
            client.follow(market, name)
        await asyncio.sleep(0.1)
        news = book.change(
            [(1, 99, 5), (2, 101, 0), (2, 102, 3)],
            [(100, 2, 1, False), (100, 3, 1, True), (101, 4, 1, True), (101, 1, 2, False)],
        )
        market.receive(batch(1, news, at=START))
        await asyncio.sleep(2.5)
        book.status, book.reason = BookStatus.HALTED, 'says "no"'
        market.receive(batch(2, book.change([]), at=START + 1))
        await asyncio.sleep(60)
        heard = {kind: client.events[-1] for kind, client in clients.items()}
        for kind in ("trade", "aggTrade"):
            check(heard[kind], SHAPES[kind])
        check(clients["depth"].events[0], SHAPES["depthUpdate"])
        check(clients["depth@100ms"].events[0], SHAPES["depthUpdate"])
        check(heard["miniTicker"], SHAPES["24hrMiniTicker"])
        check(heard["ticker"], SHAPES["24hrTicker"])
        check(heard["bookTicker"], SHAPES["bookTicker"])
        check(heard["depth5"], SHAPES["partial"])
        assert list(heard["kline_1m"]) == ["e", "E", "s", "k"]
        check(heard["kline_1m"]["k"], SHAPES["kline"])
        check(arrays["!bookTicker"].events[-1], SHAPES["bookTicker"])
        for name, shape in (("!ticker@arr", "24hrTicker"), ("!miniTicker@arr", "24hrMiniTicker")):
            array: Any = arrays[name].events[-1]
            assert len(array) == 1
            # Nothing is told of a market in which nothing was traded.
            assert len(arrays[name].events) == 1
            check(array[0], SHAPES[shape])
        _check_values(clients)
        await market.stop()

    run_virtual(main)


def _check_values(clients: dict[str, Client]) -> None:
    assert [e["t"] for e in clients["trade"].events] == [1, 2, 3, 4]
    assert [e["m"] for e in clients["trade"].events] == [False, False, False, True]
    assert [(e["a"], e["f"], e["l"], e["q"]) for e in clients["aggTrade"].events] == [
        (1, 1, 2, "0.00500000"), (3, 3, 3, "0.00400000"), (4, 4, 4, "0.00100000"),
    ]  # fmt: skip
    first = clients["depth@100ms"].events[0]
    assert (first["U"], first["u"]) == (1, 1)
    assert first["b"] == [["0.99000000", "0.00500000"]]
    assert sorted(first["a"]) == [["1.01000000", "0.00000000"], ["1.02000000", "0.00300000"]]
    closed = [e["k"] for e in clients["kline_1m"].events if e["k"]["x"]]
    assert [(k["v"], k["V"], k["q"], k["n"]) for k in closed] == [
        ("0.01000000", "0.00900000", "0.01005000", 4)
    ]
    assert closed[0]["T"] - closed[0]["t"] == 59_999
    beats = clients["heartbeat"].events
    assert beats[-1] == {**beats[-1], "e": "heartbeat", "s": "BTCUSD", "u": 2, "t": 4}
    pauses = {after["E"] - before["E"] for before, after in itertools.pairwise(beats)}
    assert pauses == {1_000}
    assert clients["state"].events == [
        {**clients["state"].events[0], "e": "instrumentState", "state": "HALTED",
         "reason": 'says "no"'}
    ]  # fmt: skip
    whole = clients["l3"].events[0]
    assert whole["e"] == "l3Snapshot"
    ((number, price, quantity),) = whole["b"]
    assert (price, quantity) == ("0.99000000", "0.00500000")
    assert re.fullmatch("[0-9a-f]{16}", number)
    ticker = clients["ticker"].events[-1]
    assert (ticker["o"], ticker["c"], ticker["P"], ticker["w"]) == (
        "1.00000000", "1.01000000", "1.000", "1.00500000",
    )  # fmt: skip
    assert (ticker["p"], ticker["F"], ticker["L"], ticker["n"]) == ("0.01000000", 1, 4, 4)


def test_orders_one_by_one_without_their_owners() -> None:
    async def main() -> None:
        book = Book()
        market, _, _ = make_market(book)
        await market.start()
        await market.depth("BTCUSD", 5)
        client, later = Client(), Client()
        orders = [RestingOrder(7, n, Side.BUY, 99, 5, 5) for n in range(1, 4)]
        book.orders = (*orders, RestingOrder(8, 1, Side.SELL, 120, 5, 0, trigger=110))
        client.follow(market, "btcusd@l3")
        await asyncio.sleep(0.5)
        (whole,) = client.events
        numbers = [row[0] for row in whole["b"]]
        assert len(set(numbers)) == 3
        assert whole["a"] == []
        book.orders = (orders[1], RestingOrder(7, 3, Side.BUY, 99, 2, 2))
        book.change([(1, 99, 7)])
        await asyncio.sleep(0.5)
        change = client.events[1]
        assert (change["e"], change["U"], change["u"]) == ("l3Update", whole["u"] + 1, book.update)
        assert dict(row[::2] for row in change["b"]) == {
            numbers[0]: "0.00000000",
            numbers[2]: "0.00200000",
        }
        board = market.boards["BTCUSD"]
        stream = parse("btcusd@l3")
        assert stream is not None
        shown = board.initial(stream)
        assert shown is not None
        assert [row[0] for row in json.loads(shown)["b"]] == numbers[1:]
        assert later.events == []
        await asyncio.sleep(2)
        assert len(client.events) == 2
        board.topics["btcusd@l3"].discard(client)
        board.release("btcusd@l3")
        assert board.orders.topic is None
        await market.stop()

    run_virtual(main)


def test_numbers_of_orders_tell_nothing_without_the_secret() -> None:
    view = OrdersView("BTCUSD", 1, (RestingOrder(7, 1, Side.BUY, 99, 5, 5),))
    told: list[bytes] = []
    for secret in (b"one", b"one", b"other"):
        orders = OrdersCopy(payloads.Texts("BTCUSD", Steps()), secret)
        orders.topic = Topic("btcusd@l3")
        orders.tell(view, START)
        told.append(orders.whole(START) or b"")
    assert told[0] == told[1] != told[2]


# -- a customer's own ----------------------------------------------------------------------


class Terms(Steps):
    """The instrument, as execution reports need it."""

    base = "BTC"
    quote = "USD"


def report(status: OrderStatus, filled: int = 0, *fills: Fill, **more: Any) -> OrderReport:
    """An order to buy 10 lots at 100 ticks."""
    values: dict[str, Any] = {
        "ref": 5, "client": "mine", "symbol": "BTCUSD", "side": Side.BUY, "type": OrderType.LIMIT,
        "time_in_force": TimeInForce.GTC, "price": 100, "quantity": 10, "trigger": 0,
        "display": 0, "self_trade": SelfTrade.NONE, "status": status, "filled": filled,
        "quote": filled * 100, "fills": fills, "code": "", "placed_at": START,
        "updated_at": START, **more,
    }  # fmt: skip
    return OrderReport(**values)


FILL = Fill(11, 100, 4, 400, False)
LAST = Fill(12, 100, 6, 600, True)


@pytest.mark.parametrize(
    ("action", "order", "told"),
    [
        (PLACED, report(OrderStatus.NEW), [("NEW", "NEW", "0.00000000")]),
        (
            PLACED,
            report(OrderStatus.FILLED, 10, FILL, LAST),
            [
                ("NEW", "NEW", "0.00000000"),
                ("TRADE", "PARTIALLY_FILLED", "0.00400000"),
                ("TRADE", "FILLED", "0.01000000"),
            ],
        ),
        (
            PLACED,
            report(OrderStatus.EXPIRED, 4, FILL),
            [
                ("NEW", "NEW", "0.00000000"),
                ("TRADE", "PARTIALLY_FILLED", "0.00400000"),
                ("EXPIRED", "EXPIRED", "0.00400000"),
            ],
        ),
        (PLACED, report(OrderStatus.REJECTED, code="no_liquidity", ref=0), []),
        (
            PLACED,
            report(OrderStatus.REJECTED, code="would_match"),
            [("REJECTED", "REJECTED", "0.00000000")],
        ),
        (
            CANCELLED,
            report(OrderStatus.CANCELED, 4),
            [("CANCELED", "CANCELED", "0.00400000")],
        ),
        (CANCELLED, report(OrderStatus.NEW, code="unknown_order"), []),
        (
            AMENDED,
            report(OrderStatus.PARTIALLY_FILLED, 4, quantity=8),
            [("REPLACED", "PARTIALLY_FILLED", "0.00400000")],
        ),
        (
            BY_OTHERS,
            report(OrderStatus.FILLED, 10, LAST),
            [("TRADE", "FILLED", "0.01000000")],
        ),
        (BY_OTHERS, report(OrderStatus.NEW), [("NEW", "NEW", "0.00000000")]),
        (
            BY_OTHERS,
            report(OrderStatus.EXPIRED_IN_MATCH, 4),
            [("TRADE_PREVENTION", "EXPIRED_IN_MATCH", "0.00400000")],
        ),
        (BY_OTHERS, report(OrderStatus.CANCELED), [("CANCELED", "CANCELED", "0.00000000")]),
    ],
)
def test_what_becomes_of_an_order(
    action: int, order: OrderReport, told: list[tuple[str, str, str]]
) -> None:
    item = Reported(START, action, order)
    events = [json.loads(event) for event in execution.executions(item, Terms(), START)]
    assert [(e["x"], e["X"], e["z"]) for e in events] == told
    for event in events:
        check(event, SHAPES["executionReport"])


def test_a_trade_in_an_execution_report() -> None:
    item = Reported(START + 5_000, BY_OTHERS, report(OrderStatus.FILLED, 10, LAST))
    (raw,) = execution.executions(item, Terms(), START + 9_000)
    event = json.loads(raw)
    assert event == {
        **event,
        "e": "executionReport", "E": START // 1_000 + 9, "s": "BTCUSD", "c": "mine", "S": "BUY",
        "o": "LIMIT", "f": "GTC", "q": "0.01000000", "p": "1.00000000", "i": 5, "r": "NONE",
        "l": "0.00600000", "L": "1.00000000", "n": "0.00000600", "N": "BTC", "m": True, "t": 12,
        "T": START // 1_000 + 5, "O": START // 1_000, "w": False, "V": "NONE",
        "Z": "0.01000000", "Y": "0.00600000", "C": "",
    }  # fmt: skip
    (sold,) = execution.executions(
        Reported(START, BY_OTHERS, report(OrderStatus.FILLED, 10, LAST, side=Side.SELL)),
        Terms(),
        START,
    )
    assert json.loads(sold)["N"] == "USD"


def test_funds_and_balances() -> None:
    moved = json.loads(execution.funds(Moved(START, "USD", -150_000_000), START))
    assert moved == {
        "e": "balanceUpdate", "E": START // 1_000, "a": "USD", "d": "-1.50000000",
        "T": START // 1_000,
    }  # fmt: skip
    position = json.loads(execution.position([BalanceView("BTC", 300, 100)], START, START))
    assert position["B"] == [{"a": "BTC", "f": "0.00000200", "l": "0.00000100"}]
    assert list(position) == ["e", "E", "u", "B"]


def test_percentages() -> None:
    assert payloads.percent(1, 0) == "0.000"
    assert payloads.percent(-1, 3) == "-33.333"
    assert payloads.percent(-1, 10_000_000) == "0.000"
    assert payloads.percent(25, 10) == "250.000"
