"""Proof of trading: the books' replay, and that customers and books say the same of each order.

Both sides are read at the same instant. What differs between them then must be on its way in
messages, fill by fill; when nothing is, the ledger account "clearing" is zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from actors.books import BooksCodec
from actors.durable.records import Answer
from cluster.audit import Findings, KindAudit
from cluster.audit_accounts import AccountsAudit
from domain.orders import BOOKS, OrderStatus, Settle, Side, Update, Work, Worked
from domain.trading.events import OrdersWorked, StatusChanged
from domain.trading.machine import BooksMachine
from domain.trading.orderbook import REF_BITS, REF_MASK
from persistence.database import Connection

_CLEARING: Final = "clearing"

Key = tuple[int, int]
"""A customer's number and that of the order."""


class OpenOrder(NamedTuple):
    """An open order, as one side knows it."""

    symbol: str
    quantity: int
    filled: int
    quote: int


class BooksAudit(KindAudit):
    """Replays all order books."""

    kind = BOOKS
    noun = "book"

    def __init__(self, connection: Connection, findings: Findings) -> None:
        super().__init__(connection, findings, BooksMachine(), BooksCodec())

    def track(self, stream: str, record: Any) -> None:
        """Count."""
        for _, event in record.events:
            if type(event) is OrdersWorked or type(event) is StatusChanged:
                self.counts["trades"] += len(event.trades)

    def orders(self) -> dict[Key, OpenOrder]:
        """All orders that are in books."""
        found: dict[Key, OpenOrder] = {}
        for symbol, entity in self.entities():
            book = entity.state
            if book.book.open_orders != len(book.rates):
                self.found(f"The book {symbol} has other orders than those it has rates of.")
            for number in book.rates:
                order = book.book.order(number)
                key = (number >> REF_BITS, number & REF_MASK)
                if order is None:
                    self.found(f"The book {symbol} has rates of an order {key} that it has not.")
                    continue
                _, _, _, quantity, filled, quote, _, _ = order
                found[key] = OpenOrder(symbol, quantity, filled, quote)
        return found


class TradingAudit:
    """Holds the customers' side against the books'."""

    def __init__(self, accounts: AccountsAudit, books: BooksAudit, findings: Findings) -> None:
        self.accounts = accounts
        self.books = books
        self.found = findings.found
        self.counts = findings.counts

    def compare(self) -> None:
        """Open orders are the same on both sides, and clearing is what is on its way."""
        touched: set[Key] = set()
        fills: list[tuple[Key, str, Update]] = []
        for customer, symbol, refs, updates in self._under_way():
            self.counts["trading_messages_in_transit"] += 1
            touched.update((customer, ref) for ref in refs)
            fills += [((customer, update.ref), symbol, update) for update in updates]
        self._compare_orders(touched)
        self._compare_clearing(fills)

    def _under_way(self) -> Iterator[tuple[int, str, list[int], tuple[Update, ...]]]:
        """Messages that one side has sent and the other not noted: customer, symbol, orders, news.

        The updates are what the customer's side has not heard yet.
        """
        for stream, sent in self.accounts.waiting():
            if type(sent.body) is Work:
                taken, verdict = self.books.verdict(stream, sent.seq)
                updates: tuple[Update, ...] = ()
                if taken and type(verdict) is Answer:
                    worked: Worked = self.accounts.codec.decode_answer(verdict.value)
                    updates = worked.updates
                refs = [action.ref for action in sent.body.actions]
                yield sent.body.customer, sent.destination, refs, updates
        for stream, sent in self.books.waiting():
            if type(sent.body) is Settle and not self.accounts.verdict(stream, sent.seq)[0]:
                settle = sent.body
                refs = [update.ref for update in settle.updates]
                yield int(sent.destination), settle.symbol, refs, settle.updates

    def _compare_orders(self, touched: set[Key]) -> None:
        resting = self.books.orders()
        for key, entity in self.accounts.entities():
            brokerage = entity.state.brokerage
            for ref, order in brokerage.orders.items() if brokerage is not None else ():
                self.counts["open_orders"] += 1
                where = (int(key), ref)
                found = resting.pop(where, None)
                if where in touched:
                    continue
                known = OpenOrder(order.symbol, order.quantity, order.filled, order.quote)
                if found is None:
                    self.found(f"Order {where} is open for its customer and in no book.")
                elif found != known or order.status is OrderStatus.PENDING:
                    self.found(f"Order {where} is {known} for its customer, {found} in its book.")
        for where in resting.keys() - touched:
            self.found(f"Order {where} is in a book and not open for its customer.")

    def _compare_clearing(self, fills: list[tuple[Key, str, Update]]) -> None:
        """Each side posts its own half of a trade; what only one has posted is in clearing."""
        rules = {symbol: entity.state.rules for symbol, entity in self.books.entities()}
        orders: dict[Key, Any] = {
            (int(key), ref): order
            for key, entity in self.accounts.entities()
            if entity.state.brokerage is not None
            for ref, order in entity.state.brokerage.orders.items()
        }
        expected: Counter[str] = Counter()
        for key, symbol, update in fills:
            if not update.fills:
                continue
            order, of = orders.get(key), rules.get(symbol)
            if order is None or of is None:
                self.found(f"A trade of order {key} is on its way, which is not open.")
                continue
            sign = 1 if order.place.side is Side.BUY else -1
            for fill in update.fills:
                expected[f"{of.base}.8"] += sign * fill.quantity * of.lot
                expected[f"{of.quote}.8"] -= sign * fill.price * fill.quantity * of.unit
        clearing = self.accounts.house().get(_CLEARING, Counter())
        for asset in sorted({*clearing, *expected}):
            if clearing[asset] != expected[asset]:
                self.found(
                    f"{clearing[asset]} units of {asset} are in clearing, but the trades on their"
                    f" way come to {expected[asset]}."
                )
