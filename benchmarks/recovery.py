"""Recovery and checkpoints: how long a partition is away, and what its checkpoints cost.

One real partition on a real Postgres in this process, so that nothing else is measured; and
``kill -9`` of an actor in a real platform, seen from its callers.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from actors.durable.options import Options as PartitionOptions
from benchmarks.local import FIRST_CUSTOMER, NEVER_S, LocalPartition, quiet
from benchmarks.processors import processor_seconds
from persistence.database import open_pool

Progress = Callable[[str], None]

_OPEN_AT_ONCE: Final = 2_000
_LOAD_BATCH: Final = 1_000
_LOAD_BATCHES: Final = 4


class Options(msgspec.Struct, frozen=True):
    """``customers`` are active, that is, changed since the last checkpoint, when it dies."""

    customers: int = 100_000
    turns: tuple[int, ...] = (1_000, 20)
    """Sizes, in transfers, of the turns in the tail."""
    segments: int = 2
    segment_s: float = 30.0
    warm_up_s: float = 5.0


async def _open(local: LocalPartition, customers: int, progress: Progress) -> None:
    await local.start(PartitionOptions())
    for start in range(0, customers, _OPEN_AT_ONCE):
        count = min(_OPEN_AT_ONCE, customers - start)
        await local.open(FIRST_CUSTOMER + start, count)
    await local.stop()
    progress(f"{customers:,} customers are open")


async def _recover(local: LocalPartition, customers: int, turn: int) -> dict[str, Any]:
    """Every customer pays the next in turns of ``turn`` transfers; then the partition dies."""
    unsaved = PartitionOptions(checkpoint_interval_s=NEVER_S)
    await local.start(unsaved)
    for start in range(0, customers, turn):
        places = range(start, min(start + turn, customers))
        await local.pay(
            [(FIRST_CUSTOMER + p, FIRST_CUSTOMER + (p + 1) % customers) for p in places]
        )
    rows = local.partition.scribe.committed_seq - local.partition.scribe.checkpoint_seq
    await local.kill()
    started = time.perf_counter()
    await local.start(unsaved)
    seconds = time.perf_counter() - started
    entities = local.partition.describe()["entities"]
    before = sum(processor_seconds(os.getpid()).values())
    started = time.perf_counter()
    await local.stop()
    after_s = time.perf_counter() - started
    used = sum(processor_seconds(os.getpid()).values()) - before
    return {
        "transfers_a_turn": turn,
        "turns": rows,
        "transfers": customers,
        "entities": entities,
        "seconds": round(seconds, 3),
        "checkpoint_after_s": round(after_s, 3),
        "checkpoint_processor_us_each": round(used * 1e6 / max(1, entities), 1),
    }


async def _load(local: LocalPartition, customers: int, seconds: float) -> tuple[float, float]:
    """Batches for so long; transfers a second, and microseconds of processor for each."""
    deadline = time.perf_counter() + seconds
    done = 0

    async def sender() -> None:
        nonlocal done
        while time.perf_counter() < deadline:
            pairs = []
            for _ in range(_LOAD_BATCH):
                source = random.randrange(customers)
                other = random.randrange(customers - 1)
                pairs.append((FIRST_CUSTOMER + source, FIRST_CUSTOMER + other + (other >= source)))
            await local.pay(pairs)
            done += len(pairs)

    before = sum(processor_seconds(os.getpid()).values())
    started = time.perf_counter()
    await asyncio.gather(*(sender() for _ in range(_LOAD_BATCHES)))
    rate = done / (time.perf_counter() - started)
    used = sum(processor_seconds(os.getpid()).values()) - before
    return round(rate), round(used * 1e6 / max(1, done), 1)


async def _checkpoints(
    local: LocalPartition, options: Options, progress: Progress
) -> dict[str, Any]:
    """The same load with and without checkpoints, in turn; nothing is packed in either.

    Rates depend on what else the machine does, processor time for each transfer less.
    """
    found: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    taken = 0
    for segment in range(options.segments * 2):
        on = segment % 4 in (0, 3)  # what drifts meanwhile falls on both alike
        often = PartitionOptions(rest_interval_s=NEVER_S)
        never = PartitionOptions(checkpoint_interval_s=NEVER_S)
        await local.start(often if on else never)
        await _load(local, options.customers, options.warm_up_s)
        before = local.partition.statistics.checkpoints
        found[on].append(await _load(local, options.customers, options.segment_s))
        count = local.partition.statistics.checkpoints - before
        taken += count * on
        await local.stop()
        progress(f"  {count} checkpoints: transfers/s, us of processor each: {found[on][-1]}")
    rate, used = (
        {on: sum(pair[place] for pair in pairs) / len(pairs) for on, pairs in found.items()}
        for place in (0, 1)
    )
    return {
        "customers": options.customers,
        "checkpoints": taken,
        "seconds": options.segments * options.segment_s,
        "per_second_with": [pair[0] for pair in found[True]],
        "per_second_without": [pair[0] for pair in found[False]],
        "processor_us_with": [pair[1] for pair in found[True]],
        "processor_us_without": [pair[1] for pair in found[False]],
        "share_of_throughput": _less(rate[True], rate[False]),
        "share_of_processor": _less(used[False], used[True]),
    }


def _less(smaller: float, larger: float) -> float:
    """How much less it is, as a share; none where too little was done to be measured."""
    return round(1 - smaller / larger, 3) if larger else 0.0


async def _run(database_url: str, options: Options, progress: Progress) -> dict[str, Any]:
    pool = await open_pool(database_url, name="bench", size_max=4)
    local = LocalPartition(pool)
    try:
        await _open(local, options.customers, progress)
        recoveries = []
        for turn in options.turns:
            found = await _recover(local, options.customers, turn)
            recoveries.append(found)
            progress(f"recovered {found['transfers']:,} transfers in {found['seconds']} s: {found}")
        progress("throughput with and without checkpoints")
        checkpoints = await _checkpoints(local, options, progress)
    finally:
        await pool.close()
    return {
        "benchmark": "recovery",
        "options": msgspec.to_builtins(options),
        "processors": os.cpu_count(),
        "recoveries": recoveries,
        "checkpoints": checkpoints,
    }


def run(database_url: str, options: Options, progress: Progress) -> dict[str, Any]:
    """What happens in one partition by itself."""
    with quiet():
        return asyncio.run(_run(database_url, options, progress))
