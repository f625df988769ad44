"""An order book that is slow and obviously right: the engine's twin, which tests hold it against.

Orders are one list; whoever is next is found by looking at all of them, whether a fill-or-kill can
be filled by trying it on a copy, and the price of an auction by trying every price.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from hashlib import sha256

import msgspec

from domain.orders import OrderStatus, OrderType, SelfTrade, Side, TimeInForce
from domain.trading.codes import Refusal
from domain.trading.state import BookPhase, BookState, OrderState

Result = tuple[int, int, int, int, str]

STOPS = {
    OrderType.STOP_LOSS,
    OrderType.STOP_LOSS_LIMIT,
    OrderType.TAKE_PROFIT,
    OrderType.TAKE_PROFIT_LIMIT,
}
PRICELESS = {OrderType.MARKET, OrderType.STOP_LOSS, OrderType.TAKE_PROFIT}
PATIENT = {TimeInForce.GTC, TimeInForce.GTD}


@dataclass
class NaiveOrder:
    """An order; ``queued`` tells who came first, and is renewed when an iceberg shows more."""

    id: int
    side: int
    type: int
    time_in_force: int
    price: int
    quantity: int
    trigger: int = 0
    display: int = 0
    self_trade: int = 0
    expires_at: int = 0
    budget: int = 0
    filled: int = 0
    quote: int = 0
    visible: int = 0
    sequence: int = 0
    queued: int = 0
    waits: bool = field(default=False, init=False)
    """Whether it is a stop that has not fired."""

    @property
    def owner(self) -> int:
        return self.id >> 29

    @property
    def left(self) -> int:
        return self.quantity - self.filled

    @property
    def rising(self) -> bool:
        """Whether, as a stop, it fires when the price rises."""
        loses = self.type in {OrderType.STOP_LOSS, OrderType.STOP_LOSS_LIMIT}
        return loses if self.side == Side.BUY else not loses

    @property
    def may_rest(self) -> bool:
        return self.type not in PRICELESS and self.time_in_force in PATIENT

    def status(self) -> int:
        return OrderStatus.PARTIALLY_FILLED if self.filled else OrderStatus.NEW


class NaiveBook:
    """The interface of ``domain.trading.book.Book``, as far as tests compare it."""

    def __init__(self) -> None:
        self.open: list[NaiveOrder] = []
        self.phase: int = BookPhase.OPEN
        self.now = self.last = self.reference = self.band_up = self.band_down = 0
        self.sequence = self.queue = self.trade_id = self.update_id = 0
        self.trades: list[tuple[int, int, int, int, int, int]] = []
        self.changes: list[tuple[int, int, int, int, int]] = []
        self.told: dict[tuple[int, int], int] = {}
        self.met_itself = False

    # What customers ask for.

    def place(self, *fields: int) -> Result:
        order = NaiveOrder(*fields)
        code = self.refusal(order)
        if code:
            return OrderStatus.REJECTED, 0, 0, 0, code
        if order.type in STOPS:
            order.waits = True
            self.join(order)
            return OrderStatus.NEW, order.quantity, 0, 0, ""
        result = self.enter(order)
        self.fire()
        return result

    def cancel(self, number: int) -> Result:
        order = self.find(number)
        if order is None:
            return OrderStatus.REJECTED, 0, 0, 0, Refusal.UNKNOWN_ORDER
        self.open.remove(order)
        return OrderStatus.CANCELED, order.quantity, order.filled, order.quote, ""

    def amend(self, number: int, quantity: int) -> Result:
        order = self.find(number)
        if self.phase == BookPhase.CLOSED:
            return OrderStatus.REJECTED, 0, 0, 0, Refusal.MARKET_CLOSED
        if order is None:
            return OrderStatus.REJECTED, 0, 0, 0, Refusal.UNKNOWN_ORDER
        if quantity >= order.quantity or quantity <= order.filled:
            return OrderStatus.REJECTED, 0, 0, 0, Refusal.AMEND_QUANTITY
        order.quantity = quantity
        order.visible = min(order.visible, order.left)
        return order.status(), quantity, order.filled, order.quote, ""

    # Time and rules.

    def advance(self, now: int) -> None:
        self.now = max(now, self.now)
        due = [order for order in self.open if 0 < order.expires_at <= self.now]
        for order in sorted(due, key=lambda order: (order.expires_at, order.id)):
            self.end(order, OrderStatus.EXPIRED)

    def next_expiry(self) -> int:
        return min((order.expires_at for order in self.open if order.expires_at), default=0)

    def set_bands(self, up: int, down: int) -> None:
        self.band_up, self.band_down = up, down

    def set_reference(self, price: int) -> None:
        self.reference = price

    def halt(self) -> None:
        if self.phase != BookPhase.CLOSED:
            self.phase = BookPhase.HALTED

    def resume(self) -> None:
        if self.phase == BookPhase.HALTED:
            bid, _, ask, _ = self.best()
            self.phase = BookPhase.AUCTION if bid and ask and bid >= ask else BookPhase.OPEN

    def start_auction(self) -> None:
        if self.phase != BookPhase.CLOSED:
            self.phase = BookPhase.AUCTION

    def indicative(self) -> tuple[int, int, int]:
        bids, asks = self.side(Side.BUY), self.side(Side.SELL)
        if not bids or not asks or bids[0].price < asks[0].price:
            return 0, 0, 0
        ranks = []
        for price in range(asks[0].price, bids[0].price + 1):
            demand = sum(order.left for order in bids if order.price >= price)
            supply = sum(order.left for order in asks if order.price <= price)
            ranks.append((-min(demand, supply), abs(demand - supply), price, demand - supply))
        best = [rank for rank in ranks if rank[:2] == min(ranks)[:2]]
        prices = [price for _, _, price, _ in best]
        if self.reference:
            price = min(prices, key=lambda price: abs(price - self.reference))
        else:
            price = (prices[0] + prices[-1]) // 2
        return next((price, -rank[0], rank[3]) for rank in best if rank[2] == price)

    def uncross(self) -> tuple[int, int]:
        if self.phase != BookPhase.AUCTION:
            return 0, 0
        self.phase = BookPhase.OPEN
        price, _, _ = self.indicative()
        if not price:
            return 0, 0
        before = sum(order.filled for order in self.open if order.side == Side.BUY)
        traded = 0
        while True:
            bids = [order for order in self.side(Side.BUY) if order.price >= price]
            asks = [order for order in self.side(Side.SELL) if order.price <= price]
            if not bids or not asks:
                break
            older, newer = sorted((bids[0], asks[0]), key=lambda order: order.sequence)
            traded += self.pair(newer, older, price)
        assert before + traded >= 0
        self.reference = price
        if traded:
            self.last = price
        self.fire()
        return price, traded

    def pair(self, newer: NaiveOrder, older: NaiveOrder, price: int) -> int:
        """Let two resting orders trade, or keep them from it; how much was traded."""
        quantity = min(newer.visible, older.visible)
        if newer.owner == older.owner and newer.self_trade:
            if newer.self_trade == SelfTrade.DECREMENT:
                self.decrement(older, quantity)
                self.decrement(newer, quantity)
            if newer.self_trade in {SelfTrade.EXPIRE_MAKER, SelfTrade.EXPIRE_BOTH}:
                self.end(older, OrderStatus.EXPIRED_IN_MATCH)
            if newer.self_trade in {SelfTrade.EXPIRE_TAKER, SelfTrade.EXPIRE_BOTH}:
                self.end(newer, OrderStatus.EXPIRED_IN_MATCH)
            return 0
        self.trade_id += 1
        self.trades.append((self.trade_id, older.id, newer.id, price, quantity, newer.side))
        for order in (older, newer):
            self.fill(order, price, quantity)
        return quantity

    def delist(self) -> None:
        for orders in (self.side(Side.BUY), self.side(Side.SELL), self.stops(1), self.stops(0)):
            for order in orders:
                self.end(order, OrderStatus.CANCELED)
        self.phase = BookPhase.CLOSED

    # What is to be seen.

    def drain(self) -> tuple[list[object], list[object], list[tuple[int, int, int]]]:
        trades, changes = list[object](self.trades), list[object](self.changes)
        self.trades, self.changes = [], []
        shown: dict[tuple[int, int], int] = {}
        for side in (Side.BUY, Side.SELL):
            for order in self.side(side):
                at = int(side), order.price
                shown[at] = shown.get(at, 0) + order.visible
        changed = [
            (side, price, shown.get((side, price), 0))
            for side, price in self.told.keys() | shown.keys()
            if self.told.get((side, price)) != shown.get((side, price))
        ]
        changed.sort()
        self.told = shown
        self.update_id += len(changed)
        return trades, changes, changed

    def depth(self, limit: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        sides = []
        for side in (Side.BUY, Side.SELL):
            orders = self.side(side)
            prices = list(dict.fromkeys(order.price for order in orders))[:limit]
            sides.append(
                [(p, sum(order.visible for order in orders if order.price == p)) for p in prices]
            )
        return sides[0], sides[1]

    def best(self) -> tuple[int, int, int, int]:
        bids, asks = self.depth(1)
        return *(bids[0] if bids else (0, 0)), *(asks[0] if asks else (0, 0))

    def orders(self) -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
        bids, asks = (
            [(order.price, order.id, order.visible) for order in self.side(side)]
            for side in (Side.BUY, Side.SELL)
        )
        return bids, asks

    def snapshot(self) -> BookState:
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
            *(
                [
                    OrderState(
                        **{name: getattr(order, name) for name in OrderState.__struct_fields__}
                    )
                    for order in orders
                ]
                for orders in (self.side(1), self.side(2), self.stops(1), self.stops(0))
            ),
        )

    def digest(self) -> bytes:
        return sha256(msgspec.msgpack.encode(self.snapshot())).digest()[:16]

    # Inside.

    def find(self, number: int) -> NaiveOrder | None:
        return next((order for order in self.open if order.id == number), None)

    def side(self, side: int) -> list[NaiveOrder]:
        """The orders of a side by priority."""
        orders = [order for order in self.open if order.side == side and not order.waits]
        sign = -1 if side == Side.BUY else 1
        return sorted(orders, key=lambda order: (sign * order.price, order.queued))

    def stops(self, rising: int) -> list[NaiveOrder]:
        """The stops that wait, nearest trigger first."""
        orders = [order for order in self.open if order.waits and order.rising == bool(rising)]
        sign = 1 if rising else -1
        return sorted(orders, key=lambda order: (sign * order.trigger, order.sequence))

    def band(self) -> tuple[int, int]:
        up, down = self.reference * self.band_up, self.reference * self.band_down
        return (
            self.reference - down // 1_000_000 if down else 0,
            self.reference + up // 1_000_000 if up else 2**60,
        )

    def refusal(self, order: NaiveOrder) -> str:
        low, high = self.band()
        timed = order.time_in_force == TimeInForce.GTD
        if self.phase == BookPhase.CLOSED:
            return Refusal.MARKET_CLOSED
        if self.phase == BookPhase.HALTED:
            return Refusal.MARKET_HALTED
        if self.find(order.id):
            return Refusal.DUPLICATE_ORDER
        if not sound(order):
            return Refusal.INVALID_ORDER
        if 0 < order.display * 100 < order.quantity:
            return Refusal.ICEBERG_SLICES
        if timed and order.expires_at <= self.now:
            return Refusal.ORDER_EXPIRED
        if order.type not in PRICELESS and (order.price < low or order.price > high):
            return Refusal.FILTER_BAND
        if order.type in STOPS:
            return Refusal.WOULD_TRIGGER if self.reached(order) else ""
        if self.phase == BookPhase.AUCTION and not order.may_rest:
            return Refusal.AUCTION_LIMIT_ONLY
        if self.phase == BookPhase.OPEN and order.type == OrderType.LIMIT_MAKER:
            return Refusal.WOULD_MATCH if self.opposite(order) else ""
        return ""

    def reached(self, stop: NaiveOrder) -> bool:
        if stop.rising:
            return 0 < self.last >= stop.trigger
        return 0 < self.last <= stop.trigger

    def opposite(self, order: NaiveOrder) -> list[NaiveOrder]:
        """The orders that ``order`` may trade with, best first."""
        low, high = self.band()
        if order.side == Side.BUY:
            worst = min(order.price or high, high)
            return [other for other in self.side(Side.SELL) if other.price <= worst]
        worst = max(order.price, low)
        return [other for other in self.side(Side.BUY) if other.price >= worst]

    def enter(self, order: NaiveOrder) -> Result:
        if order.time_in_force == TimeInForce.FOK:
            trial, copy = deepcopy(self), deepcopy(order)
            trial.met_itself = False
            status = trial.match(copy)[0]
            shy = trial.met_itself and order.self_trade != SelfTrade.EXPIRE_MAKER
            if status != OrderStatus.FILLED or shy:
                return OrderStatus.EXPIRED, order.quantity, 0, 0, ""
        return self.match(order)

    def match(self, order: NaiveOrder) -> Result:
        """Trade while there is somebody, then rest or end."""
        by_budget, asked = not order.quantity, order.quantity
        if by_budget:
            order.quantity = 2**60
        spent = order.quote
        status = None
        while status is None and self.phase == BookPhase.OPEN:
            others = self.opposite(order)
            if not order.left:
                status = int(OrderStatus.FILLED)
                break
            if not others:
                break
            maker = others[0]
            quantity = min(order.left, maker.visible)
            if order.budget:
                quantity = min(quantity, (order.budget - spent) // maker.price)
                if quantity == 0:
                    happy = by_budget and order.filled
                    status = int(OrderStatus.FILLED if happy else OrderStatus.EXPIRED)
                    break
            if maker.owner == order.owner and order.self_trade:
                status = self.prevent(order, maker, quantity)
                if order.self_trade == SelfTrade.DECREMENT:
                    spent += quantity * maker.price
                continue
            self.trade_id += 1
            price = maker.price
            self.trades.append((self.trade_id, maker.id, order.id, price, quantity, order.side))
            self.last = price
            order.filled += quantity
            order.quote += price * quantity
            spent += price * quantity
            self.fill(maker, price, quantity)
        if by_budget:
            order.quantity = order.filled
        elif status is None and order.may_rest:
            self.join(order)
            return order.status(), order.quantity, order.filled, order.quote, ""
        if status is None:
            status = OrderStatus.EXPIRED
        assert asked == order.quantity or by_budget or order.self_trade == SelfTrade.DECREMENT
        return status, order.quantity, order.filled, order.quote, ""

    def prevent(self, order: NaiveOrder, maker: NaiveOrder, quantity: int) -> int | None:
        """Keep an owner from trading with themselves; the taker's end, if that is it."""
        self.met_itself = True
        if order.self_trade == SelfTrade.DECREMENT:
            self.decrement(maker, quantity)
            if quantity == order.left:
                return OrderStatus.EXPIRED_IN_MATCH
            order.quantity -= quantity
            return None
        if order.self_trade in {SelfTrade.EXPIRE_MAKER, SelfTrade.EXPIRE_BOTH}:
            self.end(maker, OrderStatus.EXPIRED_IN_MATCH)
        if order.self_trade == SelfTrade.EXPIRE_MAKER:
            return None
        return OrderStatus.EXPIRED_IN_MATCH

    def decrement(self, order: NaiveOrder, quantity: int) -> None:
        if quantity == order.left:
            self.end(order, OrderStatus.EXPIRED_IN_MATCH)
            return
        order.quantity -= quantity
        order.visible -= quantity
        self.show(order)
        self.tell(order, order.status())

    def fill(self, order: NaiveOrder, price: int, quantity: int) -> None:
        """Fill an order that rests."""
        order.filled += quantity
        order.quote += price * quantity
        order.visible -= quantity
        if not order.left:
            self.end(order, OrderStatus.FILLED)
            return
        self.show(order)
        self.tell(order, OrderStatus.PARTIALLY_FILLED)

    def show(self, order: NaiveOrder) -> None:
        """An iceberg whose visible part is gone shows another and queues up again."""
        if not order.visible:
            order.visible = min(order.display or order.left, order.left)
            self.queue += 1
            order.queued = self.queue

    def join(self, order: NaiveOrder) -> None:
        self.sequence += 1
        order.sequence = self.sequence
        order.visible = 0
        if not order.waits:
            self.show(order)
        self.open.append(order)

    def end(self, order: NaiveOrder, status: int) -> None:
        self.open.remove(order)
        self.tell(order, status)

    def tell(self, order: NaiveOrder, status: int) -> None:
        self.changes.append((order.id, status, order.quantity, order.filled, order.quote))

    def fire(self) -> None:
        """Enter the stops that are reached, in order, and those that this makes be reached."""
        queue: list[NaiveOrder] = []
        while True:
            for stop in [*self.stops(1), *self.stops(0)]:
                if self.reached(stop):
                    self.open.remove(stop)
                    stop.waits = False
                    queue.append(stop)
            if not queue:
                return
            stop = queue.pop(0)
            low, high = self.band()
            if stop.type not in PRICELESS and not low <= stop.price <= high:
                self.tell(stop, OrderStatus.EXPIRED)
                continue
            status, quantity, filled, quote, _ = self.enter(stop)
            self.changes.append((stop.id, status, quantity, filled, quote))


def sound(order: NaiveOrder) -> bool:
    """Whether an order makes sense: what is missing, what is too much, what is out of range."""
    stop, priceless = order.type in STOPS, order.type in PRICELESS
    worth = order.price * order.quantity
    numbers = order.price, order.quantity, order.trigger
    return (
        order.id > 0
        and order.side in set(Side)
        and order.type in set(OrderType)
        and order.time_in_force in set(TimeInForce)
        and order.self_trade in set(SelfTrade)
        and all(0 <= number <= 2**48 for number in numbers)
        and worth <= 2**62
        and 0 <= order.budget <= 2**62
        and (order.price > 0 or priceless)
        and (order.quantity > 0 or (priceless and order.budget > 0))
        and (order.trigger > 0 if stop else order.trigger == 0)
        and not (order.type == OrderType.LIMIT_MAKER and (not order.may_rest or order.budget))
        and (order.display == 0 or (order.may_rest and 0 < order.display <= order.quantity))
        and (order.expires_at > 0) == (order.time_in_force == TimeInForce.GTD)
        and not (order.type == OrderType.MARKET and order.time_in_force == TimeInForce.GTD)
    )
