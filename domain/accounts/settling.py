"""What order books report: answers to a customer's trades, and what happened without them.

The two may overtake each other: what happened to an order after it was placed may be known before
the answer to its placing. Fills only ever add up, quantities only ever go down, and an order ends
for its customer when the book has ended it and everything filled until then has been settled.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from domain.accounts import events as ev
from domain.accounts import trading as tr
from domain.accounts.brokerage import Brokerage, Order
from domain.accounts.placing import answered_parts
from domain.accounts.reports import (
    SettledNews,
    order_report,
    refused_order_report,
    unknown_order_report,
    update_report,
)
from domain.accounts.state import Customer
from domain.accounts.trading import OrderCode, OrderReport
from domain.durable import Decision, Message, Rejection
from domain.orders import Action, OrderStatus, Place, Settle, Side, Update, Work, Worked

_BUY: Final = Side.BUY
_REJECTED: Final = OrderStatus.REJECTED
_UNKNOWN: Final = OrderCode.UNKNOWN_ORDER.value

_SAID_SO: Final = {"previous_refused": OrderCode.NOT_ATTEMPTED.value}
"""Codes of the book that have another name here."""


def moved_by(
    orders: dict[int, Order], updates: Iterable[Update]
) -> tuple[tuple[str, int, int], ...]:
    """What the fills bring and take, by asset, with the fees taken out of it; all in units."""
    bought = paid = sold = earned = fee_base = fee_quote = 0
    terms: tr.Terms | None = None
    for update in updates:
        fills = update.fills
        if not fills:
            continue
        order = orders.get(update.ref)
        if order is None:
            continue
        terms = order.terms
        if order.place.side is _BUY:
            for fill in fills:
                bought += fill.quantity
                paid += fill.price * fill.quantity
                fee_base += fill.fee
        else:
            for fill in fills:
                sold += fill.quantity
                earned += fill.price * fill.quantity
                fee_quote += fill.fee
    if terms is None:
        return ()
    return (
        (terms.base, (bought - sold) * terms.lot - fee_base, fee_base),
        (terms.quote, (earned - paid) * terms.unit - fee_quote, fee_quote),
    )


class SettlingDecisions:
    """The part of ``AccountsMachine`` that takes note of what order books report."""

    def _settled(self, state: Customer, message: Settle, now: int) -> Decision | Rejection:
        brokerage = state.brokerage
        orders = {} if brokerage is None else brokerage.orders
        found: list[Order] = []
        at, updates = message.at, message.updates
        for update in updates:
            order = orders.get(update.ref)
            if order is not None:
                found.append(order)
            elif update.fills:
                # Not a fill may be lost: the book keeps it as refused, and the books tell.
                return Rejection(_UNKNOWN, {"ref": str(update.ref)})
        if brokerage is None or not found:
            return Decision()
        if len(found) < len(updates):
            updates = tuple(update for update in updates if update.ref in orders)
        customer = brokerage.customer
        event = ev.OrdersSettled(customer, message.symbol, at, updates, moved_by(orders, updates))
        return Decision([event], news=[SettledNews(customer, found, updates, at)])

    def _worked(
        self, state: Customer, work: Work, outcome: Worked | Rejection, now: int
    ) -> Decision:
        brokerage = state.brokerage
        assert brokerage is not None
        underway = brokerage.trades.get(work.id)
        if type(outcome) is Rejection:
            at, updates = now, _all_refused(work.actions, outcome.code)
        else:
            assert type(outcome) is Worked
            at, updates = outcome.at, outcome.updates
        symbol = _symbol(brokerage, work) if underway is None else underway.symbol
        reports, kept = _reports(brokerage, symbol, work.actions, updates, at)
        moved = moved_by(brokerage.orders, kept)
        news = [tr.OrdersNews(work.customer, tuple(reports), work.actions)]
        if underway is None:
            worked = ev.OrdersWorked(work.id, work.customer, symbol, at, kept, moved)
            return Decision([worked], news=news)
        if underway.later:
            worked = ev.OrdersWorked(work.id, work.customer, symbol, at, kept, moved, True)
            later = tr.PlaceLater(
                work.id,
                underway.fingerprint,
                work.customer,
                symbol,
                underway.terms,
                _numbered(reports, underway.refused, [item[0] for item in underway.later]),
                underway.later,
                underway.parts,
            )
            return Decision([worked], None, [Message(str(work.customer), later)], news=news)
        worked = ev.OrdersWorked(work.id, work.customer, symbol, at, kept, moved)
        whole = tuple(reports)
        if underway.refused:
            whole = tuple(report for _, report in _numbered(reports, underway.refused, ()))
        return Decision(
            [worked],
            tr.TradeReply(at, whole),
            answers=work.id,
            fingerprint=underway.fingerprint,
            # A report on an order that the book has left as it was shows what is known here of it.
            durable=kept is updates and type(outcome) is Worked,
            parts=answered_parts(underway.parts, whole, at),
            news=news,
        )


def _reports(
    brokerage: Brokerage,
    symbol: str,
    actions: Sequence[Action],
    updates: tuple[Update, ...],
    at: int,
) -> tuple[list[OrderReport], tuple[Update, ...]]:
    """A report for each action, and the updates without those that changed nothing."""
    orders = brokerage.orders
    reports: list[OrderReport] = []
    idle = False
    for action, update in zip(actions, updates, strict=True):
        ref = action.ref
        order = orders.get(ref)
        if order is None:
            order = brokerage.ended.get(ref)
        code = update.code
        if order is None:
            reports.append(unknown_order_report(ref, "", symbol, code or _UNKNOWN, at))
            idle = True
        elif not code:
            reports.append(update_report(order, update, at))
        elif type(action) is Place:
            reports.append(refused_order_report(ref, order, at, _SAID_SO.get(code, code)))
        else:
            reports.append(order_report(ref, order, code))
            idle = True
    if idle:
        updates = tuple(
            update
            for action, update in zip(actions, updates, strict=True)
            if type(action) is Place or (not update.code and update.ref in orders)
        )
    return reports, updates


def _all_refused(actions: Iterable[Action], code: str) -> tuple[Update, ...]:
    """What a book that takes no orders at all would have answered."""
    return tuple(Update(action.ref, _REJECTED, 0, 0, 0, (), code) for action in actions)


def _numbered(
    reports: Iterable[OrderReport],
    refused: Iterable[tuple[int, OrderReport]],
    waiting: Iterable[int],
) -> tuple[tuple[int, OrderReport], ...]:
    """All reports with their places in the answer: those refused before have theirs already."""
    places = dict(refused)
    taken = {*places, *waiting}
    position = 0
    for report in reports:
        while position in taken:
            position += 1
        places[position] = report
        position += 1
    return tuple(sorted(places.items()))


def _symbol(brokerage: Brokerage, work: Work) -> str:
    """The instrument of actions that no trade stands behind: they are all of one."""
    for action in work.actions:
        order = brokerage.orders.get(action.ref) or brokerage.ended.get(action.ref)
        if order is not None:
            return order.symbol
    return ""
