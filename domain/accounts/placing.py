"""Trades on their way to a book: each action judged, numbered, and its funds put aside.

An order that replaces one may be worth more than what is available, for the cancel will free what
the old one holds. How much that is only the book knows: the old order may be traded meanwhile. So
such an order waits until the cancel is confirmed (``later``), and is judged then. One that is
covered without it goes to the book together with the cancel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from domain.accounts import events as ev
from domain.accounts import trading as tr
from domain.accounts.brokerage import Brokerage, Order
from domain.accounts.codes import Code
from domain.accounts.guards import DAY_US
from domain.accounts.policy import Policy
from domain.accounts.reports import order_report, refused_place_report, unknown_order_report
from domain.accounts.state import Customer
from domain.accounts.trading import CLIENT_ID_MAX, ORDER_VALUE_MAX, OrderCode, OrderReport
from domain.durable import Decision, Message, Rejection
from domain.orders import BOOKS, Action, Amend, Cancel, OrderType, Place, Side, Work

REF_MAX: Final = 2**29
"""Numbers of a customer's orders are below it: with the customer's they make one for the book."""

EXPIRY_MAX_US: Final = 3_650 * DAY_US

_BUY: Final = Side.BUY
_MARKET: Final = OrderType.MARKET
_MARKETS: Final = frozenset({OrderType.MARKET, OrderType.STOP_LOSS, OrderType.TAKE_PROFIT})

_QUANTITY: Final = OrderCode.FILTER_QUANTITY.value
_PRICE: Final = OrderCode.FILTER_PRICE.value
_NOTIONAL: Final = OrderCode.FILTER_NOTIONAL.value
_EXPIRY: Final = OrderCode.EXPIRY_INVALID.value
_CLIENT: Final = OrderCode.CLIENT_ID_INVALID.value
_DUPLICATE: Final = OrderCode.DUPLICATE_CLIENT_ID.value
_TOO_MANY: Final = OrderCode.TOO_MANY_ORDERS.value
_UNKNOWN: Final = OrderCode.UNKNOWN_ORDER.value
_NOT_ATTEMPTED: Final = OrderCode.NOT_ATTEMPTED.value
_INSUFFICIENT: Final = OrderCode.INSUFFICIENT_BALANCE.value

_NOBODY: Final = Brokerage(0)
"""Stands for the brokerage of who has none; never changed."""


class Draft:
    """The actions of a trade as far as they are judged. Reads the brokerage, changes nothing."""

    def __init__(
        self, brokerage: Brokerage, symbol: str, terms: tr.Terms, policy: Policy, now: int
    ) -> None:
        self.brokerage = brokerage
        self.symbol = symbol
        self.terms = terms
        self.now = now
        base, quote = brokerage.balances.get(terms.base), brokerage.balances.get(terms.quote)
        self.free_base = 0 if base is None else base.total - base.held
        self.free_quote = 0 if quote is None else quote.total - quote.held
        self.next_ref = brokerage.next_ref
        room = policy.orders_max - len(brokerage.orders)
        self.last_ref = min(self.next_ref + room, REF_MAX)
        self.actions: list[Action] = []
        self.clients: list[str] = []
        self.holds: list[int] = []
        self.previous: dict[int, str] = {}
        self.refused: list[tuple[int, OrderReport]] = []
        self.later: list[tuple[int, tr.PlaceOrder, str]] = []
        self.parts: list[tuple[int, bytes]] = []
        self.drafted: dict[str, int] = {}
        # Of the action before: whether it frees funds (or waits for one that does), was refused,
        # which client's id it is about, and where it stands when it is sent.
        self.freeing = self.failed = False
        self.replaced = ""
        self.sent = -1

    # -- new orders -----------------------------------------------------------------------

    def place(self, position: int, order: tr.PlaceOrder) -> None:
        """Judge a new order: a ladder of guard clauses in the order of ``OrderCode``."""
        terms, price, quantity, budget = self.terms, order.price, order.quantity, order.budget
        client, kind = order.client, order.type
        market = kind in _MARKETS
        if (
            (quantity <= 0 and (quantity or budget <= 0 or kind is not _MARKET))
            or quantity * terms.lot > ORDER_VALUE_MAX
            or (budget and (budget < 0 or not market))
            or (order.display and not 0 < order.display <= quantity)
        ):
            code = _QUANTITY
        elif (
            not 0 <= price <= ORDER_VALUE_MAX
            or (order.trigger and not 0 < order.trigger <= ORDER_VALUE_MAX)
            or not (price or market)
        ):
            code = _PRICE
        elif price * quantity * terms.unit > ORDER_VALUE_MAX or (
            budget and budget * terms.unit > ORDER_VALUE_MAX
        ):
            code = _NOTIONAL
        elif order.expires_at and not self.now < order.expires_at <= self.now + EXPIRY_MAX_US:
            code = _EXPIRY
        elif client and (len(client) > CLIENT_ID_MAX or not client.isprintable()):
            code = _CLIENT
        elif client and (client in self.brokerage.clients or client in self.drafted):
            self._duplicate(position, order)
            return
        elif self.next_ref >= self.last_ref:
            code = _TOO_MANY
        elif order.after and self.failed:
            code = _NOT_ATTEMPTED
        else:
            code = self._pay(position, order, market)
        if code:
            self.refuse(position, refused_place_report(self.symbol, order, code, self.now))

    def _pay(self, position: int, order: tr.PlaceOrder, market: bool) -> str:
        """Put the order's funds aside and number it; the code where that cannot be."""
        terms, price, quantity, budget = self.terms, order.price, order.quantity, order.budget
        buys = order.side is _BUY
        if buys:
            if market:
                worst = price * quantity
                most = min(self.free_quote, ORDER_VALUE_MAX) // terms.unit
                if not budget:
                    budget = min(most, worst) if worst else most
                needed = (min(budget, worst) if worst else budget) * terms.unit
            else:
                needed = price * quantity * terms.unit
            covered = 0 < needed <= self.free_quote
        else:
            quantity = quantity or min(self.free_base, ORDER_VALUE_MAX) // terms.lot
            needed = quantity * terms.lot
            covered = 0 < needed <= self.free_base
        if not covered:
            if order.after and self.freeing:
                self.later.append((position, order, self.replaced))
                return ""
            return _INSUFFICIENT
        if order.after and self.later and self.later[-1][0] == position - 1:
            # What waits cannot be overtaken by what is to follow upon its success.
            self.later.append((position, order, ""))
            return ""
        if buys:
            self.free_quote -= needed
        else:
            self.free_base -= needed
        ref = self.next_ref
        self.next_ref = ref + 1
        self.actions.append(
            Place(
                ref,
                order.side,
                order.type,
                order.time_in_force,
                price,
                quantity,
                order.trigger,
                order.display,
                order.self_trade,
                order.expires_at,
                budget,
                order.after and self.sent == position - 1,
            )
        )
        self.holds.append(needed)
        client = order.client
        self.clients.append(client)
        if client:
            self.drafted[client] = ref
        if order.id:
            self.parts.append((position, order.id))
        if self.replaced and order.after:
            self.previous[len(self.holds) - 1] = self.replaced
        self.freeing, self.failed, self.replaced, self.sent = False, False, "", position
        return ""

    def _duplicate(self, position: int, order: tr.PlaceOrder) -> None:
        """Refuse an id that another order has; the report tells of that one where it is known."""
        brokerage = self.brokerage
        ref = brokerage.clients.get(order.client, 0)
        known = brokerage.orders.get(ref) or brokerage.ended.get(ref)
        if known is None:
            report = refused_place_report(self.symbol, order, _DUPLICATE, self.now)
        else:
            report = order_report(ref, known, _DUPLICATE)
        self.refuse(position, report)

    def refuse(self, position: int, report: OrderReport) -> None:
        """Note what became of an action that is not sent."""
        self.refused.append((position, report))
        self.freeing, self.failed, self.replaced = False, True, ""

    # -- orders that are there ------------------------------------------------------------

    def change(self, position: int, action: tr.CancelOrder | tr.AmendOrder) -> None:
        """Judge a cancel or an amendment of an open order."""
        ref, client = action.ref, action.client
        drafted = self.drafted.get(client, 0) if client and not ref else 0
        if client and not ref:
            ref = drafted or self.brokerage.clients.get(client, 0)
        order = self.brokerage.orders.get(ref)
        if not drafted and (order is None or not self._mine(order, client)):
            report = unknown_order_report(action.ref, client, self.symbol, _UNKNOWN, self.now)
            self.refuse(position, report)
            return
        if type(action) is tr.AmendOrder:
            if not 0 < action.quantity <= ORDER_VALUE_MAX:
                report = (
                    unknown_order_report(ref, client, self.symbol, _QUANTITY, self.now)
                    if order is None
                    else order_report(ref, order, _QUANTITY)
                )
                self.refuse(position, report)
                return
            self.actions.append(Amend(ref, action.quantity))
        else:
            self.actions.append(Cancel(ref))
        self.freeing, self.failed, self.sent = True, False, position
        self.replaced = client if order is None else order.client

    def _mine(self, order: Order, client: str) -> bool:
        """Whether the order is one of this instrument, still open, and the one that was named."""
        if order.symbol != self.symbol or order.final_filled >= 0:
            return False
        return not client or order.client == client

    def cancel_all(self, position: int) -> int:
        """Cancel what is open of the instrument, orders of this trade too; how many."""
        asked = {action.ref for action in self.actions if type(action) is Cancel}
        drafted = [Cancel(place.ref) for place in self.actions if type(place) is Place]
        cancels = [
            cancel
            for cancel in (*open_cancels(self.brokerage, self.symbol), *drafted)
            if cancel.ref not in asked
        ]
        self.actions.extend(cancels)
        self.freeing, self.failed, self.replaced = bool(cancels), False, ""
        self.sent = position + len(cancels) - 1 if cancels else -1
        return len(cancels)

    # -- what comes of it -----------------------------------------------------------------

    def decision(self, trade: bytes, fingerprint: bytes, customer: int) -> Decision | None:
        """What goes to the book; ``None`` when nothing is left to be sent."""
        actions = tuple(self.actions)
        if not actions:
            return None
        previous: tuple[str, ...] = ()
        if self.previous:
            previous = tuple(self.previous.get(index, "") for index in range(len(self.holds)))
        terms = self.terms
        placed = ev.OrdersPlaced(
            trade,
            fingerprint,
            customer,
            self.symbol,
            terms,
            self.now,
            actions,
            tuple(self.clients),
            tuple(self.holds),
            previous,
            tuple(self.refused),
            tuple(self.later),
            tuple(self.parts),
        )
        work = Work(trade, customer, terms.maker, terms.taker, actions)
        return Decision([placed], None, [Message(self.symbol, work, BOOKS)])


def open_cancels(brokerage: Brokerage, symbol: str) -> Iterable[Cancel]:
    """A cancel of each order of an instrument that the book has not ended yet."""
    for ref, order in brokerage.orders.items():
        if order.symbol == symbol and order.final_filled < 0:
            yield Cancel(ref)


def answered_parts(
    parts: Iterable[tuple[int, bytes]], reports: Sequence[OrderReport], at: int
) -> list[tuple[bytes, bytes, tr.TradeReply]]:
    """What is remembered of single actions: each is answered as if it had been asked alone."""
    return [(part, b"", tr.TradeReply(at, (reports[place],))) for place, part in parts]


class PlacingDecisions:
    """The part of ``AccountsMachine`` that takes trades to the books."""

    policy: Policy

    def _trade(self, state: Customer, command: tr.Trade, now: int) -> Decision | Rejection:
        if not state.accounts:
            return Rejection(Code.UNKNOWN_CUSTOMER.value, {"customer": str(command.customer)})
        brokerage = state.brokerage or _NOBODY
        underway = brokerage.trades.get(command.id)
        if underway is not None:
            if underway.fingerprint != command.fingerprint:
                return Rejection(Code.ID_REUSED.value)
            return Decision()
        draft = Draft(brokerage, command.symbol, command.terms, self.policy, now)
        position = 0
        for action in command.actions:
            if type(action) is tr.PlaceOrder:
                draft.place(position, action)
            elif type(action) is tr.CancelOrder or type(action) is tr.AmendOrder:
                draft.change(position, action)
            else:
                position += draft.cancel_all(position) - 1
            position += 1
        decision = draft.decision(command.id, command.fingerprint, command.customer)
        if decision is None:
            reports = tuple(report for _, report in draft.refused)
            return Decision(reply=tr.TradeReply(now, reports))
        return decision

    def _place_later(self, state: Customer, message: tr.PlaceLater, now: int) -> Decision:
        """Go on with what waited for a cancel, which is confirmed or refused by now."""
        brokerage = state.brokerage
        assert brokerage is not None
        draft = Draft(brokerage, message.symbol, message.terms, self.policy, now)
        draft.parts.extend(message.parts)
        done = dict(message.done)
        for position, order, replaced in message.orders:
            before = done.get(position - 1)
            draft.failed = draft.failed if before is None else bool(before.code)
            draft.replaced = replaced
            draft.place(position, order)
            done.update(draft.refused)
        draft.refused = sorted(done.items())
        decision = draft.decision(message.trade, message.fingerprint, message.customer)
        if decision is not None:
            return decision
        reports = tuple(report for _, report in draft.refused)
        return Decision(
            [ev.TradeEnded(message.trade, message.customer)],
            tr.TradeReply(now, reports),
            answers=message.trade,
            fingerprint=message.fingerprint,
            parts=answered_parts(draft.parts, reports, now),
        )
