"""The stream of single orders of one book, made by comparing what is read of it again and again.

Only while somebody follows it: the book's actor is spared the work at all other times. An order
has a number that its customer cannot be told from; the same order keeps it.
"""

from __future__ import annotations

import hashlib

from domain.trading.commands import OrdersView
from serve_apps.exchange.streams import payloads
from serve_apps.exchange.streams.topics import Topic


class OrdersCopy:
    """Visible orders of a book, as of its last reading. ``topic`` while somebody follows."""

    def __init__(self, texts: payloads.Texts, secret: bytes) -> None:
        self.topic: Topic | None = None
        self._texts = texts
        self._key = hashlib.sha256(b"order numbers\0" + secret).digest()
        self._known = False
        self._update = 0
        self._orders: dict[str, payloads.L3Order] = {}
        self._numbers: dict[tuple[int, int], str] = {}

    def tell(self, view: OrdersView, now: int) -> None:
        """Tell what differs from the last reading; all of it when there was none."""
        if self.topic is None or (self._known and view.update <= self._update):
            return
        known, before, update = self._known, self._orders, self._update
        self._read(view)
        if not known:
            event = self.whole(now)
            if event is not None:
                self.topic.send([event])
            return
        changed = {n: (o[0], o[1], 0) for n, o in before.items() if n not in self._orders}
        changed |= {n: o for n, o in self._orders.items() if before.get(n) != o}
        self.topic.send(
            [payloads.l3_update(self._texts, now, update + 1, self._update, changed, whole=False)]
        )

    def whole(self, now: int) -> bytes | None:
        """All orders, for somebody who comes later."""
        if not self._known:
            return None
        update = self._update
        return payloads.l3_update(self._texts, now, update, update, self._orders, whole=True)

    def forget(self) -> None:
        """Nobody follows any more."""
        self.topic = None
        self._known = False
        self._orders = {}
        self._numbers = {}

    def _read(self, view: OrdersView) -> None:
        numbers: dict[tuple[int, int], str] = {}
        orders: dict[str, payloads.L3Order] = {}
        for order in view.orders:
            if order.display:
                name = (order.customer, order.ref)
                number = self._numbers.get(name) or self._number(*name)
                numbers[name] = number
                orders[number] = (order.side, order.price, order.display)
        self._known, self._update = True, view.update
        self._orders, self._numbers = orders, numbers

    def _number(self, customer: int, ref: int) -> str:
        name = f"{self._texts.symbol}:{customer}:{ref}".encode()
        return hashlib.blake2b(name, key=self._key, digest_size=8).hexdigest()
