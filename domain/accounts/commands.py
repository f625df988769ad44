"""What can be asked of a customer's accounts, what entities tell each other, and the answers.

Amounts are minor units, times microseconds since the epoch, accounts and customers integers
(see ``numbers``), ids 16 bytes chosen by the caller, never the same for two customers.
``fingerprint`` is a hash of what the client asked for: the same id with another fingerprint is a
conflict.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from domain.accounts import adjustment, trading
from domain.durable import Moved, Rejection, Unavailable, Version
from domain.orders import Settle, Work, Worked


class AccountStatus(IntEnum):
    """Life of an account. A frozen one receives, but nothing leaves it."""

    OPEN = 0
    FROZEN = 1
    CLOSED = 2


class TransferStatus(IntEnum):
    """Life of a transfer: a returned one was refused at the destination and came back."""

    PENDING = 1
    COMPLETED = 2
    RETURNED = 3


class _Wire(msgspec.Struct, frozen=True, array_like=True, gc=False):
    pass


class Rate(_Wire, frozen=True):
    """A conversion rate, ``value`` scaled by ``RATE_SCALE``, good until ``expires_at``."""

    value: int
    expires_at: int


class OpenCustomer(_Wire, frozen=True, tag=1):
    """Open an account in each currency and credit the welcome bonus, once."""

    id: bytes
    fingerprint: bytes
    customer: int
    currencies: tuple[str, ...]
    bonus_currency: str
    bonus_amount: int


class OpenAccount(_Wire, frozen=True, tag=2):
    """Open one more account."""

    id: bytes
    fingerprint: bytes
    customer: int
    currency: str
    name: str


class SetAccountStatus(_Wire, frozen=True, tag=3):
    """Close an empty account, freeze one or take the freeze off."""

    id: bytes
    fingerprint: bytes
    account: int
    status: AccountStatus


class SetDailyLimit(_Wire, frozen=True, tag=4):
    """Give a customer a limit of the day for one currency other than the general one."""

    id: bytes
    fingerprint: bytes
    customer: int
    currency: str
    amount: int


class Transfer(_Wire, frozen=True, tag=5):
    """Move ``amount`` (of the source's currency) to another account.

    ``destination_currency`` is empty when no such account is known. ``rate`` is given when the
    currencies differ.
    """

    id: bytes
    fingerprint: bytes
    source: int
    destination: int
    amount: int
    destination_currency: str
    reference: str = ""
    rate: Rate | None = None


class LinkedTransfers(_Wire, frozen=True, tag=6):
    """Transfers of one customer of which all happen or none."""

    id: bytes
    fingerprint: bytes
    transfers: tuple[Transfer, ...]


class ReserveHold(_Wire, frozen=True, tag=7):
    """Put funds aside; they count against what is available until posted, voided or expired."""

    id: bytes
    fingerprint: bytes
    account: int
    amount: int
    expires_at: int
    purpose: str


class PostHold(_Wire, frozen=True, tag=8):
    """Move a held amount, or a part of it, to an account of the same currency.

    To another customer it costs a fee, out of the hold as well, and counts towards the limit of
    the day. With ``release`` the rest goes back to the account at once, else it stays held. A
    freeze does not stop what was held before it.
    """

    id: bytes
    fingerprint: bytes
    customer: int
    hold: bytes
    amount: int
    destination: int
    destination_currency: str
    reference: str = ""
    release: bool = True


class VoidHold(_Wire, frozen=True, tag=9):
    """Give held funds back to the account."""

    id: bytes
    fingerprint: bytes
    customer: int
    hold: bytes


class ExpireHolds(_Wire, frozen=True, tag=10):
    """End the customer's holds whose time has come. Sent by the runtime's sweep."""

    customer: int


class ReadCustomer(_Wire, frozen=True, tag=11):
    """Ask for the accounts and holds as they are now."""

    customer: int


class ReadVersion(_Wire, frozen=True, tag=19):
    """Ask which version of the customer this is."""

    customer: int


class Credit(_Wire, frozen=True, tag=12):
    """Message: ``amount`` of ``currency`` for ``destination``, already taken from the source."""

    transfer: bytes
    source: int
    destination: int
    amount: int
    currency: str
    source_amount: int
    fee: int
    source_currency: str
    at: int
    rate: int | None = None
    reference: str = ""
    group: bytes | None = None


class PrepareCredit(_Wire, frozen=True, tag=13):
    """Message: promise to accept a credit, so that a linked group cannot fail half-way."""

    group: bytes
    transfer: bytes
    source: int
    destination: int
    currency: str


class ReleaseCredit(_Wire, frozen=True, tag=14):
    """Message: the promised credit will not come."""

    group: bytes
    transfer: bytes
    source: int
    destination: int


Command = (
    OpenCustomer
    | OpenAccount
    | SetAccountStatus
    | SetDailyLimit
    | Transfer
    | LinkedTransfers
    | ReserveHold
    | PostHold
    | VoidHold
    | ExpireHolds
    | ReadCustomer
    | ReadVersion
    | adjustment.Command
    | trading.Command
)
"""What a client may ask."""

EntityMessage = Credit | PrepareCredit | ReleaseCredit | trading.PlaceLater | Work | Settle
"""What entities tell each other: customers, and order books."""

Outcome = Worked | trading.TradeReply | None
"""What messages of customers are answered with, beside rejections: by books, and by themselves."""


class AccountView(_Wire, frozen=True):
    """An account as its owner sees it."""

    id: int
    currency: str
    name: str
    status: AccountStatus
    posted: int
    held: int
    opened_at: int

    @property
    def available(self) -> int:
        """What can be spent: posted minus held."""
        return self.posted - self.held


class HoldView(_Wire, frozen=True):
    """An active hold; ``amount`` is what is still held."""

    id: bytes
    account: int
    amount: int
    expires_at: int
    purpose: str


class LimitView(_Wire, frozen=True):
    """The limit of the day for transfers to others, and what is used of it."""

    currency: str
    limit: int
    used: int


class CustomerView(_Wire, frozen=True, tag=20):
    """A customer's accounts, active holds and limits."""

    customer: int
    accounts: tuple[AccountView, ...]
    holds: tuple[HoldView, ...]
    limits: tuple[LimitView, ...]


class Receipt(_Wire, frozen=True, tag=21):
    """What became of a transfer.

    ``amount`` and ``fee`` left the source (fee on top), ``credited`` reached the destination.
    ``reason`` is the code for which a returned transfer came back.
    """

    id: bytes
    status: TransferStatus
    source: int
    destination: int
    amount: int
    fee: int
    currency: str
    credited: int
    credited_currency: str
    at: int
    rate: int | None = None
    reference: str = ""
    reason: str = ""


class AccountReply(_Wire, frozen=True, tag=22):
    """The account that a command opened or changed."""

    account: AccountView


class HoldReply(_Wire, frozen=True, tag=23):
    """The hold that a command made or ended; ``amount`` is what is still held."""

    hold: HoldView


class LinkedReply(_Wire, frozen=True, tag=24):
    """One receipt or rejection for each transfer of a linked group, in order."""

    results: tuple[Receipt | Rejection, ...]


class Done(_Wire, frozen=True, tag=25):
    """The command was carried out and there is nothing more to say."""


Reply = (
    CustomerView
    | Receipt
    | AccountReply
    | HoldReply
    | LinkedReply
    | Done
    | adjustment.AdjustmentReply
    | trading.Reply
    | Rejection
    | Unavailable
    | Moved
    | Version
)
"""What a command may be answered with."""
