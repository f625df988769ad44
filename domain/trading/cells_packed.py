"""Memory of whole numbers, and finding a row in it by an order's number: the compiled form.

It is compiled in the place of ``cells``, which says what everything does. A processor waits some
hundred nanoseconds for memory that is not in its caches, longer than it takes to place an order. So
numbers lie side by side here, and an order is found without touching other orders on the way.

The directory is a table with open addressing and linear probing, at most three quarters full. An
entry holds the hash of an order's number beside its row, so that looking, moving up what follows a
gap, and growing need nothing but the table.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from librt.vecs import append, vec
from mypy_extensions import i64

Cells: TypeAlias = "vec[i64]"

_ROW_BITS: Final = 31
_ROW_MASK: Final = (1 << 31) - 1
_REF_MASK: Final = (1 << 29) - 1


def zeros(count: i64) -> Cells:
    """So many zeros."""
    return longer(vec[i64](), count)


def longer(cells: Cells, count: i64) -> Cells:
    """``cells`` with so many zeros more; the argument is not to be used any more."""
    for _ in range(count):
        cells = append(cells, 0)
    return cells


def _hash(number: i64) -> i64:
    """32 bits of it: whose order it is and which of theirs, each spread over all of them."""
    spread = (number & _REF_MASK) * 0x9E3779B1 + (number >> 29) * 0xD6E8FEB
    return (spread ^ (spread >> 30)) & 0xFFFFFFFF


class Directory:
    """The row of each order, by the order's number; there is no row 0."""

    __slots__ = ("_mask", "_table", "count")

    def __init__(self) -> None:
        self._table: Cells = zeros(64)
        self._mask: i64 = 63
        self.count: i64 = 0

    def find(self, cells: Cells, number: i64) -> i64:
        """The row of an order, 0 if there is none."""
        table, mask = self._table, self._mask
        wanted = _hash(number)
        index = wanted & mask
        while True:
            entry = table[index]
            if not entry:
                return 0
            if entry >> _ROW_BITS == wanted:
                row = entry & _ROW_MASK
                if cells[row] == number:
                    return row
            index = (index + 1) & mask

    def add(self, number: i64, row: i64) -> None:
        """Note the row of an order that is not in it."""
        self.count += 1
        if self.count * 4 > self._mask * 3:
            self._grow()
        self._put(_hash(number) << _ROW_BITS | row)

    def _put(self, entry: i64) -> None:
        table, mask = self._table, self._mask
        index = (entry >> _ROW_BITS) & mask
        while table[index]:
            index = (index + 1) & mask
        table[index] = entry

    def _grow(self) -> None:
        old = self._table
        self._mask = self._mask * 2 + 1
        self._table = zeros(self._mask + 1)
        for entry in old:
            if entry:
                self._put(entry)

    def remove(self, number: i64, row: i64) -> None:
        """Forget the row of an order."""
        table, mask = self._table, self._mask
        entry = _hash(number) << _ROW_BITS | row
        gap = _hash(number) & mask
        while table[gap] != entry:
            gap = (gap + 1) & mask
        self.count -= 1
        index = gap
        while True:
            index = (index + 1) & mask
            entry = table[index]
            if not entry:
                break
            home = (entry >> _ROW_BITS) & mask
            # It may move up unless its own place lies behind the gap.
            if (index - home) & mask >= (index - gap) & mask:
                table[gap] = entry
                gap = index
        table[gap] = 0
