"""The matching engine: one order book, price-time priority, integers only.

It knows ticks, lots and opaque order numbers, and nothing of money, fees, journals or clocks. The
rules are stated in docs/concepts/order-book.md. Trades, what happened to orders without their own
doing, and levels that changed gather in the book until ``drain`` takes them. The module is plain
typed Python; where a C compiler is there, ``make setup`` compiles it with mypyc, unchanged.
"""

from __future__ import annotations

from hashlib import sha256
from heapq import heapify, heappop, heappush
from typing import Final

import msgspec

from domain.trading.auction import clearing
from domain.trading.codes import Refusal
from domain.trading.levels import Ladder, Level, Order
from domain.trading.state import BookState, OrderState

# The values of the enumerations of domain.orders and domain.trading.state, as plain integers.
BUY: Final = 1
SELL: Final = 2
LIMIT: Final = 1
MARKET: Final = 2
LIMIT_MAKER: Final = 3
STOP_LOSS: Final = 4
STOP_LOSS_LIMIT: Final = 5
TAKE_PROFIT: Final = 6
TAKE_PROFIT_LIMIT: Final = 7
GTC: Final = 1
IOC: Final = 2
FOK: Final = 3
GTD: Final = 4
NOBODY: Final = 0
EXPIRE_TAKER: Final = 1
EXPIRE_MAKER: Final = 2
EXPIRE_BOTH: Final = 3
DECREMENT: Final = 4
NEW: Final = 1
PARTIALLY_FILLED: Final = 2
FILLED: Final = 3
CANCELED: Final = 4
REJECTED: Final = 5
EXPIRED: Final = 6
EXPIRED_IN_MATCH: Final = 7
OPEN: Final = 1
HALTED: Final = 2
AUCTION: Final = 3
CLOSED: Final = 4

OWNER_SHIFT: Final = 29
"""The owner of an order is its number shifted right by this."""

SLICES_MAX: Final = 100
"""An iceberg comes in at most so many visible parts: it bounds the trades of one order."""

NUMBER_MAX: Final = 1 << 48
"""No price, trigger or quantity is larger; a price times a quantity is at most ``WORTH_MAX``."""

WORTH_MAX: Final = 1 << 62

ANY: Final = 1 << 60
"""Further than any price."""

BAND_UNIT: Final = 1_000_000

# Why an order stopped taking.
DONE: Final = 0
"""Nothing is left of it."""
WAITS: Final = 1
"""There is nobody more to trade with at its price."""
SPENT: Final = 2
"""Its budget does not reach for another lot."""
STOPPED: Final = 3
"""It met an order of its own owner."""

Result = tuple[int, int, int, int, str]
Trade = tuple[int, int, int, int, int, int]
Change = tuple[int, int, int, int, int]
LevelChange = tuple[int, int, int]


class Book:
    """An order book. Calls return (status, quantity, filled, quote, code) of the order itself."""

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

    # -- what customers ask for --------------------------------------------------------------

    def place(
        self,
        number: int,
        side: int,
        kind: int,
        time_in_force: int,
        price: int,
        quantity: int,
        trigger: int = 0,
        display: int = 0,
        self_trade: int = 0,
        expires_at: int = 0,
        budget: int = 0,
    ) -> Result:
        """Match an order and let rest what may rest, then the stops that it fires."""
        order = Order(number, side, kind, time_in_force, price, quantity)
        if trigger or display or self_trade or expires_at or budget or kind != LIMIT:
            order.trigger = trigger
            order.display = display
            order.self_trade = self_trade
            order.expires_at = expires_at
            order.budget = budget
        code = self._flaw(order)
        if code is not None:
            return REJECTED, 0, 0, 0, code.value
        if kind >= STOP_LOSS:
            return self._wait(order)
        if self.phase == AUCTION:
            return self._rest(order)
        last = self.last
        result = self._enter(order)
        if self._stops and self.last != last:
            self._fire()
        return result

    def cancel(self, number: int) -> Result:
        """Take an order out, or a stop that has not fired."""
        order = self._orders.get(number)
        if order is None:
            return REJECTED, 0, 0, 0, Refusal.UNKNOWN_ORDER.value
        self._leave(order)
        return CANCELED, order.quantity, order.filled, order.quote, ""

    def amend(self, number: int, quantity: int) -> Result:
        """Reduce an order to ``quantity`` in all; it keeps its place."""
        if self.phase == CLOSED:
            return REJECTED, 0, 0, 0, Refusal.MARKET_CLOSED.value
        order = self._orders.get(number)
        if order is None:
            return REJECTED, 0, 0, 0, Refusal.UNKNOWN_ORDER.value
        if not order.filled < quantity < order.quantity:
            return REJECTED, 0, 0, 0, Refusal.AMEND_QUANTITY.value
        ladder = order.ladder
        assert ladder is not None
        hidden = quantity - order.filled - order.visible
        ladder.reduce(order, order.quantity - quantity, -hidden if hidden < 0 else 0)
        order.quantity = quantity
        return _status(order), quantity, order.filled, order.quote, ""

    # -- time and rules ----------------------------------------------------------------------

    def advance(self, now: int) -> None:
        """It is ``now``: good-till-date orders whose end has come expire, earliest first."""
        if now > self.now:
            self.now = now
        while self._expiries and self._expiries[0][0] <= self.now:
            when, number = heappop(self._expiries)
            order = self._orders.get(number)
            if order is not None and order.expires_at == when:
                self._leave(order)
                self._tell(order, EXPIRED)

    def next_expiry(self) -> int:
        """When the next good-till-date order ends; 0 when there is none."""
        while self._expiries and not self._lives(self._expiries[0]):
            heappop(self._expiries)
        return self._expiries[0][0] if self._expiries else 0

    def set_bands(self, up: int, down: int) -> None:
        """How far from the reference price orders may go, in millionths of it; 0 for any."""
        self.band_up = up
        self.band_down = down
        self._draw_band()

    def set_reference(self, price: int) -> None:
        """The price round which the band lies; 0 for none."""
        self.reference = price
        self._draw_band()

    def halt(self) -> None:
        """Take no orders from now on. What rests can be cancelled and reduced."""
        if self.phase != CLOSED:
            self.phase = HALTED

    def resume(self) -> None:
        """Go on after a halt; a book that an auction has left crossed goes on with the auction."""
        if self.phase == HALTED:
            self.phase = AUCTION if self._crossed() else OPEN

    def start_auction(self) -> None:
        """Collect orders from now on, without matching."""
        if self.phase != CLOSED:
            self.phase = AUCTION

    def indicative(self) -> tuple[int, int, int]:
        """Price, quantity and surplus of buyers (or sellers, below 0), were the auction to end."""
        return clearing(_curve(self._bids), _curve(self._asks), self.reference)

    def uncross(self) -> tuple[int, int]:
        """End the auction: trade what crosses at the one price, and open. (0, 0): nothing does."""
        if self.phase != AUCTION:
            return 0, 0
        self.phase = OPEN
        price = self.indicative()[0]
        if not price:
            return 0, 0
        traded = self._clear(price)
        self.set_reference(price)
        if traded:
            self.last = price
            if self._stops:
                self._fire()
        return price, traded

    def delist(self) -> None:
        """Cancel every order and close for ever."""
        for ladder in (self._bids, self._asks, self._rising, self._falling):
            for order in _queue(ladder):
                self._leave(order)
                self._tell(order, CANCELED)
        self.phase = CLOSED

    # -- what is to be seen ------------------------------------------------------------------

    @property
    def open_orders(self) -> int:
        """How many orders are in the book, stops included."""
        return len(self._orders)

    def drain(self) -> tuple[list[Trade], list[Change], list[LevelChange]]:
        """What happened since the last call; numbers the updates of levels."""
        trades, changes = self.trades, self.changes
        self.trades, self.changes = [], []
        levels = [(BUY, price, quantity) for price, quantity in self._bids.drain()]
        levels += [(SELL, price, quantity) for price, quantity in self._asks.drain()]
        self._rising.drain()
        self._falling.drain()
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
            [(level.price, level.quantity) for level in self._bids.levels(limit)],
            [(level.price, level.quantity) for level in self._asks.levels(limit)],
        )

    def orders(self, limit: int) -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
        """Price, number and visible quantity of each order of the best levels, by priority."""
        return (
            [(order.price, order.id, order.visible) for order in _queue(self._bids, limit)],
            [(order.price, order.id, order.visible) for order in _queue(self._asks, limit)],
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
            order.trigger,
            _status(order),
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
            [_row(order) for order in _queue(self._bids)],
            [_row(order) for order in _queue(self._asks)],
            [_row(order) for order in _queue(self._rising)],
            [_row(order) for order in _queue(self._falling)],
        )

    @staticmethod
    def restore(state: BookState) -> Book:
        """The book that ``state`` was taken of."""
        book = Book()
        book.phase = state.phase
        book.now = state.now
        book.last = state.last
        book.sequence = state.sequence
        book.trade_id = state.trade_id
        book.update_id = state.update_id
        book.reference = state.reference
        book.set_bands(state.band_up, state.band_down)
        for row in state.bids:
            book._put_back(row, book._bids, row.price)
        for row in state.asks:
            book._put_back(row, book._asks, row.price)
        for row in state.rising:
            book._put_back(row, book._rising, row.trigger)
        for row in state.falling:
            book._put_back(row, book._falling, row.trigger)
        book._stops = len(state.rising) + len(state.falling)
        for ladder in (book._bids, book._asks, book._rising, book._falling):
            ladder.drain()
        return book

    def digest(self) -> bytes:
        """A hash of the state: equal for equal books, however they came about."""
        return sha256(msgspec.msgpack.encode(self.snapshot())).digest()[:16]

    # -- judging -----------------------------------------------------------------------------

    def _flaw(self, order: Order) -> Refusal | None:
        """Why an order is refused, if it is."""
        if self.phase != OPEN and self.phase != AUCTION:
            return Refusal.MARKET_CLOSED if self.phase == CLOSED else Refusal.MARKET_HALTED
        if order.id in self._orders:
            return Refusal.DUPLICATE_ORDER
        if not _sound(order):
            return Refusal.INVALID_ORDER
        if order.display and order.display * SLICES_MAX < order.quantity:
            return Refusal.ICEBERG_SLICES
        if order.time_in_force == GTD and order.expires_at <= self.now:
            return Refusal.ORDER_EXPIRED
        if _limited(order) and not self._ask_bound <= order.price <= self._bid_bound:
            return Refusal.FILTER_BAND
        if order.type >= STOP_LOSS:
            return Refusal.WOULD_TRIGGER if self._reached(order) else None
        if self.phase == AUCTION:
            return None if _rests(order) else Refusal.AUCTION_LIMIT_ONLY
        if order.type == LIMIT_MAKER:
            best = self._other(order.side).best()
            if best is not None and best.key >= self._bound(order):
                return Refusal.WOULD_MATCH
        return None

    def _reached(self, order: Order) -> bool:
        if not self.last:
            return False
        return order.trigger <= self.last if _rises(order) else order.trigger >= self.last

    def _other(self, side: int) -> Ladder:
        return self._asks if side == BUY else self._bids

    def _bound(self, order: Order) -> int:
        """The key of the last level of the other side that an order may trade at."""
        if order.side == BUY:
            price = order.price if order.price else ANY
            return -(price if price < self._bid_bound else self._bid_bound)
        return order.price if order.price > self._ask_bound else self._ask_bound

    def _draw_band(self) -> None:
        reference = self.reference
        up, down = reference * self.band_up, reference * self.band_down
        self._bid_bound = reference + up // BAND_UNIT if up else ANY
        self._ask_bound = reference - down // BAND_UNIT if down else 0

    # -- matching ----------------------------------------------------------------------------

    def _enter(self, order: Order) -> Result:
        """Match an order now; what is left of it rests or expires."""
        bound = self._bound(order)
        if order.time_in_force == FOK and not self._fillable(order, bound):
            return EXPIRED, order.quantity, 0, 0, ""
        reason = self._take(order, bound)
        if reason == WAITS and _rests(order):
            return self._rest(order)
        if not order.quantity:
            # By budget alone: it was for what it got.
            order.quantity = order.filled
            if reason == SPENT and order.filled:
                reason = DONE
        status = EXPIRED
        if reason == DONE:
            status = FILLED
        elif reason == STOPPED:
            status = EXPIRED_IN_MATCH
        return status, order.quantity, order.filled, order.quote, ""

    def _take(self, taker: Order, bound: int) -> int:
        """Trade with the other side until something ends it, and say what did."""
        ladder = self._asks if taker.side == BUY else self._bids
        left = taker.quantity if taker.quantity else ANY
        budgeted, budget = taker.budget > 0, taker.budget
        mode, owner = taker.self_trade, taker.id >> OWNER_SHIFT
        while left:
            level = ladder.best()
            if level is None or level.key < bound:
                return WAITS
            price, maker = level.price, level.first
            while maker is not None and left:
                quantity = maker.visible if maker.visible < left else left
                if budgeted:
                    quantity = min(quantity, budget // price)
                    if not quantity:
                        return SPENT
                if mode and maker.id >> OWNER_SHIFT == owner:
                    if mode != DECREMENT:
                        if mode != EXPIRE_TAKER:
                            self._drop(maker)
                        if mode != EXPIRE_MAKER:
                            return STOPPED
                        maker = level.first
                        continue
                    self._decrement(maker, quantity)
                    if quantity == left:
                        return STOPPED
                    if taker.quantity:
                        taker.quantity -= quantity
                else:
                    self._trade(maker, taker, price, quantity)
                    self._give(maker, price, quantity)
                left -= quantity
                budget -= price * quantity
                maker = level.first
        return DONE

    def _trade(self, maker: Order, taker: Order, price: int, quantity: int) -> None:
        """Book a trade, on the side of the taker."""
        self.trade_id += 1
        self.trades.append((self.trade_id, maker.id, taker.id, price, quantity, taker.side))
        self.last = price
        taker.filled += quantity
        taker.quote += price * quantity

    def _give(self, maker: Order, price: int, quantity: int) -> None:
        """Book a trade on the side of an order that rests."""
        ladder = maker.ladder
        assert ladder is not None
        ladder.reduce(maker, quantity, quantity)
        maker.filled += quantity
        maker.quote += price * quantity
        if maker.filled == maker.quantity:
            self._leave(maker)
            self._tell(maker, FILLED)
            return
        if not maker.visible:
            ladder.refill(maker)
        self._tell(maker, PARTIALLY_FILLED)

    def _fillable(self, order: Order, bound: int) -> bool:
        """Whether all of a fill-or-kill order would be filled. Changes nothing."""
        left = order.quantity if order.quantity else ANY
        budgeted, budget = order.budget > 0, order.budget
        for level in self._other(order.side).levels(ANY):
            if level.key < bound:
                return False
            offered, ends = level.total, False
            if order.self_trade:
                offered, ends = _offered(level, order)
            quantity = offered if offered < left else left
            if budgeted and budget // level.price < quantity:
                return not order.quantity
            left -= quantity
            budget -= level.price * quantity
            if not left or (budgeted and not budget and not order.quantity):
                return True
            if ends:
                return False
        return False

    def _decrement(self, order: Order, quantity: int) -> None:
        """Take ``quantity`` off an order that met one of its own owner; nothing left ends it."""
        if order.quantity - order.filled == quantity:
            self._drop(order)
            return
        ladder = order.ladder
        assert ladder is not None
        ladder.reduce(order, quantity, quantity)
        order.quantity -= quantity
        if not order.visible:
            ladder.refill(order)
        self._tell(order, _status(order))

    def _clear(self, price: int) -> int:
        """Trade all that crosses at ``price``, the newer of two orders as the taker."""
        traded = 0
        while True:
            bids, asks = self._bids.best(), self._asks.best()
            if bids is None or asks is None or bids.price < price or asks.price > price:
                return traded
            maker, taker = bids.first, asks.first
            assert maker is not None
            assert taker is not None
            if maker.sequence > taker.sequence:
                maker, taker = taker, maker
            quantity = min(maker.visible, taker.visible)
            mode = taker.self_trade
            if mode and maker.id >> OWNER_SHIFT == taker.id >> OWNER_SHIFT:
                if mode == DECREMENT:
                    self._decrement(maker, quantity)
                    self._decrement(taker, quantity)
                    continue
                if mode != EXPIRE_TAKER:
                    self._drop(maker)
                if mode != EXPIRE_MAKER:
                    self._drop(taker)
                continue
            traded += quantity
            self.trade_id += 1
            self.trades.append((self.trade_id, maker.id, taker.id, price, quantity, taker.side))
            self._give(maker, price, quantity)
            self._give(taker, price, quantity)

    # -- stops -------------------------------------------------------------------------------

    def _fire(self) -> None:
        """Enter every stop that the last price has reached, and those that this makes it reach."""
        queue: list[Order] = []
        index = 0
        while True:
            self._collect(self._rising, queue)
            self._collect(self._falling, queue)
            if index == len(queue):
                return
            order = queue[index]
            index += 1
            if _limited(order) and not self._ask_bound <= order.price <= self._bid_bound:
                self._tell(order, EXPIRED)
                continue
            status, quantity, filled, quote, _ = self._enter(order)
            self.changes.append((order.id, status, quantity, filled, quote))

    def _collect(self, ladder: Ladder, queue: list[Order]) -> None:
        """Move the stops that are reached into the queue, nearest trigger first, then by age."""
        last = self.last * ladder.sign
        while True:
            level = ladder.best()
            if level is None or level.key < last:
                return
            order = level.first
            while order is not None:
                self._leave(order)
                queue.append(order)
                order = level.first

    # -- coming and going --------------------------------------------------------------------

    def _rest(self, order: Order) -> Result:
        """Let an order rest at its price."""
        left = order.quantity - order.filled
        order.visible = order.display if 0 < order.display < left else left
        self._join(order, self._bids if order.side == BUY else self._asks, order.price)
        return _status(order), order.quantity, order.filled, order.quote, ""

    def _wait(self, order: Order) -> Result:
        """Let a stop wait for its trigger, unseen."""
        self._stops += 1
        self._join(order, self._rising if _rises(order) else self._falling, order.trigger)
        return NEW, order.quantity, 0, 0, ""

    def _join(self, order: Order, ladder: Ladder, price: int) -> None:
        self.sequence += 1
        order.sequence = self.sequence
        self._orders[order.id] = order
        ladder.add(order, price)
        if order.expires_at:
            self._timed += 1
            if len(self._expiries) > 2 * self._timed + 64:
                self._expiries = [entry for entry in self._expiries if self._lives(entry)]
                heapify(self._expiries)
            heappush(self._expiries, (order.expires_at, order.id))

    def _leave(self, order: Order) -> None:
        """Take an order out of the book."""
        ladder = order.ladder
        assert ladder is not None
        ladder.remove(order)
        del self._orders[order.id]
        if ladder is self._rising or ladder is self._falling:
            self._stops -= 1
        if order.expires_at:
            self._timed -= 1

    def _drop(self, order: Order) -> None:
        self._leave(order)
        self._tell(order, EXPIRED_IN_MATCH)

    def _tell(self, order: Order, status: int) -> None:
        self.changes.append((order.id, status, order.quantity, order.filled, order.quote))

    def _lives(self, entry: tuple[int, int]) -> bool:
        order = self._orders.get(entry[1])
        return order is not None and order.expires_at == entry[0]

    def _crossed(self) -> bool:
        bid, ask = self._bids.best(), self._asks.best()
        return bid is not None and ask is not None and bid.price >= ask.price

    def _put_back(self, row: OrderState, ladder: Ladder, price: int) -> None:
        order = Order(row.id, row.side, row.type, row.time_in_force, row.price, row.quantity)
        order.filled, order.quote, order.visible = row.filled, row.quote, row.visible
        order.display, order.trigger, order.self_trade = row.display, row.trigger, row.self_trade
        order.expires_at, order.budget = row.expires_at, row.budget
        sequence = self.sequence
        self._join(order, ladder, price)
        self.sequence, order.sequence = sequence, row.sequence


def _rises(order: Order) -> bool:
    """Whether a stop waits for the last price to rise."""
    loses = order.type == STOP_LOSS or order.type == STOP_LOSS_LIMIT
    return loses == (order.side == BUY)


def _limited(order: Order) -> bool:
    """Whether the price of an order is a limit at which it may rest."""
    return order.type != MARKET and order.type != STOP_LOSS and order.type != TAKE_PROFIT


def _rests(order: Order) -> bool:
    """Whether what is left of an order stays in the book."""
    patient = order.time_in_force == GTC or order.time_in_force == GTD
    return patient and _limited(order)


def _status(order: Order) -> int:
    return PARTIALLY_FILLED if order.filled else NEW


def _sound(order: Order) -> bool:
    """Whether the fields of an order are in range and go together."""
    limited, stop = _limited(order), order.type >= STOP_LOSS
    if order.id < 1 or not BUY <= order.side <= SELL or not LIMIT <= order.type <= 7:
        return False
    if not GTC <= order.time_in_force <= GTD or not NOBODY <= order.self_trade <= DECREMENT:
        return False
    if not 0 <= order.price <= NUMBER_MAX or not 0 <= order.quantity <= NUMBER_MAX:
        return False
    if limited and (not order.price or not order.quantity):
        return False
    if order.price * order.quantity > WORTH_MAX or not 0 <= order.budget <= WORTH_MAX:
        return False
    if not order.quantity and not order.budget:
        return False
    if not 0 <= order.trigger <= NUMBER_MAX or (order.trigger > 0) != stop:
        return False
    if order.type == LIMIT_MAKER and (not _rests(order) or order.budget):
        return False
    if order.display and (not 0 < order.display <= order.quantity or not _rests(order)):
        return False
    timed = order.time_in_force == GTD
    return (order.expires_at > 0) == timed and (not timed or limited or stop)


def _offered(level: Level, taker: Order) -> tuple[int, bool]:
    """What an order that must not meet its owner gets at a level, and whether it ends there.

    Visible parts come before what icebergs show later, so an own order stops at its visible rank.
    """
    owner, quantity, visible = taker.id >> OWNER_SHIFT, 0, 0
    order = level.first
    while order is not None:
        if order.id >> OWNER_SHIFT != owner:
            visible += order.visible
            quantity += order.quantity - order.filled
        elif taker.self_trade != EXPIRE_MAKER:
            return visible, True
        order = order.next
    return quantity, False


def _queue(ladder: Ladder, limit: int = ANY) -> list[Order]:
    """Orders of the best levels, by priority."""
    result: list[Order] = []
    for level in ladder.levels(limit):
        order = level.first
        while order is not None:
            result.append(order)
            order = order.next
    return result


def _curve(ladder: Ladder) -> list[tuple[int, int]]:
    return [(level.price, level.total) for level in ladder.levels(ANY)]


def _row(order: Order) -> OrderState:
    return OrderState(
        order.id,
        order.side,
        order.type,
        order.time_in_force,
        order.price,
        order.quantity,
        order.filled,
        order.quote,
        order.visible,
        order.display,
        order.trigger,
        order.self_trade,
        order.expires_at,
        order.budget,
        order.sequence,
    )
