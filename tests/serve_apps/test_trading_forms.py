"""Numbers as pages show them, and what a ticket means that somebody has filled in."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from domain.accounts.trading import PlaceOrder
from domain.orders import UNIT, OrderType, SelfTrade, Side, TimeInForce
from serve_apps import trading
from serve_apps.pages.exchange import figures
from serve_apps.trading import Ticket, read_ticket

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Steps(msgspec.Struct):
    """An instrument as far as numbers need it: cents, and thousandths."""

    symbol: str = "BTCUSD"
    base: str = "BTC"
    quote: str = "USD"
    tick: int = UNIT // 100
    lot: int = UNIT // 1000
    unit: int = UNIT // 100_000
    maker: int = 1_000
    taker: int = 2_000


# -- figures ----------------------------------------------------------------------------------


def test_numbers_as_people_read_them() -> None:
    steps = Steps()
    assert figures.price(6_421_050, steps) == "64,210.50"
    assert figures.price(6_421_050, steps, plain=True) == "64210.50"
    assert figures.quantity(1_500, steps) == "1.500"
    assert figures.value(6_421_050 * 1_500, steps) == "96,315.75"
    assert figures.units_text(-5 * UNIT // 2, 2) == "\u22122.50"
    assert figures.holding(123_456_789_012, "USD") == "1,234.56"
    assert figures.holding(123_456_780, "BTC") == "1.2345678"
    assert figures.trimmed(UNIT, 2) == "1.00"
    assert figures.compact(1_234_567 * UNIT) == "1.23\u202fM"
    assert figures.compact(12 * UNIT) == "12"
    assert figures.rate_percent(1_500) == "0.15"
    assert figures.decimals_of(5 * UNIT // 100) == 2


@pytest.mark.parametrize(
    ("last", "first", "text"),
    [(101, 100, "+1.00"), (99, 100, "\u22121.00"), (100, 100, "0.00"), (5, 0, "0.00")],
)
def test_changes_have_a_sign(last: int, first: int, text: str) -> None:
    assert figures.percent(last, first) == text


def test_drawings_stay_in_their_frame() -> None:
    bars = [Candle(100 + n, 110 + n, 90 + n, 105 - n % 20, n) for n in range(90)]
    drawing = figures.draw(bars)
    assert drawing.up
    assert drawing.down
    for path in (drawing.up, drawing.down, drawing.volume):
        for x, y in re.findall(r"M(-?\d+) (-?\d+)", path):
            assert 0 <= int(x) <= figures.DRAWING_WIDTH
            assert 0 <= int(y) <= figures.DRAWING_HEIGHT
    assert figures.draw([]).up == ""
    assert figures.line([1]) == ""
    assert figures.line([1, 2]) == "0,28 100,2"


class Candle(msgspec.Struct):
    """A candle."""

    open: int
    high: int
    low: int
    close: int
    volume: int


# -- what a ticket means ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"quantity": "1"}, "price", "Enter a price"),
        ({"price": "x", "quantity": "1"}, "price", "not a number"),
        ({"price": "1.001", "quantity": "1"}, "price", "multiple of 0.01 USD"),
        ({"price": "0", "quantity": "1"}, "price", "more than zero"),
        ({"price": "1", "quantity": ""}, "quantity", "Enter a quantity"),
        ({"price": "1", "quantity": "0.0001"}, "quantity", "multiple of 0.001 BTC"),
        ({"price": "1", "quantity": "-1"}, "quantity", "not a number"),
        ({"type": "market"}, "quantity", "Enter a quantity"),
        ({"type": "market", "total": "much"}, "total", "not a number"),
        ({"price": "5000", "total": "1"}, "total", "less than the smallest"),
        ({"type": "stop_limit", "price": "1", "quantity": "1"}, "trigger", "Enter a stop price"),
        ({"price": "1", "quantity": "1", "force": "gtd"}, "until", "Choose day"),
        (
            {"price": "1", "quantity": "1", "force": "gtd", "until": "2026-03-01T11:59"},
            "until",
            "must be in the future",
        ),
        ({"price": "1", "quantity": "1", "display": "0.0005"}, "display", "multiple of 0.001"),
        ({"price": "1", "quantity": "1", "type": "gift"}, "", "do not go together"),
        ({"price": "1", "quantity": "1", "side": "both"}, "", "do not go together"),
        ({"price": "1", "quantity": "1", "self_trade": "x"}, "", "do not go together"),
    ],
)
def test_what_is_wrong_is_said_of_its_field(fields: dict[str, str], field: str, words: str) -> None:
    read = read_ticket(Steps(), Ticket("k", **fields), NOW)
    assert isinstance(read, dict)
    assert list(read) == [field]
    assert words in read[field]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"price": "64,210.50", "quantity": "0.5"},
            ("BUY", "LIMIT", "GTC", 6_421_050, 500, 0, 0, 0),
        ),
        (
            {"side": "sell", "price": "10", "quantity": "1", "force": "fok"},
            ("SELL", "LIMIT", "FOK", 1_000, 1_000, 0, 0, 0),
        ),
        ({"price": "10", "total": "25"}, ("BUY", "LIMIT", "GTC", 1_000, 2_500, 0, 0, 0)),
        (
            {"type": "market", "price": "9", "quantity": "2", "force": "gtc"},
            ("BUY", "MARKET", "IOC", 0, 2_000, 0, 0, 0),
        ),
        ({"type": "market", "total": "1.50"}, ("BUY", "MARKET", "IOC", 0, 0, 0, 0, 150_000)),
        (
            {"type": "limit_maker", "price": "1", "quantity": "1", "force": "ioc", "display": ".1"},
            ("BUY", "LIMIT_MAKER", "GTC", 100, 1_000, 0, 100, 0),
        ),
        (
            {"type": "stop_limit", "trigger": "12", "price": "11", "quantity": "1"},
            ("BUY", "STOP_LOSS_LIMIT", "GTC", 1_100, 1_000, 1_200, 0, 0),
        ),
        (
            {"type": "take_profit_market", "side": "sell", "trigger": "12", "quantity": "1"},
            ("SELL", "TAKE_PROFIT", "IOC", 0, 1_000, 1_200, 0, 0),
        ),
    ],
)
def test_what_a_ticket_means(fields: dict[str, str], expected: tuple[Any, ...]) -> None:
    if fields.get("display") == ".1":
        fields = {**fields, "display": "0.1"}
    read = read_ticket(Steps(), Ticket("k", **fields), NOW)
    assert isinstance(read, PlaceOrder), read
    side, kind, force, price, quantity, trigger, display, budget = expected
    assert (read.side, read.type, read.time_in_force) == (
        Side[side],
        OrderType[kind],
        TimeInForce[force],
    )
    assert (read.price, read.quantity, read.trigger) == (price, quantity, trigger)
    assert (read.display, read.budget, read.self_trade) == (display, budget, SelfTrade.NONE)


def test_each_code_of_an_order_has_its_sentence() -> None:
    assert trading.explain("insufficient_balance").startswith("Less is available")
    assert trading.explain("something_new") == "The order was refused."
