"""Tapes of messages to an order book, as real markets make them: for measuring and for testing.

A tape is made from a seed alone, without looking at any engine: the generator keeps its own idea of
what rests, so some cancels are of orders that have gone, as in life. Prices are ticks, quantities
lots. A ``MOVE`` takes an order out and places another at a new price.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from itertools import count as numbers
from math import pi, sin
from random import Random
from typing import Final, NamedTuple, TypeVar

PLACE: Final = 0
CANCEL: Final = 1
AMEND: Final = 2
MOVE: Final = 3

MID: Final = 100_000
OWNERS: Final = 64

# As in domain.orders; nothing is imported, so that engines of others can be fed from elsewhere.
_BUY, _SELL = 1, 2
_LIMIT, _MARKET = 1, 2
_GTC, _IOC = 1, 2

Item = TypeVar("Item")


class Placed(NamedTuple):
    """The arguments of a new order."""

    number: int
    side: int
    kind: int
    time_in_force: int
    price: int
    quantity: int


class Message(NamedTuple):
    """What is asked of the book: ``number`` is cancelled, amended to ``quantity`` or moved."""

    action: int
    number: int
    quantity: int = 0
    order: Placed | None = None
    symbol: int = 0


class Tape(NamedTuple):
    """``opening`` fills the books before ``messages``, without end, are measured."""

    name: str
    opening: list[Message]
    messages: Iterator[Message]
    symbols: int = 1


class Shape(NamedTuple):
    """How a lively market looks: ``resting`` orders, and how far from the mid price they are."""

    resting: int = 500
    hump: int = 8
    tail: float = 1.6
    drift: float = 0.3
    swing: int = 0
    period: int = 20_000


NORMAL: Final = Shape()


class _Lively:
    """A drifting mid price; orders come in a power law of distances and mostly go unfilled."""

    def __init__(self, seed: int, shape: Shape) -> None:
        self._random = Random(seed)
        self._shape = shape
        self._mid = float(MID)
        self._step = 0
        self._serial = numbers(1)
        self._ends: list[tuple[float, int, Placed, int]] = []

    def number(self) -> int:
        return _number(self._random, self._serial)

    def opening(self) -> list[Message]:
        return [self._placed() for _ in range(self._shape.resting)]

    def messages(self) -> Iterator[Message]:
        while True:
            self._step += 1
            shape, random = self._shape, self._random
            self._mid += random.choice((-1, 1)) * shape.drift
            while self._ends and self._ends[0][0] <= self._step:
                yield from self._end(*heappop(self._ends)[2:])
            if random.random() < 0.15:
                yield self._taking()
            else:
                yield self._placed()

    def _centre(self) -> int:
        swing = self._shape.swing
        return int(self._mid + (swing and swing * sin(2 * pi * self._step / self._shape.period)))

    def _distance(self) -> int:
        shape, random = self._shape, self._random
        if random.random() < 0.5:
            return max(1, round(random.gauss(shape.hump, shape.hump / 2)))
        return min(int(shape.hump * random.paretovariate(shape.tail)), MID // 2)

    def _placed(self) -> Message:
        random = self._random
        side = random.choice((_BUY, _SELL))
        away = self._distance() * (1 if side == _SELL else -1)
        price = max(1, self._centre() + away)
        order = Placed(self.number(), side, _LIMIT, _GTC, price, random.randint(1, 100))
        self._remember(order)
        return Message(PLACE, order.number, 0, order)

    def _remember(self, order: Placed) -> None:
        random = self._random
        modified = random.random() < 0.2
        if modified or random.random() < 0.95:
            life = random.expovariate(1 / self._shape.resting)
            heappush(self._ends, (self._step + life, order.number, order, modified))

    def _taking(self) -> Message:
        random = self._random
        side = random.choice((_BUY, _SELL))
        through = random.randint(2, 2 * self._shape.hump) * (1 if side == _BUY else -1)
        price = max(1, self._centre() + through)
        order = Placed(self.number(), side, _LIMIT, _IOC, price, random.randint(1, 100))
        return Message(PLACE, order.number, 0, order)

    def _end(self, order: Placed, modified: int) -> Iterator[Message]:
        random = self._random
        if not modified:
            yield Message(CANCEL, order.number)
        elif random.random() < 0.5 and order.quantity > 1:
            less = order._replace(quantity=random.randint(1, order.quantity - 1))
            self._remember(less)
            yield Message(AMEND, order.number, less.quantity)
        else:
            away = self._distance() * (1 if order.side == _SELL else -1)
            price = max(1, self._centre() + away)
            moved = order._replace(number=self.number(), price=price)
            self._remember(moved)
            yield Message(MOVE, order.number, 0, moved)


def lively(seed: int = 1, shape: Shape = NORMAL, name: str = "lively") -> Tape:
    """A market like most: a few hundred orders near a mid price that drifts."""
    market = _Lively(seed, shape)
    return Tape(name, market.opening(), market.messages())


def swinging(seed: int = 2, resting: int = 2_000) -> Tape:
    """The price swings hundreds of ticks up and down, over orders that stay where they are."""
    return lively(seed, Shape(resting=resting, swing=500, drift=1), "swinging")


class _Still:
    """Nothing moves: many orders at few prices, cancelled anywhere in their queues."""

    def __init__(self, seed: int, levels: int) -> None:
        self._random = Random(seed)
        self._levels = levels
        self._serial = numbers(1)
        self._open: list[int] = []

    def placed(self) -> Message:
        random = self._random
        side = random.choice((_BUY, _SELL))
        price = MID + random.randint(1, self._levels) * (1 if side == _SELL else -1)
        number = _number(random, self._serial)
        self._open.append(number)
        order = Placed(number, side, _LIMIT, _GTC, price, random.randint(1, 100))
        return Message(PLACE, number, 0, order)

    def messages(self) -> Iterator[Message]:
        random = self._random
        while True:
            dice = random.random()
            if dice < 0.48:
                yield self.placed()
            elif dice < 0.94:
                yield Message(CANCEL, _taken(random, self._open))
            else:
                number = _number(random, self._serial)
                side = random.choice((_BUY, _SELL))
                taking = Placed(number, side, _MARKET, _IOC, 0, random.randint(1, 30))
                yield Message(PLACE, number, 0, taking)


def deep(seed: int = 3, resting: int = 20_000, levels: int = 10) -> Tape:
    """Many orders at few prices that do not move."""
    market = _Still(seed, levels)
    return Tape("deep levels", [market.placed() for _ in range(resting)], market.messages())


class _Crashing:
    """Again and again orders that sweep hundreds of levels, which then fill anew."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._serial = numbers(1)

    def placed(self, side: int, span: int) -> Message:
        random = self._random
        away = (1 + int(span * random.random() ** 2)) * (1 if side == _SELL else -1)
        number = _number(random, self._serial)
        order = Placed(number, side, _LIMIT, _GTC, MID + away, random.randint(1, 100))
        return Message(PLACE, number, 0, order)

    def opening(self, resting: int) -> list[Message]:
        sides = self._random.choices((_BUY, _SELL), k=resting)
        return [self.placed(side, 5_000) for side in sides]

    def messages(self) -> Iterator[Message]:
        random = self._random
        while True:
            side, other = random.sample((_BUY, _SELL), 2)
            number = _number(random, self._serial)
            yield Message(PLACE, number, 0, Placed(number, side, _MARKET, _IOC, 0, 100_000))
            fresh = [self.placed(other, 1_000) for _ in range(2_000)]
            yield from fresh
            for message in random.sample(fresh, 500):
                yield Message(CANCEL, message.number)
            for _ in range(500):
                yield self.placed(other, 1_000)


def crash(seed: int = 4, resting: int = 20_000) -> Tape:
    """The price falls through the book, and rises through it."""
    market = _Crashing(seed)
    return Tape("flash crash", market.opening(resting), market.messages())


class _Many:
    """Many books, the load spread by a Pareto law; most messages move an order."""

    def __init__(self, seed: int, symbols: int) -> None:
        self._random = Random(seed)
        self._serial = numbers(1)
        self._open: list[list[Placed]] = [[] for _ in range(symbols)]
        self._weights = [1 / (rank + 1) ** 1.16 for rank in range(symbols)]

    def symbols(self, count: int) -> list[int]:
        return self._random.choices(range(len(self._open)), self._weights, k=count)

    def resting(self, symbol: int) -> Message:
        made = self._order(self._random.choice((_BUY, _SELL)), _GTC, self._away())
        self._open[symbol].append(made)
        return Message(PLACE, made.number, 0, made, symbol)

    def messages(self) -> Iterator[Message]:
        while True:
            for symbol in self.symbols(1_000):
                yield self._message(symbol)

    def _message(self, symbol: int) -> Message:
        """9% new orders, 3% that take at once, 6% cancelled, 82% moved."""
        random, resting = self._random, self._open[symbol]
        dice = random.random()
        if dice < 0.09 or not resting:
            return self.resting(symbol)
        if dice < 0.12:
            made = self._order(random.choice((_BUY, _SELL)), _IOC, -random.randint(0, 3))
            return Message(PLACE, made.number, 0, made, symbol)
        found = _taken(random, resting)
        if dice < 0.18:
            return Message(CANCEL, found.number, symbol=symbol)
        moved = self._order(found.side, _GTC, self._away())
        resting.append(moved)
        return Message(MOVE, found.number, 0, moved, symbol)

    def _away(self) -> int:
        return self._random.randint(1, 40)

    def _order(self, side: int, time_in_force: int, away: int) -> Placed:
        price = MID + (away if side == _SELL else -away)
        number = _number(self._random, self._serial)
        return Placed(number, side, _LIMIT, time_in_force, price, self._random.randint(1, 100))


def hot(seed: int = 5, symbols: int = 100, resting: int = 20_000) -> Tape:
    """A hundred books, of which the first has a fifth of everything."""
    market = _Many(seed, symbols)
    opening = [market.resting(symbol) for symbol in market.symbols(resting)]
    return Tape("hot symbol", opening, market.messages(), symbols)


def _number(random: Random, serial: Iterator[int]) -> int:
    """The next order's number, of some owner."""
    return (random.randint(1, OWNERS) << 29) + next(serial)


def _taken(random: Random, items: list[Item]) -> Item:
    """Any one of them, taken out."""
    index = random.randrange(len(items))
    items[index], items[-1] = items[-1], items[index]
    return items.pop()


FLOWS: Final[tuple[Callable[[], Tape], ...]] = (lively, deep, swinging, crash, hot)
"""The flows that are measured."""
