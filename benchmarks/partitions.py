"""The same load on the same processors with one, two and four partitions."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from actors.accounts import KIND
from actors.durable.inquiry import describe_all
from benchmarks import payments
from persistence.database import open_pool

Progress = Callable[[str], None]


class Options(msgspec.Struct, frozen=True):
    """How many partitions, and how long each scenario of ``bench payments`` takes."""

    counts: tuple[int, ...] = (1, 2, 4)
    seconds: float = 6.0
    customers: int = 10_000


async def _memory(database_url: str) -> dict[str, dict[str, int]]:
    pool = await open_pool(database_url, name="bench", size_max=2)
    try:
        found = await describe_all(pool, KIND, timeout_s=5.0)
    finally:
        await pool.close()
    return {
        about["stream"]: {
            "mib": round(about["rss"] / 2**20),
            "entities": about["entities"],
            "slots": about["slots"],
        }
        for about in found
        if about["state"] == "running"
    }


def measure(target: payments.Target, options: Options, progress: Progress) -> dict[str, Any]:
    """One number of partitions: rates by scenario, memory by partition."""
    load = payments.Options(seconds=options.seconds, customers=options.customers, peers=False)
    results = payments.run(target, load, progress)["results"]
    rates = {
        name: {key: found[key] for key in ("per_second", "p50_ms", "p99_ms")}
        for name, found in results.items()
    }
    return {**rates, "memory": asyncio.run(_memory(target.database_url))}


def result(options: Options, measured: Iterable[tuple[int, dict[str, Any]]]) -> dict[str, Any]:
    """All numbers of partitions together."""
    return {
        "benchmark": "partitions",
        "options": msgspec.to_builtins(options),
        "processors": os.cpu_count(),
        "results": {str(count): found for count, found in measured},
    }
