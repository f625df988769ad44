"""What has happened to an order book: the vocabulary of its journal.

The matching engine is deterministic, so the journal could do with what was asked. It also has what
came of it: a replay matches again and must find the same, and whoever makes trade and order
histories reads them from here without an engine. Old journals are replayed for ever, so a field
is only ever added at the end, with a default. Prices are ticks, quantities lots, fees units of the
asset received; times are those of the turn.
"""

from __future__ import annotations

import msgspec

from domain.orders import Action, Side, Update
from domain.trading.rules import About, BookStatus, Rules


class _Event(msgspec.Struct, frozen=True, array_like=True, gc=False):
    pass


class Trade(_Event, frozen=True):
    """A trade. ``side`` is the taker's; in an auction nobody is, and the later order counts as it.

    ``maker`` and ``taker`` are (customer, ref) as one number: ``customer << 29 | ref``.
    """

    id: int
    price: int
    quantity: int
    side: Side
    maker: int
    taker: int
    maker_fee: int
    taker_fee: int


class Touched(_Event, frozen=True):
    """What became of a customer's order without an action of theirs."""

    customer: int
    update: Update


class InstrumentListed(_Event, frozen=True, tag=1):
    """A book was opened."""

    rules: Rules
    about: About
    at: int


class RulesChanged(_Event, frozen=True, tag=2):
    """Other rules or another description."""

    rules: Rules
    about: About
    at: int


class StatusChanged(_Event, frozen=True, tag=3):
    """The book does something else from now on: halted, resumed, an auction until ``until``.

    ``trades`` and ``touched`` are what an auction led to when it ended, and the cancelled orders
    of a book that closed.
    """

    status: BookStatus
    reason: str
    at: int
    until: int
    update: int
    trades: tuple[Trade, ...]
    touched: tuple[Touched, ...]


class OrdersWorked(_Event, frozen=True, tag=4):
    """A customer's actions were carried out.

    ``id``, ``customer``, ``maker``, ``taker`` and ``actions`` are those of the ``Work``,
    ``updates`` what was answered: one for each action. ``touched`` are the other orders to which
    something happened meanwhile, in the order of it: an order of this very ``Work`` too, once a
    later action of it has traded with it. Each trade is in two updates, the maker's and the
    taker's. ``update`` is the number of the book's last update afterwards.
    """

    id: bytes
    customer: int
    maker: int
    taker: int
    at: int
    actions: tuple[Action, ...]
    updates: tuple[Update, ...]
    trades: tuple[Trade, ...]
    touched: tuple[Touched, ...]
    update: int


class OrdersExpired(_Event, frozen=True, tag=5):
    """The time of these orders was over at ``at``."""

    at: int
    touched: tuple[Touched, ...]
    update: int


Event = InstrumentListed | RulesChanged | StatusChanged | OrdersWorked | OrdersExpired
"""Any event of the trading context."""
