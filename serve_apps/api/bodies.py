"""What the API sends and, where many requests are expected, reads: msgspec structs.

Amounts and rates are decimal strings, account numbers strings of 14 digits, times RFC 3339.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

import msgspec

from domain.accounts.commands import AccountView, HoldView, LimitView, Receipt, TransferStatus
from domain.money import format_amount
from persistence.accounts import TransferRow
from serve_apps.accounts import TransferForm, rate_text, time_text

BATCH_MAX: Final = 8_190

STATUS_NAMES: Final = {status: status.name.lower() for status in TransferStatus}


class UserBody(msgspec.Struct):
    """A user without accounts."""

    id: str
    email: str
    name: str


class TokenBody(msgspec.Struct):
    """A bearer token; it is shown once."""

    token: str
    expires_at: str
    user: UserBody


class SecondFactorBody(msgspec.Struct):
    """How things stand: ``pending`` is a secret that waits for its first code."""

    on: bool
    pending: bool
    since: str
    recovery_codes: int


class EnrolmentBody(msgspec.Struct):
    """A secret in base 32, and the same as an address for a QR code; it counts for nothing yet."""

    secret: str
    uri: str


class RecoveryCodesBody(msgspec.Struct):
    """Codes that count once each when the device is lost; shown once."""

    recovery_codes: list[str]


class EndedBody(msgspec.Struct):
    """How many other sessions and tokens were ended."""

    ended: int


class ExportBody(msgspec.Struct):
    """Everything that is held about somebody; beside ``user`` there is a list for each subject.

    ``units`` says what the numbers mean. Lists are named like their subjects: ``sessions``,
    ``transfers``, ``orders``, ``notifications`` and so on.
    """

    made_at: str
    customer: str
    units: str
    user: list[dict[str, Any]]


class AccountBody(msgspec.Struct):
    """An account: ``balance`` is what is booked, ``available`` what can be spent."""

    id: str
    name: str
    currency: str
    status: str
    balance: str
    held: str
    available: str
    opened_at: str


class LimitBody(msgspec.Struct):
    """What may be sent to others in a day (UTC), and what was."""

    currency: str
    limit: str
    used: str


class ProfileBody(msgspec.Struct):
    """A user with accounts and limits."""

    id: str
    email: str
    name: str
    accounts: list[AccountBody]
    limits: list[LimitBody]


class AccountsBody(msgspec.Struct):
    """A user's accounts."""

    accounts: list[AccountBody]


class TransferBody(msgspec.Struct, gc=False, rename={"source": "from", "destination": "to"}):
    """What became of a transfer. ``amount`` and ``fee`` left ``from``, ``credited`` reached ``to``.

    ``status`` is ``pending``, ``completed``, or ``returned`` for the ``reason`` given.
    """

    id: str
    status: str
    source: str
    destination: str
    amount: str
    fee: str
    currency: str
    credited: str
    credited_currency: str
    rate: str | None
    reference: str
    reason: str
    at: str


class HistoryBody(msgspec.Struct, rename={"source": "from", "destination": "to"}):
    """A transfer as one of its parties sees it.

    ``from`` is null when the house paid, or the customer's brokerage; ``to`` is null when it went
    to the brokerage, or was taken by an adjustment. ``kind`` is transfer, bonus, hold, funding,
    withdrawal or adjustment.
    """

    id: str
    kind: str
    direction: str
    status: str
    source: str | None
    destination: str | None
    amount: str
    fee: str
    currency: str
    credited: str
    credited_currency: str
    rate: str | None
    reference: str
    reason: str
    at: str
    completed_at: str | None


class HistoryPageBody(msgspec.Struct):
    """A page of transfers; ask again with ``cursor`` for the next, null at the end."""

    transactions: list[HistoryBody]
    next_cursor: str | None


class HoldBody(msgspec.Struct):
    """A hold; ``amount`` is what it still holds."""

    id: str
    account: str
    amount: str
    currency: str
    expires_at: str
    purpose: str


class HoldsBody(msgspec.Struct):
    """A user's active holds."""

    holds: list[HoldBody]


class QuoteBody(msgspec.Struct, rename={"source": "from", "destination": "to"}):
    """A rate: units of ``to`` for one unit of ``from``, kept until ``expires_at``.

    Where an amount was given: the fee on top of it, and what arrives.
    """

    source: str
    destination: str
    rate: str
    quote: str
    expires_at: str
    amount: str | None = None
    fee: str | None = None
    credited: str | None = None


class SessionBody(msgspec.Struct):
    """A browser session or an API token that is valid."""

    id: str
    kind: str
    current: bool
    created_at: str
    last_seen_at: str
    expires_at: str
    ip: str
    user_agent: str


class SessionsBody(msgspec.Struct):
    """A user's valid sessions and tokens."""

    sessions: list[SessionBody]


class DoneBody(msgspec.Struct):
    """It is done and there is nothing more to say."""

    done: bool = True


class BatchTransfer(TransferForm, frozen=True, gc=False, kw_only=True):
    """One transfer of a batch. ``id`` is the client's own and makes it repeatable.

    Transfers with the same ``group`` are linked: all happen or none.
    """

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    group: str = ""


class Batch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Transfers to be carried out, each on its own unless linked."""

    transfers: Annotated[list[BatchTransfer], msgspec.Meta(min_length=1, max_length=BATCH_MAX)]


class BatchResult(msgspec.Struct, gc=False, omit_defaults=True):
    """What became of one transfer: a status, or ``rejected`` with a ``code``.

    ``unknown`` means that it is to be sent again, with the same id.
    """

    id: str
    status: str
    transfer: str = ""
    code: str = ""


class BatchBody(msgspec.Struct):
    """One result for each transfer, in the same order."""

    results: list[BatchResult]


def account_body(account: AccountView) -> AccountBody:
    """An account for its owner."""
    currency = account.currency
    return AccountBody(
        str(account.id),
        account.name,
        currency,
        account.status.name.lower(),
        format_amount(account.posted, currency),
        format_amount(account.held, currency),
        format_amount(account.available, currency),
        time_text(account.opened_at),
    )


def limit_body(limit: LimitView) -> LimitBody:
    """A limit of the day."""
    currency = limit.currency
    return LimitBody(
        currency, format_amount(limit.limit, currency), format_amount(limit.used, currency)
    )


def transfer_body(receipt: Receipt) -> TransferBody:
    """A receipt for whoever sent the money."""
    currency, credited_currency = receipt.currency, receipt.credited_currency
    return TransferBody(
        receipt.id.hex(),
        STATUS_NAMES[receipt.status],
        str(receipt.source),
        str(receipt.destination),
        format_amount(receipt.amount, currency),
        format_amount(receipt.fee, currency),
        currency,
        format_amount(receipt.credited, credited_currency),
        credited_currency,
        None if receipt.rate is None else rate_text(receipt.rate),
        receipt.reference,
        receipt.reason,
        time_text(receipt.at),
    )


def history_body(row: TransferRow, user: int) -> HistoryBody:
    """A row of the history; what the sender paid is not the receiver's business."""
    sent = row.source_customer == user
    amount = row.amount if sent else row.credited
    currency = row.currency if sent else row.credited_currency
    return HistoryBody(
        row.id.hex(),
        row.kind,
        row.direction(user),
        STATUS_NAMES[row.status],
        None if row.source is None else str(row.source),
        None if row.destination is None else str(row.destination),
        format_amount(amount, currency),
        format_amount(row.fee if sent else 0, currency),
        currency,
        format_amount(row.credited, row.credited_currency),
        row.credited_currency,
        rate_text(row.rate) if sent and row.rate is not None else None,
        row.reference,
        row.reason,
        moment_text(row.at),
        None if row.completed_at is None else moment_text(row.completed_at),
    )


def hold_body(hold: HoldView, currency: str) -> HoldBody:
    """A hold for its owner."""
    return HoldBody(
        hold.id.hex(),
        str(hold.account),
        format_amount(hold.amount, currency),
        currency,
        time_text(hold.expires_at),
        hold.purpose,
    )


def moment_text(at: datetime) -> str:
    """An aware UTC time as RFC 3339."""
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")
