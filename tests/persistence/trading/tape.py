"""A market made up for tests: what books and customers would journal, and what must come of it.

Orders match by price and time in the plainest way. What a customer hears of an order comes late
and in any order, as it may between partitions. The expectations are kept beside, naively.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from actors.durable.records import TurnRecord
from domain.accounts import events as accounts
from domain.accounts.trading import Terms
from domain.orders import (
    Cancel,
    Fill,
    OrderStatus,
    OrderType,
    Place,
    Side,
    TimeInForce,
    Update,
)
from domain.trading import events as books
from domain.trading.rules import BookStatus
from persistence.database import Pool
from persistence.journal import GENESIS, Journal, JournalRow, prepare_streams, to_microseconds

START = to_microseconds(datetime(2026, 11, 20, 23, 50, tzinfo=UTC))
TERMS = Terms("BTC", "USD", 10_000, 100, 1_000, 2_000)
_encode = msgspec.msgpack.Encoder().encode


@dataclass
class Known:
    """What is to be known of an order."""

    place: Place
    customer: int
    symbol: str
    client: str
    status: OrderStatus = OrderStatus.NEW
    filled: int = 0
    quote: int = 0
    fee: int = 0
    fills: list[tuple[int, int, int]] = field(default_factory=list)


class Tape:
    """Streams with rows that are yet to be written; ``flush`` writes them."""

    def __init__(
        self, pool: Pool, seed: int, symbols: Sequence[str] = ("BTCUSD", "ETHUSD")
    ) -> None:
        self.pool = pool
        self.chance = random.Random(seed)
        self.symbols = symbols
        self.at = START
        self.orders: dict[tuple[int, int], Known] = {}
        self.trades: dict[str, list[tuple[int, int, int, int, Side]]] = defaultdict(list)
        self.rows: list[tuple[str, bytes, int]] = []
        self._journals: dict[str, Journal] = {}
        self._seqs: dict[str, int] = defaultdict(int)
        self._resting: dict[str, list[Known]] = defaultdict(list)
        self._refs: dict[int, int] = defaultdict(int)
        self._late: list[tuple[int, Any]] = []
        self.prompt = 0.6
        """How often what has happened is heard of at once."""

    async def open(self) -> None:
        """Two streams of accounts and one of books."""
        for kind, count in (("accounts", 2), ("books", 1)):
            for stream in await prepare_streams(self.pool, kind, count):
                journal = self._journals[stream] = Journal(self.pool, kind, stream)
                await journal.take_over()

    def turn(
        self, stream: str, events: Sequence[tuple[str, Any]], moved: Sequence[Any] = ()
    ) -> int:
        """One turn; its number in the stream."""
        self._seqs[stream] += 1
        record: TurnRecord[Any, Any] = TurnRecord(list(events), [], [], [], list(moved))
        self.rows.append((stream, _encode(record), self.at))
        return self._seqs[stream]

    async def flush(self) -> None:
        """Write what is due."""
        rows, self.rows = self.rows, []
        written: dict[str, int] = defaultdict(int)
        for stream, _, _ in rows:
            written[stream] += 1
        nexts = {stream: self._seqs[stream] - count for stream, count in written.items()}
        for stream, entries, at in rows:
            nexts[stream] += 1
            journal = self._journals[stream]
            await journal.commit(
                JournalRow(stream, nexts[stream], journal.epoch, at, entries, GENESIS, GENESIS), []
            )

    # -- a market -------------------------------------------------------------------------

    def stream_of(self, customer: int) -> str:
        """Where a customer is at home."""
        return f"accounts/{customer % 2}"

    def place(self, customer: int, symbol: str, side: Side, price: int, quantity: int) -> Known:
        """A limit order, from the customer to the book and back."""
        self._refs[customer] += 1
        ref = self._refs[customer]
        place = Place(ref, side, OrderType.LIMIT, TimeInForce.GTC, price, quantity)
        order = Known(place, customer, symbol, f"c{ref}")
        self.orders[customer, ref] = order
        event = accounts.OrdersPlaced(
            b"t" * 16, b"", customer, symbol, TERMS, self.at, (place,), (order.client,), (0,)
        )
        self.turn(self.stream_of(customer), [(str(customer), event)])
        self._match(order)
        return order

    def cancel(self, order: Known) -> None:
        """The customer takes an order back."""
        self._resting[order.symbol].remove(order)
        order.status = OrderStatus.CANCELED
        update = self._update(order, ())
        self._book_turn(order, (Cancel(order.place.ref),), (update,), (), ())
        self._tell(order, update, answer=True)

    def _match(self, order: Known) -> None:
        place, symbol = order.place, order.symbol
        sign = 1 if place.side == Side.BUY else -1
        against = sorted(
            (o for o in self._resting[symbol] if o.place.side != place.side),
            key=lambda o: o.place.price * sign,
        )
        fills: list[Fill] = []
        trades: list[books.Trade] = []
        touched: list[tuple[Known, Update]] = []
        for maker in against:
            quantity = min(place.quantity - order.filled, maker.place.quantity - maker.filled)
            if quantity == 0 or maker.place.price * sign > place.price * sign:
                break
            trade = self._trade(order, maker, quantity)
            trades.append(trade)
            fills.append(Fill(trade.id, trade.price, quantity, trade.taker_fee, False))
            made = Fill(trade.id, trade.price, quantity, trade.maker_fee, True)
            touched.append((maker, self._update(maker, (made,))))
            if maker.status == OrderStatus.FILLED:
                self._resting[symbol].remove(maker)
        if order.status != OrderStatus.FILLED:
            self._resting[symbol].append(order)
        update = self._update(order, tuple(fills))
        self._book_turn(order, (place,), (update,), tuple(trades), tuple(touched))
        self._tell(order, update, answer=True)
        for maker, change in touched:
            self._tell(maker, change, answer=False)

    def _trade(self, taker: Known, maker: Known, quantity: int) -> books.Trade:
        price, side = maker.place.price, taker.place.side
        number = len(self.trades[taker.symbol]) + 1
        self.trades[taker.symbol].append((number, self.at, price, quantity, side))
        fees = (1 + self.chance.randrange(5), 1 + self.chance.randrange(9))
        for order, fee in ((maker, fees[0]), (taker, fees[1])):
            order.filled += quantity
            order.quote += quantity * price
            order.fee += fee
            order.fills.append((number, quantity, fee))
            whole = order.filled == order.place.quantity
            order.status = OrderStatus.FILLED if whole else OrderStatus.PARTIALLY_FILLED
        ids = [order.customer << 29 | order.place.ref for order in (maker, taker)]
        return books.Trade(number, price, quantity, side, ids[0], ids[1], *fees)

    def _update(self, order: Known, fills: tuple[Fill, ...]) -> Update:
        ref, quantity = order.place.ref, order.place.quantity
        return Update(ref, order.status, quantity, order.filled, order.quote, fills)

    def _book_turn(
        self,
        order: Known,
        actions: tuple[Any, ...],
        updates: tuple[Update, ...],
        trades: tuple[books.Trade, ...],
        touched: tuple[tuple[Known, Update], ...],
    ) -> None:
        told = tuple(books.Touched(maker.customer, update) for maker, update in touched)
        event = books.OrdersWorked(
            b"w" * 16, order.customer, 1_000, 2_000, self.at, actions, updates, trades, told, 1
        )
        self.turn("books/0", [(order.symbol, event)])

    def _tell(self, order: Known, update: Update, *, answer: bool) -> None:
        """The customer hears of it, sooner or later, and not in the order of events."""
        if answer:
            event: Any = accounts.OrdersWorked(
                b"t" * 16, order.customer, order.symbol, self.at, (update,)
            )
        else:
            event = accounts.OrdersSettled(order.customer, order.symbol, self.at, (update,))
        self._late.append((order.customer, event))
        if self.chance.random() < self.prompt:
            self.deliver()

    def deliver(self) -> None:
        """Let everybody hear what they have not heard yet."""
        self.chance.shuffle(self._late)
        for customer, event in self._late:
            self.turn(self.stream_of(customer), [(str(customer), event)])
        self._late.clear()

    def trade_on(self, orders: int, customers: int = 4, step_s: float = 7.0) -> None:
        """Random orders and cancels for a while."""
        for _ in range(orders):
            self.at += self.chance.randrange(int(2_000_000 * step_s))
            symbol = self.chance.choice(self.symbols)
            if self._resting[symbol] and self.chance.random() < 0.2:
                self.cancel(self.chance.choice(self._resting[symbol]))
                continue
            customer = 1_000_000_000 + self.chance.randrange(customers)
            side = self.chance.choice((Side.BUY, Side.SELL))
            price = 96 + self.chance.randrange(9)
            self.place(customer, symbol, side, price, 1 + self.chance.randrange(20))
        self.deliver()

    def halt(self, symbol: str) -> None:
        """A change of status, which has no trades."""
        change = books.StatusChanged(BookStatus.HALTED, "news", self.at, 0, 1, (), ())
        self.turn("books/0", [(symbol, change)])
