"""Many customers on one machine: memory, first touch, checkpoint, recovery, disk, and start-up.

All customers are opened through a real partition, with three accounts each. Memory is measured in
a fresh process that loads a part of them. What start-up and recovery read is counted by Postgres
itself, table by table: no step of either may read all customers.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil

from actors.durable.options import Options as PartitionOptions
from benchmarks.local import FIRST_CUSTOMER, NEVER_S, LocalPartition, quiet
from cluster.chaos.running import a_platform
from domain.accounts.commands import CustomerView, ReadCustomer
from persistence.database import Pool, open_pool

Progress = Callable[[str], None]
Advance = Callable[[int, str], None]

_AT_ONCE: Final = 2_000
_ALL: Final = 1_000_000_000_000
_PACKED_AT_ONCE: Final = 10_000
_PACKING_INTERVAL_S: Final = 0.2
_JOBS_S: Final = 3.0
"""The background jobs of the gateways have had their turn by then."""


class Options(msgspec.Struct, frozen=True):
    """``touched`` are loaded to measure memory, ``changed`` before a checkpoint or a crash."""

    customers: int = 1_000_000
    touched: int = 100_000
    changed: int = 20_000
    first_touches: int = 2_000


async def _open(pool: Pool, customers: int, advance: Advance) -> dict[str, Any]:
    local = LocalPartition(pool)
    await local.start(PartitionOptions())
    started = time.perf_counter()
    for start in range(0, customers, _AT_ONCE):
        count = min(_AT_ONCE, customers - start)
        await local.open(FIRST_CUSTOMER + start, count)
        await pool.execute(
            "INSERT INTO users (id, email, name, password_hash, opened_at)"
            " SELECT n, n || '@bench.invalid', 'Bench', '!', now()"
            " FROM generate_series($1::bigint, $2::bigint) AS n",
            FIRST_CUSTOMER + start,
            FIRST_CUSTOMER + start + count - 1,
        )
        advance(start + count, f"{start + count:,} of {customers:,} customers are open")
    seconds = time.perf_counter() - started
    about = local.partition.describe()
    await local.stop()
    return {
        "seconds": round(seconds, 1),
        "per_second": round(customers / seconds),
        "in_use_at_the_end": about["entities"],
        "packed_at_the_end": about["packed"],
    }


def _resident() -> int:
    return int(psutil.Process().memory_info().rss)


async def _read(local: LocalPartition, numbers: list[int]) -> None:
    for start in range(0, len(numbers), _AT_ONCE):
        await local.ask([ReadCustomer(n) for n in numbers[start : start + _AT_ONCE]], CustomerView)


async def _memory(database_url: str, options: Options, idle: bool) -> int:
    """Bytes of resident memory for each customer, in use or packed after some idle seconds."""
    async with _pool(database_url) as pool:
        local = LocalPartition(pool)
        interval = _PACKING_INTERVAL_S if idle else NEVER_S
        await local.start(PartitionOptions(checkpoint_interval_s=interval, memory_bytes_max=_ALL))
        numbers = [FIRST_CUSTOMER + n for n in range(options.touched)]
        before = 0
        for start in range(0, len(numbers), _PACKED_AT_ONCE):
            # The first ones make room that the later ones use again.
            if start == 2 * _PACKED_AT_ONCE:
                before = _resident()
            await _read(local, numbers[start : start + _PACKED_AT_ONCE])
            while idle and local.partition.describe()["entities"]:  # noqa: ASYNC110 (it packs)
                await asyncio.sleep(_PACKING_INTERVAL_S)
        after = _resident()
        await local.stop()
    return round((after - before) / (len(numbers) - 2 * _PACKED_AT_ONCE))


def _memory_of(database_url: str, options: Options, idle: bool) -> int:
    with quiet():
        return asyncio.run(_memory(database_url, options, idle))


def _in_a_fresh_process(database_url: str, options: Options, idle: bool) -> int:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(_memory_of, database_url, options, idle).result()


async def _first_touch(pool: Pool, options: Options) -> dict[str, Any]:
    """One customer after the other, none of them in memory; then the same ones again."""
    local = LocalPartition(pool)
    await local.start(PartitionOptions())
    numbers = random.sample(range(options.customers), min(options.first_touches, options.customers))
    found: dict[str, Any] = {}
    for name in ("first", "again"):
        seconds = []
        for number in numbers:
            started = time.perf_counter()
            await local.ask([ReadCustomer(FIRST_CUSTOMER + number)], CustomerView)
            seconds.append(time.perf_counter() - started)
        seconds.sort()
        found[name] = {
            "p50_ms": round(seconds[len(seconds) // 2] * 1e3, 3),
            "p99_ms": round(seconds[int(len(seconds) * 0.99)] * 1e3, 3),
        }
    await local.stop()
    return found


async def _rows_read(database_url: str) -> dict[str, int]:
    """Rows that Postgres has read so far, by table."""
    async with _pool(database_url) as pool:
        rows = await pool.fetch(
            "SELECT relname, seq_tup_read + coalesce(idx_tup_fetch, 0) AS read"
            " FROM pg_stat_user_tables"
        )
    return {row["relname"]: row["read"] for row in rows}


def _difference(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {table: n for table in after if (n := after[table] - before.get(table, 0))}


async def start(database_url: str) -> dict[str, Any]:
    """A partition with nothing to replay: seconds to its start, and what it read of each table."""
    before = await _rows_read(database_url)
    async with _pool(database_url) as pool:
        local = LocalPartition(pool)
        started = time.perf_counter()
        await local.start(PartitionOptions())
        seconds = time.perf_counter() - started
        await local.stop()
    read = _difference(before, await _rows_read(database_url))
    return {"seconds": round(seconds, 3), "rows_read": read}


async def _recovery(pool: Pool, options: Options) -> dict[str, Any]:
    """Some customers change and are checkpointed; they change again, and the partition dies."""
    local = LocalPartition(pool)
    places = random.sample(range(options.customers), options.changed // 2)
    pairs = [
        (FIRST_CUSTOMER + place, FIRST_CUSTOMER + (place + 1) % options.customers)
        for place in places
    ]
    unsaved = PartitionOptions(checkpoint_interval_s=NEVER_S)
    await local.start(unsaved)
    await _pay(local, pairs)
    started = time.perf_counter()
    await local.stop()
    checkpoint = time.perf_counter() - started
    await local.start(unsaved)
    await _pay(local, pairs)
    await local.kill()
    started = time.perf_counter()
    await local.start(unsaved)
    recovery = time.perf_counter() - started
    entities = local.partition.describe()["entities"]
    await local.stop()
    return {
        "changed": entities,
        "checkpoint_s": round(checkpoint, 3),
        "recovery_s": round(recovery, 3),
    }


async def _pay(local: LocalPartition, pairs: list[tuple[int, int]]) -> None:
    for start in range(0, len(pairs), _AT_ONCE):
        await local.pay(pairs[start : start + _AT_ONCE])


async def _disk(pool: Pool) -> dict[str, Any]:
    rows = await pool.fetch(
        "SELECT relname, pg_total_relation_size(relid) AS size FROM pg_stat_user_tables"
    )
    total = await pool.fetchval("SELECT pg_database_size(current_database())")
    large = {row["relname"]: round(row["size"] / 2**20, 1) for row in rows if row["size"] > 2**20}
    return {"mib": round(total / 2**20), "tables_mib": large}


def _start_up(database_url: str, folder: Path) -> dict[str, Any]:
    """A whole platform on this database: seconds to its start, and what it read of each table."""
    before = asyncio.run(_rows_read(database_url))
    started = time.perf_counter()
    settings = {"KONTOR_DATABASE_URL": database_url, "KONTOR_LOG_LEVEL": "warning"}
    with a_platform(folder, **settings):
        seconds = time.perf_counter() - started
        time.sleep(_JOBS_S)
    after = asyncio.run(_rows_read(database_url))
    return {"seconds": round(seconds, 1), "rows_read": _difference(before, after)}


@asynccontextmanager
async def _pool(database_url: str) -> AsyncIterator[Pool]:
    """A pool for one phase: sessions that end have reported all that they have read."""
    pool = await open_pool(database_url, name="bench", size_max=4)
    try:
        yield pool
    finally:
        await pool.close()


async def _run(database_url: str, options: Options, progress: Progress, advance: Advance) -> Any:
    async with _pool(database_url) as pool:
        results: dict[str, Any] = {"opening": await _open(pool, options.customers, advance)}
        await pool.execute("ANALYZE")
    progress(f"customers are open: {results['opening']}")
    results["memory"] = {
        "bytes_in_use": _in_a_fresh_process(database_url, options, False),
        "bytes_idle": _in_a_fresh_process(database_url, options, True),
    }
    progress(f"memory: {results['memory']}")
    async with _pool(database_url) as pool:
        results["touch"] = await _first_touch(pool, options)
    progress(f"first touch: {results['touch']}")
    results["start"] = await start(database_url)
    progress(f"a partition starts with nothing to replay: {results['start']}")
    async with _pool(database_url) as pool:
        results["recovery"] = await _recovery(pool, options)
        progress(f"recovery: {results['recovery']}")
        results["disk"] = await _disk(pool)
    return results


def run(
    database_url: str, folder: Path, options: Options, progress: Progress, advance: Advance
) -> dict[str, Any]:
    """Open customers in this database, measure, then start a platform on it in ``folder``."""
    with quiet():
        results = asyncio.run(_run(database_url, options, progress, advance))
    results["platform_start"] = _start_up(database_url, folder)
    progress(f"a platform starts on it: {results['platform_start']}")
    return {
        "benchmark": "customers",
        "options": msgspec.to_builtins(options),
        "processors": os.cpu_count(),
        **results,
    }
