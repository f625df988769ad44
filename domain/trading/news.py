"""What a book's decision changed, for those who follow the market.

News are told after the commit and written nowhere; whoever misses some reads the book again.
Prices are ticks, quantities lots and absolute: what is visible at the price now, 0 for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from domain.trading.rules import BookStatus

Level = tuple[int, int, int]
"""Side (1 bids, 2 asks), price, quantity."""

MarketTrade = tuple[int, int, int, int, bool]
"""Id, price, quantity, the taker's side, and whether its taker is that of the trade before."""


class BookNews(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One decision: updates ``first`` to ``last``, none of them when ``first`` is ``last + 1``.

    ``last`` is then the number of the last update before. ``status`` and ``reason`` are the
    book's after the decision, ``reference`` its reference price, 0 for none.
    """

    symbol: str
    first: int
    last: int
    levels: Sequence[Level]
    trades: Sequence[MarketTrade]
    status: BookStatus
    reason: str = ""
    reference: int = 0
