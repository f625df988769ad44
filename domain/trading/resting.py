"""What a book holds: orders that rest, stops that wait, ends of orders, and what is yet to be told.

The part of the engine that keeps; ``domain.trading.book`` is the part that trades.
"""

from __future__ import annotations

from hashlib import sha256
from heapq import heapify, heappush
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from domain.trading.judging import queue, shown, status_of, stored
from domain.trading.levels import (
    LEVEL,
    NUMBER,
    PLAIN,
    PRICE,
    QUANTITY,
    QUOTE,
    SIDE,
    TRADED,
    Conditions,
    Ladder,
    Level,
    Order,
    Rows,
)
from domain.trading.state import BookState, OrderState
from domain.trading.values import ANY, BAND_UNIT, BUY, OPEN, SELL

if TYPE_CHECKING:
    from mypy_extensions import i64

Trade = tuple[int, int, int, int, int, int]
"""Number, maker, taker, price, quantity, side of the taker."""

Change = tuple[int, int, int, int, int]
"""Order, status, quantity, filled, quote."""

LevelChange = tuple[int, int, int]
"""Side, price, visible quantity."""


class Resting:
    """The state of a book, how it is read, and how orders come into it and leave it."""

    __slots__ = (
        "_ask_bound",
        "_asks",
        "_bid_bound",
        "_bids",
        "_coming",
        "_expiries",
        "_falling",
        "_rising",
        "_rows",
        "_stops",
        "_timed",
        "band_down",
        "band_up",
        "changes",
        "last",
        "now",
        "phase",
        "reference",
        "sequence",
        "trade_id",
        "trades",
        "update_id",
    )

    def __init__(self) -> None:
        self.phase: int = OPEN
        self.now: int = 0
        self.last: i64 = 0
        self.reference: int = 0
        self.band_up: int = 0
        self.band_down: int = 0
        self.sequence: i64 = 0
        self.trade_id: i64 = 0
        self.update_id: i64 = 0
        self.trades: list[Trade] = []
        self.changes: list[Change] = []
        self._coming: Order = Order()
        """The order that is being placed."""
        self._rows: Rows = Rows()
        """Every order of the book, stops included."""
        self._bids: Ladder = Ladder(1, self._rows)
        self._asks: Ladder = Ladder(-1, self._rows)
        self._rising: Ladder = Ladder(-1, self._rows)
        """Stops that wait for the last price to rise, by trigger."""
        self._falling: Ladder = Ladder(1, self._rows)
        self._stops: i64 = 0
        self._expiries: list[tuple[int, int]] = []
        """Ends of good-till-date orders, with their numbers: a heap; some have gone since."""
        self._timed: int = 0
        self._bid_bound: i64 = ANY
        """The highest price that the band allows."""
        self._ask_bound: i64 = 0
        """The lowest."""

    def set_bands(self, up: int, down: int) -> None:
        """How far from the reference price orders may go, in millionths of it; 0 for any."""
        self.band_up = up
        self.band_down = down
        self._draw_band()

    def set_reference(self, price: int) -> None:
        """The price round which the band lies; 0 for none."""
        self.reference = price
        self._draw_band()

    @property
    def open_orders(self) -> int:
        """How many orders are in the book, stops included."""
        return self._rows.directory.count

    def drain(self) -> tuple[list[Trade], list[Change], list[LevelChange]]:
        """What happened since the last call; numbers the updates of levels."""
        trades, changes = self.trades, self.changes
        self.trades, self.changes = [], []
        levels = self._bids.drain(BUY)
        levels += self._asks.drain(SELL)
        if self._stops:
            self._rising.drain(BUY)
            self._falling.drain(SELL)
        self.update_id += len(levels)
        return trades, changes, levels

    def best(self) -> tuple[int, int, int, int]:
        """Price and quantity of the best bid and the best ask, 0 where there is none."""
        bid, ask = self._bids.best(), self._asks.best()
        return (
            bid.price if bid is not None else 0,
            bid.quantity if bid is not None else 0,
            ask.price if ask is not None else 0,
            ask.quantity if ask is not None else 0,
        )

    def depth(self, limit: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Price and visible quantity of the best levels of bids and asks."""
        return (
            [(level.price, level.quantity) for level in islice(self._bids.down(), limit)],
            [(level.price, level.quantity) for level in islice(self._asks.down(), limit)],
        )

    def orders(self, limit: int) -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
        """Price, number and visible quantity of each order of the best levels, by priority."""
        return shown(self._bids, limit), shown(self._asks, limit)

    def order(self, number: int) -> tuple[int, int, int, int, int, int, int, int] | None:
        """Side, type, price, quantity, filled, quote, trigger and status of an open order."""
        rows = self._rows
        row = rows.directory.find(rows.cells, number)
        if not row:
            return None
        cells = rows.cells
        return (
            cells[row + SIDE],
            rows.kind(row),
            cells[row + PRICE],
            cells[row + QUANTITY],
            cells[row + TRADED],
            cells[row + QUOTE],
            rows.conditions(row).trigger,
            status_of(cells[row + TRADED]),
        )

    def snapshot(self) -> BookState:
        """The state as values. Call ``drain`` before: what it would return is not part of it."""
        return BookState(
            self.phase,
            self.now,
            self.last,
            self.reference,
            self.band_up,
            self.band_down,
            self.sequence,
            self.trade_id,
            self.update_id,
            [stored(self._rows, row) for row in queue(self._bids)],
            [stored(self._rows, row) for row in queue(self._asks)],
            [stored(self._rows, row) for row in queue(self._rising)],
            [stored(self._rows, row) for row in queue(self._falling)],
        )

    def load(self, state: BookState) -> None:
        """Become the book that ``state`` was taken of; to be called on a new one."""
        self.phase = state.phase
        self.now = state.now
        self.last = state.last
        self.sequence = state.sequence
        self.trade_id = state.trade_id
        self.update_id = state.update_id
        self.reference = state.reference
        self.set_bands(state.band_up, state.band_down)
        for kept in state.bids:
            self._put_back(kept, self._bids, kept.price)
        for kept in state.asks:
            self._put_back(kept, self._asks, kept.price)
        for kept in state.rising:
            self._put_back(kept, self._rising, kept.trigger)
        for kept in state.falling:
            self._put_back(kept, self._falling, kept.trigger)
        self._stops = len(state.rising) + len(state.falling)
        for ladder in (self._bids, self._asks, self._rising, self._falling):
            ladder.drain(BUY)

    def digest(self) -> bytes:
        """A hash of the state: equal for equal books, however they came about."""
        return sha256(msgspec.msgpack.encode(self.snapshot())).digest()[:16]

    def _draw_band(self) -> None:
        reference = self.reference
        up, down = reference * self.band_up, reference * self.band_down
        self._bid_bound = reference + up // BAND_UNIT if up else ANY
        self._ask_bound = reference - down // BAND_UNIT if down else 0

    def _join(self, order: Order, ladder: Ladder, price: i64, visible: i64) -> None:
        """Let an order into the book, at the end of the queue at ``price``."""
        self.sequence += 1
        self._join_as(order, ladder, price, visible, self.sequence)

    def _join_as(
        self, order: Order, ladder: Ladder, price: i64, visible: i64, sequence: i64
    ) -> None:
        ladder.add(self._rows.add(order, visible, sequence), price)
        expires_at = order.conditions.expires_at
        if expires_at:
            self._timed += 1
            if len(self._expiries) > 2 * self._timed + 64:
                self._expiries = [entry for entry in self._expiries if self._lives(entry)]
                heapify(self._expiries)
            heappush(self._expiries, (expires_at, order.id))

    def _level(self, row: i64) -> Level:
        """Where an order stands."""
        return self._rows.levels[self._rows.cells[row + LEVEL]]

    def _leave(self, row: i64) -> None:
        """Take an order out of the book. What its row says is there until ``Rows.end``, which
        has to follow."""
        rows, level = self._rows, self._level(row)
        ladder = level.ladder
        ladder.remove(row, level)
        rows.directory.remove(rows.cells[row + NUMBER], row)
        if self._stops and (ladder is self._rising or ladder is self._falling):
            self._stops -= 1
        if self._timed and rows.conditions(row).expires_at:
            self._timed -= 1

    def _over(self, row: i64, status: int) -> None:
        """An order has ended without a doing of its own: take it out and tell."""
        self._leave(row)
        self._tell(row, status)
        self._rows.end(row)

    def _tell(self, row: i64, status: int) -> None:
        cells = self._rows.cells
        self.changes.append(
            (
                cells[row + NUMBER],
                status,
                cells[row + QUANTITY],
                cells[row + TRADED],
                cells[row + QUOTE],
            )
        )

    def _lives(self, entry: tuple[int, int]) -> bool:
        rows = self._rows
        row = rows.directory.find(rows.cells, entry[1])
        return bool(row) and rows.conditions(row).expires_at == entry[0]

    def _crossed(self) -> bool:
        bid, ask = self._bids.best(), self._asks.best()
        return bid is not None and ask is not None and bid.price >= ask.price

    def _put_back(self, kept: OrderState, ladder: Ladder, price: int) -> None:
        conditions = PLAIN
        if kept.trigger or kept.display or kept.self_trade or kept.expires_at or kept.budget:
            conditions = Conditions(
                kept.trigger, kept.display, kept.self_trade, kept.expires_at, kept.budget
            )
        order = Order().become(
            kept.id, kept.side, kept.type, kept.time_in_force, kept.price, kept.quantity, conditions
        )
        order.filled, order.quote = kept.filled, kept.quote
        self._join_as(order, ladder, price, kept.visible, kept.sequence)
