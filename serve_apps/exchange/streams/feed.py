"""What a gateway knows of one market, without gaps, whatever is lost on the way.

Pure: it takes what a book published and what was read of it, in any order, and gives what is new.
A hole in the updates is closed by reading the book: the difference becomes the next update. A hole
in the trades is closed from the trade history, and later trades wait for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from actors.marketdata import BookChanges, TimedTrade
from domain.trading.commands import BookView
from domain.trading.news import Level
from serve_apps.exchange.streams.copy import BookCopy

TRADES_MAX: Final = 1_000
"""How many trades are kept for those who ask for the latest."""
WAITING_MAX: Final = 2_000
HELD_MAX: Final = 20_000


class News(NamedTuple):
    """What is new: levels up to the copy's ``update``, trades, and whether the status is."""

    levels: Sequence[Level]
    trades: Sequence[TimedTrade]
    status: bool


class Feed:
    """One market. ``known`` once the book has been read; ``gap`` while it must be read again."""

    __slots__ = (
        "_held",
        "_last_known",
        "_waiting",
        "at",
        "copy",
        "gap",
        "known",
        "last_price",
        "last_quantity",
        "last_trade",
        "reason",
        "reference",
        "source",
        "status",
        "symbol",
        "trades",
        "until",
    )

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.copy = BookCopy()
        self.known = False
        self.gap = False
        self.at = 0
        self.status = 0
        self.reason = ""
        self.reference = 0
        self.until = 0
        self.last_trade = 0
        self.last_price = 0
        self.last_quantity = 0
        self.trades: deque[TimedTrade] = deque(maxlen=TRADES_MAX)
        self.source = 0
        self._waiting: list[BookChanges] = []
        self._held: dict[int, TimedTrade] = {}
        self._last_known = 0

    def take(self, changes: BookChanges) -> News | None:
        """What the book published. ``None`` when it must be read first."""
        if not self.known or self.gap:
            self._wait(changes)
            return None
        copy = self.copy
        if changes.first > copy.update + 1:
            self._wait(changes)
            return None
        levels: Sequence[Level] = ()
        if changes.last > copy.update:
            levels = changes.levels
            copy.apply(levels, changes.last)
        trades = self._take_trades(changes.trades)
        return News(levels, trades, self._take_status(changes))

    def read(self, view: BookView) -> News | None:
        """What was read of the book. ``None`` when it is older than what is known: read again."""
        if view.update < self.copy.update:
            return None
        levels = self.copy.become(dict(view.bids), dict(view.asks), view.update)
        if not self.known:
            self.last_trade = view.last_trade
            self.last_price = view.last_price
        self._last_known = max(self._last_known, view.last_trade)
        self.known = True
        self.gap = False
        waiting, self._waiting = self._waiting, []
        trades: list[TimedTrade] = []
        status = (self.status, self.reason, self.until) != (view.status, view.reason, view.until)
        self.status, self.reason, self.until = view.status, view.reason, view.until
        self.at = max(self.at, view.at)
        for changes in waiting:
            if (more := self.take(changes)) is not None:
                levels.extend(more.levels)
                trades.extend(more.trades)
                status |= more.status
        return News(levels, trades, status)

    @property
    def hole(self) -> tuple[int, int] | None:
        """The first and the last id of trades that are missing, if any are."""
        if self._held:
            return self.last_trade + 1, min(self._held) - 1
        if self._last_known > self.last_trade:
            return self.last_trade + 1, self._last_known
        return None

    def fill(self, trades: Sequence[TimedTrade]) -> Sequence[TimedTrade]:
        """Take trades from the history; those that are new, in order."""
        return self._take_trades(trades)

    def skip_hole(self) -> Sequence[TimedTrade]:
        """Do without the trades that are missing: nothing has them."""
        hole = self.hole
        if hole is not None:
            self.last_trade = hole[1]
        return self._take_trades(())

    def _wait(self, changes: BookChanges) -> None:
        self.gap = True
        if len(self._waiting) >= WAITING_MAX:
            self._waiting.clear()
        self._waiting.append(changes)

    def _take_status(self, changes: BookChanges) -> bool:
        if changes.at < self.at:
            return False
        self.at = changes.at
        if changes.reference:
            self.reference = changes.reference
        differs = (self.status, self.reason) != (changes.status, changes.reason)
        self.status, self.reason = changes.status, changes.reason
        return differs

    def _take_trades(self, trades: Sequence[TimedTrade]) -> Sequence[TimedTrade]:
        held, last = self._held, self.last_trade
        if not held and _follow(trades, last):
            return self._took(trades)
        new: list[TimedTrade] = []
        for trade in trades:
            number = trade[0]
            if number == last + 1 and not held:
                new.append(trade)
                last = number
            elif number > last and len(held) < HELD_MAX:
                held[number] = trade
        while held and (trade_next := held.pop(last + 1, None)) is not None:
            new.append(trade_next)
            last += 1
        if held and min(held) <= last:
            for number in [number for number in held if number <= last]:
                del held[number]
        return self._took(new) if new else new

    def _took(self, new: Sequence[TimedTrade]) -> Sequence[TimedTrade]:
        self.last_trade, self.last_price, self.last_quantity = new[-1][:3]
        self.trades.extend(new[-TRADES_MAX:])
        return new


def _follow(trades: Sequence[TimedTrade], last: int) -> bool:
    """Whether these are the trades after ``last``, none missing."""
    return bool(trades) and trades[0][0] == last + 1 and trades[-1][0] - last == len(trades)
