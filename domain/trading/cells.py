"""Memory of whole numbers, and finding a row in it by an order's number: the plain form.

What is here has a second form, ``cells_packed``, which the compiled engine takes in its place:
there the numbers lie side by side in memory, 64 bits each. Both do the same.
"""

from __future__ import annotations

Cells = list[int]
"""Numbers by their place."""


def zeros(count: int) -> Cells:
    """So many zeros."""
    return [0] * count


def longer(cells: Cells, count: int) -> Cells:
    """``cells`` with so many zeros more; the argument is not to be used any more."""
    cells.extend([0] * count)
    return cells


class Directory:
    """The row of each order, by the order's number; there is no row 0."""

    __slots__ = ("_rows",)

    def __init__(self) -> None:
        self._rows: dict[int, int] = {}

    @property
    def count(self) -> int:
        """How many orders are in it."""
        return len(self._rows)

    def find(self, cells: Cells, number: int) -> int:
        """The row of an order, 0 if there is none."""
        return self._rows.get(number, 0)

    def add(self, number: int, row: int) -> None:
        """Note the row of an order that is not in it."""
        self._rows[number] = row

    def remove(self, number: int, row: int) -> None:
        """Forget the row of an order."""
        del self._rows[number]
