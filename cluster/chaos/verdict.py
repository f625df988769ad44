"""What must be true after all faults: acknowledged is present, once; refused is absent; the books
are right.

Reads the database alone, but for the customers' balances, which the platform itself must show.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Final

import httpx
import msgspec

from actors.accounts import KIND
from cluster import books
from cluster.chaos.load import Customer, Load, dollars
from domain.accounts.commands import TransferStatus
from persistence.accounts.projection import KIND_TRANSFER
from persistence.database import Pool
from persistence.placement import under_way

REST_S: Final = 60.0
"""When faults have stopped, everything that is on its way ends within this time."""
_FINDINGS_MAX: Final = 50


class Verdict(msgspec.Struct):
    """``findings`` are what is wrong; ``sums`` must be zero; ``counts`` are of ``kontor check``."""

    findings: list[str]
    stored: int
    sums: dict[str, int]
    counts: dict[str, int]
    journal_rows: dict[str, int]


async def judge(load: Load, customers: Sequence[Customer], url: str, pool: Pool) -> Verdict:
    """Hold what clients were told against what there is."""
    findings = list(load.wrong)
    findings += await _rest(pool)
    fees, stored = await _compare(load, pool, findings)
    await _compare_balances(load, customers, fees, url, findings)
    report = await books.check(pool)
    findings += report.findings
    if any(report.sums.values()):
        findings.append(f"the books do not sum to zero: {report.sums}")
    chains = await books.verify(pool)
    findings += [chain.reason for chain in chains if not chain.ok]
    rows = {chain.stream: chain.rows for chain in chains}
    return Verdict(findings[:_FINDINGS_MAX], stored, report.sums, report.counts, rows)


async def _rest(pool: Pool) -> list[str]:
    """Wait until nothing is on its way: no transfer, no slot."""
    pending = moving = 0
    try:
        async with asyncio.timeout(REST_S):
            while True:
                pending = await pool.fetchval(
                    "SELECT count(*) FROM transfers WHERE status = $1", int(TransferStatus.PENDING)
                )
                moving = await under_way(pool, KIND)
                if not pending and not moving:
                    return []
                await asyncio.sleep(0.2)
    except TimeoutError:
        late = f"{REST_S:.0f} s after the last fault {pending} transfers are pending"
        return [f"{late} and {moving} slots are not where they are to be"]


async def _compare(load: Load, pool: Pool, findings: list[str]) -> tuple[Counter[int], int]:
    """Acknowledged = present = distinct, refused = absent; the fees that each account paid.

    A transfer is there once because its id is the key.
    """
    rows = await pool.fetch(
        "SELECT id, source, destination, amount, fee, status FROM transfers WHERE kind = $1",
        KIND_TRANSFER,
    )
    stored = {row["id"].bytes.hex(): row for row in rows}
    fees: Counter[int] = Counter()
    findings += [
        f"transfer {identity} was acknowledged and is not there"
        for identity in load.acknowledged.keys() - stored.keys()
    ]
    for identity in stored.keys() - load.acknowledged.keys():
        refused = "was refused" if identity in load.refused else "was never acknowledged"
        findings.append(f"transfer {identity} {refused} and is there")
    for identity, payment in load.acknowledged.items():
        row = stored.get(identity)
        if row is None:
            continue
        fees[row["source"]] += row["fee"]
        said = (payment.source, payment.destination, payment.amount)
        if (row["source"], row["destination"], row["amount"]) != said:
            findings.append(f"transfer {identity} is not what was acknowledged")
        if row["status"] != int(TransferStatus.COMPLETED):
            findings.append(f"transfer {identity} was acknowledged and has not arrived")
    return fees, len(stored)


async def _compare_balances(
    load: Load, customers: Sequence[Customer], fees: Counter[int], url: str, findings: list[str]
) -> None:
    """Each customer sees what they had, less what they sent and paid, plus what they were sent."""
    expected: Counter[int] = Counter({int(c.account): c.funds for c in customers})
    expected.subtract(fees)
    for payment in load.acknowledged.values():
        expected[payment.source] -= payment.amount
        expected[payment.destination] += payment.amount
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        for customer in customers:
            account, balance = await dollars(client, customer.user, customer.token)
            if balance != expected[int(account)]:
                findings.append(
                    f"account {account} shows {balance} cents, its payments make"
                    f" {expected[int(account)]}"
                )
