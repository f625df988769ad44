"""Orders, as customers' accounts and order books speak of them to each other.

Prices are counted in ticks and quantities in lots of the instrument, amounts of assets in units
of 10^-8 (``UNIT``). A customer's orders are numbered by the customer's entity: ``ref``, from 1.
Times are microseconds since the epoch, fee rates millionths. Whatever is journalled or on its way
when a new release starts is read by it: fields are only added at the end, with a default.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec

UNIT_EXPONENT: Final = 8
UNIT: Final = 10**UNIT_EXPONENT
"""Units in one whole of an asset, of whatever kind: a share, a bitcoin, a dollar."""

RATE_UNIT: Final = 1_000_000
"""A fee rate is an ``int``: millionths of what is received."""

BOOKS: Final = "books"
"""The kind of the entities that are order books; the key of one is its symbol."""

ACCOUNTS: Final = "accounts"
"""The kind of the entities that are customers; the key of one is the customer's number."""


class Side(IntEnum):
    """Which way an order goes."""

    BUY = 1
    SELL = 2


class OrderType(IntEnum):
    """What makes an order trade; the stops rest unseen until the last price reaches them."""

    LIMIT = 1
    MARKET = 2
    LIMIT_MAKER = 3
    STOP_LOSS = 4
    STOP_LOSS_LIMIT = 5
    TAKE_PROFIT = 6
    TAKE_PROFIT_LIMIT = 7


class TimeInForce(IntEnum):
    """How long an order lives: until cancelled, at once, at once or not at all, until a time."""

    GTC = 1
    IOC = 2
    FOK = 3
    GTD = 4


class SelfTrade(IntEnum):
    """What gives way when a customer would trade with themselves."""

    NONE = 0
    EXPIRE_TAKER = 1
    EXPIRE_MAKER = 2
    EXPIRE_BOTH = 3
    DECREMENT = 4


class OrderStatus(IntEnum):
    """Life of an order. From ``FILLED`` on it has ended."""

    PENDING = 0
    NEW = 1
    PARTIALLY_FILLED = 2
    FILLED = 3
    CANCELED = 4
    REJECTED = 5
    EXPIRED = 6
    EXPIRED_IN_MATCH = 7


class _Wire(msgspec.Struct, frozen=True, array_like=True, gc=False):
    pass


class _Action(msgspec.Struct, frozen=True, array_like=True, gc=False, tag_field="action"):
    """A field of an order is named ``type``, as msgspec would name the tag."""


class Place(_Action, frozen=True, tag=1):
    """A new order: ``quantity`` lots at ``price`` ticks.

    ``budget``, where it is not 0, is the most that may be spent or earned, in ticks x lots (an
    order by quote amount, or one that must not spend more than is held); ``price`` of a market
    order is the worst that it may trade at, 0 for any. ``trigger`` is a stop's price, ``display``
    the visible part of an iceberg, ``expires_at`` the end of a GTD order. With ``after`` it is
    placed only if the action before it in the batch was carried out.
    """

    ref: int
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    price: int
    quantity: int
    trigger: int = 0
    display: int = 0
    self_trade: SelfTrade = SelfTrade.NONE
    expires_at: int = 0
    budget: int = 0
    after: bool = False


class Cancel(_Action, frozen=True, tag=2):
    """Take an order out of the book, or a stop that has not been triggered."""

    ref: int


class Amend(_Action, frozen=True, tag=3):
    """Reduce an order to ``quantity`` lots in all, what is filled included; it keeps its place."""

    ref: int
    quantity: int


Action = Place | Cancel | Amend


class Fill(_Wire, frozen=True):
    """A trade, as one side sees it; ``fee`` is in units of the asset that this side receives."""

    trade: int
    price: int
    quantity: int
    fee: int
    maker: bool


class Update(_Wire, frozen=True):
    """What became of an order: its state after ``fills``, which are only those that are new.

    ``filled`` and ``quote`` (ticks x lots) are of the order's whole life, ``quantity`` what it is
    for by now. ``code`` says why an action was refused; then nothing has changed, and of the order
    itself only a ``Place`` that was refused is over.
    """

    ref: int
    status: OrderStatus
    quantity: int
    filled: int
    quote: int
    fills: tuple[Fill, ...] = ()
    code: str = ""


class Work(_Wire, frozen=True, tag=31):
    """Message to a book: a customer's actions, in order, and the customer's fee rates."""

    id: bytes
    customer: int
    maker: int
    taker: int
    actions: tuple[Action, ...]


class Worked(_Wire, frozen=True, tag=32):
    """A book's answer to ``Work``: an update for each action, and the time of it."""

    at: int
    updates: tuple[Update, ...]


class Settle(_Wire, frozen=True, tag=33):
    """Message to a customer: what happened to orders of theirs without their doing."""

    symbol: str
    at: int
    updates: tuple[Update, ...]
