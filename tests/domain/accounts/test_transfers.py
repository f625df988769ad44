"""Transfers: fees, conversion, limits, returns; opening, closing and freezing accounts."""

from __future__ import annotations

import pytest

from domain.accounts import commands as cmd
from domain.accounts import events as ev
from domain.accounts.codes import Code
from domain.accounts.commands import AccountStatus, Rate, TransferStatus
from domain.accounts.numbers import account_number
from domain.money import RATE_SCALE
from tests.domain.accounts.bank import (
    ALICE,
    BOB,
    CURRENCIES,
    DAY,
    NOON,
    Bank,
    cny,
    eur,
    usd,
)


def make_bank() -> Bank:
    """The customers that this module's tests are about."""
    bank = Bank()
    bank.open(ALICE, 2_000_000, 100_000, 100_000)
    bank.open(BOB, 50_000, 0, 0)
    return bank


@pytest.fixture
def bank() -> Bank:
    return make_bank()


def posted(bank: Bank, *accounts: int) -> list[int]:
    return [bank.account(account).posted for account in accounts]


# -- fees ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amount", "fee"), [(1, 10), (2_000, 10), (2_001, 11), (10_000, 50), (10_001, 51)]
)
def test_a_fee_is_taken_on_top_of_a_transfer_to_others(bank: Bank, amount: int, fee: int) -> None:
    receipt = bank.expect(bank.transfer(usd(ALICE), usd(BOB), amount), cmd.Receipt)
    assert (receipt.status, receipt.amount, receipt.fee) == (TransferStatus.COMPLETED, amount, fee)
    assert posted(bank, usd(ALICE), usd(BOB)) == [2_000_000 - amount - fee, 50_000 + amount]


def test_own_accounts_are_free_and_done_at_once(bank: Bank) -> None:
    savings = bank.expect(
        cmd.OpenAccount(bank.id(), b"", ALICE, "USD", " Savings "), cmd.AccountReply
    ).account
    assert (savings.name, savings.id) == ("Savings", account_number(ALICE, 3))
    command = bank.transfer(usd(ALICE), savings.id, 2_000_000)
    receipt = bank.put(command, deliver=False)
    assert (receipt.status, receipt.fee, receipt.credited) == (
        TransferStatus.COMPLETED,
        0,
        2_000_000,
    )
    assert posted(bank, usd(ALICE), savings.id) == [0, 2_000_000]
    assert not bank.transit
    assert bank.spent(ALICE) == 0


def test_the_fee_counts_against_what_is_available(bank: Bank) -> None:
    everything = bank.transfer(usd(BOB), usd(ALICE), 50_000)
    rejection = bank.put(everything)
    assert rejection.code == Code.INSUFFICIENT_FUNDS
    assert rejection.fields == {"available": "50000", "needed": "50250", "currency": "USD"}
    fitting = 49_751
    assert fitting + 249 == 50_000
    bank.expect(bank.transfer(usd(BOB), usd(ALICE), fitting), cmd.Receipt)
    assert bank.account(usd(BOB)).posted == 0


# -- conversion ---------------------------------------------------------------------------


@pytest.mark.parametrize("destination", [cny(ALICE), cny(BOB)], ids=["own", "others"])
def test_a_conversion_moves_both_legs(bank: Bank, destination: int) -> None:
    rate = Rate(7_123_456_789, NOON)
    before = bank.account(destination).posted
    command = bank.transfer(usd(ALICE), destination, 10_001, "CNY", rate=rate)
    receipt = bank.expect(command, cmd.Receipt)
    assert (receipt.amount, receipt.currency) == (10_001, "USD")
    assert (receipt.credited, receipt.credited_currency, receipt.rate) == (
        71_241,
        "CNY",
        rate.value,
    )
    assert bank.account(destination).posted == before + 71_241
    assert bank.account(usd(ALICE)).posted == 2_000_000 - 10_001 - receipt.fee
    house: dict[tuple[str, str], int] = {}
    for _, event in bank.events:
        for account, asset, amount in bank.machine.house_postings(event):
            house[account, asset] = house.get((account, asset), 0) + amount
    assert house.pop(("fees", "USD"), 0) == receipt.fee
    assert house == {
        ("fx", "USD"): 10_001,
        ("fx", "CNY"): -71_241,
        ("transit", "CNY"): 0,
    }


def test_a_quote_is_good_until_its_last_microsecond(bank: Bank) -> None:
    rate = Rate(RATE_SCALE, NOON + 5)
    bank.now = NOON + 5
    bank.expect(bank.transfer(usd(ALICE), eur(ALICE), 1, "EUR", rate=rate), cmd.Receipt)
    bank.now = NOON + 6
    late = bank.transfer(usd(ALICE), eur(ALICE), 1, "EUR", rate=rate)
    assert bank.refusal(late) == Code.QUOTE_EXPIRED


def test_a_refused_conversion_comes_back_in_the_source_currency(bank: Bank) -> None:
    before = posted(bank, usd(ALICE))
    bank.set_status(eur(BOB), AccountStatus.CLOSED)
    command = bank.transfer(usd(ALICE), eur(BOB), 10_000, "EUR", rate=Rate(RATE_SCALE, NOON))
    receipt = bank.expect(command, cmd.Receipt)
    assert (receipt.status, receipt.reason) == (TransferStatus.RETURNED, Code.DESTINATION_CLOSED)
    assert posted(bank, usd(ALICE)) == before
    sums: dict[str, int] = {}
    for _, event in bank.events:
        for posting in bank.machine.postings(event):
            key = f"{posting.account} {posting.asset}"
            sums[key] = sums.get(key, 0) + posting.amount
    assert {key for key, amount in sums.items() if amount} == set()


def test_no_rate_is_kept_where_none_is_needed(bank: Bank) -> None:
    command = bank.transfer(usd(ALICE), usd(BOB), 100, rate=Rate(2 * RATE_SCALE, NOON))
    receipt = bank.expect(command, cmd.Receipt)
    assert (receipt.rate, receipt.credited) == (None, 100)


# -- on the way ---------------------------------------------------------------------------


def test_a_transfer_to_others_has_no_reply_before_it_arrived(bank: Bank) -> None:
    command = bank.transfer(usd(ALICE), usd(BOB), 100)
    assert bank.put(command, deliver=False) is None
    assert bank.account(usd(ALICE)).pending == 1
    assert bank.account(usd(BOB)).posted == 50_000
    bank.deliver()
    assert bank.account(usd(ALICE)).pending == 0
    assert bank.answers[command.id].status == TransferStatus.COMPLETED


@pytest.mark.parametrize(
    ("destination", "currency", "reason"),
    [
        (account_number(BOB, 70), "USD", Code.UNKNOWN_DESTINATION_ACCOUNT),
        (account_number(4_444_444_444, 0), "USD", Code.UNKNOWN_DESTINATION_ACCOUNT),
        (cny(BOB), "USD", Code.CURRENCY_MISMATCH),
    ],
)
def test_what_is_refused_comes_back_with_the_fee(
    bank: Bank, destination: int, currency: str, reason: Code
) -> None:
    command = bank.transfer(usd(ALICE), destination, 10_000, currency)
    receipt = bank.expect(command, cmd.Receipt)
    assert (receipt.status, receipt.reason, receipt.fee) == (TransferStatus.RETURNED, reason, 50)
    account = bank.account(usd(ALICE))
    assert (account.posted, account.pending) == (2_000_000, 0)


def test_an_account_with_a_payment_on_its_way_cannot_be_closed(bank: Bank) -> None:
    bank.put(bank.transfer(usd(BOB), usd(ALICE), 49_751), deliver=False)
    assert bank.account(usd(BOB)).posted == 0
    assert bank.set_status(usd(BOB), AccountStatus.CLOSED).code == Code.ACCOUNT_NOT_EMPTY
    bank.deliver()
    assert bank.set_status(usd(BOB), AccountStatus.CLOSED).account.status == AccountStatus.CLOSED


# -- limit of the day ---------------------------------------------------------------------


def test_the_limit_counts_amounts_to_others_and_not_fees(bank: Bank) -> None:
    bank.expect(bank.transfer(usd(ALICE), usd(BOB), 600_000), cmd.Receipt)
    assert bank.spent(ALICE) == 600_000
    rejection = bank.put(bank.transfer(usd(ALICE), usd(BOB), 400_001))
    assert rejection.code == Code.DAILY_LIMIT_EXCEEDED
    assert rejection.fields == {"limit": "1000000", "remaining": "400000", "currency": "USD"}
    bank.expect(bank.transfer(usd(ALICE), usd(BOB), 400_000), cmd.Receipt)
    assert bank.refusal(bank.transfer(usd(ALICE), usd(BOB), 1)) == Code.DAILY_LIMIT_EXCEEDED


def test_a_new_day_starts_at_midnight_utc(bank: Bank) -> None:
    midnight = NOON + DAY // 2
    bank.now = midnight - 1
    bank.expect(bank.transfer(usd(ALICE), usd(BOB), 1_000_000), cmd.Receipt)
    assert bank.refusal(bank.transfer(usd(ALICE), usd(BOB), 1)) == Code.DAILY_LIMIT_EXCEEDED
    bank.now = midnight
    assert bank.spent(ALICE) == 0
    bank.expect(bank.transfer(usd(ALICE), usd(BOB), 900_000), cmd.Receipt)
    assert bank.spent(ALICE) == 900_000


def test_a_returned_transfer_gives_the_limit_back_on_the_same_day(bank: Bank) -> None:
    bank.set_status(eur(BOB), AccountStatus.CLOSED)
    bank.expect(bank.transfer(usd(ALICE), usd(BOB), 300_000), cmd.Receipt)
    back = bank.transfer(usd(ALICE), account_number(BOB, 9), 700_000)
    assert bank.expect(back, cmd.Receipt).status == TransferStatus.RETURNED
    assert bank.spent(ALICE) == 300_000


def test_what_returns_the_day_after_gives_nothing_back(bank: Bank) -> None:
    bank.put(bank.transfer(usd(ALICE), account_number(BOB, 9), 700_000), deliver=False)
    bank.now = NOON + DAY
    bank.put(bank.transfer(usd(ALICE), usd(BOB), 200_000), deliver=False)
    bank.deliver()
    assert bank.spent(ALICE) == 200_000


def test_a_customer_may_have_a_limit_of_its_own(bank: Bank) -> None:
    bank.expect(cmd.SetDailyLimit(bank.id(), b"", ALICE, "USD", 0), cmd.Done)
    assert bank.refusal(bank.transfer(usd(ALICE), usd(BOB), 1)) == Code.DAILY_LIMIT_EXCEEDED
    bank.expect(cmd.SetDailyLimit(bank.id(), b"", ALICE, "USD", 1_500_000), cmd.Done)
    bank.expect(bank.transfer(usd(ALICE), usd(BOB), 1_500_000), cmd.Receipt)
    assert bank.refusal(bank.transfer(usd(ALICE), usd(BOB), 1)) == Code.DAILY_LIMIT_EXCEEDED


def test_a_currency_without_a_limit_has_none(bank: Bank) -> None:
    bank.expect(bank.transfer(cny(ALICE), cny(BOB), 100_000, "CNY"), cmd.Receipt)


# -- opening, freezing, closing -----------------------------------------------------------


def test_a_customer_is_opened_once() -> None:
    bank = Bank()
    first = cmd.OpenCustomer(bank.id(), b"", ALICE, CURRENCIES, "USD", 10_000)
    view = bank.expect(first, cmd.CustomerView)
    assert [(a.currency, a.posted, a.status) for a in view.accounts] == [
        ("USD", 10_000, AccountStatus.OPEN),
        ("CNY", 0, AccountStatus.OPEN),
        ("EUR", 0, AccountStatus.OPEN),
    ]
    happened = len(bank.events)
    again = cmd.OpenCustomer(bank.id(), b"", ALICE, CURRENCIES, "USD", 10_000)
    assert bank.expect(again, cmd.CustomerView) == view
    assert len(bank.events) == happened


def test_without_a_bonus_none_is_given() -> None:
    bank = Bank()
    bank.expect(cmd.OpenCustomer(bank.id(), b"", ALICE, CURRENCIES, "USD", 0), cmd.CustomerView)
    assert {type(event) for _, event in bank.events} == {ev.AccountOpened}


def test_a_frozen_account_receives_and_nothing_leaves_it(bank: Bank) -> None:
    bank.set_status(usd(ALICE), AccountStatus.FROZEN)
    assert bank.refusal(bank.transfer(usd(ALICE), usd(BOB), 1)) == Code.ACCOUNT_FROZEN
    own = bank.transfer(usd(ALICE), eur(ALICE), 100, "EUR", rate=Rate(RATE_SCALE, NOON))
    assert bank.refusal(own) == Code.ACCOUNT_FROZEN
    bank.expect(bank.transfer(usd(BOB), usd(ALICE), 100), cmd.Receipt)
    assert bank.account(usd(ALICE)).posted == 2_000_100
    bank.set_status(usd(ALICE), AccountStatus.OPEN)
    bank.expect(bank.transfer(usd(ALICE), usd(BOB), 1), cmd.Receipt)


def test_a_return_reaches_a_frozen_account(bank: Bank) -> None:
    bank.put(bank.transfer(usd(ALICE), account_number(BOB, 9), 100), deliver=False)
    bank.set_status(usd(ALICE), AccountStatus.FROZEN)
    bank.deliver()
    assert bank.account(usd(ALICE)).posted == 2_000_000


def test_a_closed_account_stays_closed(bank: Bank) -> None:
    assert bank.set_status(cny(BOB), AccountStatus.CLOSED).account.status == AccountStatus.CLOSED
    assert bank.set_status(cny(BOB), AccountStatus.CLOSED).account.status == AccountStatus.CLOSED
    assert bank.set_status(cny(BOB), AccountStatus.OPEN).code == Code.ACCOUNT_CLOSED
    assert bank.set_status(cny(BOB), AccountStatus.FROZEN).code == Code.ACCOUNT_CLOSED
    arriving = bank.transfer(cny(ALICE), cny(BOB), 1, "CNY")
    assert bank.expect(arriving, cmd.Receipt).reason == Code.DESTINATION_CLOSED


def test_setting_the_same_status_again_changes_nothing(bank: Bank) -> None:
    happened = len(bank.events)
    bank.set_status(usd(ALICE), AccountStatus.OPEN)
    assert len(bank.events) == happened
