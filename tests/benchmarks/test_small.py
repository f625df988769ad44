"""The benchmarks of single partitions in a small size: they measure what they say."""

from __future__ import annotations

import asyncio

import pytest

from actors.durable.options import Options
from benchmarks import customers, recovery
from benchmarks.local import FIRST_CUSTOMER, LocalPartition
from persistence.database import Pool


def _silent(text: str) -> None:
    pass


async def test_recovery_replays_all_customers(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = recovery.Options(
        customers=300, turns=(100, 10), segments=1, segment_s=0.3, warm_up_s=0.1
    )
    result = await asyncio.to_thread(recovery.run, database_url, options, _silent)
    assert capsys.readouterr().out == "", "what was measured is all that is said there"
    assert [found["entities"] for found in result["recoveries"]] == [300, 300]
    assert [found["turns"] for found in result["recoveries"]] == [3, 30]
    assert all(found["seconds"] > 0 for found in result["recoveries"])
    checkpoints = result["checkpoints"]
    assert len(checkpoints["per_second_with"]) == len(checkpoints["per_second_without"]) == 1
    assert checkpoints["share_of_throughput"] < 1
    assert checkpoints["share_of_processor"] < 1


async def test_what_a_start_reads_does_not_grow_with_customers(
    database_url: str, pool: Pool
) -> None:
    local = LocalPartition(pool)
    await local.start(Options())
    await local.open(FIRST_CUSTOMER, 500)
    await local.stop()
    await pool.execute("ANALYZE")
    read = await customers.start(database_url)
    assert read["rows_read"].get("snapshots", 0) == 0
    assert read["rows_read"].get("accounts", 0) == 0
    assert read["rows_read"].get("transfers", 0) == 0
    assert read["rows_read"]["slots"] > 0
