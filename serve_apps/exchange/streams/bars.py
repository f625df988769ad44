"""Candles and 24-hour figures of one market, kept up trade by trade.

Pure. History gives bars of what was traded before, each with the ids of its first and last trade;
live trades follow by their ids, so that none counts twice and none is left out. Prices are ticks,
volumes lots, turnovers ticks x lots, times microseconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from actors.marketdata import TimedTrade
from persistence.trading.queries import DAY, MINUTE, SECOND, start_of, start_of_next

BUY: Final = 1
WINDOW: Final = DAY
_FEW: Final = 4


class Bar(msgspec.Struct):
    """What was traded from ``at`` on; ``bought`` is that part in which the taker bought."""

    at: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    quote: int
    bought: int
    bought_quote: int
    first: int
    last: int

    @property
    def count(self) -> int:
        """Number of trades: ids have no gaps."""
        return self.last - self.first + 1 if self.first else 0

    def take(self, trade: TimedTrade) -> None:
        """Add a trade."""
        number, price, quantity, side, _, _ = trade
        if price > self.high:
            self.high = price
        elif price < self.low:
            self.low = price
        self.close = price
        self.last = number
        self.volume += quantity
        self.quote += price * quantity
        if side == BUY:
            self.bought += quantity
            self.bought_quote += price * quantity

    def join(self, later: Bar) -> None:
        """Add a bar that follows this one."""
        self.high = max(self.high, later.high)
        self.low = min(self.low, later.low)
        self.close = later.close
        self.volume += later.volume
        self.quote += later.quote
        self.bought += later.bought
        self.bought_quote += later.bought_quote
        self.last = later.last


def bar_of(trade: TimedTrade, at: int) -> Bar:
    """A bar of one trade."""
    number, price, quantity, side, _, _ = trade
    bought = quantity if side == BUY else 0
    return Bar(
        at, price, price, price, price, quantity, price * quantity,
        bought, price * bought, number, number,
    )  # fmt: skip


def bar_of_all(trades: Sequence[TimedTrade], at: int) -> Bar:
    """A bar of trades in a row."""
    prices = [trade[1] for trade in trades]
    bought = [trade for trade in trades if trade[3] == BUY]
    return Bar(
        at,
        prices[0],
        max(prices),
        min(prices),
        prices[-1],
        sum([trade[2] for trade in trades]),
        sum([trade[1] * trade[2] for trade in trades]),
        sum([trade[2] for trade in bought]),
        sum([trade[1] * trade[2] for trade in bought]),
        trades[0][0],
        trades[-1][0],
    )


def flat(price: int, at: int) -> Bar:
    """A bar in which nothing was traded."""
    return Bar(at, price, price, price, price, 0, 0, 0, 0, 0, 0)


class Totals(msgspec.Struct, frozen=True):
    """24 hours of a market. ``previous`` is the last price before, ``count`` trades."""

    open: int
    high: int
    low: int
    last: int
    last_quantity: int
    previous: int
    volume: int
    quote: int
    first_id: int
    last_id: int
    open_at: int
    close_at: int

    @property
    def count(self) -> int:
        """Number of trades."""
        return self.last_id - self.first_id + 1 if self.first_id else 0


class Tape:
    """Minutes of the last 24 hours, and the bars of now that somebody follows.

    ``closed`` are bars that have ended, for the caller to take away; one that a late trade belongs
    to comes again.
    """

    def __init__(self) -> None:
        self.seeded = False
        self.last = 0
        self.price = 0
        self._quantity = 0
        self._previous = 0
        self._minutes: deque[Bar] = deque()
        self._days: list[Bar] = []
        self._bars: dict[str, Bar] = {}
        self._before: dict[str, Bar] = {}
        self.closed: list[tuple[str, Bar]] = []
        self._volume = 0
        self._quote = 0
        self._range: tuple[int, int] | None = None

    def seed(self, minutes: Iterable[Bar], days: Iterable[Bar], price: int) -> None:
        """Start from history.

        ``minutes`` are those since midnight before the last 24 hours, ``days`` all days before
        them that a bar of now can reach back to; ``price`` is the last one if there are neither.
        """
        self._minutes = deque(minutes)
        self._days = list(days)
        self._bars.clear()
        self._range = None
        self._volume = sum(bar.volume for bar in self._minutes)
        self._quote = sum(bar.quote for bar in self._minutes)
        newest = self._minutes or self._days
        self.last = newest[-1].last if newest else 0
        self.price = newest[-1].close if newest else price
        self._previous = self._days[-1].close if self._days else 0
        self.seeded = True

    def take(self, trade: TimedTrade) -> None:
        """Add a trade, unless it is in the history already."""
        if trade[0] <= self.last:
            return
        at = trade[5]
        self.last, self.price, self._quantity = trade[0], trade[1], trade[2]
        minutes = self._minutes
        start = at - at % MINUTE
        if minutes and start <= minutes[-1].at:
            minutes[-1].take(trade)
        else:
            minutes.append(bar_of(trade, start))
        self._volume += trade[2]
        self._quote += trade[1] * trade[2]
        if self._range is not None:
            low, high = self._range
            self._range = (min(low, trade[1]), max(high, trade[1]))
        for interval in self._bars:
            self._take(interval, trade)

    def take_all(self, trades: Sequence[TimedTrade]) -> None:
        """Add trades in a row; many of one second cost little more than one."""
        at = trades[0][5]
        start = at - at % SECOND
        whole = trades[0][0] == self.last + 1 and trades[-1][5] < start + SECOND
        late = any(start < bar.at for bar in self._bars.values())
        if len(trades) < _FEW or late or not whole:
            for trade in trades:
                self.take(trade)
            return
        part = bar_of_all(trades, at - at % MINUTE)
        minutes = self._minutes
        if minutes and part.at <= minutes[-1].at:
            minutes[-1].join(part)
        else:
            minutes.append(msgspec.structs.replace(part))
        self.last, self.price, self._quantity = part.last, part.close, trades[-1][2]
        self._volume += part.volume
        self._quote += part.quote
        if self._range is not None:
            low, high = self._range
            self._range = (min(low, part.low), max(high, part.high))
        for interval, bar in self._bars.items():
            start = start_of(interval, at)
            if start == bar.at and bar.first:
                bar.join(part)
            else:
                if start > bar.at:
                    self._close(interval, bar)
                self._bars[interval] = msgspec.structs.replace(part, at=start)

    def _take(self, interval: str, trade: TimedTrade) -> None:
        bar, start = self._bars[interval], start_of(interval, trade[5])
        if start == bar.at and bar.first:
            bar.take(trade)
        elif start >= bar.at:
            if start > bar.at:
                self._close(interval, bar)
            self._bars[interval] = bar_of(trade, start)
        else:  # its bar was closed a moment ago, and nothing has been traded since
            before = self._before.get(interval)
            if before is None or before.at != start or not before.first:
                before = bar_of(trade, start)
            else:
                before.take(trade)
            self._close(interval, before)
            self._bars[interval] = flat(trade[1], bar.at)

    def _close(self, interval: str, bar: Bar) -> None:
        self._before[interval] = bar
        self.closed.append((interval, bar))

    def roll(self, now: int) -> None:
        """Close the bars that have ended by ``now``, and begin those that follow."""
        for interval, bar in list(self._bars.items()):
            if start_of_next(interval, bar.at) <= now:
                self._close(interval, bar)
                self._bars[interval] = flat(self.price, start_of(interval, now))

    def follow(self, interval: str, at: int, recent: Iterable[TimedTrade] = ()) -> Bar:
        """The bar of the interval that ``at`` is in, kept up from now on.

        ``recent`` are the latest trades, of which bars shorter than a minute are made.
        """
        bar = self._bars.get(interval)
        if bar is None:
            start = start_of(interval, at)
            made = self._traded(start, recent) if interval == "1s" else self._joined(start)
            bar = self._bars[interval] = made or flat(self.price, start)
        return bar

    def current(self, interval: str) -> Bar | None:
        """The newest bar of an interval that is followed."""
        return self._bars.get(interval)

    def drop(self, interval: str) -> None:
        """Nobody follows this interval any more."""
        self._bars.pop(interval, None)
        self._before.pop(interval, None)

    def totals(self, now: int) -> Totals:
        """The last 24 hours, whole minutes of which the oldest may be partly over."""
        minutes = self._minutes
        since = now - WINDOW
        while minutes and minutes[0].at + MINUTE <= since:
            old = minutes.popleft()
            self._volume -= old.volume
            self._quote -= old.quote
            self._previous = old.close
            self._day(old)
            if (
                self._range is not None
                and not self._range[0] < old.low <= old.high < self._range[1]
            ):
                self._range = None
        if not minutes:
            price = self.price
            return Totals(price, price, price, price, self._quantity, price, 0, 0, 0, 0, since, now)
        if self._range is None:
            self._range = (min(b.low for b in minutes), max(b.high for b in minutes))
        low, high = self._range
        first = minutes[0]
        return Totals(
            first.open, high, low, self.price, self._quantity, self._previous or first.open,
            self._volume, self._quote, first.first, self.last, since, now,
        )  # fmt: skip

    def _day(self, minute: Bar) -> None:
        """Minutes that leave the window still count for bars of days, weeks and months."""
        day = minute.at - minute.at % DAY
        days = self._days
        if days and days[-1].at == day:
            if minute.first > days[-1].last:
                days[-1].join(minute)
        else:
            days.append(msgspec.structs.replace(minute, at=day))
            del days[:-40]

    def _traded(self, start: int, trades: Iterable[TimedTrade]) -> Bar | None:
        bar: Bar | None = None
        for trade in trades:
            if trade[5] >= start and trade[0] <= self.last:
                if bar is None:
                    bar = bar_of(trade, start)
                else:
                    bar.take(trade)
        return bar

    def _joined(self, start: int) -> Bar | None:
        joined: Bar | None = None
        for bars in (self._days, self._minutes):
            for bar in bars:
                if bar.at < start:
                    continue
                if joined is None:
                    joined = msgspec.structs.replace(bar, at=start)
                else:
                    joined.join(bar)
        return joined
