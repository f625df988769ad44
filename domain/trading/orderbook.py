"""An order book as an entity: the engine, the instrument's rules, and who pays which fee.

Pure: what happens depends on the arguments and on what happened before. Prices are ticks,
quantities lots, fees units of the asset that a side receives, times microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from domain.orders import (
    RATE_UNIT,
    Action,
    Amend,
    Cancel,
    Fill,
    OrderStatus,
    OrderType,
    Place,
    Side,
    TimeInForce,
    Update,
)
from domain.trading.codes import Refusal
from domain.trading.engine import Book
from domain.trading.events import Touched, Trade
from domain.trading.news import BookNews
from domain.trading.rules import About, BookCode, BookStatus, Rules
from domain.trading.state import BookPhase, BookState

REF_BITS: Final = 29
"""The engine knows an order as ``customer << REF_BITS | ref``."""
REF_MASK: Final = (1 << REF_BITS) - 1

Rates = tuple[int, int]
"""Fee rates of an order as maker and as taker, in millionths of what is received."""

Result = tuple[int, int, int, int, str]
"""What the engine answers: status, quantity, filled, quote, code."""

# Members of an enumeration cost a look-up in its class, which shows in what every order does.
_REJECTED: Final = int(OrderStatus.REJECTED)
_ENDED: Final = int(OrderStatus.FILLED)
_BUY: Final = int(Side.BUY)
_LIMIT: Final = int(OrderType.LIMIT)
_MARKET: Final = int(OrderType.MARKET)
_STOP_LOSS: Final = int(OrderType.STOP_LOSS)
_HALTED: Final = int(BookPhase.HALTED)
_CLOSED: Final = int(BookPhase.CLOSED)
_PRICED: Final = frozenset(
    {
        OrderType.LIMIT,
        OrderType.LIMIT_MAKER,
        OrderType.STOP_LOSS_LIMIT,
        OrderType.TAKE_PROFIT_LIMIT,
    }
)
_NOTHING: Final[Mapping[int, Any]] = MappingProxyType({})
_AT_ONCE: Final = frozenset({TimeInForce.IOC, TimeInForce.FOK})
_STATUS: Final = {
    int(BookPhase.OPEN): BookStatus.TRADING,
    int(BookPhase.HALTED): BookStatus.HALTED,
    int(BookPhase.AUCTION): BookStatus.AUCTION,
    int(BookPhase.CLOSED): BookStatus.DELISTED,
}


class OrderBookState(msgspec.Struct, frozen=True, array_like=True):
    """A book as it is stored. ``rates`` are those of its orders; ``update`` is its last one."""

    symbol: str
    book: BookState
    rules: Rules | None
    about: About | None
    reason: str
    until: int
    update: int
    rates: dict[int, Rates]


class Effects(NamedTuple):
    """What something led to: an update for each action, the trades, and other orders' fates."""

    updates: tuple[Update, ...]
    trades: tuple[Trade, ...]
    touched: tuple[Touched, ...]
    news: BookNews | None


class OrderBook:
    """One instrument's book. ``rules`` is ``None`` until it is listed."""

    __slots__ = (
        "about",
        "book",
        "open_by_customer",
        "rates",
        "reason",
        "rules",
        "symbol",
        "until",
        "update",
    )

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.book = Book()
        self.rules: Rules | None = None
        self.about: About | None = None
        self.reason = ""
        self.until = 0
        self.update = 0
        self.rates: dict[int, Rates] = {}
        self.open_by_customer: dict[int, int] = {}

    # -- storing ---------------------------------------------------------------------------

    def snapshot(self) -> OrderBookState:
        """All of it as plain values; equal books give equal bytes."""
        return OrderBookState(
            self.symbol,
            self.book.snapshot(),
            self.rules,
            self.about,
            self.reason,
            self.until,
            self.update,
            self.rates,
        )

    @classmethod
    def restore(cls, state: OrderBookState) -> OrderBook:
        """A book that goes on where ``state`` was taken."""
        found = cls(state.symbol)
        found.book = Book.restore(state.book)
        found.rules, found.about = state.rules, state.about
        found.reason, found.until, found.update = state.reason, state.until, state.update
        interned: dict[Rates, Rates] = {}
        for order, rates in state.rates.items():
            found._opened(order, interned.setdefault(rates, rates))
        return found

    # -- looking ---------------------------------------------------------------------------

    @property
    def status(self) -> BookStatus:
        """What the book does at present."""
        return BookStatus.UNLISTED if self.rules is None else _STATUS[self.book.phase]

    def due(self) -> int:
        """When the first order expires or an auction ends, whichever is sooner; 0 for never."""
        expiry, until = self.book.next_expiry(), self.until
        return min(expiry, until) if expiry and until else expiry or until

    # -- doing -----------------------------------------------------------------------------

    def listed(self, rules: Rules, about: About) -> None:
        """Open the book, or go by other rules from now on."""
        before = self.rules
        self.rules, self.about = rules, about
        self.book.set_bands(rules.band_up, rules.band_down)
        if before is None or rules.reference != before.reference:
            self.book.set_reference(rules.reference)

    def turned(self, status: BookStatus, reason: str, until: int, now: int) -> Effects:
        """Halt, resume, start or end an auction, or close for good."""
        book = self.book
        book.advance(now)
        if status is BookStatus.HALTED:
            book.halt()
        elif status is BookStatus.AUCTION:
            book.start_auction()
        elif status is BookStatus.DELISTED:
            book.delist()
        else:
            book.resume()
            book.uncross()
        self.reason, self.until = reason, until
        return self._effects(changed=True)

    def expired(self, now: int) -> Effects:
        """Let orders end whose time is over."""
        self.book.advance(now)
        return self._effects()

    def worked(self, customer: int, rates: Rates, actions: Sequence[Action], now: int) -> Effects:
        """Carry out a customer's actions, in order."""
        book, known = self.book, self.rates
        book.advance(now)
        owner = customer << REF_BITS
        place = book.place
        opened = self.open_by_customer.get(customer, 0)
        results: list[tuple[int, Result]] = []
        placed: dict[int, int] = {}
        quota: dict[int, int] = {}
        gone: dict[int, Rates] = {}
        refused = False
        for action in actions:
            order = owner | action.ref
            if type(action) is Place:
                quantity = action.quantity
                code = self._refusal(action, opened, refused)
                if code or order in placed:
                    code = code or Refusal.DUPLICATE_ORDER
                    result: Result = (_REJECTED, quantity, 0, 0, code)
                else:
                    placed[order] = len(results)
                    result = place(
                        order,
                        action.side,
                        action.type,
                        action.time_in_force,
                        action.price,
                        quantity,
                        action.trigger,
                        action.display,
                        action.self_trade,
                        action.expires_at,
                        action.budget,
                    )
                    if result[4]:
                        result = (_REJECTED, quantity, 0, 0, result[4])
                    else:
                        if result[0] < _ENDED:
                            known[order] = rates
                            opened += 1
                        if result[2]:
                            quota[order] = result[2]
            elif type(action) is Cancel:
                result = book.cancel(order)
                if not result[4]:
                    gone[order] = known.pop(order)
                    opened -= 1
            else:
                assert type(action) is Amend
                result = book.amend(order, action.quantity)
            results.append((order, result))
            refused = bool(result[4])
        if opened:
            self.open_by_customer[customer] = opened
        else:
            self.open_by_customer.pop(customer, None)
        return self._effects(results, placed, quota, rates, gone)

    def _refusal(self, action: Place, opened: int, refused: bool) -> str:
        """The rules' ladder; what is left is for the engine to judge."""
        rules, phase = self.rules, self.book.phase
        assert rules is not None
        if phase == _CLOSED:
            return Refusal.MARKET_CLOSED
        if phase == _HALTED:
            return Refusal.MARKET_HALTED
        if action.after and refused:
            return BookCode.NOT_ATTEMPTED
        kind, price, quantity = action.type, action.price, action.quantity
        if (
            kind == _LIMIT
            and 0 < quantity <= rules.quantity_max
            and 0 < price <= rules.price_max
            and price * quantity >= rules.notional_min
            and opened < rules.orders_max
            and not action.trigger
        ):
            return ""  # like most
        by_amount = kind == _MARKET and not quantity and action.budget > 0
        if not by_amount and not 0 < quantity <= rules.quantity_max:
            return BookCode.FILTER_QUANTITY
        priced = kind in _PRICED
        if price > rules.price_max or action.trigger > rules.price_max or (priced and price < 1):
            return BookCode.FILTER_PRICE
        if by_amount:
            worth = action.budget
        else:
            at = price if priced else action.trigger or self.book.last or self.book.reference
            # Without any price nobody can say what a market order is worth.
            worth = at * quantity if at else rules.notional_min
        if worth < rules.notional_min:
            return BookCode.FILTER_NOTIONAL
        if opened >= rules.orders_max and not (
            kind == _MARKET or (kind == _LIMIT and action.time_in_force in _AT_ONCE)
        ):
            return BookCode.TOO_MANY_ORDERS
        return ""

    # -- what came of it -------------------------------------------------------------------

    def _opened(self, order: int, rates: Rates) -> None:
        self.rates[order] = rates
        customer = order >> REF_BITS
        self.open_by_customer[customer] = self.open_by_customer.get(customer, 0) + 1

    def _closed(self, order: int) -> Rates:
        rates = self.rates.pop(order)
        customer = order >> REF_BITS
        left = self.open_by_customer[customer] - 1
        if left:
            self.open_by_customer[customer] = left
        else:
            del self.open_by_customer[customer]
        return rates

    def _effects(
        self,
        results: Sequence[tuple[int, Result]] = (),
        placed: Mapping[int, int] = _NOTHING,
        quota: dict[int, int] | None = None,
        rates: Rates = (0, 0),
        gone: Mapping[int, Rates] = _NOTHING,
        *,
        changed: bool = False,
    ) -> Effects:
        """Collect what the engine did since it was last asked, fees included.

        ``rates`` are those of orders in ``placed`` (by id, their index in ``results``), ``quota``
        what each of those traded while it was being placed, ``gone`` the rates of orders that
        have been cancelled meanwhile.
        """
        matched, changes, levels = self.book.drain()
        trades: list[Trade] = []
        own: dict[int, list[Fill]] = {}
        others: dict[int, list[Fill]] = {}
        if matched:
            trades = self._traded(matched, quota or {}, rates, gone, own, others)
            if self.book.band_up or self.book.band_down:
                self.book.set_reference(trades[-1].price)
        updates = [
            Update(
                order & REF_MASK,
                status,  # type: ignore[arg-type]
                quantity,
                filled,
                quote,
                tuple(own.pop(order)) if filled and order in own and placed[order] == index else (),
                code,
            )
            for index, (order, (status, quantity, filled, quote, code)) in enumerate(results)
        ]
        touched = self._touched(changes, results, others) if changes else ()
        news = None
        if levels or trades or changed:
            news = self._news(levels, trades, changed=changed)
        return Effects(tuple(updates), tuple(trades), touched, news)

    def _traded(
        self,
        matched: Iterable[Any],
        quota: dict[int, int],
        rates: Rates,
        gone: Mapping[int, Rates],
        own: dict[int, list[Fill]],
        others: dict[int, list[Fill]],
    ) -> list[Trade]:
        """The trades with both sides' fees: a part of what each receives, rounded up.

        Each side gets its fills. What an order traded while it was being placed is in its own
        update, up to what the engine answered; what came later, or to others, happened without
        their doing.
        """
        rules, known = self.rules, self.rates.get
        assert rules is not None
        lot, unit = rules.lot, rules.unit
        trades: list[Trade] = []
        for number, maker, taker, price, quantity, side in matched:
            base, quote = quantity * lot, price * quantity * unit
            if side != _BUY:
                base, quote = quote, base
            taker_fee = -(-base * (known(taker) or gone.get(taker, rates))[1] // RATE_UNIT)
            maker_fee = -(-quote * (known(maker) or gone.get(maker, rates))[0] // RATE_UNIT)
            trades.append(Trade(number, price, quantity, side, maker, taker, maker_fee, taker_fee))
            left = quota.get(taker)
            if left:
                quota[taker] = left - quantity
                fills = own
            else:
                fills = others
            fill = Fill(number, price, quantity, taker_fee, False)
            if taker in fills:
                fills[taker].append(fill)
            else:
                fills[taker] = [fill]
            fill = Fill(number, price, quantity, maker_fee, True)
            if maker in others:
                others[maker].append(fill)
            else:
                others[maker] = [fill]
        return trades

    def _touched(
        self,
        changes: Iterable[tuple[int, int, int, int, int]],
        results: Sequence[tuple[int, Result]],
        others: dict[int, list[Fill]],
    ) -> tuple[Touched, ...]:
        """The last state of each order that something happened to, in the order of it."""
        states = {
            order: (status, quantity, filled, quote)
            for order, status, quantity, filled, quote in changes
        }
        for order, result in results:
            # Cancelled or reduced, and that was after the change: then that is the state.
            if order in states and not result[4]:
                status, quantity, filled, _ = states[order]
                later = (result[2], -result[1]) >= (filled, -quantity)
                if status < _ENDED and (later or result[0] >= _ENDED):
                    states[order] = result[:4]
        touched = []
        for order, (status, quantity, filled, quote) in states.items():
            if status >= _ENDED and order in self.rates:
                self._closed(order)
            fills = tuple(others.pop(order, ()))
            update = Update(order & REF_MASK, status, quantity, filled, quote, fills)  # type: ignore[arg-type]
            touched.append(Touched(order >> REF_BITS, update))
        assert not others, "a fill of an order that did not change"
        return tuple(touched)

    def _news(self, levels: Sequence[Any], trades: Sequence[Trade], *, changed: bool) -> BookNews:
        """One update, whatever it changes; none for trades that only hidden parts have felt."""
        first = self.update + 1
        if levels or changed:
            self.update = first
        told, before = [], 0
        for trade in trades:
            told.append(
                (trade.id, trade.price, trade.quantity, int(trade.side), trade.taker == before)
            )
            before = trade.taker
        return BookNews(
            self.symbol,
            first,
            self.update,
            levels,
            told,
            self.status,
            self.reason,
            self.book.reference,
        )
