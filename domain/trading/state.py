"""The state of a book as plain values: what is kept, and what equal books have in common.

The engine works on linked objects; this is the form in which a book is stored, compared and
hashed. It is canonical: whatever way a book came about, equal books give equal bytes. Stored
states are read by newer releases: fields are only added at the end, with a default.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec


class BookPhase(IntEnum):
    """What a book does with orders."""

    OPEN = 1
    """Matches as orders come."""
    HALTED = 2
    """Takes no orders; what rests can be cancelled and reduced."""
    AUCTION = 3
    """Collects orders without matching, until all trade at one price."""
    CLOSED = 4
    """Delisted, for ever."""


class OrderState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An order in the book; prices in ticks, quantities in lots.

    ``visible`` is what others see of it, ``sequence`` its number among all that ever came to rest
    in this book. Its other fields are those of ``domain.orders.Place`` and ``Update``.
    """

    id: int
    side: int
    type: int
    time_in_force: int
    price: int
    quantity: int
    filled: int
    quote: int
    visible: int
    display: int
    trigger: int
    self_trade: int
    expires_at: int
    budget: int
    sequence: int


class BookState(msgspec.Struct, frozen=True, array_like=True):
    """A book. Orders are listed by price, best first, and in their priority within a price.

    ``rising`` are stops that wait for the last price to rise to their trigger, lowest trigger
    first; ``falling`` wait for it to fall, highest first.
    """

    phase: int = int(BookPhase.OPEN)
    now: int = 0
    last: int = 0
    reference: int = 0
    band_up: int = 0
    band_down: int = 0
    sequence: int = 0
    trade_id: int = 0
    update_id: int = 0
    bids: list[OrderState] = []
    asks: list[OrderState] = []
    rising: list[OrderState] = []
    falling: list[OrderState] = []
