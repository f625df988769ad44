"""What adjustments leave in the tables, and that the proof of the books knows the house's side."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from cluster.books import check
from domain.accounts import events as ev
from domain.accounts.adjusting import LIFE_US
from domain.accounts.adjustment import (
    AdjustmentReply,
    AdjustmentStatus,
    DecideAdjustment,
    ProposeAdjustment,
)
from domain.accounts.codes import Code
from domain.accounts.numbers import account_number
from domain.durable import Rejection
from persistence.accounts import (
    HistoryFilter,
    adjustment,
    adjustments,
    history,
    pending_adjustments,
)
from persistence.accounts.adjustments import adjustment_statements
from persistence.database import Pool
from tests.persistence.site import Site, running_site

MAKER, CHECKER = 2_000_000_001, 2_000_000_002


@pytest.fixture
async def site(pool: Pool) -> AsyncIterator[Site]:
    """One customer with money."""
    async with running_site(pool) as site:
        site.people = tuple(site.customers("accounts/0", 1))
        await site.open(*site.people)
        yield site


async def propose(site: Site, amount: int) -> bytes:
    """Propose an adjustment; its id."""
    (alice,) = site.people
    command = ProposeAdjustment(
        site.id(), b"p", account_number(alice, 0), amount, "Fee charged twice", MAKER
    )
    return (await site.call(command, AdjustmentReply)).id


async def decision(site: Site, number: bytes, *, approve: bool = True) -> DecideAdjustment:
    """What somebody decides who has read the row."""
    row = await adjustment(site.pool, number)
    assert row is not None
    return DecideAdjustment(
        site.id(), b"d", row.customer, number, row.digest, CHECKER, approve, "Looked at it"
    )


async def proved(site: Site) -> None:
    report = await check(site.pool)
    assert report.ok, report.findings


async def test_what_is_posted_is_in_the_history(site: Site) -> None:
    (alice,) = site.people
    account = account_number(alice, 0)
    more, less, none = await propose(site, 2_50), await propose(site, -1_00), await propose(site, 7)
    waiting = await adjustments(site.pool, status=AdjustmentStatus.PENDING)
    assert [(row.id, row.amount) for row in waiting] == [(more, 2_50), (less, -1_00), (none, 7)]
    assert await pending_adjustments(site.pool) == 3
    assert not (await history(site.pool, alice, HistoryFilter(search="twice"))).rows
    for number in (more, less):
        await site.call(await decision(site, number), AdjustmentReply)
    await site.call(await decision(site, none, approve=False), AdjustmentReply)
    rows = {row.id: row for row in (await history(site.pool, alice, HistoryFilter())).rows}
    assert none not in rows
    assert (rows[more].kind, rows[more].source, rows[more].destination) == (
        "adjustment", None, account,
    )  # fmt: skip
    assert (rows[less].kind, rows[less].source, rows[less].destination) == (
        "adjustment", account, None,
    )  # fmt: skip
    assert [rows[number].amount for number in (more, less)] == [2_50, 1_00]
    assert [rows[number].direction(alice) for number in (more, less)] == ["in", "out"]
    assert rows[more].reference == "Fee charged twice"
    found = {row.id: row for row in await adjustments(site.pool, customer=alice)}
    assert found[more].status is AdjustmentStatus.POSTED
    assert found[none].status is AdjustmentStatus.REFUSED
    assert (found[none].checker, found[none].note) == (CHECKER, "Looked at it")
    assert found[none].decided_at is not None
    assert await pending_adjustments(site.pool) == 0
    await proved(site)


async def test_answers_are_remembered_for_ever(site: Site) -> None:
    (alice,) = site.people
    command = ProposeAdjustment(
        site.id(), b"p", account_number(alice, 0), 5_00, "Fee charged twice", MAKER
    )
    asked: list[Any] = [command]
    first = [await site.call(command, AdjustmentReply)]
    asked.append(await decision(site, command.id))
    first.append(await site.call(asked[1], AdjustmentReply))
    await site.restart()
    assert await site.ask(*asked) == first
    other = msgspec.structs.replace(command, fingerprint=b"other")
    (refused,) = await site.ask(other)
    assert isinstance(refused, Rejection)
    assert refused.code == Code.ID_REUSED
    await proved(site)


async def test_two_decisions_in_one_turn(site: Site) -> None:
    number = await propose(site, 3_00)
    before = await decision(site, number)
    twice = msgspec.structs.replace(before, id=site.id())
    posted, refused = await site.ask(before, twice)
    assert isinstance(posted, AdjustmentReply)
    assert isinstance(refused, Rejection)
    assert refused.code == Code.ADJUSTMENT_UNKNOWN
    await proved(site)


def test_proposed_and_decided_in_one_turn() -> None:
    """An update does not see what the same statement inserts."""
    account, now = account_number(1_000_000_001, 0), datetime.now(UTC)
    proposed = ev.AdjustmentProposed(b"a" * 16, account, "USD", 5, "Why", MAKER, 1, 2)
    posted = ev.AdjustmentPosted(b"a" * 16, account, "USD", 5, "Why", MAKER, CHECKER, 1, "Yes")
    (statement,) = adjustment_statements([proposed, posted], now)
    *_, status, checker, note, decided_at = statement.arguments
    assert (status, checker, note, decided_at) == ([2], [CHECKER], ["Yes"], [now])


async def test_nobody_decides_in_time(site: Site) -> None:
    number = await propose(site, 3_00)
    (timer,) = await site.pool.fetch("select due from timers")
    row = await adjustment(site.pool, number)
    assert row is not None
    assert timer["due"] == row.expires_at
    site.now += LIFE_US
    command = await decision(site, number)
    (refused,) = await site.ask(command)
    assert refused.code == Code.ADJUSTMENT_EXPIRED
    await site.ask(site.machine.wake(str(row.customer)))
    row = await adjustment(site.pool, number)
    assert row is not None
    assert (row.status, row.checker) == (AdjustmentStatus.EXPIRED, None)
    await proved(site)


TAMPERED = {
    "another amount": "update transfers set amount = 1, credited = 1 where kind = 6",
    "a posting that nobody approved": "update adjustments set status = 3 where status = 2",
    "one that waits no more": "update adjustments set status = 4 where status = 1",
    "another amount of the proposal": "update adjustments set amount = 1 where status = 2",
}


@pytest.mark.parametrize("change", TAMPERED)
async def test_the_proof_finds_what_was_changed(site: Site, change: str) -> None:
    number = await propose(site, 2_50)
    await site.call(await decision(site, number), AdjustmentReply)
    await propose(site, 1_00)
    await proved(site)
    await site.pool.execute(TAMPERED[change])
    report = await check(site.pool)
    assert any("djustment" in finding for finding in report.findings), report.findings
