"""What funding a brokerage and withdrawing from it leave in the tables that customers read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from cluster.books import check
from domain.accounts import commands as cmd
from domain.accounts import trading as tr
from domain.accounts.numbers import account_number
from domain.durable import Rejection
from persistence.accounts import HistoryFilter, history, transfer
from persistence.database import Pool
from tests.persistence.site import Site, running_site

CENTS = 10**6


@pytest.fixture
async def site(pool: Pool) -> AsyncIterator[Site]:
    """One customer with money."""
    async with running_site(pool) as site:
        site.people = tuple(site.customers("accounts/0", 1))
        await site.open(*site.people)
        yield site
    report = await check(pool)
    assert report.ok, report.findings


async def test_what_goes_there_and_back_is_in_the_history(site: Site) -> None:
    (alice,) = site.people
    account = account_number(alice, 0)
    fund = tr.FundBrokerage(site.id(), b"f", account, 70_00)
    back = tr.WithdrawBrokerage(site.id(), b"w", account, 20_00)
    funded = await site.call(fund, tr.BrokerageReply)
    assert funded.balance == tr.BalanceView("USD", 70_00 * CENTS, 0)
    withdrawn = await site.call(back, tr.BrokerageReply)
    assert withdrawn.balance == tr.BalanceView("USD", 50_00 * CENTS, 0)
    rows = {row.id: row for row in (await history(site.pool, alice, HistoryFilter())).rows}
    there, here = rows[fund.id], rows[back.id]
    assert (there.kind, there.source, there.destination) == ("funding", account, None)
    assert (there.amount, there.currency, there.direction(alice)) == (70_00, "USD", "out")
    assert (here.kind, here.source, here.destination) == ("withdrawal", None, account)
    assert (here.credited, here.direction(alice)) == (20_00, "in")
    assert there.status == here.status == cmd.TransferStatus.COMPLETED
    assert await transfer(site.pool, fund.id, alice) == there
    assert await transfer(site.pool, back.id, alice) == here
    assert await transfer(site.pool, fund.id, alice + 1) is None
    found = await history(site.pool, alice, HistoryFilter(direction="out", search="brokerage"))
    assert [row.id for row in found.rows] == [fund.id]


async def test_answers_are_remembered_for_ever(site: Site) -> None:
    (alice,) = site.people
    account = account_number(alice, 0)
    asked: list[Any] = [
        tr.FundBrokerage(site.id(), b"f", account, 70_00),
        tr.IssueAsset(site.id(), b"i", alice, "KTRA", 5),
        tr.WithdrawBrokerage(site.id(), b"w", account, 20_00),
        tr.WithdrawBrokerage(site.id(), b"x", account, 99_00),
        tr.CancelAfter(site.id(), b"c", alice, "BTCUSD", site.now + 10**9),
    ]
    answers = [(await site.ask(command))[0] for command in asked]
    assert [isinstance(answer, Rejection) for answer in answers] == [False] * 3 + [True, False]
    await site.restart()
    assert [(await site.ask(command))[0] for command in asked] == answers
    other = tr.FundBrokerage(asked[0].id, b"other", account, 70_00)
    assert (await site.ask(other))[0] == Rejection("id_reused")
    view = await site.call(tr.ReadBrokerage(alice), tr.BrokerageView)
    assert view.balances == (
        tr.BalanceView("KTRA", 5, 0),
        tr.BalanceView("USD", 50_00 * CENTS, 0),
    )
    rows = await site.pool.fetchval("SELECT count(*) FROM transfers WHERE kind IN (4, 5)")
    assert rows == 2
