"""The orders of one side of a book: by price, and in order of arrival within a price.

Every step costs the same however many orders and levels there are: an order knows its level and
its neighbours, and a level that empties stays listed until it is the best one, or until half of
what is listed is empty. Orders that rest are rows of numbers in one piece of memory (``cells``), so
that each step touches as little of it as can be. Plain typed Python that mypyc can compile; nothing
here matches.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from domain.trading.cells import Cells, Directory, longer, zeros

if TYPE_CHECKING:
    from mypy_extensions import i64

EMPTY_MAX: Final = 64
"""So many empty levels are always worth keeping: prices come back."""

# What is in which place of a row; a row begins at its first place, and 0 is no row.
NUMBER: Final = 0
LEVEL: Final = 1
PREVIOUS: Final = 2
NEXT: Final = 3
QUANTITY: Final = 4
TRADED: Final = 5
VISIBLE: Final = 6
QUOTE: Final = 7
PRICE: Final = 8
TERMS: Final = 9
SIDE: Final = 10
SEQUENCE: Final = 11
WIDTH: Final = 12

_FORCE: Final = 4
_SPECIAL: Final = 256
"""``TERMS`` are the type, shifted by ``_FORCE`` the time in force, and whether there are others."""

_ROWS_MORE: Final = 64


class Conditions:
    """What most orders do not have."""

    __slots__ = ("budget", "display", "expires_at", "self_trade", "trigger")

    def __init__(
        self, trigger: int, display: int, self_trade: int, expires_at: int, budget: int
    ) -> None:
        self.trigger: int = trigger
        self.display: int = display
        self.self_trade: int = self_trade
        self.expires_at: int = expires_at
        self.budget: int = budget


PLAIN: Final = Conditions(0, 0, 0, 0, 0)
"""The conditions of most orders, shared by them."""


class Order:
    """An order on its way into the book."""

    __slots__ = (
        "conditions",
        "filled",
        "id",
        "price",
        "quantity",
        "quote",
        "side",
        "time_in_force",
        "type",
    )

    def __init__(self) -> None:
        self.become(0, 0, 0, 0, 0, 0, PLAIN)

    def become(
        self,
        number: int,
        side: int,
        kind: int,
        time_in_force: int,
        price: int,
        quantity: int,
        conditions: Conditions,
    ) -> Order:
        """The same object as a new order: one that has been judged is done with."""
        self.id: int = number
        self.side: int = side
        self.type: int = kind
        self.time_in_force: int = time_in_force
        self.price: int = price
        self.quantity: int = quantity
        self.conditions: Conditions = conditions
        self.filled: int = 0
        self.quote: int = 0
        return self


class Rows:
    """The orders that are in a book, stops included: a row of ``WIDTH`` numbers for each."""

    __slots__ = ("_conditions", "_free", "_spare", "cells", "directory", "levels")

    def __init__(self) -> None:
        self.cells: Cells = zeros(WIDTH)
        """Do not keep it while orders are added: it may become another one."""
        self.directory: Directory = Directory()
        self.levels: list[Level] = []
        """By what stands in ``LEVEL``."""
        self._free: i64 = 0
        """The first row that is not in use; its ``NEXT`` is the one after."""
        self._spare: list[Level] = []
        """Levels that are not in use, for the next prices: their place in ``levels`` is theirs."""
        self._conditions: dict[int, Conditions] = {}

    def add(self, order: Order, visible: i64, sequence: i64) -> i64:
        """A row for an order, which is in no level yet."""
        if not self._free:
            self._lengthen()
        row = self._free
        cells = self.cells
        self._free = cells[row + NEXT]
        terms: i64 = order.type | order.time_in_force << _FORCE
        if order.conditions is not PLAIN:
            terms |= _SPECIAL
            self._conditions[row] = order.conditions
        number: i64 = order.id
        cells[row + NUMBER] = number
        cells[row + QUANTITY] = order.quantity
        cells[row + TRADED] = order.filled
        cells[row + VISIBLE] = visible
        cells[row + QUOTE] = order.quote
        cells[row + PRICE] = order.price
        cells[row + TERMS] = terms
        cells[row + SIDE] = order.side
        cells[row + SEQUENCE] = sequence
        self.directory.add(number, row)
        return row

    def end(self, row: i64) -> None:
        """Give back the row of an order that has left; what it says stays until ``add``."""
        cells = self.cells
        if cells[row + TERMS] & _SPECIAL:
            del self._conditions[row]
        cells[row + NEXT] = self._free
        self._free = row

    def conditions(self, row: i64) -> Conditions:
        """What most orders do not have."""
        return self._conditions[row] if self.cells[row + TERMS] & _SPECIAL else PLAIN

    def order(self, row: i64) -> Order:
        """The order of a row, to go on its way again."""
        cells = self.cells
        order = Order().become(
            cells[row + NUMBER],
            cells[row + SIDE],
            self.kind(row),
            self.time_in_force(row),
            cells[row + PRICE],
            cells[row + QUANTITY],
            self.conditions(row),
        )
        order.filled, order.quote = cells[row + TRADED], cells[row + QUOTE]
        return order

    def kind(self, row: i64) -> int:
        """The type of an order."""
        return self.cells[row + TERMS] & ((1 << _FORCE) - 1)

    def time_in_force(self, row: i64) -> int:
        """How long an order lives."""
        return (self.cells[row + TERMS] & (_SPECIAL - 1)) >> _FORCE

    def level(self, ladder: Ladder, price: i64, key: i64) -> Level:
        """A level without orders."""
        if self._spare:
            level = self._spare.pop()
            level.ladder, level.price, level.key = ladder, price, key
            return level
        level = Level(ladder, price, key, len(self.levels))
        self.levels.append(level)
        return level

    def forget(self, level: Level) -> None:
        """A level is nowhere listed any more; it has no orders, and nothing of it is to be told."""
        self._spare.append(level)

    def _lengthen(self) -> None:
        """More rows, a quarter of what there is, all of them free."""
        start: i64 = len(self.cells)
        rows: i64 = start // WIDTH // 4 + _ROWS_MORE
        cells = longer(self.cells, rows * WIDTH)
        row: i64 = start + (rows - 1) * WIDTH
        while row >= start:
            cells[row + NEXT] = self._free
            self._free = row
            row -= WIDTH
        self.cells = cells


class Level:
    """The orders at one price, first come first, by their rows.

    ``quantity`` is what others see, ``total`` includes what icebergs hide, and ``told`` is the
    quantity that was last reported as a change. ``touched`` levels are in the ladder's list of
    those to be reported, ``listed`` ones in its list of prices.
    """

    __slots__ = (
        "first",
        "index",
        "key",
        "ladder",
        "last",
        "listed",
        "price",
        "quantity",
        "rows",
        "told",
        "total",
        "touched",
    )

    def __init__(self, ladder: Ladder, price: i64, key: i64, index: i64) -> None:
        self.ladder: Ladder = ladder
        self.rows: Rows = ladder.rows
        self.index: i64 = index
        self.price: i64 = price
        self.key: i64 = key
        self.quantity: i64 = 0
        self.total: i64 = 0
        self.first: i64 = 0
        self.last: i64 = 0
        self.listed: bool = False
        self.touched: bool = False
        self.told: i64 = 0

    def append(self, row: i64) -> None:
        """Put an order at the end of the queue."""
        cells, last = self.rows.cells, self.last
        cells[row + PREVIOUS] = last
        cells[row + NEXT] = 0
        if last:
            cells[last + NEXT] = row
        else:
            self.first = row
        self.last = row

    def unlink(self, row: i64) -> None:
        """Take an order out of the queue, wherever it stands."""
        cells = self.rows.cells
        before, after = cells[row + PREVIOUS], cells[row + NEXT]
        if before:
            cells[before + NEXT] = after
        else:
            self.first = after
        if after:
            cells[after + PREVIOUS] = before
        else:
            self.last = before

    def reduce(self, row: i64, total: i64, visible: i64) -> None:
        """Take off what was traded or given up of an order that stays: in all, and visibly."""
        self.quantity -= visible
        self.total -= total
        cells = self.rows.cells
        cells[row + VISIBLE] = cells[row + VISIBLE] - visible
        if not self.touched:
            self.ladder.touch(self)

    def refill(self, row: i64) -> None:
        """Show the next part of an iceberg, at the end of the queue."""
        cells = self.rows.cells
        left = cells[row + QUANTITY] - cells[row + TRADED]
        display: i64 = self.rows.conditions(row).display
        visible = display if 0 < display < left else left
        cells[row + VISIBLE] = visible
        self.quantity += visible
        if self.last != row:
            self.unlink(row)
            self.append(row)


class Ladder:
    """One side: levels by price. ``sign`` is 1 where the highest price is best, else -1.

    The key of a price is ``sign * price``: the best level is always the one with the largest key.
    """

    __slots__ = ("_empty", "_keys", "_levels", "_top", "_touched", "rows", "sign")

    def __init__(self, sign: i64, rows: Rows) -> None:
        self.sign: i64 = sign
        self.rows: Rows = rows
        self._levels: dict[int, Level] = {}
        self._keys: list[int] = []
        """Keys of the levels that are listed, ascending: the best one is the last."""
        self._top: Level | None = None
        """The last one of those; it may be empty."""
        self._empty: i64 = 0
        """How many of those that are listed are empty."""
        self._touched: list[Level] = []

    def best(self) -> Level | None:
        """The best level that has orders."""
        top = self._top
        if top is None or top.first:
            return top
        return self._next_best()

    def add(self, row: i64, price: i64) -> None:
        """Put an order at the end of the queue at ``price``."""
        key = price * self.sign
        level = self._levels.get(key)
        if level is None:
            level = self.rows.level(self, price, key)
            self._levels[key] = level
        if not level.listed:
            self._list(level)
        elif not level.first:
            self._empty -= 1
        cells = self.rows.cells
        cells[row + LEVEL] = level.index
        level.append(row)
        level.quantity += cells[row + VISIBLE]
        level.total += cells[row + QUANTITY] - cells[row + TRADED]
        if not level.touched:
            self.touch(level)

    def remove(self, row: i64, level: Level) -> None:
        """Take an order out, wherever it stands in its queue."""
        level.unlink(row)
        cells = self.rows.cells
        level.quantity -= cells[row + VISIBLE]
        level.total -= cells[row + QUANTITY] - cells[row + TRADED]
        if not level.touched:
            self.touch(level)
        if not level.first:
            self._empty += 1
            if self._empty > EMPTY_MAX and self._empty * 2 > len(self._keys):
                self._sweep()

    def down(self) -> Iterator[Level]:
        """The levels that have orders, best first."""
        index = len(self._keys)
        while index:
            index -= 1
            level = self._levels[self._keys[index]]
            if level.first:
                yield level

    def drain(self, side: int) -> list[tuple[int, int, int]]:
        """Side, price and quantity of each level that others see otherwise than last time."""
        changed: list[tuple[int, int, int]] = []
        for level in self._touched:
            level.touched = False
            if level.quantity != level.told:
                level.told = level.quantity
                changed.append((side, level.price, level.quantity))
            if not level.listed:
                self._forget(level)
        self._touched.clear()
        return changed

    def touch(self, level: Level) -> None:
        """Others may see ``level`` otherwise from now on."""
        level.touched = True
        self._touched.append(level)

    def _list(self, level: Level) -> None:
        level.listed = True
        keys, key = self._keys, level.key
        if not keys or key > keys[-1]:
            keys.append(key)
            self._top = level
        else:
            insort(keys, key)

    def _next_best(self) -> Level | None:
        keys = self._keys
        while keys:
            level = self._levels[keys[-1]]
            if level.first:
                self._top = level
                return level
            keys.pop()
            level.listed = False
            self._empty -= 1
            if not level.touched:
                self._forget(level)
        self._top = None
        return None

    def _sweep(self) -> None:
        """Forget the empty levels."""
        keys: list[int] = []
        for key in self._keys:
            level = self._levels[key]
            if level.first:
                keys.append(key)
                continue
            level.listed = False
            if not level.touched:
                self._forget(level)
        self._keys = keys
        self._empty = 0
        self._top = self._levels[keys[-1]] if keys else None

    def _forget(self, level: Level) -> None:
        del self._levels[level.key]
        self.rows.forget(level)
