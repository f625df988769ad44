"""A book and the customers around it, without a runtime: what the tests of books are written in.

Each decision's event is kept as its journalled bytes; ``replayed`` makes a book from them alone.
What customers were told is added up here and held against the book after each decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from domain.durable import Decision, Rejection
from domain.orders import (
    ACCOUNTS,
    Action,
    OrderStatus,
    OrderType,
    Place,
    Settle,
    Side,
    TimeInForce,
    Update,
    Work,
    Worked,
)
from domain.trading import commands as cmd
from domain.trading import events as ev
from domain.trading.machine import BooksMachine
from domain.trading.news import BookNews
from domain.trading.orderbook import REF_BITS, OrderBook, OrderBookState
from domain.trading.rules import About, InstrumentType, Rules

SYMBOL = "BTCUSD"
RULES = Rules("BTC", "USD", tick=10**6, lot=10**3)
"""A cent a whole bitcoin, and a hundred-thousandth of one: a tick times a lot is 10 units."""
ABOUT = About(InstrumentType.CRYPTO, "Bitcoin")
ANN, BEN, CAT = 1_000_000_001, 1_000_000_002, 1_000_000_003
START = 1_800_000_000_000_000

encode = msgspec.msgpack.Encoder().encode
decode_event = msgspec.msgpack.Decoder(ev.Event).decode
decode_state = msgspec.msgpack.Decoder(OrderBookState).decode
Reply = TypeVar("Reply")


class Told:
    """What a customer knows of an order: each fill, and the latest word on the rest."""

    def __init__(self, place: Place, rates: tuple[int, int]) -> None:
        self.place = place
        self.rates = rates
        self.latest: Update | None = None
        self.trades: dict[int, int] = {}
        self.quote = 0

    @property
    def ended(self) -> bool:
        """Whether the order is over."""
        return self.latest is not None and self.latest.status >= OrderStatus.FILLED

    def hear(self, update: Update) -> None:
        """Take note of an update, whichever of two that crossed comes first."""
        for fill in update.fills:
            assert fill.trade not in self.trades, "told twice of a trade"
            self.trades[fill.trade] = fill.quantity
            self.quote += fill.price * fill.quantity
        newer = self.latest is None or not self.ended
        if newer and (self.latest is None or update.filled >= self.latest.filled):
            self.latest = update


class Market:
    """One book, listed, at a time that only goes on."""

    def __init__(self, rules: Rules = RULES) -> None:
        self.machine = BooksMachine()
        self.state = self.machine.new(SYMBOL)
        self.now = START
        self.journal: list[bytes] = []
        self.news: list[BookNews] = []
        self.settled: list[tuple[int, Settle]] = []
        self.orders: dict[int, Told] = {}
        self.trades: dict[int, ev.Trade] = {}
        self.depth: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self._ids = 0
        self.carry_out(cmd.ListInstrument(self.id(), b"f", SYMBOL, rules, ABOUT))

    def id(self) -> bytes:
        """An id that was not used before."""
        self._ids += 1
        return self._ids.to_bytes(16, "big")

    # -- doing -----------------------------------------------------------------------------

    def decide(self, command: Any) -> Decision | Rejection:
        """Let the book decide, and note all that it says; what it refuses leaves no trace."""
        self.now += 1
        before = encode(self.state.snapshot())
        due = self.machine.due(self.state)
        decision = self.machine.decide(self.state, command, self.now)
        if isinstance(decision, Rejection) or not decision.events:
            assert encode(self.state.snapshot()) == before, "something changed without an event"
            return decision
        assert decision.applied
        assert decision.due_before == due
        for event in decision.events:
            self.journal.append(encode(event))
            for trade in getattr(event, "trades", ()):
                assert trade.id == len(self.trades) + 1, "a gap in the numbers of trades"
                self.trades[trade.id] = trade
        self._hear_news(decision.news)
        self._hear(command, decision)
        return decision

    def carry_out(self, command: Any) -> Any:
        """The reply to a command that must not be refused."""
        decision = self.decide(command)
        assert isinstance(decision, Decision), decision
        return decision.reply

    def refused(self, command: Any) -> Rejection:
        """The refusal of a command that must be refused."""
        decision = self.decide(command)
        assert isinstance(decision, Rejection)
        return decision

    def work(
        self, customer: int, *actions: Action, maker: int = 1_000, taker: int = 2_000
    ) -> tuple[Update, ...]:
        """A customer's actions; the update for each."""
        for action in actions:
            if isinstance(action, Place):
                order = customer << REF_BITS | action.ref
                self.orders.setdefault(order, Told(action, (maker, taker)))
        worked = self.carry_out(Work(self.id(), customer, maker, taker, actions))
        assert isinstance(worked, Worked)
        assert worked.at == self.now
        assert len(worked.updates) == len(actions)
        return worked.updates

    def one(self, customer: int, action: Action, **rates: int) -> Update:
        """A single action."""
        (update,) = self.work(customer, action, **rates)
        return update

    def book(self, depth: int = 0) -> cmd.BookView:
        """The book as it is."""
        view = self.carry_out(cmd.ReadBook(SYMBOL, depth))
        assert isinstance(view, cmd.BookView)
        return view

    def wait(self, microseconds: int) -> None:
        """Let time pass, and the book wake if it wants to."""
        self.now += microseconds
        due = self.machine.due(self.state)
        if due and due <= self.now:
            self.decide(self.machine.wake(SYMBOL))

    def settlements(self, customer: int) -> list[Update]:
        """What the customer was told without asking, since this was last looked at."""
        found = [
            update for who, settle in self.settled if who == customer for update in settle.updates
        ]
        self.settled = [(who, settle) for who, settle in self.settled if who != customer]
        return found

    # -- hearing ---------------------------------------------------------------------------

    def _hear(self, command: Any, decision: Decision) -> None:
        if isinstance(command, Work):
            assert isinstance(decision.reply, Worked)
            for action, update in zip(command.actions, decision.reply.updates, strict=True):
                assert update.ref == action.ref
                if not update.code or isinstance(action, Place):
                    self._told(command.customer, update)
        customers = [message.to for message in decision.messages]
        assert len(customers) == len(set(customers)), "two settlements for one customer"
        for message in decision.messages:
            assert message.kind == ACCOUNTS
            assert isinstance(message.body, Settle)
            self.settled.append((int(message.to), message.body))
            for update in message.body.updates:
                assert not update.code
                self._told(int(message.to), update)

    def _told(self, customer: int, update: Update) -> None:
        self.orders[customer << REF_BITS | update.ref].hear(update)

    def _hear_news(self, news: Sequence[BookNews]) -> None:
        for item in news:
            last = self.news[-1].last if self.news else 0
            assert item.first == last + 1, "a gap in the numbers of updates"
            assert item.last in (item.first, last)
            assert not item.levels or item.last == item.first
            self.news.append(item)
            for side, price, quantity in item.levels:
                levels = self.depth[side - 1]
                if quantity:
                    levels[price] = quantity
                else:
                    del levels[price]

    # -- proving ---------------------------------------------------------------------------

    def prove(self) -> None:
        """What customers and followers were told is what the book is; its books are in order."""
        state = self.state
        view = self.book()
        assert dict(view.bids) == self.depth[0]
        assert dict(view.asks) == self.depth[1]
        assert view.update == (self.news[-1].last if self.news else 0)
        assert view.last_trade == len(self.trades)
        resting = {order for order, told in self.orders.items() if told.latest and not told.ended}
        assert state.rates.keys() == resting
        assert state.book.open_orders == len(resting)
        counts: dict[int, int] = {}
        for order in resting:
            counts[order >> REF_BITS] = counts.get(order >> REF_BITS, 0) + 1
        assert state.open_by_customer == counts
        for order, told in self.orders.items():
            if told.latest is not None:
                self._prove_order(order, told, told.latest)

    def _prove_order(self, order: int, told: Told, latest: Update) -> None:
        assert latest.filled == sum(told.trades.values())
        assert latest.quote == told.quote
        if not told.ended:
            found = self.state.book.order(order)
            assert found is not None
            _, _, _, quantity, filled, quote, _, status = found
            assert (quantity, filled, quote, status) == (
                latest.quantity, latest.filled, latest.quote, latest.status,
            )  # fmt: skip
            assert self.state.rates[order] == told.rates

    def prove_fees(self) -> None:
        """Each side of each trade pays its own order's rate of what it receives, rounded up."""
        rules = self.state.rules
        assert rules is not None
        for trade in self.trades.values():
            maker, taker = self.orders[trade.maker], self.orders[trade.taker]
            for told, fee, rate in (
                (maker, trade.maker_fee, maker.rates[0]), (taker, trade.taker_fee, taker.rates[1]),
            ):  # fmt: skip
                assert told.trades[trade.id] == trade.quantity
                buys = told.place.side == Side.BUY
                received = (
                    trade.quantity * rules.lot
                    if buys
                    else trade.price * trade.quantity * rules.unit
                )
                assert fee * 10**6 >= received * rate > (fee - 1) * 10**6

    def replayed(self, first: int = 0, book: OrderBook | None = None) -> OrderBook:
        """A book made from the journal alone, or one taken on from row ``first``."""
        book = book or self.machine.new(SYMBOL)
        for entry in self.journal[first:]:
            self.machine.apply(book, decode_event(entry))
        return book

    def prove_replay(self) -> None:
        """Replaying everything gives the same bytes; so does a stored state with what follows."""
        now = encode(self.state.snapshot())
        assert encode(self.replayed().snapshot()) == now
        half = len(self.journal) // 2
        book = self.machine.new(SYMBOL)
        for entry in self.journal[:half]:
            self.machine.apply(book, decode_event(entry))
        stored = OrderBook.restore(decode_state(encode(book.snapshot())))
        assert encode(self.replayed(half, stored).snapshot()) == now


def changed(struct: Any, **fields: Any) -> Any:
    """A copy with other values."""
    return msgspec.structs.replace(struct, **fields)


def place(
    ref: int,
    side: Side,
    price: int,
    quantity: int,
    kind: OrderType = OrderType.LIMIT,
    force: TimeInForce = TimeInForce.GTC,
    **more: Any,
) -> Place:
    """An order, good till cancelled unless told otherwise."""
    return Place(ref, side, kind, force, price, quantity, **more)


def buy(ref: int, price: int, quantity: int, *more: Any, **fields: Any) -> Place:
    """An order to buy."""
    return place(ref, Side.BUY, price, quantity, *more, **fields)


def sell(ref: int, price: int, quantity: int, *more: Any, **fields: Any) -> Place:
    """An order to sell."""
    return place(ref, Side.SELL, price, quantity, *more, **fields)
