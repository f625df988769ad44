"""Linked groups: all or none."""

from __future__ import annotations

import pytest

from domain.accounts import commands as cmd
from domain.accounts import events as ev
from domain.accounts.codes import Code
from domain.accounts.commands import AccountStatus, Rate, TransferStatus
from domain.accounts.numbers import account_number
from domain.durable import Rejection
from domain.money import RATE_SCALE
from tests.domain.accounts.bank import ALICE, BOB, CAROL, DAY, NOON, Bank, cny, eur, usd


def make_bank() -> Bank:
    """The customers that this module's tests are about."""
    bank = Bank()
    bank.open(ALICE, 100_000)
    bank.open(BOB)
    bank.open(CAROL)
    return bank


@pytest.fixture
def bank() -> Bank:
    return make_bank()


def linked(bank: Bank, *legs: cmd.Transfer) -> cmd.LinkedTransfers:
    return cmd.LinkedTransfers(bank.id(), b"", legs)


def codes(reply: cmd.LinkedReply) -> list[str]:
    return [r.code if isinstance(r, Rejection) else r.status.name for r in reply.results]


def untouched(bank: Bank) -> None:
    account = bank.account(usd(ALICE))
    assert (account.posted, account.held, account.pending) == (100_000, 0, 0)
    assert not bank.customers[ALICE].groups
    assert not bank.transit
    for customer in (BOB, CAROL):
        assert not bank.customers[customer].promised
        for state in bank.customers[customer].accounts.values():
            assert (state.posted, state.expecting) == (0, 0)


def to(bank: Bank, destination: int, amount: int, currency: str = "USD") -> cmd.Transfer:
    rate = None if currency == "USD" else Rate(RATE_SCALE, NOON)
    return bank.transfer(usd(ALICE), destination, amount, currency, rate=rate)


# -- between own accounts -----------------------------------------------------------------


def test_own_transfers_may_use_the_proceeds_of_those_before_them(bank: Bank) -> None:
    there = to(bank, cny(ALICE), 100_000, "CNY")
    on = bank.transfer(cny(ALICE), eur(ALICE), 100_000, "EUR", rate=Rate(RATE_SCALE, NOON))
    reply = bank.put(linked(bank, there, on), deliver=False)
    assert codes(reply) == ["COMPLETED", "COMPLETED"]
    assert bank.account(eur(ALICE)).posted == 100_000


def test_own_transfers_happen_all_or_none(bank: Bank) -> None:
    there = to(bank, cny(ALICE), 100_000, "CNY")
    too_much = bank.transfer(cny(ALICE), eur(ALICE), 100_001, "EUR", rate=Rate(RATE_SCALE, NOON))
    reply = bank.put(linked(bank, there, too_much, to(bank, eur(ALICE), 1, "EUR")))
    assert codes(reply) == [Code.LINKED_FAILED, Code.INSUFFICIENT_FUNDS, Code.LINKED_FAILED]
    untouched(bank)


# -- to others ----------------------------------------------------------------------------


def test_a_group_to_others_waits_for_all_promises(bank: Bank) -> None:
    legs = (
        to(bank, usd(BOB), 10_000),
        to(bank, usd(CAROL), 20_000),
        to(bank, eur(ALICE), 1, "EUR"),
    )
    group = linked(bank, *legs)
    assert bank.put(group, deliver=False) is None
    account = bank.account(usd(ALICE))
    assert (account.posted, account.held) == (100_000, 10_050 + 20_100 + 1)
    bank.deliver(1)
    assert bank.account(usd(BOB)).expecting == 1
    assert bank.answers.get(group.id) is None
    bank.deliver(1)
    assert codes(bank.answers[group.id]) == ["COMPLETED"] * 3
    assert (account.posted, account.held, account.pending) == (100_000 - 30_151, 0, 2)
    bank.deliver()
    assert (account.posted, account.held, account.pending) == (69_849, 0, 0)
    for customer, amount in ((BOB, 10_000), (CAROL, 20_000)):
        state = bank.account(usd(customer))
        assert (state.posted, state.expecting) == (amount, 0)
        assert not bank.customers[customer].promised


@pytest.mark.parametrize("refusing", [0, 1, 2])
def test_one_refusal_voids_all(bank: Bank, refusing: int) -> None:
    good = [to(bank, usd(BOB), 100), to(bank, usd(CAROL), 200), to(bank, cny(BOB), 300, "CNY")]
    bad = (account_number(BOB, 9), cny(CAROL), eur(BOB))[refusing]
    if refusing == 2:
        bank.set_status(eur(BOB), AccountStatus.CLOSED)
    currency = "EUR" if refusing == 2 else "USD"
    good[refusing] = to(bank, bad, 300, currency)
    reply = bank.put(linked(bank, *good))
    expected = [Code.LINKED_FAILED] * 3
    expected[refusing] = (
        Code.UNKNOWN_DESTINATION_ACCOUNT,
        Code.CURRENCY_MISMATCH,
        Code.DESTINATION_CLOSED,
    )[refusing]
    assert codes(reply) == expected
    untouched(bank)


def test_two_refusals_end_it_once(bank: Bank) -> None:
    bad = [to(bank, account_number(BOB, 9), 1), to(bank, usd(CAROL), 2), to(bank, cny(BOB), 3)]
    reply = bank.put(linked(bank, *bad))
    assert codes(reply) == [Code.UNKNOWN_DESTINATION_ACCOUNT, *[Code.LINKED_FAILED] * 2]
    assert sum(isinstance(event, ev.GroupEnded) for _, event in bank.events) == 1
    untouched(bank)


def test_each_leg_must_be_covered_without_the_proceeds_of_another(bank: Bank) -> None:
    there = to(bank, cny(ALICE), 50_000, "CNY")
    on = bank.transfer(cny(ALICE), cny(BOB), 50_000, "CNY")
    assert codes(bank.put(linked(bank, there, on))) == [
        Code.LINKED_FAILED,
        Code.INSUFFICIENT_FUNDS,
    ]
    untouched(bank)


def test_a_group_cannot_spend_more_than_there_is(bank: Bank) -> None:
    reply = bank.put(linked(bank, to(bank, usd(BOB), 60_000), to(bank, usd(CAROL), 40_000)))
    assert codes(reply) == [Code.LINKED_FAILED, Code.INSUFFICIENT_FUNDS]
    untouched(bank)


def test_what_a_group_put_aside_is_not_available(bank: Bank) -> None:
    bank.put(linked(bank, to(bank, usd(BOB), 90_000)), deliver=False)
    assert bank.put(to(bank, usd(CAROL), 9_540)).code == Code.INSUFFICIENT_FUNDS
    assert bank.put(to(bank, usd(CAROL), 9_500), deliver=False) is None


def test_a_promise_keeps_the_account_from_closing(bank: Bank) -> None:
    bank.put(linked(bank, to(bank, usd(BOB), 100), to(bank, usd(CAROL), 100)), deliver=False)
    bank.deliver(1)
    assert bank.set_status(usd(BOB), AccountStatus.CLOSED).code == Code.ACCOUNT_NOT_EMPTY
    bank.set_status(usd(CAROL), AccountStatus.CLOSED)
    bank.deliver()
    untouched(bank)
    assert bank.set_status(usd(BOB), AccountStatus.CLOSED).account.status == AccountStatus.CLOSED


def test_an_own_destination_of_a_waiting_group_cannot_be_closed(bank: Bank) -> None:
    group = linked(bank, to(bank, eur(ALICE), 1, "EUR"), to(bank, usd(BOB), 1))
    bank.put(group, deliver=False)
    assert bank.set_status(eur(ALICE), AccountStatus.CLOSED).code == Code.ACCOUNT_NOT_EMPTY
    bank.deliver()
    assert codes(bank.answers[group.id]) == ["COMPLETED", "COMPLETED"]


def test_a_promise_holds_even_when_the_account_is_frozen_meanwhile(bank: Bank) -> None:
    group = linked(bank, to(bank, usd(BOB), 100), to(bank, usd(CAROL), 100))
    bank.put(group, deliver=False)
    bank.deliver(1)
    bank.set_status(usd(BOB), AccountStatus.FROZEN)
    bank.set_status(usd(ALICE), AccountStatus.FROZEN)
    bank.deliver()
    assert codes(bank.answers[group.id]) == ["COMPLETED", "COMPLETED"]
    assert bank.account(usd(BOB)).posted == 100


# -- limits, ids --------------------------------------------------------------------------


def test_groups_that_wait_count_towards_the_limit(bank: Bank) -> None:
    bank.expect(cmd.SetDailyLimit(bank.id(), b"", ALICE, "USD", 1_000), cmd.Done)
    first = linked(bank, to(bank, usd(BOB), 400), to(bank, usd(CAROL), 200))
    bank.put(first, deliver=False)
    assert bank.spent(ALICE, deliver=False) == 600
    assert codes(bank.put(linked(bank, to(bank, usd(BOB), 401)), deliver=False)) == [
        Code.DAILY_LIMIT_EXCEEDED
    ]
    assert bank.put(to(bank, usd(BOB), 401), deliver=False).code == Code.DAILY_LIMIT_EXCEEDED
    bank.put(to(bank, usd(BOB), 400), deliver=False)
    bank.deliver()
    assert codes(bank.answers[first.id]) == ["COMPLETED", "COMPLETED"]
    assert bank.spent(ALICE) == 1_000


def test_a_group_of_yesterday_does_not_bring_yesterday_back(bank: Bank) -> None:
    bank.expect(cmd.SetDailyLimit(bank.id(), b"", ALICE, "USD", 1_000), cmd.Done)
    bank.put(linked(bank, to(bank, usd(BOB), 100)), deliver=False)
    bank.now = NOON + DAY
    bank.put(to(bank, usd(CAROL), 1_000), deliver=False)
    bank.deliver()
    assert bank.put(to(bank, usd(BOB), 1)).code == Code.DAILY_LIMIT_EXCEEDED


def test_an_id_is_good_for_one_leg(bank: Bank) -> None:
    leg = to(bank, usd(BOB), 100)
    assert codes(bank.put(linked(bank, leg, leg))) == [Code.LINKED_FAILED, Code.ID_REUSED]
    own = to(bank, eur(ALICE), 100, "EUR")
    assert codes(bank.put(linked(bank, own, own))) == [Code.LINKED_FAILED, Code.ID_REUSED]
    untouched(bank)


def test_the_id_of_a_waiting_leg_is_taken(bank: Bank) -> None:
    hold = bank.reserve(usd(ALICE), 50)
    leg = to(bank, usd(BOB), 100)
    group = linked(bank, leg)
    bank.put(group, deliver=False)
    assert bank.put(leg, deliver=False).code == Code.ID_REUSED
    assert codes(bank.put(linked(bank, leg), deliver=False)) == [Code.ID_REUSED]
    for taken in (leg.id, group.id):
        post = cmd.PostHold(taken, b"", ALICE, hold, 50, usd(BOB), "USD")
        assert bank.put(post, deliver=False).code == Code.ID_REUSED
        other = cmd.ReserveHold(taken, b"", usd(ALICE), 50, NOON + 1, "")
        assert bank.put(other, deliver=False).code == Code.ID_REUSED
    lone = bank.transfer(usd(ALICE), usd(BOB), 1, id=group.id)
    assert bank.put(lone, deliver=False).code == Code.ID_REUSED


def test_a_waiting_group_asked_for_again_goes_on_waiting(bank: Bank) -> None:
    group = linked(bank, to(bank, usd(BOB), 100))
    bank.put(group, deliver=False)
    happened = len(bank.events)
    assert bank.put(group, deliver=False) is None
    assert len(bank.events) == happened
    other = cmd.LinkedTransfers(group.id, b"other", group.transfers)
    assert bank.put(other, deliver=False).code == Code.ID_REUSED
    bank.deliver()
    assert codes(bank.answers[group.id]) == ["COMPLETED"]
    assert bank.answers[group.id].results[0].status == TransferStatus.COMPLETED


def refused_on_the_way(bank: Bank) -> cmd.Transfer:
    """A leg to Bob whose group was refused elsewhere, while Bob has not been asked yet."""
    leg = to(bank, usd(BOB), 100)
    bank.put(linked(bank, to(bank, account_number(CAROL, 9), 1), leg), deliver=False)
    bank.deliver(1)
    assert not bank.customers[ALICE].groups
    return leg


def test_a_promise_to_a_refused_group_is_not_another_transfers(bank: Bank) -> None:
    leg = refused_on_the_way(bank)
    close = cmd.SetAccountStatus(bank.id(), b"", eur(BOB), AccountStatus.CLOSED)
    bank.put(close, deliver=False)
    other = bank.transfer(usd(ALICE), eur(BOB), 7, "USD", id=leg.id, fingerprint=b"other")
    bank.put(other, deliver=False)
    bank.deliver()
    assert bank.answers[leg.id].status == TransferStatus.RETURNED
    untouched(bank)


def test_a_promise_to_a_refused_group_is_not_another_groups(bank: Bank) -> None:
    leg = refused_on_the_way(bank)
    again = linked(bank, bank.transfer(usd(ALICE), cny(BOB), 7, "USD", id=leg.id))
    bank.put(again, deliver=False)
    bank.deliver()
    assert codes(bank.answers[again.id]) == [Code.ID_REUSED]
    untouched(bank)
