"""Holds: reserved once, ended once, and counted all the while."""

from __future__ import annotations

import pytest

from domain.accounts import commands as cmd
from domain.accounts import events as ev
from domain.accounts.codes import Code
from domain.accounts.commands import AccountStatus, TransferStatus
from domain.accounts.numbers import account_number
from tests.domain.accounts.bank import ALICE, BOB, DAY, NOON, Bank, usd


def make_bank() -> Bank:
    """The customers that this module's tests are about."""
    bank = Bank()
    bank.open(ALICE, 5_000)
    bank.open(BOB)
    return bank


@pytest.fixture
def bank() -> Bank:
    return make_bank()


def money(bank: Bank, account: int) -> tuple[int, int]:
    """Posted and held."""
    state = bank.account(account)
    return state.posted, state.held


def test_held_funds_are_not_available(bank: Bank) -> None:
    for _ in range(5):
        bank.reserve(usd(ALICE), 1_000)
    sixth = cmd.ReserveHold(bank.id(), b"", usd(ALICE), 1_000, NOON + DAY, "order")
    rejection = bank.put(sixth)
    assert rejection.code == Code.INSUFFICIENT_FUNDS
    assert rejection.fields["available"] == "0"
    assert bank.refusal(bank.transfer(usd(ALICE), usd(BOB), 1)) == Code.INSUFFICIENT_FUNDS
    assert money(bank, usd(ALICE)) == (5_000, 5_000)


def test_a_hold_posted_in_full_is_gone(bank: Bank) -> None:
    hold = bank.reserve(usd(ALICE), 1_000)
    receipt = bank.expect(bank.post(ALICE, hold, 990, usd(BOB)), cmd.Receipt)
    assert (receipt.status, receipt.fee, receipt.amount) == (TransferStatus.COMPLETED, 10, 990)
    assert money(bank, usd(ALICE)) == (4_000, 0)
    assert money(bank, usd(BOB)) == (990, 0)
    assert bank.refusal(bank.post(ALICE, hold, 1, usd(BOB))) == Code.HOLD_UNKNOWN
    assert bank.refusal(cmd.VoidHold(bank.id(), b"", ALICE, hold)) == Code.HOLD_UNKNOWN
    assert bank.spent(ALICE) == 990


def test_a_part_posted_releases_the_rest(bank: Bank) -> None:
    hold = bank.reserve(usd(ALICE), 1_000)
    bank.expect(bank.post(ALICE, hold, 300, usd(BOB)), cmd.Receipt)
    assert money(bank, usd(ALICE)) == (4_690, 0)
    assert bank.refusal(bank.post(ALICE, hold, 1, usd(BOB))) == Code.HOLD_UNKNOWN


def test_a_part_posted_may_keep_the_rest(bank: Bank) -> None:
    hold = bank.reserve(usd(ALICE), 1_000)
    bank.expect(bank.post(ALICE, hold, 300, usd(BOB), release=False), cmd.Receipt)
    assert money(bank, usd(ALICE)) == (4_690, 690)
    too_much = bank.put(bank.post(ALICE, hold, 681, usd(BOB)))
    assert too_much.fields == {"held": "690", "needed": "691"}
    bank.expect(bank.post(ALICE, hold, 680, usd(BOB), release=False), cmd.Receipt)
    assert money(bank, usd(ALICE)) == (4_000, 0)
    assert bank.refusal(bank.post(ALICE, hold, 1, usd(BOB))) == Code.HOLD_UNKNOWN


def test_a_hold_may_be_posted_to_an_own_account(bank: Bank) -> None:
    savings = account_number(ALICE, 3)
    bank.expect(cmd.OpenAccount(bank.id(), b"", ALICE, "USD", "Savings"), cmd.AccountReply)
    hold = bank.reserve(usd(ALICE), 1_000)
    receipt = bank.put(bank.post(ALICE, hold, 400, savings), deliver=False)
    assert receipt.status == TransferStatus.COMPLETED
    assert money(bank, usd(ALICE)) == (4_600, 0)
    assert money(bank, savings) == (400, 0)


def test_a_voided_hold_is_available_again_and_cannot_be_posted(bank: Bank) -> None:
    hold = bank.reserve(usd(ALICE), 1_000)
    reply = bank.expect(cmd.VoidHold(bank.id(), b"", ALICE, hold), cmd.HoldReply)
    assert reply.hold.amount == 0
    assert money(bank, usd(ALICE)) == (5_000, 0)
    assert bank.refusal(bank.post(ALICE, hold, 1, usd(BOB))) == Code.HOLD_UNKNOWN
    assert bank.refusal(cmd.VoidHold(bank.id(), b"", ALICE, hold)) == Code.HOLD_UNKNOWN


def test_a_refused_hold_cannot_be_posted(bank: Bank) -> None:
    command = cmd.ReserveHold(bank.id(), b"", usd(ALICE), 5_001, NOON + DAY, "order")
    assert bank.refusal(command) == Code.INSUFFICIENT_FUNDS
    assert bank.refusal(bank.post(ALICE, command.id, 1, usd(BOB))) == Code.HOLD_UNKNOWN


def test_nobody_posts_the_hold_of_another(bank: Bank) -> None:
    hold = bank.reserve(usd(ALICE), 1_000)
    assert bank.refusal(bank.post(BOB, hold, 1, usd(ALICE))) == Code.HOLD_UNKNOWN
    assert bank.refusal(cmd.VoidHold(bank.id(), b"", BOB, hold)) == Code.HOLD_UNKNOWN


def test_holds_expire_at_their_time(bank: Bank) -> None:
    short, long = bank.reserve(usd(ALICE), 1_000, days=1), bank.reserve(usd(ALICE), 500, days=2)
    bank.now = NOON + DAY - 1
    bank.expect(cmd.ExpireHolds(ALICE), cmd.Done)
    assert money(bank, usd(ALICE)) == (5_000, 1_500)
    bank.now = NOON + DAY
    assert bank.refusal(bank.post(ALICE, short, 1, usd(BOB))) == Code.HOLD_UNKNOWN
    bank.expect(cmd.ExpireHolds(ALICE), cmd.Done)
    assert money(bank, usd(ALICE)) == (5_000, 500)
    assert list(bank.customers[ALICE].holds) == [long]
    happened = len(bank.events)
    bank.expect(cmd.ExpireHolds(ALICE), cmd.Done)
    assert len(bank.events) == happened
    assert [e.expired for _, e in bank.events if isinstance(e, ev.HoldEnded)] == [True]


def test_an_expired_hold_may_still_be_voided_once(bank: Bank) -> None:
    hold = bank.reserve(usd(ALICE), 1_000)
    bank.now = NOON + 2 * DAY
    bank.expect(cmd.VoidHold(bank.id(), b"", ALICE, hold), cmd.HoldReply)
    bank.expect(cmd.ExpireHolds(ALICE), cmd.Done)
    assert money(bank, usd(ALICE)) == (5_000, 0)


def test_an_account_with_a_hold_cannot_be_closed(bank: Bank) -> None:
    hold = bank.reserve(usd(ALICE), 5_000)
    assert bank.set_status(usd(ALICE), AccountStatus.CLOSED).code == Code.ACCOUNT_NOT_EMPTY
    bank.expect(bank.post(ALICE, hold, 4_975, usd(BOB)), cmd.Receipt)
    assert bank.set_status(usd(ALICE), AccountStatus.CLOSED).account.status == AccountStatus.CLOSED


def test_what_was_held_before_a_freeze_may_still_be_posted(bank: Bank) -> None:
    hold = bank.reserve(usd(ALICE), 1_000)
    bank.set_status(usd(ALICE), AccountStatus.FROZEN)
    late = cmd.ReserveHold(bank.id(), b"", usd(ALICE), 1, NOON + DAY, "order")
    assert bank.refusal(late) == Code.ACCOUNT_FROZEN
    bank.expect(bank.post(ALICE, hold, 990, usd(BOB)), cmd.Receipt)


def test_a_posted_hold_that_is_refused_comes_back_as_available_funds(bank: Bank) -> None:
    hold = bank.reserve(usd(ALICE), 1_000)
    receipt = bank.expect(bank.post(ALICE, hold, 600, account_number(BOB, 9)), cmd.Receipt)
    assert receipt.status == TransferStatus.RETURNED
    assert money(bank, usd(ALICE)) == (5_000, 0)
    assert bank.account(usd(ALICE)).pending == 0
    assert bank.refusal(bank.post(ALICE, hold, 1, usd(BOB))) == Code.HOLD_UNKNOWN


def test_a_posted_hold_that_comes_back_gives_its_limit_back(bank: Bank) -> None:
    bank.expect(bank.transfer(usd(ALICE), usd(BOB), 800), cmd.Receipt)
    hold = bank.reserve(usd(ALICE), 1_000)
    bank.expect(bank.post(ALICE, hold, 600, account_number(BOB, 9)), cmd.Receipt)
    assert bank.spent(ALICE) == 800
