"""What has happened to a customer's accounts: the vocabulary of the journal.

Old journals are replayed for ever, so a field is only ever added at the end, with a default.
Amounts are minor units, times microseconds since the epoch.
"""

from __future__ import annotations

import msgspec

from domain.accounts.commands import AccountStatus


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
)
"""Any event of the accounts context."""
