"""What has happened to a customer's accounts: the vocabulary of the journal.

Old journals are replayed for ever, so a field is only ever added at the end, with a default.
Amounts are minor units, times microseconds since the epoch.
"""

from __future__ import annotations

import msgspec

from domain.accounts.commands import AccountStatus
from domain.accounts.trading import OrderReport, PlaceOrder, Terms
from domain.orders import Action, Update


class _Event(msgspec.Struct, frozen=True, array_like=True, gc=False):
    pass


class AccountOpened(_Event, frozen=True, tag=1):
    """An account exists from now on, empty."""

    account: int
    currency: str
    name: str
    at: int


class BonusCredited(_Event, frozen=True, tag=2):
    """The house gave a welcome bonus."""

    transfer: bytes
    account: int
    currency: str
    amount: int


class StatusChanged(_Event, frozen=True, tag=3):
    """An account was closed, frozen or reopened for payments."""

    account: int
    status: AccountStatus


class LimitChanged(_Event, frozen=True, tag=4):
    """The customer has a limit of the day of its own for this currency."""

    currency: str
    amount: int


class TransferSent(_Event, frozen=True, tag=5):
    """``amount`` plus ``fee`` left ``source``; ``credited`` is on its way to ``destination``.

    ``limited`` is set when it counts towards the limit of ``day`` (days since the epoch). When
    funds come from a hold, ``released`` is how much of the hold ends with it.
    """

    transfer: bytes
    fingerprint: bytes
    source: int
    destination: int
    amount: int
    fee: int
    currency: str
    credited: int
    credited_currency: str
    rate: int | None
    reference: str
    day: int
    limited: bool
    hold: bytes | None = None
    released: int = 0


class TransferReceived(_Event, frozen=True, tag=6):
    """``amount`` arrived at ``destination``; ``promised`` if it had been prepared before."""

    transfer: bytes
    source: int
    destination: int
    amount: int
    currency: str
    promised: bool = False


class TransferDelivered(_Event, frozen=True, tag=7):
    """The destination has confirmed: nothing of this transfer is on its way any more."""

    transfer: bytes
    source: int


class TransferReturned(_Event, frozen=True, tag=8):
    """The destination refused; amount and fee are back on ``source``."""

    transfer: bytes
    source: int
    destination: int
    amount: int
    fee: int
    currency: str
    credited: int
    credited_currency: str
    reason: str
    day: int


class HoldReserved(_Event, frozen=True, tag=9):
    """``amount`` of ``account`` is put aside."""

    hold: bytes
    account: int
    amount: int
    expires_at: int
    purpose: str


class HoldEnded(_Event, frozen=True, tag=10):
    """What the hold still held is available again; ``expired`` or given back on request."""

    hold: bytes
    account: int
    expired: bool


class GroupReserved(_Event, frozen=True, tag=11):
    """A linked group has its funds put aside and waits for its destinations' promises.

    ``external`` are the transfers among ``legs`` that leave the customer.
    """

    group: bytes
    fingerprint: bytes
    legs: tuple[TransferSent, ...]
    external: tuple[bytes, ...]


class GroupPrepared(_Event, frozen=True, tag=12):
    """One destination of a linked group has promised to accept."""

    group: bytes
    transfer: bytes


class GroupEnded(_Event, frozen=True, tag=13):
    """The group's funds are released: its transfers follow, or none of them ever will."""

    group: bytes


class CreditPrepared(_Event, frozen=True, tag=14):
    """``account`` has promised to accept a credit and cannot be closed until it came."""

    group: bytes
    transfer: bytes
    account: int


class CreditReleased(_Event, frozen=True, tag=15):
    """The promise is not needed any more."""

    group: bytes
    transfer: bytes
    account: int


class OrdersPlaced(_Event, frozen=True, tag=21):
    """Actions of the trade ``trade`` were sent to the book, their orders numbered and paid for.

    ``clients`` (ids that the client chose) and ``holds`` (units put aside) have one for each
    ``Place`` among ``actions``, and so has ``previous``, the client's ids of the orders that these
    replace, unless it is empty. ``refused`` are reports on actions that were not sent, with their
    places in the answer; ``later`` are orders that wait for what a cancel among ``actions`` will
    free, with the same and their ``previous``. ``parts`` are the ids of single actions, each with
    its place in the answer.
    """

    trade: bytes
    fingerprint: bytes
    customer: int
    symbol: str
    terms: Terms
    at: int
    actions: tuple[Action, ...]
    clients: tuple[str, ...]
    holds: tuple[int, ...]
    previous: tuple[str, ...] = ()
    refused: tuple[tuple[int, OrderReport], ...] = ()
    later: tuple[tuple[int, PlaceOrder, str], ...] = ()
    parts: tuple[tuple[int, bytes], ...] = ()


class OrdersWorked(_Event, frozen=True, tag=22):
    """The book has answered at ``at``: what became of the orders of the trade.

    ``moved`` says by asset what the customer has more (or less) by the new fills, and the fee
    that was taken out of it, in units. ``waiting`` is set when the trade goes on after it.
    """

    trade: bytes
    customer: int
    symbol: str
    at: int
    updates: tuple[Update, ...]
    moved: tuple[tuple[str, int, int], ...] = ()
    waiting: bool = False


class OrdersSettled(_Event, frozen=True, tag=23):
    """Something happened to orders in the book without the customer's doing."""

    customer: int
    symbol: str
    at: int
    updates: tuple[Update, ...]
    moved: tuple[tuple[str, int, int], ...] = ()


class TradeEnded(_Event, frozen=True, tag=24):
    """Nothing more will be sent to the book for this trade."""

    trade: bytes
    customer: int


class BrokerageFunded(_Event, frozen=True, tag=25):
    """``amount`` minor units of ``account`` became ``quantity`` units in the brokerage."""

    transfer: bytes
    fingerprint: bytes
    account: int
    currency: str
    amount: int
    quantity: int
    at: int


class BrokerageWithdrawn(_Event, frozen=True, tag=26):
    """``quantity`` units of the brokerage became ``amount`` minor units of ``account``."""

    transfer: bytes
    fingerprint: bytes
    account: int
    currency: str
    amount: int
    quantity: int
    at: int


class AssetIssued(_Event, frozen=True, tag=27):
    """``quantity`` units of an asset came into being in the customer's brokerage."""

    id: bytes
    customer: int
    asset: str
    quantity: int
    at: int


class SwitchSet(_Event, frozen=True, tag=28):
    """The dead man's switch of a symbol, or of all, is set to ``at``, or off where that is 0."""

    customer: int
    symbol: str
    at: int


class AdjustmentProposed(_Event, frozen=True, tag=29):
    """``maker`` proposed to change the balance of ``account`` by ``amount``, which is signed."""

    adjustment: bytes
    account: int
    currency: str
    amount: int
    reason: str
    maker: int
    at: int
    expires_at: int


class AdjustmentPosted(_Event, frozen=True, tag=30):
    """``checker`` approved it: the house gave ``amount`` to ``account``, or took it."""

    adjustment: bytes
    account: int
    currency: str
    amount: int
    reason: str
    maker: int
    checker: int
    at: int
    note: str = ""


class AdjustmentRefused(_Event, frozen=True, tag=31):
    """``checker`` refused it, for the reason in ``note``."""

    adjustment: bytes
    account: int
    checker: int
    note: str
    at: int


class AdjustmentExpired(_Event, frozen=True, tag=32):
    """Nobody decided it in time."""

    adjustment: bytes
    account: int


Event = (
    AccountOpened
    | BonusCredited
    | StatusChanged
    | LimitChanged
    | TransferSent
    | TransferReceived
    | TransferDelivered
    | TransferReturned
    | HoldReserved
    | HoldEnded
    | GroupReserved
    | GroupPrepared
    | GroupEnded
    | CreditPrepared
    | CreditReleased
    | OrdersPlaced
    | OrdersWorked
    | OrdersSettled
    | TradeEnded
    | BrokerageFunded
    | BrokerageWithdrawn
    | AssetIssued
    | SwitchSet
    | AdjustmentProposed
    | AdjustmentPosted
    | AdjustmentRefused
    | AdjustmentExpired
)
"""Any event of the accounts context."""
