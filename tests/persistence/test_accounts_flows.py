"""What every flow of money leaves in the tables that customers read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from cluster.books import check
from domain.accounts import commands as cmd
from domain.accounts.commands import AccountStatus, Rate, TransferStatus
from domain.accounts.numbers import account_number
from domain.durable import Rejection
from persistence.accounts import account_currencies, transfer
from persistence.database import Pool
from persistence.journal import to_datetime
from tests.persistence.site import START, Site, running_site

DAY = 86_400_000_000


@pytest.fixture
async def site(pool: Pool) -> AsyncIterator[Site]:
    """Three customers: two in the first partition, one in the second."""
    async with running_site(pool) as site:
        site.people = (*site.customers("accounts/0", 2), *site.customers("accounts/1", 1))
        await site.open(*people(site))
        yield site
    report = await check(pool)
    assert report.ok, report.findings


def people(site: Site) -> tuple[int, ...]:
    """Alice and Bob of the first partition, Carol of the second."""
    return site.people


def usd(customer: int) -> int:
    return account_number(customer, 0)


async def row(site: Site, transfer_id: bytes) -> Any:
    return await site.pool.fetchrow(
        "SELECT * FROM transfers WHERE id = $1::uuid", transfer_id.hex()
    )


async def account_row(site: Site, number: int) -> Any:
    return await site.pool.fetchrow("SELECT * FROM accounts WHERE id = $1", number)


# -- transfers ----------------------------------------------------------------------------


@pytest.mark.parametrize("other", [1, 2], ids=["same partition", "other partition"])
async def test_a_transfer_that_arrives(site: Site, other: int) -> None:
    alice, friend = people(site)[0], people(site)[other]
    command = site.transfer(usd(alice), usd(friend), 10_000, reference="Rent, May")
    receipt = await site.call(command, cmd.Receipt)
    stored = await row(site, command.id)
    assert (stored["status"], stored["kind"], stored["fee"]) == (2, 1, 50)
    assert (stored["source_customer"], stored["destination_customer"]) == (alice, friend)
    assert (stored["amount"], stored["credited"], stored["reference"]) == (
        10_000,
        10_000,
        "Rent, May",
    )
    assert stored["at"] == to_datetime(receipt.at)
    assert stored["completed_at"] >= stored["at"]
    assert stored["fingerprint"] == b"t"
    for customer in (alice, friend):
        seen = await transfer(site.pool, command.id, customer)
        assert seen is not None
        assert seen.direction(customer) == ("out" if customer == alice else "in")
    assert await transfer(site.pool, command.id, 9_999_999_999) is None


@pytest.mark.parametrize("other", [1, 2], ids=["same partition", "other partition"])
async def test_a_transfer_that_comes_back(site: Site, other: int) -> None:
    alice, friend = people(site)[0], people(site)[other]
    command = site.transfer(usd(alice), account_number(friend, 9), 10_000)
    receipt = await site.call(command, cmd.Receipt)
    assert receipt.status == TransferStatus.RETURNED
    stored = await row(site, command.id)
    assert (stored["status"], stored["reason"]) == (3, "unknown_destination_account")
    assert stored["completed_at"] is not None
    assert await transfer(site.pool, command.id, alice) is not None
    assert await transfer(site.pool, command.id, friend) is None
    await site.restart()
    assert await site.call(command, cmd.Receipt) == receipt


@pytest.mark.parametrize("other", [0, 1, 2], ids=["own", "same partition", "other partition"])
async def test_a_conversion_is_one_row_with_both_sides(site: Site, other: int) -> None:
    alice, friend = people(site)[0], people(site)[other]
    rate = Rate(7_200_000_000, START + DAY)
    command = site.transfer(usd(alice), account_number(friend, 1), 10_000, "CNY", rate=rate)
    await site.call(command, cmd.Receipt)
    stored = await row(site, command.id)
    assert stored["status"] == 2
    assert (stored["amount"], stored["currency"]) == (10_000, "USD")
    assert (stored["credited"], stored["credited_currency"]) == (72_000, "CNY")
    assert stored["rate"] == 7_200_000_000


async def test_a_refused_transfer_leaves_no_row(site: Site) -> None:
    alice, bob, _ = people(site)
    command = site.transfer(usd(alice), usd(bob), 100_000)
    rejection = await site.call(command, Rejection)
    assert rejection.code == "insufficient_funds"
    assert await row(site, command.id) is None
    await site.call(site.transfer(usd(bob), usd(alice), 50_000), cmd.Receipt)
    await site.restart()
    assert await site.call(command, Rejection) == rejection


async def test_the_bonus_is_a_row_without_a_source(site: Site) -> None:
    alice = people(site)[0]
    sql = "SELECT id FROM transfers WHERE destination = $1"
    stored = await row(site, (await site.pool.fetchval(sql, usd(alice))).bytes)
    assert (stored["kind"], stored["status"], stored["source"]) == (2, 2, None)
    assert (stored["amount"], stored["source_customer"]) == (100_000, None)
    seen = await transfer(site.pool, stored["id"].bytes, alice)
    assert seen is not None
    assert (seen.kind, seen.direction(alice)) == ("bonus", "in")


# -- groups, holds ------------------------------------------------------------------------


async def test_a_linked_group_to_both_partitions(site: Site) -> None:
    alice, bob, carol = people(site)
    legs = tuple(site.transfer(usd(alice), usd(to), 1_000) for to in (bob, carol))
    group = cmd.LinkedTransfers(site.id(), b"g", legs)
    reply = await site.call(group, cmd.LinkedReply)
    assert [type(result) for result in reply.results] == [cmd.Receipt, cmd.Receipt]
    await site.restart()
    assert await site.call(group, cmd.LinkedReply) == reply
    again = await site.call(legs[0], cmd.Receipt)
    assert (again.id, again.status) == (legs[0].id, TransferStatus.COMPLETED)
    assert [(await row(site, leg.id))["fee"] for leg in legs] == [10, 10]


async def test_a_linked_group_that_is_refused_leaves_no_row(site: Site) -> None:
    alice, bob, carol = people(site)
    to = (usd(bob), usd(carol), account_number(carol, 9))
    legs = tuple(site.transfer(usd(alice), account, 1_000) for account in to)
    group = cmd.LinkedTransfers(site.id(), b"g", legs)
    reply = await site.call(group, cmd.LinkedReply)
    assert all(isinstance(result, Rejection) for result in reply.results)
    assert [await row(site, leg.id) for leg in legs] == [None] * 3
    await site.restart()
    assert await site.call(group, cmd.LinkedReply) == reply


def reserve(site: Site, amount: int, *, days: int = 1) -> cmd.ReserveHold:
    expiry = site.now + days * DAY
    return cmd.ReserveHold(site.id(), b"h", usd(people(site)[0]), amount, expiry, "order 7")


def post(site: Site, hold: bytes, amount: int, *, release: bool) -> cmd.PostHold:
    alice, _, carol = people(site)
    return cmd.PostHold(
        site.id(), b"p", alice, hold, amount, usd(carol), "USD", "Fill", release=release
    )


async def hold_row(site: Site, hold: bytes) -> tuple[int, bool] | None:
    stored = await site.pool.fetchrow("SELECT * FROM holds WHERE id = $1::uuid", hold.hex())
    return None if stored is None else (stored["amount"], stored["active"])


async def test_a_hold_from_reservation_to_its_end(site: Site) -> None:
    command = reserve(site, 10_000)
    reply = await site.call(command, cmd.HoldReply)
    assert await hold_row(site, command.id) == (10_000, True)
    part = post(site, command.id, 3_000, release=False)
    await site.call(part, cmd.Receipt)
    assert await hold_row(site, command.id) == (6_985, True)
    assert (await row(site, part.id))["kind"] == 3
    await site.restart()
    assert await site.call(command, cmd.HoldReply) == reply
    await site.call(post(site, command.id, 1_000, release=True), cmd.Receipt)
    assert await hold_row(site, command.id) == (0, False)
    void = cmd.VoidHold(site.id(), b"v", people(site)[0], command.id)
    assert (await site.call(void, Rejection)).code == "hold_unknown"


async def test_a_voided_hold(site: Site) -> None:
    command = reserve(site, 10_000)
    void = cmd.VoidHold(site.id(), b"v", people(site)[0], command.id)
    await site.call(command, cmd.HoldReply)
    reply = await site.call(void, cmd.HoldReply)
    assert await hold_row(site, command.id) == (0, False)
    await site.restart()
    assert await site.call(void, cmd.HoldReply) == reply


async def test_holds_that_are_due_are_found_and_expire(site: Site) -> None:
    alice = people(site)[0]
    soon, late = reserve(site, 1_000), reserve(site, 2_000, days=3)
    for command in (late, soon):
        await site.call(command, cmd.HoldReply)
    partition = site.partitions[site.owner(str(alice))]
    await partition.fire()
    assert await hold_row(site, soon.id) == (1_000, True)
    site.now += 2 * DAY
    assert await partition.journal.due(site.now, 10) == [str(alice)]
    for each in site.partitions.values():
        await each.fire()
    assert await hold_row(site, soon.id) == (0, False)
    assert await hold_row(site, late.id) == (2_000, True)
    assert await partition.journal.due(site.now, 10) == []


async def test_holds_of_one_turn(site: Site) -> None:
    alice = people(site)[0]
    kept, posted, voided, spent = (reserve(site, 5_000) for _ in range(4))
    await site.ask(
        kept,
        posted,
        voided,
        spent,
        post(site, posted.id, 1_000, release=False),
        cmd.VoidHold(site.id(), b"v", alice, voided.id),
        post(site, spent.id, 4_975, release=False),
    )
    assert await hold_row(site, kept.id) == (5_000, True)
    assert await hold_row(site, posted.id) == (3_990, True)
    assert await hold_row(site, voided.id) in (None, (0, False))
    assert await hold_row(site, spent.id) in (None, (0, False))
    await site.ask(
        post(site, posted.id, 1_000, release=False),
        cmd.VoidHold(site.id(), b"v", alice, posted.id),
        post(site, kept.id, 1_000, release=False),
        post(site, kept.id, 1_000, release=False),
    )
    assert await hold_row(site, posted.id) == (0, False)
    assert await hold_row(site, kept.id) == (2_980, True)


# -- accounts -----------------------------------------------------------------------------


async def test_accounts_and_their_status(site: Site) -> None:
    alice, bob, _ = people(site)
    more = cmd.OpenAccount(site.id(), b"a", alice, "EUR", "Travel")
    number = account_number(alice, 3)
    freeze = cmd.SetAccountStatus(site.id(), b"s", number, AccountStatus.FROZEN)
    opened, frozen = await site.ask(more, freeze)
    assert (opened.account.id, frozen.account.status) == (number, AccountStatus.FROZEN)
    stored = await account_row(site, number)
    assert (stored["customer"], stored["currency"], stored["name"]) == (alice, "EUR", "Travel")
    assert (stored["status"], stored["closed_at"]) == (AccountStatus.FROZEN, None)
    closing = account_number(alice, 2)
    await site.call(
        cmd.SetAccountStatus(site.id(), b"s", closing, AccountStatus.CLOSED), cmd.AccountReply
    )
    stored = await account_row(site, closing)
    assert stored["status"] == AccountStatus.CLOSED
    assert stored["closed_at"] > stored["opened_at"]
    known = await account_currencies(site.pool, [number, usd(bob), account_number(bob, 9)])
    assert known == {number: "EUR", usd(bob): "USD"}


async def test_an_account_opened_and_closed_in_one_turn(site: Site) -> None:
    alice = people(site)[0]
    number = account_number(alice, 3)
    await site.ask(
        cmd.OpenAccount(site.id(), b"a", alice, "EUR", "Travel"),
        cmd.SetAccountStatus(site.id(), b"s", number, AccountStatus.CLOSED),
    )
    stored = await account_row(site, number)
    assert stored["status"] == AccountStatus.CLOSED
    assert stored["closed_at"] == stored["opened_at"]


# -- commands -----------------------------------------------------------------------------


async def test_every_command_is_answered_again_after_a_restart(site: Site) -> None:
    alice, bob, carol = people(site)
    hold = reserve(site, 1_000)
    commands: list[Any] = [
        cmd.OpenAccount(site.id(), b"a", alice, "USD", "Savings"),
        site.transfer(usd(alice), usd(bob), 500),
        site.transfer(usd(alice), usd(carol), 500),
        site.transfer(usd(alice), usd(alice), 500),
        hold,
        post(site, hold.id, 100, release=False),
        cmd.VoidHold(site.id(), b"v", alice, hold.id),
        cmd.SetDailyLimit(site.id(), b"l", alice, "USD", 5),
        cmd.SetAccountStatus(site.id(), b"s", usd(alice), AccountStatus.FROZEN),
        site.transfer(usd(alice), usd(bob), 500),
    ]
    first = [(await site.ask(command))[0] for command in commands]
    assert [getattr(reply, "code", "") for reply in first] == [
        *[""] * 3,
        "same_account",
        *[""] * 5,
        "account_frozen",
    ]
    for _ in range(2):
        assert [(await site.ask(command))[0] for command in commands] == first
        await site.restart()
    other = [
        type(c)(*[b"other" if n == "fingerprint" else getattr(c, n) for n in _names(c)])
        for c in commands
    ]
    assert [(await site.ask(c))[0] for c in other] == [Rejection("id_reused")] * len(commands)


def _names(command: Any) -> tuple[str, ...]:
    names: tuple[str, ...] = command.__struct_fields__
    return names


async def test_a_customer_opened_again_is_answered_with_the_first_view(site: Site) -> None:
    (customer,) = site.customers("accounts/1", 2)[1:]
    command = cmd.OpenCustomer(site.id(), b"o", customer, ("USD",), "USD", 700)
    view = await site.call(command, cmd.CustomerView)
    await site.call(site.transfer(usd(customer), usd(people(site)[0]), 100), cmd.Receipt)
    await site.restart()
    assert await site.call(command, cmd.CustomerView) == view
    other = cmd.OpenCustomer(site.id(), b"o", customer, ("USD",), "USD", 700)
    now = await site.call(other, cmd.CustomerView)
    assert now.accounts[0].posted == 590


async def test_an_id_is_taken_across_partitions(site: Site) -> None:
    alice, _, carol = people(site)
    command = site.transfer(usd(alice), usd(carol), 100)
    await site.call(command, cmd.Receipt)
    same = cmd.Transfer(command.id, b"other", usd(carol), usd(alice), 100, "USD")
    assert await site.call(same, Rejection) == Rejection("id_reused")
