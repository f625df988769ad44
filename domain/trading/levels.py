"""The orders of one side of a book: by price, and in order of arrival within a price.

Every step costs the same however many orders and levels there are: an order knows its level and
its neighbours, and a level that empties stays listed until it is the best one, or until half of
what is listed is empty. Plain typed Python that mypyc can compile; nothing here matches.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from typing import Final

EMPTY_MAX: Final = 64
"""So many empty levels are always worth keeping: prices come back."""


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
    """An order that is in the book or on its way into it."""

    __slots__ = (
        "conditions",
        "filled",
        "id",
        "level",
        "next",
        "previous",
        "price",
        "quantity",
        "quote",
        "sequence",
        "side",
        "time_in_force",
        "type",
        "visible",
    )

    def __init__(
        self,
        number: int,
        side: int,
        kind: int,
        time_in_force: int,
        price: int,
        quantity: int,
        conditions: Conditions,
    ) -> None:
        self.id: int = number
        self.side: int = side
        self.type: int = kind
        self.time_in_force: int = time_in_force
        self.price: int = price
        self.quantity: int = quantity
        self.conditions: Conditions = conditions
        self.filled: int = 0
        self.quote: int = 0
        self.visible: int = 0
        self.sequence: int = 0
        self.level: Level | None = None
        self.previous: Order | None = None
        self.next: Order | None = None


class Level:
    """The orders at one price, first come first.

    ``quantity`` is what others see, ``total`` includes what icebergs hide, and ``told`` is the
    quantity that was last reported as a change. ``touched`` levels are in the ladder's list of
    those to be reported, ``listed`` ones in its list of prices.
    """

    __slots__ = (
        "first",
        "key",
        "ladder",
        "last",
        "listed",
        "price",
        "quantity",
        "told",
        "total",
        "touched",
    )

    def __init__(self, ladder: Ladder, price: int, key: int) -> None:
        self.ladder: Ladder = ladder
        self.price: int = price
        self.key: int = key
        self.quantity: int = 0
        self.total: int = 0
        self.first: Order | None = None
        self.last: Order | None = None
        self.listed: bool = False
        self.touched: bool = False
        self.told: int = 0

    def append(self, order: Order) -> None:
        """Put an order at the end of the queue."""
        last = self.last
        order.previous = last
        order.next = None
        if last is None:
            self.first = order
        else:
            last.next = order
        self.last = order

    def unlink(self, order: Order) -> None:
        """Take an order out of the queue, wherever it stands."""
        before, after = order.previous, order.next
        if before is None:
            self.first = after
        else:
            before.next = after
        if after is None:
            self.last = before
        else:
            after.previous = before

    def reduce(self, order: Order, total: int, visible: int) -> None:
        """Take off what was traded or given up of an order that stays: in all, and visibly."""
        self.quantity -= visible
        self.total -= total
        order.visible -= visible
        if not self.touched:
            self.ladder.touch(self)

    def refill(self, order: Order) -> None:
        """Show the next part of an iceberg, at the end of the queue."""
        left = order.quantity - order.filled
        display = order.conditions.display
        order.visible = display if 0 < display < left else left
        self.quantity += order.visible
        if self.last is not order:
            self.unlink(order)
            self.append(order)


class Ladder:
    """One side: levels by price. ``sign`` is 1 where the highest price is best, else -1.

    The key of a price is ``sign * price``: the best level is always the one with the largest key.
    """

    __slots__ = ("_empty", "_keys", "_levels", "_top", "_touched", "sign")

    def __init__(self, sign: int) -> None:
        self.sign: int = sign
        self._levels: dict[int, Level] = {}
        self._keys: list[int] = []
        """Keys of the levels that are listed, ascending: the best one is the last."""
        self._top: Level | None = None
        """The last one of those; it may be empty."""
        self._empty: int = 0
        """How many of those that are listed are empty."""
        self._touched: list[Level] = []

    def best(self) -> Level | None:
        """The best level that has orders."""
        top = self._top
        if top is None or top.first is not None:
            return top
        return self._next_best()

    def add(self, order: Order, price: int) -> None:
        """Put an order at the end of the queue at ``price``."""
        key = price * self.sign
        level = self._levels.get(key)
        if level is None:
            level = Level(self, price, key)
            self._levels[key] = level
        if not level.listed:
            self._list(level)
        elif level.first is None:
            self._empty -= 1
        order.level = level
        level.append(order)
        level.quantity += order.visible
        level.total += order.quantity - order.filled
        if not level.touched:
            self.touch(level)

    def remove(self, order: Order) -> None:
        """Take an order out, wherever it stands in its queue."""
        level = order.level
        assert level is not None
        level.unlink(order)
        level.quantity -= order.visible
        level.total -= order.quantity - order.filled
        if not level.touched:
            self.touch(level)
        if level.first is None:
            self._empty += 1
            if self._empty > EMPTY_MAX and self._empty * 2 > len(self._keys):
                self._sweep()

    def down(self) -> Iterator[Level]:
        """The levels that have orders, best first."""
        index = len(self._keys)
        while index:
            index -= 1
            level = self._levels[self._keys[index]]
            if level.first is not None:
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
                del self._levels[level.key]
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
            if level.first is not None:
                self._top = level
                return level
            keys.pop()
            level.listed = False
            self._empty -= 1
            if not level.touched:
                del self._levels[level.key]
        self._top = None
        return None

    def _sweep(self) -> None:
        """Forget the empty levels."""
        keys: list[int] = []
        for key in self._keys:
            level = self._levels[key]
            if level.first is not None:
                keys.append(key)
                continue
            level.listed = False
            if not level.touched:
                del self._levels[key]
        self._keys = keys
        self._empty = 0
        self._top = self._levels[keys[-1]] if keys else None
