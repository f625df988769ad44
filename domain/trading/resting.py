"""What a book holds: orders that rest, stops that wait, ends of orders, and what is yet to be told.

The part of the engine that keeps; ``domain.trading.book`` is the part that trades.
"""

from __future__ import annotations

from hashlib import sha256
from heapq import heapify, heappush
from itertools import islice

import msgspec

from domain.trading.judging import queue, row, status_of
from domain.trading.levels import PLAIN, Conditions, Ladder, Order
from domain.trading.state import BookState, OrderState
from domain.trading.values import ANY, BAND_UNIT, BUY, OPEN, SELL

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
        "_expiries",
        "_falling",
        "_orders",
        "_rising",
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
        self.last: int = 0
        self.reference: int = 0
        self.band_up: int = 0
        self.band_down: int = 0
        self.sequence: int = 0
        self.trade_id: int = 0
        self.update_id: int = 0
        self.trades: list[Trade] = []
        self.changes: list[Change] = []
        self._bids: Ladder = Ladder(1)
        self._asks: Ladder = Ladder(-1)
        self._rising: Ladder = Ladder(-1)
        """Stops that wait for the last price to rise, by trigger."""
        self._falling: Ladder = Ladder(1)
        self._orders: dict[int, Order] = {}
        """Every order of the book, stops included, by number."""
        self._stops: int = 0
        self._expiries: list[tuple[int, int]] = []
        """Ends of good-till-date orders, with their numbers: a heap; some have gone since."""
        self._timed: int = 0
        self._bid_bound: int = ANY
        """The highest price that the band allows."""
        self._ask_bound: int = 0
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
        return len(self._orders)

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
        return (
            [(order.price, order.id, order.visible) for order in queue(self._bids, limit)],
            [(order.price, order.id, order.visible) for order in queue(self._asks, limit)],
        )

    def order(self, number: int) -> tuple[int, int, int, int, int, int, int, int] | None:
        """Side, type, price, quantity, filled, quote, trigger and status of an open order."""
        order = self._orders.get(number)
        if order is None:
            return None
        return (
            order.side,
            order.type,
            order.price,
            order.quantity,
            order.filled,
            order.quote,
            order.conditions.trigger,
            status_of(order),
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
            [row(order) for order in queue(self._bids)],
            [row(order) for order in queue(self._asks)],
            [row(order) for order in queue(self._rising)],
            [row(order) for order in queue(self._falling)],
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

    def _join(self, order: Order, ladder: Ladder, price: int) -> None:
        self.sequence += 1
        order.sequence = self.sequence
        self._orders[order.id] = order
        ladder.add(order, price)
        expires_at = order.conditions.expires_at
        if expires_at:
            self._timed += 1
            if len(self._expiries) > 2 * self._timed + 64:
                self._expiries = [entry for entry in self._expiries if self._lives(entry)]
                heapify(self._expiries)
            heappush(self._expiries, (expires_at, order.id))

    def _leave(self, order: Order) -> None:
        """Take an order out of the book."""
        level = order.level
        assert level is not None
        ladder = level.ladder
        ladder.remove(order)
        del self._orders[order.id]
        if ladder is self._rising or ladder is self._falling:
            self._stops -= 1
        if order.conditions.expires_at:
            self._timed -= 1

    def _tell(self, order: Order, status: int) -> None:
        self.changes.append((order.id, status, order.quantity, order.filled, order.quote))

    def _lives(self, entry: tuple[int, int]) -> bool:
        order = self._orders.get(entry[1])
        return order is not None and order.conditions.expires_at == entry[0]

    def _crossed(self) -> bool:
        bid, ask = self._bids.best(), self._asks.best()
        return bid is not None and ask is not None and bid.price >= ask.price

    def _put_back(self, kept: OrderState, ladder: Ladder, price: int) -> None:
        conditions = PLAIN
        if kept.trigger or kept.display or kept.self_trade or kept.expires_at or kept.budget:
            conditions = Conditions(
                kept.trigger, kept.display, kept.self_trade, kept.expires_at, kept.budget
            )
        order = Order(
            kept.id, kept.side, kept.type, kept.time_in_force, kept.price, kept.quantity, conditions
        )
        order.filled, order.quote, order.visible = kept.filled, kept.quote, kept.visible
        sequence = self.sequence
        self._join(order, ladder, price)
        self.sequence, order.sequence = sequence, kept.sequence
