"""Other matching engines from PyPI under the same flows, each as its own documentation uses it.

Runs in an environment of its own, by ``python -m benchmarks.engine_peers``: they need packages that
conflict with ours. Imports nothing but the flows, and of the engines whichever are installed.
Nothing is asked of them that they cannot do: an order that only takes is cancelled after.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import datetime
from importlib import import_module
from itertools import islice
from time import thread_time
from typing import Any, Protocol

from benchmarks.flows import AMEND, FLOWS, MOVE, PLACE, Message, Placed

BUY = 1
IOC = 2
CHUNK = 100


class Peer(Protocol):
    """What a flow asks of an engine, for one symbol."""

    def place(self, order: Placed) -> None:
        """A new limit order, or one that takes at once."""

    def cancel(self, number: int) -> None:
        """Take out an order, if it is still there."""


class Liquibook:
    """The C++ engine; its amendments are replacements by a difference."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._book = module.DepthOrderBook("X")
        self._orders: dict[int, Any] = {}

    def place(self, order: Placed) -> None:
        taking = order.time_in_force == IOC
        made = self._module.SimpleOrder(order.side == BUY, order.price, order.quantity, 0, 0)
        self._book.add(made, self._module.oc_immediate_or_cancel if taking else 0)
        if not taking:
            self._orders[order.number] = made

    def cancel(self, number: int) -> None:
        found = self._orders.pop(number, None)
        if found is not None:
            self._book.cancel(found)


class Light:
    """lightmatchingengine."""

    def __init__(self, module: Any) -> None:
        self._engine = module.LightMatchingEngine()
        self._orders: dict[int, Any] = {}

    def place(self, order: Placed) -> None:
        made, _ = self._engine.add_order("X", order.price, order.quantity, order.side)
        if order.time_in_force != IOC:
            self._orders[order.number] = made
        elif made.leaves_qty:
            self._engine.cancel_order(made.order_id, "X")

    def cancel(self, number: int) -> None:
        found = self._orders.pop(number, None)
        if found is not None and found.leaves_qty:
            self._engine.cancel_order(found.order_id, "X")


class PyOrderBook:
    """pyorderbook; prices of market orders are far beyond the book."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._book = module.Book()
        self._orders: dict[int, Any] = {}

    def place(self, order: Placed) -> None:
        price = order.price or (10**9 if order.side == BUY else 1)
        make = self._module.bid if order.side == BUY else self._module.ask
        made = make("X", price, order.quantity)
        self._book.match(made)
        if order.time_in_force != IOC:
            self._orders[order.number] = made
        elif made.quantity:
            self._book.cancel(made)

    def cancel(self, number: int) -> None:
        found = self._orders.pop(number, None)
        if found is not None and found.quantity:
            self._book.cancel(found)


class OrderMatching:
    """order-matching."""

    def __init__(self, module: Any) -> None:
        side = import_module("order_matching.enums").Side
        self._limit = import_module("order_matching.order").LimitOrder
        self._orders = import_module("order_matching.orders").Orders
        self._sides = side.BUY, side.SELL
        self._engine = module.MatchingEngine(seed=1)
        self._at = datetime(2026, 1, 1)  # noqa: DTZ001 - it takes no other

    def place(self, order: Placed) -> None:
        price = order.price or (10**9 if order.side == BUY else 1)
        made = self._limit(
            side=self._sides[order.side - 1],
            price=price,
            size=order.quantity,
            timestamp=self._at,
            order_id=str(order.number),
            trader_id="x",
        )
        self._engine.place(self._orders([made]))
        self._engine.match(timestamp=self._at)
        if order.time_in_force == IOC:
            self.cancel(order.number)

    def cancel(self, number: int) -> None:
        if self._engine.unprocessed_orders.find_order_by_id(str(number)) is not None:
            self._engine.cancel_order(str(number))


PEERS: dict[str, tuple[str, Callable[[Any], Peer]]] = {
    "liquibook": ("liquibook", Liquibook),
    "lightmatchingengine": ("lightmatchingengine.lightmatchingengine", Light),
    "pyorderbook": ("pyorderbook", PyOrderBook),
    "order-matching": ("order_matching.matching_engine", OrderMatching),
}


def play(books: list[Peer], messages: list[Message]) -> None:
    """Do what a tape says; an amendment is a cancel and a smaller order."""
    for action, number, quantity, order, symbol in messages:
        book = books[symbol]
        if action != PLACE:
            book.cancel(number)
        if order is not None and action in (PLACE, MOVE):
            book.place(order)
        elif order is not None and action == AMEND:
            book.place(order._replace(quantity=quantity))


def measure(make: Callable[[], Peer], seconds: float) -> dict[str, float]:
    """Messages a second in each flow, over at least ``seconds`` once the book is filled."""
    result: dict[str, float] = {}
    for flow in FLOWS:
        tape = flow()
        books = [make() for _ in range(tape.symbols)]
        began = thread_time()
        play(books, tape.opening)
        done, spent = 0, 0.0
        while spent < seconds and thread_time() - began < 10 * seconds:
            messages = list(islice(tape.messages, CHUNK))
            start = thread_time()
            play(books, messages)
            spent += thread_time() - start
            done += len(messages)
        result[tape.name] = round(done / spent) if spent else 0.0
    return result


def main(name: str, seconds: float) -> dict[str, Any]:
    """The figures of one engine, or why there are none."""
    module, adapter = PEERS[name]
    try:
        imported = import_module(module)
    except ImportError as error:
        return {"absent": f"not installed: {error}"}
    if name == "order-matching":
        import_module("loguru").logger.remove()
    return {"messages_per_second": measure(lambda: adapter(imported), seconds)}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1], float(sys.argv[2]))))
