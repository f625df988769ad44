"""Partitions scaled up and down under full load: what a customer whose slot moves notices.

Each caller is one customer that pays others, one payment after the other, so that it has one under
way at any moment: the longest of its calls while slots move is the pause of that customer, the
usual waiting under load included. The same is measured without any move, for comparison.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from actors.accounts import KIND, AccountsClient, accounts_codec
from actors.durable.placement import scale
from actors.durable.records import Adopted, Released
from actors.durable.routing import slot_of
from benchmarks.population import Population
from cluster import books
from domain.accounts.commands import Receipt
from persistence.database import Pool, open_pool
from persistence.journal import read_journal, streams
from persistence.placement import owners, under_way

Progress = Callable[[str], None]

_CALL_MAX_S: Final = 60.0
_MOVES_MAX_S: Final = 120.0
_REST_S: Final = 3.0
_CHUNK: Final = 1_000


class Options(msgspec.Struct, frozen=True):
    """``scales`` are gone through one after the other, ``rounds`` times."""

    callers: int = 64
    customers: int = 5_000
    scales: tuple[int, ...] = (4, 2)
    rounds: int = 2


class _Callers:
    """Customers that pay, and the longest that each has waited since it was last asked."""

    def __init__(self, client: AccountsClient, customers: Population, count: int) -> None:
        self.acknowledged: set[bytes] = set()
        self.slowest_s = [0.0] * count
        self.calls = 0
        self._asked_at = [time.perf_counter()] * count
        self._client = client
        self._customers = customers
        self._stop = False
        self._tasks = [asyncio.create_task(self._call(caller)) for caller in range(count)]

    async def _call(self, caller: int) -> None:
        while not self._stop:
            command = self._customers.transfer(len(self._customers.numbers), caller)
            self._asked_at[caller] = asked = time.perf_counter()
            reply = await self._client.call(command, timeout_s=_CALL_MAX_S)
            if not isinstance(reply, Receipt):
                raise RuntimeError(f"unexpected reply {reply!r}")
            self.acknowledged.add(reply.id)
            self.slowest_s[caller] = max(self.slowest_s[caller], time.perf_counter() - asked)
            self.calls += 1

    def forget(self) -> None:
        """Look at what is slow from now on."""
        self.slowest_s = [0.0] * len(self.slowest_s)
        self.calls = 0

    def pauses_s(self) -> list[float]:
        """By caller, what is under way included."""
        now = time.perf_counter()
        waiting = [now - asked for asked in self._asked_at]
        return [max(pair) for pair in zip(self.slowest_s, waiting, strict=True)]

    async def stop(self) -> None:
        """Finish what is under way; raises what a caller has met."""
        self._stop = True
        await asyncio.gather(*self._tasks)


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values) or [0.0]
    last = len(ordered) - 1
    return {
        "p50_ms": round(ordered[last // 2] * 1e3, 1),
        "p99_ms": round(ordered[min(last, int(len(ordered) * 0.99))] * 1e3, 1),
        "max_ms": round(ordered[-1] * 1e3, 1),
    }


async def _scale(
    pool: Pool, callers: _Callers, customers: Population, wanted: int
) -> tuple[dict[str, Any], list[float], list[float]]:
    """One change of scale: what it took, the pauses of who moved, and of who stayed."""
    before = await owners(pool, KIND)
    callers.forget()
    started = time.perf_counter()
    plan = await scale(pool, KIND, wanted)
    while await under_way(pool, KIND):
        if time.perf_counter() - started > _MOVES_MAX_S:
            raise TimeoutError(f"slots have not moved within {_MOVES_MAX_S:.0f} s")
        await asyncio.sleep(0.05)
    seconds = time.perf_counter() - started
    await asyncio.sleep(0.5)
    calls, pauses = callers.calls, callers.pauses_s()
    after = await owners(pool, KIND)
    moved: list[float] = []
    stayed: list[float] = []
    for caller, pause in enumerate(pauses):
        slot = slot_of(str(customers.numbers[caller]))
        (stayed if before[slot] == after[slot] else moved).append(pause)
    about = {
        "to": wanted,
        "slots": plan.moves,
        "seconds": round(seconds, 2),
        "calls_per_second": round(calls / (seconds + 0.5)),
        "moved": {"customers": len(moved), **_quantiles(moved)},
        "stayed": {"customers": len(stayed), **_quantiles(stayed)},
    }
    return about, moved, stayed


async def _handovers(pool: Pool) -> dict[str, Any]:
    """From the journals: how long batches were between two owners, from turn to turn."""
    codec = accounts_codec()
    released: dict[tuple[str, int], tuple[int, int]] = {}
    adopted: dict[tuple[str, int], int] = {}
    for kind, stream, _ in await streams(pool):
        seq = 0
        while kind == KIND and (rows := await read_journal(pool, stream, seq, _CHUNK)):
            for row in rows:
                for moved in codec.decode_turn(row.entries).moved:
                    if isinstance(moved, Released):
                        released[stream, row.seq] = row.at, len(moved.slots)
                    elif isinstance(moved, Adopted):
                        adopted[moved.origin, moved.seq] = row.at
            seq = rows[-1].seq
    between = [(adopted[place] - at) / 1e6 for place, (at, _) in released.items()]
    return {
        "batches": len(released),
        "slots_a_batch_max": max((slots for _, slots in released.values()), default=0),
        **_quantiles(between),
    }


async def _verdict(pool: Pool, acknowledged: set[bytes]) -> dict[str, Any]:
    rows = await pool.fetch("SELECT id FROM transfers WHERE kind = 1")
    stored = {row["id"].bytes for row in rows}
    report = await books.check(pool)
    return {
        "acknowledged": len(acknowledged),
        "lost": len(acknowledged - stored),
        "never_acknowledged": len(stored - acknowledged),
        "books": report.sums,
        "findings": report.findings,
    }


async def _run(database_url: str, options: Options, progress: Progress) -> dict[str, Any]:
    pool = await open_pool(database_url, name="bench", size_max=2)
    client = await AccountsClient.connect(database_url, name="bench")
    moves: list[dict[str, Any]] = []
    moved: list[float] = []
    stayed: list[float] = []
    try:
        customers = Population(options.customers)
        await customers.create(pool, client)
        callers = _Callers(client, customers, options.callers)
        await asyncio.sleep(_REST_S)
        callers.forget()
        await asyncio.sleep(2 * _REST_S)
        calls, quiet = callers.calls, _quantiles(callers.pauses_s())
        progress(f"without moves: {calls / (2 * _REST_S):,.0f} calls/s, {quiet}")
        for wanted in options.scales * options.rounds:
            about, gone, left = await _scale(pool, callers, customers, wanted)
            moves.append(about)
            moved += gone
            stayed += left
            progress(f"scaled: {about}")
            await asyncio.sleep(_REST_S)
        await callers.stop()
        await asyncio.sleep(1)
        verdict = await _verdict(pool, callers.acknowledged)
        progress(f"verdict: {verdict}")
        handovers = await _handovers(pool)
    finally:
        await client.close()
        await pool.close()
    return {
        "benchmark": "moves",
        "options": msgspec.to_builtins(options),
        "processors": os.cpu_count(),
        "without_moves": {"calls_per_second": round(calls / (2 * _REST_S)), **quiet},
        "moved": {"customers": len(moved), **_quantiles(moved)},
        "stayed": {"customers": len(stayed), **_quantiles(stayed)},
        "between_owners": handovers,
        "moves": moves,
        "verdict": verdict,
    }


def run(database_url: str, options: Options, progress: Progress) -> dict[str, Any]:
    """Scale the platform with this database up and down, and say what customers noticed."""
    return asyncio.run(_run(database_url, options, progress))
