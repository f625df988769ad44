"""A gateway's copy of one order book, at the level of prices.

Pure: the copy is changed by what the book published, or made equal to what was read of it, and
says what that means to whoever has followed it so far. Quantities are absolute, so that changes
that are older than the copy in part may be applied as a whole.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable

from domain.trading.news import Level

BID = 1

Best = tuple[int, int, int, int]
"""Bid and its quantity, ask and its quantity; 0 where there is none."""

Levels = list[tuple[int, int]]
"""Prices with their quantities, best first."""


class BookCopy:
    """Levels of a book as of its update ``update``."""

    __slots__ = ("_ask_prices", "_bid_prices", "asks", "bids", "update")

    def __init__(self) -> None:
        self.update = 0
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}
        self._bid_prices: list[int] = []
        self._ask_prices: list[int] = []

    def apply(self, levels: Iterable[Level], last: int) -> None:
        """Take changes up to update ``last``."""
        for side, price, quantity in levels:
            if side == BID:
                book, prices = self.bids, self._bid_prices
            else:
                book, prices = self.asks, self._ask_prices
            if quantity:
                if price not in book:
                    insort(prices, price)
                book[price] = quantity
            elif book.pop(price, 0):
                del prices[bisect_left(prices, price)]
        self.update = last

    def become(self, bids: dict[int, int], asks: dict[int, int], update: int) -> list[Level]:
        """Be the book that was read as of ``update``; what that changes."""
        changes: list[Level] = []
        for side, ours, read in ((BID, self.bids, bids), (3 - BID, self.asks, asks)):
            changes += [(side, price, 0) for price in ours if price not in read]
            changes += [(side, p, q) for p, q in read.items() if ours.get(p) != q]
        self.apply(changes, update)
        return changes

    def depth(self, limit: int) -> tuple[Levels, Levels]:
        """The best ``limit`` levels of each side."""
        bids, asks = self.bids, self.asks
        return (
            [(price, bids[price]) for price in self._bid_prices[: -limit - 1 : -1]],
            [(price, asks[price]) for price in self._ask_prices[:limit]],
        )

    def best(self) -> Best:
        """The touch."""
        bid = self._bid_prices[-1] if self._bid_prices else 0
        ask = self._ask_prices[0] if self._ask_prices else 0
        return bid, self.bids.get(bid, 0), ask, self.asks.get(ask, 0)
