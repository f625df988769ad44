"""The orders of one side of a book: by price, and in order of arrival within a price.

Every step costs the same however many orders and levels there are: an order knows its level and
its neighbours, and a level that empties stays listed until it is the best one, or until half of
what is listed is empty. Plain typed Python that mypyc can compile; nothing here matches.
"""

from __future__ import annotations

from bisect import insort
from typing import Final

EMPTY_MAX: Final = 64
"""So many empty levels are always worth keeping: prices come back."""


class Order:
    """An order that is in the book or on its way into it."""

    __slots__ = (
        "budget",
        "display",
        "expires_at",
        "filled",
        "id",
        "ladder",
        "level",
        "next",
        "previous",
        "price",
        "quantity",
        "quote",
        "self_trade",
        "sequence",
        "side",
        "time_in_force",
        "trigger",
        "type",
        "visible",
    )

    def __init__(
        self, number: int, side: int, kind: int, time_in_force: int, price: int, quantity: int
    ) -> None:
        self.id: int = number
        self.side: int = side
        self.type: int = kind
        self.time_in_force: int = time_in_force
        self.price: int = price
        self.quantity: int = quantity
        self.filled: int = 0
        self.quote: int = 0
        self.visible: int = 0
        self.display: int = 0
        self.trigger: int = 0
        self.self_trade: int = 0
        self.expires_at: int = 0
        self.budget: int = 0
        self.sequence: int = 0
        self.level: Level | None = None
        self.ladder: Ladder | None = None
        self.previous: Order | None = None
        self.next: Order | None = None


class Level:
    """The orders at one price, first come first.

    ``quantity`` is what others see, ``total`` includes what icebergs hide, and ``told`` is the
    quantity that was last reported as a change.
    """

    __slots__ = ("first", "key", "last", "listed", "price", "quantity", "told", "total", "touched")

    def __init__(self, price: int, key: int) -> None:
        self.price: int = price
        self.key: int = key
        self.quantity: int = 0
        self.total: int = 0
        self.first: Order | None = None
        self.last: Order | None = None
        self.listed: bool = False
        self.touched: bool = False
        self.told: int = 0


class Ladder:
    """One side: levels by price. ``sign`` is 1 where the highest price is best, else -1.

    The key of a price is ``sign * price``: the best level is always the one with the largest key.
    """

    __slots__ = ("_empty", "_keys", "_levels", "_touched", "sign")

    def __init__(self, sign: int) -> None:
        self.sign: int = sign
        self._levels: dict[int, Level] = {}
        self._keys: list[int] = []
        """Keys of the levels that are listed, ascending: the best one is the last."""
        self._empty: int = 0
        """How many of those that are listed are empty."""
        self._touched: list[Level] = []

    def best(self) -> Level | None:
        """The best level that has orders."""
        keys = self._keys
        while keys:
            level = self._levels[keys[-1]]
            if level.first is not None:
                return level
            keys.pop()
            level.listed = False
            self._empty -= 1
            if not level.touched:
                del self._levels[level.key]
        return None

    def add(self, order: Order, price: int) -> None:
        """Put an order at the end of the queue at ``price``."""
        key = price * self.sign
        level = self._levels.get(key)
        if level is None:
            level = Level(price, key)
            self._levels[key] = level
        if not level.listed:
            level.listed = True
            keys = self._keys
            if keys and key < keys[-1]:
                insort(keys, key)
            else:
                keys.append(key)
        elif level.first is None:
            self._empty -= 1
        order.ladder = self
        order.level = level
        self._append(level, order)
        level.quantity += order.visible
        level.total += order.quantity - order.filled
        if not level.touched:
            self._touch(level)

    def remove(self, order: Order) -> None:
        """Take an order out, wherever it stands in its queue."""
        level = order.level
        assert level is not None
        self._unlink(level, order)
        order.level = None
        order.ladder = None
        level.quantity -= order.visible
        level.total -= order.quantity - order.filled
        if not level.touched:
            self._touch(level)
        if level.first is None:
            self._empty += 1
            if self._empty > EMPTY_MAX and self._empty * 2 > len(self._keys):
                self._sweep()

    def reduce(self, order: Order, total: int, visible: int) -> None:
        """Take off what was traded, decremented or amended away of an order that stays.

        To be called before the order's own quantities are changed, but for ``visible``.
        """
        level = order.level
        assert level is not None
        level.quantity -= visible
        level.total -= total
        order.visible -= visible
        if not level.touched:
            self._touch(level)

    def refill(self, order: Order) -> None:
        """Show the next slice of an iceberg, at the end of the queue."""
        level = order.level
        assert level is not None
        left = order.quantity - order.filled
        order.visible = order.display if order.display < left else left
        level.quantity += order.visible
        if level.last is not order:
            self._unlink(level, order)
            self._append(level, order)

    def levels(self, limit: int) -> list[Level]:
        """The ``limit`` best levels that have orders, best first."""
        result: list[Level] = []
        index = len(self._keys)
        while index and len(result) < limit:
            index -= 1
            level = self._levels[self._keys[index]]
            if level.first is not None:
                result.append(level)
        return result

    def drain(self) -> list[tuple[int, int]]:
        """Price and quantity of each level that others see otherwise than when last drained."""
        changed: list[tuple[int, int, int]] = []
        for level in self._touched:
            level.touched = False
            if level.quantity != level.told:
                level.told = level.quantity
                changed.append((-level.key, level.price, level.quantity))
            if not level.listed:
                del self._levels[level.key]
        self._touched.clear()
        if len(changed) > 1:
            changed.sort()
        return [(price, quantity) for _, price, quantity in changed]

    def _touch(self, level: Level) -> None:
        level.touched = True
        self._touched.append(level)

    def _append(self, level: Level, order: Order) -> None:
        last = level.last
        order.previous = last
        order.next = None
        if last is None:
            level.first = order
        else:
            last.next = order
        level.last = order

    def _unlink(self, level: Level, order: Order) -> None:
        before, after = order.previous, order.next
        if before is None:
            level.first = after
        else:
            before.next = after
        if after is None:
            level.last = before
        else:
            after.previous = before
        order.previous = None
        order.next = None

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
