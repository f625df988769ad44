"""Which of two things that are told of an order is the later one, whatever order they come in."""

from __future__ import annotations

import itertools

import pytest

from domain.orders import OrderStatus, Update
from persistence.journal import to_datetime
from persistence.trading.projector import OrderLine, begin_life

AT = to_datetime(1_000_000)
PENDING, NEW, PART = OrderStatus.PENDING, OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED
FILLED, CANCELED, REJECTED = OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.REJECTED


def line() -> OrderLine:
    """An order for 10 lots that was placed a moment ago."""
    return OrderLine(
        1, 1, "BTCUSD", "c", 1, 1, 1, 100, 10, 0, 0, 0, 0, None, "", int(PENDING), 0, 0, 0, "",
        AT, AT, begin_life(PENDING, AT),
    )  # fmt: skip


def told(status: OrderStatus, filled: int, quantity: int = 10, code: str = "") -> Update:
    return Update(1, status, quantity, filled, filled * 100, (), code)


def after(updates: tuple[Update, ...], *, refusable: bool = False) -> OrderLine:
    order = line()
    for number, update in enumerate(updates):
        order.take(update, 2_000_000 + number, refusable=refusable)
    return order


@pytest.mark.parametrize(
    ("updates", "status", "filled", "quantity"),
    [
        ((told(NEW, 0), told(PART, 4)), PART, 4, 10),
        ((told(NEW, 0), told(PART, 2), told(PART, 4), told(FILLED, 10)), FILLED, 10, 10),
        ((told(PART, 3), told(PART, 7), told(CANCELED, 7)), CANCELED, 7, 10),
        ((told(NEW, 0), told(NEW, 0, 6)), NEW, 0, 6),
        ((told(NEW, 0), told(NEW, 0, 6), told(PART, 2, 6)), PART, 2, 6),
        ((told(NEW, 0), told(NEW, 0, 6), told(CANCELED, 0, 6)), CANCELED, 0, 6),
        ((told(NEW, 0), told(NEW, 0, 8), told(NEW, 0, 6), told(FILLED, 6, 6)), FILLED, 6, 6),
    ],
)
def test_the_end_is_the_same_in_whatever_order_it_is_told(
    updates: tuple[Update, ...], status: OrderStatus, filled: int, quantity: int
) -> None:
    for way in itertools.permutations(updates):
        order = after(way)
        assert (order.status, order.filled, order.quote) == (status, filled, filled * 100), way
        assert order.quantity == quantity, way
        assert order.life[0::2][-1] == status
        assert sorted(set(order.life[0::2])) == order.life[0::2]


def test_an_order_by_value_learns_its_quantity() -> None:
    order = line()
    order.quantity, order.budget = 0, 1_000
    order.take(told(FILLED, 9, 9), 2_000_000, refusable=False)
    assert (order.status, order.quantity, order.filled) == (FILLED, 9, 9)


def test_a_refused_order_is_over_and_a_refused_action_changes_nothing() -> None:
    refused = told(REJECTED, 0, code="would_match")
    assert (after((refused,), refusable=True).status, after((refused,)).code) == (
        REJECTED, "would_match"
    )  # fmt: skip
    order = after((told(NEW, 0), told(REJECTED, 0, code="unknown_order")), refusable=True)
    assert (order.status, order.code) == (NEW, "")
    # Not an answer, but what happened to it: a stop that found nobody to trade with.
    order = after((told(NEW, 0), told(OrderStatus.EXPIRED, 0, code="no_liquidity")))
    assert (order.status, order.code) == (OrderStatus.EXPIRED, "no_liquidity")
