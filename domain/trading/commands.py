"""What can be asked of an order book, and its answers.

Orders do not come as commands but as the message ``Work`` of a customer's entity (see
``domain.orders``). Ids are 16 bytes chosen by the caller; ``fingerprint`` is a hash of what was
asked: the same id with another fingerprint is a conflict. Times are microseconds since the epoch.
"""

from __future__ import annotations

import msgspec

from domain.durable import Moved, Rejection, Unavailable
from domain.orders import Settle, Side, Work, Worked
from domain.trading.rules import About, BookStatus, Rules


class _Wire(msgspec.Struct, frozen=True, array_like=True, gc=False):
    pass


class ListInstrument(_Wire, frozen=True, tag=1):
    """Open a book for a new instrument; its symbol is base and quote of the rules."""

    id: bytes
    fingerprint: bytes
    symbol: str
    rules: Rules
    about: About


class ChangeRules(_Wire, frozen=True, tag=2):
    """Other rules, or another description, from now on; base, quote, tick and lot must stay.

    Orders that are in the book stay there, whatever the new rules say.
    """

    id: bytes
    fingerprint: bytes
    symbol: str
    rules: Rules
    about: About


class Halt(_Wire, frozen=True, tag=3):
    """Stop trading. Orders stay, can be cancelled, and no new ones are taken."""

    id: bytes
    fingerprint: bytes
    symbol: str
    reason: str


class Resume(_Wire, frozen=True, tag=4):
    """Trade again after a halt; ends an auction before its time."""

    id: bytes
    fingerprint: bytes
    symbol: str


class StartAuction(_Wire, frozen=True, tag=5):
    """Collect orders until ``until``, then trade what crosses at a single price and go on."""

    id: bytes
    fingerprint: bytes
    symbol: str
    until: int


class Delist(_Wire, frozen=True, tag=6):
    """Cancel all orders and close the book for good."""

    id: bytes
    fingerprint: bytes
    symbol: str
    reason: str


class ReadBook(_Wire, frozen=True, tag=7):
    """The best ``depth`` levels of both sides, 0 for all; a question, which leaves no trace."""

    symbol: str
    depth: int


class WakeBook(_Wire, frozen=True, tag=8):
    """Expire what is over by now, and end an auction whose time has come."""

    symbol: str


class ReadOrders(_Wire, frozen=True, tag=9):
    """Each order in the book: for the full-depth stream and for proofs."""

    symbol: str


class BookView(_Wire, frozen=True, tag=41):
    """A book at a moment. ``update`` is the number of its last update.

    ``bids`` and ``asks`` are (price, visible quantity) in ticks and lots, the best first.
    ``until`` is the end of an auction, ``indicative`` the price that it would have now, and
    ``matched`` the quantity that would be traded at it; ``reason`` is why it is halted or closed.
    """

    symbol: str
    status: BookStatus
    update: int
    bids: tuple[tuple[int, int], ...]
    asks: tuple[tuple[int, int], ...]
    last_trade: int
    last_price: int
    at: int
    until: int = 0
    indicative: int = 0
    matched: int = 0
    reason: str = ""


class RestingOrder(_Wire, frozen=True):
    """An order in the book; ``display`` is what is visible of it, 0 of a stop that waits."""

    customer: int
    ref: int
    side: Side
    price: int
    remaining: int
    display: int
    trigger: int = 0


class OrdersView(_Wire, frozen=True, tag=42):
    """All orders of a book in the order in which they would trade, stops last."""

    symbol: str
    update: int
    orders: tuple[RestingOrder, ...]


class InstrumentReply(_Wire, frozen=True, tag=43):
    """How the instrument is after the command."""

    symbol: str
    status: BookStatus
    rules: Rules
    about: About


Command = (
    ListInstrument
    | ChangeRules
    | Halt
    | Resume
    | StartAuction
    | Delist
    | ReadBook
    | WakeBook
    | ReadOrders
)
"""What a book can be asked by those who are no entity."""

Message = Work | Settle
"""What books and customers send each other."""

Outcome = Worked
"""What a message may be answered with, beside acceptance and a rejection."""

Reply = BookView | OrdersView | InstrumentReply | Rejection | Unavailable | Moved
"""What a command may be answered with."""
