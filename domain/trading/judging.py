"""What can be said of an order by looking at it alone, and of a level that an order meets."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from domain.trading.levels import (
    NEXT,
    NUMBER,
    PRICE,
    QUANTITY,
    QUOTE,
    SEQUENCE,
    SIDE,
    TRADED,
    VISIBLE,
    Ladder,
    Level,
    Order,
    Rows,
)
from domain.trading.state import OrderState
from domain.trading.values import (
    ANY,
    BUY,
    DECREMENT,
    EXPIRE_MAKER,
    GTC,
    GTD,
    LIMIT,
    LIMIT_MAKER,
    MARKET,
    NEW,
    NOBODY,
    NUMBER_MAX,
    OWNER_SHIFT,
    PARTIALLY_FILLED,
    SELL,
    STOP_LOSS,
    STOP_LOSS_LIMIT,
    TAKE_PROFIT,
    TAKE_PROFIT_LIMIT,
    WORTH_MAX,
)

if TYPE_CHECKING:
    from mypy_extensions import i64


def limited(order: Order) -> bool:
    """Whether the price of an order is a limit at which it may rest."""
    return order.type != MARKET and order.type != STOP_LOSS and order.type != TAKE_PROFIT


def patient(order: Order) -> bool:
    """Whether what is left of an order stays in the book."""
    force = order.time_in_force
    return limited(order) and force in (GTC, GTD)


def rises(order: Order) -> bool:
    """Whether a stop waits for the last price to rise."""
    loses = order.type == STOP_LOSS or order.type == STOP_LOSS_LIMIT
    return loses == (order.side == BUY)


def status_of(filled: int) -> int:
    """The status of an order that is in the book."""
    return PARTIALLY_FILLED if filled else NEW


def sound(order: Order) -> bool:
    """Whether the fields of an order are in range and go together."""
    kind, force, price, quantity = order.type, order.time_in_force, order.price, order.quantity
    if order.id < 1 or not BUY <= order.side <= SELL or not LIMIT <= kind <= TAKE_PROFIT_LIMIT:
        return False
    if not GTC <= force <= GTD or not 0 <= price <= NUMBER_MAX or not 0 <= quantity <= NUMBER_MAX:
        return False
    if price * quantity > WORTH_MAX or (limited(order) and (not price or not quantity)):
        return False
    more = order.conditions
    if not NOBODY <= more.self_trade <= DECREMENT or not 0 <= more.budget <= WORTH_MAX:
        return False
    if not quantity and not more.budget:
        return False
    stop = kind >= STOP_LOSS
    if not 0 <= more.trigger <= NUMBER_MAX or (more.trigger > 0) != stop:
        return False
    if kind == LIMIT_MAKER and (not patient(order) or more.budget):
        return False
    if more.display and (not 0 < more.display <= quantity or not patient(order)):
        return False
    return (more.expires_at > 0) == (force == GTD) and not (force == GTD and kind == MARKET)


def offered(level: Level, taker: Order) -> tuple[int, bool]:
    """What an order that must not meet its owner gets at a level, and whether it ends there.

    Visible parts come before what icebergs show later, so it ends with what is visible before the
    first order of its owner.
    """
    owner, quantity, visible = taker.id >> OWNER_SHIFT, 0, 0
    cells, row = level.rows.cells, level.first
    while row:
        if cells[row + NUMBER] >> OWNER_SHIFT != owner:
            visible += cells[row + VISIBLE]
            quantity += cells[row + QUANTITY] - cells[row + TRADED]
        elif taker.conditions.self_trade != EXPIRE_MAKER:
            return visible, True
        row = cells[row + NEXT]
    return quantity, False


def queue(ladder: Ladder, limit: int = ANY) -> list[int]:
    """The rows of the orders of the best levels, by priority."""
    result: list[int] = []
    cells = ladder.rows.cells
    for level in islice(ladder.down(), limit):
        row = level.first
        while row:
            result.append(row)
            row = cells[row + NEXT]
    return result


def curve(ladder: Ladder) -> list[tuple[int, int]]:
    """Price and whole quantity of each level, best first."""
    return [(level.price, level.total) for level in ladder.down()]


def shown(ladder: Ladder, limit: int) -> list[tuple[int, int, int]]:
    """Price, number and visible quantity of each order of the best levels, by priority."""
    cells = ladder.rows.cells
    return [
        (cells[row + PRICE], cells[row + NUMBER], cells[row + VISIBLE])
        for row in queue(ladder, limit)
    ]


def stored(rows: Rows, row: i64) -> OrderState:
    """An order as it is stored."""
    cells, more = rows.cells, rows.conditions(row)
    return OrderState(
        cells[row + NUMBER],
        cells[row + SIDE],
        rows.kind(row),
        rows.time_in_force(row),
        cells[row + PRICE],
        cells[row + QUANTITY],
        cells[row + TRADED],
        cells[row + QUOTE],
        cells[row + VISIBLE],
        more.display,
        more.trigger,
        more.self_trade,
        more.expires_at,
        more.budget,
        cells[row + SEQUENCE],
    )
