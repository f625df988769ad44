"""Decisions on an order book: ``domain.durable.Machine`` over ``orderbook.OrderBook``.

Matching is deciding: what a customer's actions lead to is known only once it has happened. So a
book changes while it decides (``Decision.applied``), and ``apply``, in a replay, does the same
again and holds the result against the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from domain.durable import Decision, Diverged, Message, Posting, Rejection
from domain.orders import ACCOUNTS, OrderStatus, Place, Settle, Update, Work, Worked
from domain.trading import commands as cmd
from domain.trading import events as ev
from domain.trading.codes import Refusal
from domain.trading.orderbook import REF_BITS, REF_MASK, Effects, OrderBook
from domain.trading.rules import (
    REASON_MAX,
    About,
    BookCode,
    BookStatus,
    Rules,
    flaw_of_about,
    flaw_of_rules,
    flaw_of_symbol,
    flaw_of_text,
)

_ACCEPTED: Final = Decision()
_KEPT: Final = ("base", "quote", "tick", "lot")
_CLOSED: Final = frozenset({BookStatus.UNLISTED, BookStatus.DELISTED})
_LEVELS_ALL: Final = 2**31


def reject(code: str, **fields: object) -> Rejection:
    """A refusal with what was wrong."""
    return Rejection(code, {name: str(value) for name, value in fields.items()})


class BooksMachine:
    """The trading context as ``domain.durable.Machine``; the key is the symbol."""

    def __init__(self) -> None:
        self._decide: dict[type, Callable[[OrderBook, Any, int], Decision | Rejection]] = {
            Work: self._work,
            cmd.ReadBook: self._read,
            cmd.ReadOrders: self._read_orders,
            cmd.WakeBook: self._wake,
            cmd.ListInstrument: self._list,
            cmd.ChangeRules: self._change,
            cmd.Halt: self._halt,
            cmd.Resume: self._resume,
            cmd.StartAuction: self._auction,
            cmd.Delist: self._delist,
        }

    # -- the contract ----------------------------------------------------------------------

    def new(self, key: str) -> OrderBook:
        return OrderBook(key)

    def decide(self, state: OrderBook, command: Any, now: int) -> Decision | Rejection:
        return self._decide[type(command)](state, command, now)

    def acknowledge(self, state: OrderBook, message: Any, outcome: Any, now: int) -> Decision:
        """A customer has taken note of a settlement, which is all that is wanted."""
        return _ACCEPTED

    def apply(self, state: OrderBook, event: Any) -> None:
        """Do again what the event says was done; raises ``Diverged`` when it comes out otherwise.

        That is a release whose engine matches otherwise than the one that wrote the journal, or a
        journal that somebody has changed: going on would be wrong in either case.
        """
        kind = type(event)
        effects: Effects | None = None
        updates: tuple[Update, ...] = ()
        if kind is ev.OrdersWorked:
            effects = state.worked(
                event.customer, (event.maker, event.taker), event.actions, event.at
            )
            updates = event.updates
        elif kind is ev.OrdersExpired:
            effects = state.expired(event.at)
        elif kind is ev.StatusChanged:
            effects = state.turned(event.status, event.reason, event.until, event.at)
        else:
            state.listed(event.rules, event.about)
        if effects is None:
            return
        trades = event.trades if kind is not ev.OrdersExpired else ()
        found = (effects.updates, effects.trades, effects.touched, state.update)
        if found != (updates, trades, event.touched, event.update):
            raise Diverged(
                f"The book {state.symbol} does otherwise than its journal says, after update"
                f" {state.update}."
            )

    def postings(self, event: Any) -> Iterable[Posting]:
        return ()

    def house_postings(self, event: Any) -> Iterable[tuple[str, str, int]]:
        return ()

    def balances(self, state: OrderBook) -> dict[str, int]:
        """A book owns nothing: what is traded is held and settled by the customers' accounts."""
        return {}

    def due(self, state: OrderBook) -> int:
        return state.due()

    def wake(self, key: str) -> cmd.WakeBook:
        return cmd.WakeBook(key)

    def identities(self, command: Any) -> Sequence[tuple[bytes, bytes]]:
        kind = type(command)
        if kind is cmd.ReadBook or kind is cmd.WakeBook or kind is cmd.ReadOrders:
            return ()
        return ((command.id, command.fingerprint),)

    def results(self, reply: Any) -> Sequence[Any]:
        return ()

    def key(self, command: Any) -> str:
        symbol: str = command.symbol
        return symbol

    def touches(self, command: Any) -> Iterable[str]:
        return ()

    # -- orders ----------------------------------------------------------------------------

    def _work(self, state: OrderBook, work: Work, now: int) -> Decision:
        if state.rules is None:
            # Nothing may be kept of a book that is none.
            closed = tuple(_refused(action) for action in work.actions)
            return Decision(reply=Worked(now, closed))
        due = state.due()
        effects = state.worked(work.customer, (work.maker, work.taker), work.actions, now)
        event = ev.OrdersWorked(
            work.id,
            work.customer,
            work.maker,
            work.taker,
            now,
            work.actions,
            effects.updates,
            effects.trades,
            effects.touched,
            state.update,
        )
        return _applied(state, event, effects, due, now, Worked(now, effects.updates))

    def _wake(self, state: OrderBook, command: cmd.WakeBook, now: int) -> Decision:
        due = state.due()
        if not due or due > now:
            return _ACCEPTED
        if state.until and state.until <= now:
            return self._turn(state, BookStatus.TRADING, "", 0, now, reply=False)
        effects = state.expired(now)
        event = ev.OrdersExpired(now, effects.touched, state.update)
        return _applied(state, event, effects, due, now, None)

    def _read(self, state: OrderBook, command: cmd.ReadBook, now: int) -> Decision | Rejection:
        if state.rules is None:
            return reject(BookCode.UNKNOWN_INSTRUMENT, symbol=command.symbol)
        book = state.book
        bids, asks = book.depth(command.depth if command.depth > 0 else _LEVELS_ALL)
        auction = state.status is BookStatus.AUCTION
        price, matched, _ = book.indicative() if auction else (0, 0, 0)
        return Decision(
            reply=cmd.BookView(
                state.symbol,
                state.status,
                state.update,
                tuple(bids),
                tuple(asks),
                book.trade_id,
                book.last,
                now,
                state.until,
                price,
                matched,
                state.reason,
            )
        )

    def _read_orders(
        self, state: OrderBook, command: cmd.ReadOrders, now: int
    ) -> Decision | Rejection:
        if state.rules is None:
            return reject(BookCode.UNKNOWN_INSTRUMENT, symbol=command.symbol)
        bids, asks = state.book.orders(_LEVELS_ALL)
        shown = {order: visible for _, order, visible in (*bids, *asks)}
        orders = [*shown, *sorted(state.rates.keys() - shown.keys())]
        resting = []
        for order in orders:
            found = state.book.order(order)
            assert found is not None
            side, _, price, quantity, filled, _, trigger, _ = found
            resting.append(
                cmd.RestingOrder(
                    order >> REF_BITS,
                    order & REF_MASK,
                    side,  # type: ignore[arg-type]
                    price,
                    quantity - filled,
                    shown.get(order, 0),
                    trigger,
                )
            )
        return Decision(reply=cmd.OrdersView(state.symbol, state.update, tuple(resting)))

    # -- the instrument --------------------------------------------------------------------

    def _list(
        self, state: OrderBook, command: cmd.ListInstrument, now: int
    ) -> Decision | Rejection:
        flaw = _flaw(command.symbol, command.rules, command.about)
        if flaw is not None:
            return flaw
        if state.rules is not None:
            return reject(BookCode.ALREADY_LISTED, symbol=command.symbol)
        return self._set(state, ev.InstrumentListed(command.rules, command.about, now))

    def _change(self, state: OrderBook, command: cmd.ChangeRules, now: int) -> Decision | Rejection:
        if state.rules is None:
            return reject(BookCode.UNKNOWN_INSTRUMENT, symbol=command.symbol)
        flaw = _flaw(command.symbol, command.rules, command.about)
        if flaw is not None:
            return flaw
        for field in _KEPT:
            if getattr(command.rules, field) != getattr(state.rules, field):
                return reject(BookCode.RULES_INVALID, field=field)
        if state.status in _CLOSED:
            return reject(BookCode.STATUS_INVALID, status=state.status.name.lower())
        return self._set(state, ev.RulesChanged(command.rules, command.about, now))

    def _set(self, state: OrderBook, event: ev.InstrumentListed | ev.RulesChanged) -> Decision:
        due = state.due()
        self.apply(state, event)
        reply = cmd.InstrumentReply(state.symbol, state.status, event.rules, event.about)
        return Decision([event], reply, applied=True, due_before=due)

    def _halt(self, state: OrderBook, command: cmd.Halt, now: int) -> Decision | Rejection:
        if flaw_of_text(command.reason, REASON_MAX):
            return reject(BookCode.TEXT_INVALID, field="reason")
        refused = _unless(state, BookStatus.TRADING, BookStatus.AUCTION)
        return refused or self._turn(state, BookStatus.HALTED, command.reason.strip(), 0, now)

    def _resume(self, state: OrderBook, command: cmd.Resume, now: int) -> Decision | Rejection:
        refused = _unless(state, BookStatus.HALTED, BookStatus.AUCTION)
        return refused or self._turn(state, BookStatus.TRADING, "", 0, now)

    def _auction(
        self, state: OrderBook, command: cmd.StartAuction, now: int
    ) -> Decision | Rejection:
        refused = _unless(state, BookStatus.TRADING, BookStatus.HALTED)
        if refused is None and command.until <= now:
            return reject(BookCode.TIME_INVALID, field="until")
        return refused or self._turn(state, BookStatus.AUCTION, "", command.until, now)

    def _delist(self, state: OrderBook, command: cmd.Delist, now: int) -> Decision | Rejection:
        if flaw_of_text(command.reason, REASON_MAX):
            return reject(BookCode.TEXT_INVALID, field="reason")
        refused = _unless(state, BookStatus.TRADING, BookStatus.HALTED, BookStatus.AUCTION)
        return refused or self._turn(state, BookStatus.DELISTED, command.reason.strip(), 0, now)

    def _turn(
        self,
        state: OrderBook,
        status: BookStatus,
        reason: str,
        until: int,
        now: int,
        *,
        reply: bool = True,
    ) -> Decision:
        due = state.due()
        effects = state.turned(status, reason, until, now)
        event = ev.StatusChanged(
            status, reason, now, until, state.update, effects.trades, effects.touched
        )
        answer = None
        if reply:
            assert state.rules is not None
            assert state.about is not None
            answer = cmd.InstrumentReply(state.symbol, status, state.rules, state.about)
        return _applied(state, event, effects, due, now, answer)


def _applied(
    state: OrderBook, event: ev.Event, effects: Effects, due: int, now: int, reply: Any
) -> Decision:
    """What has happened, and a message to each customer whose orders it has touched."""
    messages: Sequence[Message] = ()
    if effects.touched:
        by_customer: dict[int, list[Update]] = {}
        for touched in effects.touched:
            by_customer.setdefault(touched.customer, []).append(touched.update)
        messages = [
            Message(str(customer), Settle(state.symbol, now, tuple(updates)), ACCOUNTS)
            for customer, updates in by_customer.items()
        ]
    news = () if effects.news is None else (effects.news,)
    return Decision([event], reply, messages, applied=True, due_before=due, news=news)


def _refused(action: Any) -> Update:
    quantity = action.quantity if type(action) is Place else 0
    return Update(action.ref, OrderStatus.REJECTED, quantity, 0, 0, (), str(Refusal.MARKET_CLOSED))


def _flaw(symbol: str, rules: Rules, about: About) -> Rejection | None:
    if flaw_of_symbol(symbol, rules):
        return reject(BookCode.SYMBOL_INVALID, symbol=symbol)
    field = flaw_of_rules(rules)
    if field:
        return reject(BookCode.RULES_INVALID, field=field)
    field = flaw_of_about(about)
    if field in {"name", "description"}:
        return reject(BookCode.TEXT_INVALID, field=field)
    return reject(BookCode.RULES_INVALID, field=field) if field else None


def _unless(state: OrderBook, *allowed: BookStatus) -> Rejection | None:
    if state.rules is None:
        return reject(BookCode.UNKNOWN_INSTRUMENT, symbol=state.symbol)
    if state.status not in allowed:
        return reject(BookCode.STATUS_INVALID, status=state.status.name.lower())
    return None
