"""The matching engine: one order book, price-time priority, integers only.

It knows ticks, lots and opaque order numbers, and nothing of money, fees, journals or clocks. The
rules are stated in docs/concepts/order-book.md. Trades, what happened to orders without their own
doing, and levels that changed gather in the book until ``drain`` takes them. The module is plain
typed Python; where a C compiler is there, ``make setup`` compiles it with mypyc, unchanged.
"""

from __future__ import annotations

from heapq import heappop
from typing import TYPE_CHECKING

from domain.trading.auction import clearing
from domain.trading.judging import (
    curve,
    limited,
    offered,
    patient,
    queue,
    rises,
    sound,
    status_of,
)
from domain.trading.levels import (
    NUMBER,
    PLAIN,
    QUANTITY,
    QUOTE,
    SEQUENCE,
    SIDE,
    TRADED,
    VISIBLE,
    Conditions,
    Ladder,
    Order,
)
from domain.trading.resting import Resting
from domain.trading.state import BookState
from domain.trading.values import (
    AMEND_QUANTITY,
    ANY,
    AUCTION,
    AUCTION_LIMIT_ONLY,
    BUY,
    CANCELED,
    CLOSED,
    DECREMENT,
    DONE,
    DUPLICATE_ORDER,
    EXPIRE_MAKER,
    EXPIRE_TAKER,
    EXPIRED,
    EXPIRED_IN_MATCH,
    FILLED,
    FILTER_BAND,
    FOK,
    GTD,
    HALTED,
    ICEBERG_SLICES,
    INVALID_ORDER,
    LIMIT_MAKER,
    MARKET_CLOSED,
    MARKET_HALTED,
    NEW,
    NUMBER_MAX,
    OPEN,
    ORDER_EXPIRED,
    OWNER_SHIFT,
    PARTIALLY_FILLED,
    REJECTED,
    SLICES_MAX,
    SPENT,
    STOP_LOSS,
    STOPPED,
    UNKNOWN_ORDER,
    WAITS,
    WOULD_MATCH,
    WOULD_TRIGGER,
)

if TYPE_CHECKING:
    from mypy_extensions import i64

Result = tuple[int, int, int, int, str]


class Book(Resting):
    """An order book. Calls return (status, quantity, filled, quote, code) of the order itself."""

    __slots__ = ()

    @staticmethod
    def restore(state: BookState) -> Book:
        """The book that ``state`` was taken of."""
        book = Book()
        book.load(state)
        return book

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
        conditions = PLAIN
        if trigger or display or self_trade or expires_at or budget:
            conditions = Conditions(trigger, display, self_trade, expires_at, budget)
        order = self._coming.become(number, side, kind, time_in_force, price, quantity, conditions)
        code = self._flaw(order)
        if code:
            return REJECTED, 0, 0, 0, code
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
        rows = self._rows
        row = rows.directory.find(rows.cells, number)
        if not row:
            return REJECTED, 0, 0, 0, UNKNOWN_ORDER
        self._leave(row)
        rows.end(row)
        cells = rows.cells
        return CANCELED, cells[row + QUANTITY], cells[row + TRADED], cells[row + QUOTE], ""

    def amend(self, number: int, quantity: int) -> Result:
        """Reduce an order to ``quantity`` in all; it keeps its place."""
        if self.phase == CLOSED:
            return REJECTED, 0, 0, 0, MARKET_CLOSED
        rows = self._rows
        row = rows.directory.find(rows.cells, number)
        if not row:
            return REJECTED, 0, 0, 0, UNKNOWN_ORDER
        cells = rows.cells
        before, filled = cells[row + QUANTITY], cells[row + TRADED]
        if not 0 < quantity <= NUMBER_MAX or not filled < quantity < before:
            return REJECTED, 0, 0, 0, AMEND_QUANTITY
        hidden = quantity - filled - cells[row + VISIBLE]
        self._level(row).reduce(row, before - quantity, -hidden if hidden < 0 else 0)
        cells[row + QUANTITY] = quantity
        return status_of(filled), quantity, filled, cells[row + QUOTE], ""

    # -- time and rules ----------------------------------------------------------------------

    def advance(self, now: int) -> None:
        """It is ``now``: good-till-date orders whose end has come expire, earliest first."""
        if now > self.now:
            self.now = now
        while self._expiries and self._expiries[0][0] <= self.now:
            entry = heappop(self._expiries)
            if self._lives(entry):
                self._over(self._rows.directory.find(self._rows.cells, entry[1]), EXPIRED)

    def next_expiry(self) -> int:
        """When the next good-till-date order ends; 0 when there is none."""
        while self._expiries and not self._lives(self._expiries[0]):
            heappop(self._expiries)
        return self._expiries[0][0] if self._expiries else 0

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
        return clearing(curve(self._bids), curve(self._asks), self.reference)

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
            for row in queue(ladder):
                self._over(row, CANCELED)
        self.phase = CLOSED

    # -- judging -----------------------------------------------------------------------------

    def _flaw(self, order: Order) -> str:
        """Why an order is refused, empty when it is not."""
        if self.phase != OPEN and self.phase != AUCTION:
            return MARKET_CLOSED if self.phase == CLOSED else MARKET_HALTED
        if self._rows.directory.find(self._rows.cells, order.id):
            return DUPLICATE_ORDER
        if not sound(order):
            return INVALID_ORDER
        if order.conditions.display and order.conditions.display * SLICES_MAX < order.quantity:
            return ICEBERG_SLICES
        if order.time_in_force == GTD and order.conditions.expires_at <= self.now:
            return ORDER_EXPIRED
        if limited(order) and not self._ask_bound <= order.price <= self._bid_bound:
            return FILTER_BAND
        if order.type >= STOP_LOSS:
            return WOULD_TRIGGER if self._reached(order) else ""
        if self.phase == AUCTION:
            return "" if patient(order) else AUCTION_LIMIT_ONLY
        if order.type == LIMIT_MAKER:
            best = self._other(order.side).best()
            if best is not None and best.key >= self._bound(order):
                return WOULD_MATCH
        return ""

    def _reached(self, order: Order) -> bool:
        if not self.last:
            return False
        trigger = order.conditions.trigger
        return trigger <= self.last if rises(order) else trigger >= self.last

    def _other(self, side: int) -> Ladder:
        return self._asks if side == BUY else self._bids

    def _bound(self, order: Order) -> i64:
        """The key of the last level of the other side that an order may trade at."""
        if order.side == BUY:
            price = order.price if order.price else ANY
            return -(price if price < self._bid_bound else self._bid_bound)
        return order.price if order.price > self._ask_bound else self._ask_bound

    # -- matching ----------------------------------------------------------------------------

    def _enter(self, order: Order) -> Result:
        """Match an order now; what is left of it rests or expires."""
        bound = self._bound(order)
        if order.time_in_force == FOK and not self._fillable(order, bound):
            return EXPIRED, order.quantity, 0, 0, ""
        reason = self._take(order, bound)
        if reason == WAITS and patient(order):
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

    def _take(self, taker: Order, bound: i64) -> int:
        """Trade with the other side until something ends it, and say what did."""
        ladder, cells = self._asks if taker.side == BUY else self._bids, self._rows.cells
        left: i64 = taker.quantity if taker.quantity else ANY
        budget: i64 = taker.conditions.budget
        budgeted, mode, owner = budget > 0, taker.conditions.self_trade, taker.id >> OWNER_SHIFT
        while left:
            level = ladder.best()
            if level is None or level.key < bound:
                return WAITS
            price, maker = level.price, level.first
            while maker and left:
                visible = cells[maker + VISIBLE]
                quantity = visible if visible < left else left
                if budgeted:
                    quantity = min(quantity, budget // price)
                    if not quantity:
                        return SPENT
                if mode and cells[maker + NUMBER] >> OWNER_SHIFT == owner:
                    if mode != DECREMENT:
                        if mode != EXPIRE_TAKER:
                            self._over(maker, EXPIRED_IN_MATCH)
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

    def _trade(self, maker: i64, taker: Order, price: i64, quantity: i64) -> None:
        """Book a trade, on the side of the taker."""
        self.trade_id += 1
        number = self._rows.cells[maker + NUMBER]
        self.trades.append((self.trade_id, number, taker.id, price, quantity, taker.side))
        self.last = price
        taker.filled += quantity
        taker.quote += price * quantity

    def _give(self, maker: i64, price: i64, quantity: i64) -> None:
        """Book a trade on the side of an order that rests."""
        cells = self._rows.cells
        left = cells[maker + QUANTITY] - cells[maker + TRADED]
        level = self._level(maker)
        if left != quantity:
            level.reduce(maker, quantity, quantity)
        else:
            self._leave(maker)
        cells[maker + TRADED] = cells[maker + TRADED] + quantity
        cells[maker + QUOTE] = cells[maker + QUOTE] + price * quantity
        if left == quantity:
            self._tell(maker, FILLED)
            self._rows.end(maker)
            return
        if not cells[maker + VISIBLE]:
            level.refill(maker)
        self._tell(maker, PARTIALLY_FILLED)

    def _fillable(self, order: Order, bound: i64) -> bool:
        """Whether all of a fill-or-kill order would be filled. Changes nothing."""
        left = order.quantity if order.quantity else ANY
        budgeted, budget = order.conditions.budget > 0, order.conditions.budget
        for level in self._other(order.side).down():
            if level.key < bound:
                return False
            supply, ends = level.total, False
            if order.conditions.self_trade:
                supply, ends = offered(level, order)
            quantity = supply if supply < left else left
            if budgeted and budget // level.price < quantity:
                return not order.quantity
            left -= quantity
            budget -= level.price * quantity
            if not left or (budgeted and not budget and not order.quantity):
                return True
            if ends:
                return False
        return False

    def _decrement(self, row: i64, quantity: i64) -> None:
        """Take ``quantity`` off an order that met one of its own owner; nothing left ends it."""
        cells = self._rows.cells
        if cells[row + QUANTITY] - cells[row + TRADED] == quantity:
            self._over(row, EXPIRED_IN_MATCH)
            return
        level = self._level(row)
        level.reduce(row, quantity, quantity)
        cells[row + QUANTITY] = cells[row + QUANTITY] - quantity
        if not cells[row + VISIBLE]:
            level.refill(row)
        self._tell(row, status_of(cells[row + TRADED]))

    def _clear(self, price: i64) -> int:
        """Trade all that crosses at ``price``, the newer of two orders as the taker."""
        traded, cells = 0, self._rows.cells
        while True:
            bids, asks = self._bids.best(), self._asks.best()
            if bids is None or asks is None or bids.price < price or asks.price > price:
                return traded
            maker, taker = bids.first, asks.first
            if cells[maker + SEQUENCE] > cells[taker + SEQUENCE]:
                maker, taker = taker, maker
            first, second = cells[maker + NUMBER], cells[taker + NUMBER]
            quantity = min(cells[maker + VISIBLE], cells[taker + VISIBLE])
            mode = self._rows.conditions(taker).self_trade
            if mode and first >> OWNER_SHIFT == second >> OWNER_SHIFT:
                if mode == DECREMENT:
                    self._decrement(maker, quantity)
                    self._decrement(taker, quantity)
                    continue
                if mode != EXPIRE_TAKER:
                    self._over(maker, EXPIRED_IN_MATCH)
                if mode != EXPIRE_MAKER:
                    self._over(taker, EXPIRED_IN_MATCH)
                continue
            traded += quantity
            self.trade_id += 1
            self.trades.append((self.trade_id, first, second, price, quantity, cells[taker + SIDE]))
            self._give(maker, price, quantity)
            self._give(taker, price, quantity)

    # -- stops -------------------------------------------------------------------------------

    def _fire(self) -> None:
        """Enter every stop that the last price has reached, and those that this makes it reach."""
        fired: list[Order] = []
        index = 0
        while True:
            self._collect(self._rising, fired)
            self._collect(self._falling, fired)
            if index == len(fired):
                return
            order = fired[index]
            index += 1
            if limited(order) and not self._ask_bound <= order.price <= self._bid_bound:
                self.changes.append((order.id, EXPIRED, order.quantity, order.filled, order.quote))
                continue
            status, quantity, filled, quote, _ = self._enter(order)
            self.changes.append((order.id, status, quantity, filled, quote))

    def _collect(self, ladder: Ladder, fired: list[Order]) -> None:
        """Move the stops that are reached into the fired, nearest trigger first, then by age."""
        last = self.last * ladder.sign
        while True:
            level = ladder.best()
            if level is None or level.key < last:
                return
            row = level.first
            while row:
                fired.append(self._rows.order(row))
                self._leave(row)
                self._rows.end(row)
                row = level.first

    # -- coming and going --------------------------------------------------------------------

    def _rest(self, order: Order) -> Result:
        """Let an order rest at its price."""
        left = order.quantity - order.filled
        display = order.conditions.display
        visible = display if 0 < display < left else left
        self._join(order, self._bids if order.side == BUY else self._asks, order.price, visible)
        return status_of(order.filled), order.quantity, order.filled, order.quote, ""

    def _wait(self, order: Order) -> Result:
        """Let a stop wait for its trigger, unseen."""
        self._stops += 1
        ladder = self._rising if rises(order) else self._falling
        self._join(order, ladder, order.conditions.trigger, 0)
        return NEW, order.quantity, 0, 0, ""
