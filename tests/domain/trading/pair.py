"""The engine and its naive twin side by side: every call goes to both, and everything is compared.

Beside them stands a third book, rebuilt from the changed levels alone, as a subscriber has it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from benchmarks.flows import AMEND, CANCEL, MOVE, Message
from domain.trading.book import Book
from domain.trading.state import BookState
from tests.domain.trading.naive import NaiveBook

ALL = 1 << 30


class Pair:
    """Two books that must be one."""

    def __init__(self) -> None:
        self.book = Book()
        self.twin = NaiveBook()
        self.public: dict[tuple[int, int], int] = {}
        self.trades: list[tuple[int, int, int, int, int, int]] = []
        self.changes: list[tuple[int, int, int, int, int]] = []
        self.update = 0

    def do(self, verb: str, *fields: int) -> Any:
        """Call a method of both, and compare what it returns, causes and leaves behind."""
        result = getattr(self.book, verb)(*fields)
        expected = getattr(self.twin, verb)(*fields)
        assert result == expected, f"{verb}{fields}"
        self.compare()
        return result

    def play(self, message: Message) -> None:
        """Do what a tape says."""
        if message.action in (CANCEL, MOVE):
            self.do("cancel", message.number)
        if message.action == AMEND:
            self.do("amend", message.number, message.quantity)
        if message.order is not None:
            self.do("place", *message.order)

    def compare(self) -> None:
        """Trades, what became of orders, levels, orders, best prices, phase and times."""
        book, twin = self.book, self.twin
        trades, changes, levels = book.drain()
        assert (trades, changes, sorted(levels)) == twin.drain()
        self.trades, self.changes = trades, changes
        for trade in trades:
            assert trade[3] > 0
            assert trade[4] > 0
        for side, price, quantity in levels:
            assert self.public.get((side, price), 0) != quantity
            self.public[side, price] = quantity
            if not quantity:
                del self.public[side, price]
        self.update += len(levels)
        assert book.update_id == self.update
        assert book.best() == twin.best()
        assert book.orders(ALL) == twin.orders()
        self.compare_depth()
        assert book.open_orders == len(twin.open)
        assert book.next_expiry() == twin.next_expiry()
        assert (book.phase, book.last, book.reference) == (twin.phase, twin.last, twin.reference)
        assert (book.now, book.trade_id) == (twin.now, twin.trade_id)

    def compare_depth(self) -> None:
        """Depth of both, and of the book rebuilt from what was made public."""
        bids, asks = self.book.depth(ALL)
        assert (bids, asks) == self.twin.depth(ALL)
        assert self.book.depth(3) == (bids[:3], asks[:3])
        rebuilt = sorted((price, quantity) for (_, price), quantity in self.public.items())
        assert rebuilt == sorted(bids + asks)

    def compare_states(self) -> None:
        """Every field of every order, and the hash of it all."""
        assert self.book.snapshot() == self.twin.snapshot()
        assert self.book.digest() == self.twin.digest()
        for order in self.twin.open:
            seen = order.side, order.type, order.price, order.quantity, order.filled, order.quote
            assert self.book.order(order.id) == (*seen, order.trigger, order.status())

    def restart(self) -> None:
        """Go on with a book restored from the bytes of a snapshot, as after a crash."""
        stored = msgspec.msgpack.encode(self.book.snapshot())
        restored = Book.restore(msgspec.msgpack.decode(stored, type=BookState))
        assert msgspec.msgpack.encode(restored.snapshot()) == stored
        assert restored.digest() == self.book.digest()
        self.book = restored
        self.compare()
