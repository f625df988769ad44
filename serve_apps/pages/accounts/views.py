"""Transfers and balances in the words of the pages. Pure but for the look-up of names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from domain.accounts import events as ev
from domain.accounts.brokerage_funds import units_of
from domain.accounts.commands import AccountStatus, AccountView, TransferStatus
from domain.accounts.numbers import customer_of
from domain.accounts.state import postings
from domain.durable import Posting
from domain.money import CURRENCIES, RATE_SCALE
from persistence.accounts import TransferRow
from serve_apps import identity
from serve_apps.accounts import microseconds
from serve_apps.services import Services

HOUSE: Final = "Kontor"
BROKERAGE: Final = "Brokerage"
BROKERAGE_KINDS: Final = ("funding", "withdrawal")


class Entry(msgspec.Struct, frozen=True):
    """One transfer as one customer sees it.

    ``change`` is what it did, or is to do, to the customer's money in ``currency``: negative when
    it left, fee included. Between own accounts it is the amount that moved, without a sign.
    """

    row: TransferRow
    id: str
    direction: str
    title: str
    counterparty: int | None
    account: int
    change: int
    currency: str
    converts: bool
    signed: bool

    @property
    def status(self) -> TransferStatus:
        """Where the transfer stands."""
        return self.row.status


class Total(msgspec.Struct, frozen=True):
    """Everything one has in one currency, with the rates used; ``amount`` is ``None`` without."""

    currency: str
    amount: int | None
    rates: list[tuple[str, int]]
    shares: list[tuple[str, int]]


async def entries(services: Services, user: int, rows: Sequence[TransferRow]) -> list[Entry]:
    """The transfers with the names of the other side."""
    others = {
        customer
        for row in rows
        for customer in (row.source_customer, row.destination_customer)
        if customer is not None and customer != user
    }
    names = await identity.payee_names(services, others) if others else {}
    return [entry(row, user, names) for row in rows]


def entry(row: TransferRow, user: int, names: Mapping[int, str]) -> Entry:
    """One transfer as ``user`` sees it; ``names`` by customer."""
    direction = row.direction(user)
    converts = row.currency != row.credited_currency
    counterparty: int | None = row.source if direction == "in" else row.destination
    if direction == "in":
        assert row.destination is not None
        change, currency, account = row.credited, row.credited_currency, row.destination
    else:
        assert row.source is not None
        change, currency, account = -(row.amount + row.fee), row.currency, row.source
    if direction == "own":
        change = row.amount
        title = f"{row.currency} to {row.credited_currency}" if converts else "Between own accounts"
    elif row.kind in BROKERAGE_KINDS:
        title = BROKERAGE
    elif counterparty is None:
        title = HOUSE
    else:
        title = names.get(customer_of(counterparty), "Unknown")
    return Entry(
        row, row.id.hex(), direction, title, counterparty, account, change, currency, converts,
        direction != "own",
    )  # fmt: skip


def open_accounts(accounts: Iterable[AccountView]) -> list[AccountView]:
    """Those that are not closed, oldest first."""
    kept = [account for account in accounts if account.status != AccountStatus.CLOSED]
    return sorted(kept, key=lambda account: (account.opened_at, account.id))


def total(services: Services, accounts: Iterable[AccountView], base: str) -> Total:
    """What all accounts are worth in ``base`` at the middle rates of the day, rounded down."""
    now = microseconds(services.now())
    by_currency: dict[str, int] = {}
    for account in accounts:
        by_currency[account.currency] = by_currency.get(account.currency, 0) + account.posted
    whole: int | None = 0
    rates: list[tuple[str, int]] = []
    worth: list[tuple[str, int]] = []
    for currency, posted in by_currency.items():
        rate = services.rates.mid(currency, base, now)
        if rate is None:
            whole = None if posted else whole
            continue
        scale = CURRENCIES[base].scale
        value = posted * rate * scale // (RATE_SCALE * CURRENCIES[currency].scale)
        worth.append((currency, value))
        if currency != base:
            rates.append((currency, rate))
        if whole is not None:
            whole += value
    return Total(base, whole, rates, _shares(worth))


def _shares(worth: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Tenths of a per cent that each currency has of the whole; zero ones are left out."""
    whole = sum(value for _, value in worth)
    if not whole:
        return []
    return [(currency, value * 1000 // whole) for currency, value in worth if value]


def booked(row: TransferRow, user: int) -> list[Posting]:
    """The postings of a transfer, by the function that booked them.

    Both sides for who sent it; for who received it only those of the arrival, as the fee is the
    sender's business.
    """
    found: list[Posting] = []
    if row.kind == "adjustment":
        return list(postings(_adjusted(row)))
    if row.kind == "funding":
        assert row.source is not None
        quantity = units_of(row.amount, row.currency)
        funded = ev.BrokerageFunded(
            row.id, b"", row.source, row.currency, row.amount, quantity, microseconds(row.at)
        )
        return _in_currency(postings(funded))
    assert row.destination is not None
    if row.kind == "withdrawal":
        quantity = units_of(row.amount, row.currency)
        withdrawn = ev.BrokerageWithdrawn(
            row.id, b"", row.destination, row.currency, row.amount, quantity, microseconds(row.at)
        )
        return _in_currency(postings(withdrawn))
    if row.kind == "bonus":
        bonus = ev.BonusCredited(row.id, row.destination, row.currency, row.amount)
        return list(postings(bonus))
    assert row.source is not None
    if row.source_customer == user:
        sent = ev.TransferSent(
            row.id, b"", row.source, row.destination, row.amount, row.fee, row.currency,
            row.credited, row.credited_currency, row.rate, row.reference, 0, False,
        )  # fmt: skip
        found += postings(sent)
    if row.status == TransferStatus.COMPLETED:
        received = ev.TransferReceived(
            row.id, row.source, row.destination, row.credited, row.credited_currency
        )
        found += postings(received)
    elif row.status == TransferStatus.RETURNED and row.source_customer == user:
        found += [Posting(each.account, each.asset, -each.amount) for each in found]
    return found


def _adjusted(row: TransferRow) -> ev.AdjustmentPosted:
    """The event of an adjustment, as far as it is booked; its people are not the customer's."""
    given = row.source is None
    account = row.destination if given else row.source
    assert account is not None
    amount = row.amount if given else -row.amount
    at = microseconds(row.at)
    return ev.AdjustmentPosted(row.id, account, row.currency, amount, row.reference, 0, 0, at)


def _in_currency(found: Iterable[Posting]) -> list[Posting]:
    """The postings in minor units; those of the brokerage's own books are in others."""
    return [posting for posting in found if posting.asset in CURRENCIES]
