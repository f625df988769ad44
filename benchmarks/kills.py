"""``kill -9`` of account actors in a real platform: how long their customers wait.

The pause is the longest that any call has taken, repeats included, from the kill until every
caller has been answered again. Where it goes is told by the new actor: when its process began
its work, and how long it recovered.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import statistics
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from actors.accounts import KIND, AccountsClient
from actors.durable.inquiry import describe, describe_all
from benchmarks.population import Population
from domain.accounts.commands import Receipt
from persistence.database import Pool, open_pool

Progress = Callable[[str], None]

_REST_S: Final = 6.0
"""By then the platform has its next process in reserve."""
_SERVED_MAX_S: Final = 60.0


class Options(msgspec.Struct, frozen=True):
    """``kills`` for each number of callers at a time."""

    kills: int = 5
    callers: tuple[int, ...] = (1, 64)
    customers: int = 2_000


class Kill(msgspec.Struct, frozen=True):
    """Seconds from the kill: until the new process works, of its recovery, and of the pause."""

    process_s: float
    recovery_s: float
    pause_s: float


class _Callers:
    """So many loops, each with one transfer under way."""

    def __init__(self, client: AccountsClient, customers: Population, count: int) -> None:
        self._client = client
        self._customers = customers
        self._answered_at = [0.0] * count
        self._asked_at = [0.0] * count
        self._tasks = [asyncio.create_task(self._call(caller)) for caller in range(count)]
        self.slowest_s = 0.0
        self.answers = 0

    async def _call(self, caller: int) -> None:
        while True:
            command = self._customers.transfer(len(self._customers.numbers))
            self._asked_at[caller] = asked = time.perf_counter()
            reply = await self._client.call(command, timeout_s=_SERVED_MAX_S)
            if not isinstance(reply, Receipt):
                raise RuntimeError(f"unexpected reply {reply!r}")
            self._answered_at[caller] = asked
            self.slowest_s = max(self.slowest_s, time.perf_counter() - asked)
            self.answers += 1

    async def answered_since(self, moment: float) -> None:
        """Wait until each caller has been answered what it has asked since."""
        async with asyncio.timeout(_SERVED_MAX_S):
            while min(self._answered_at) < moment:  # noqa: ASYNC110 (each answer would wake it)
                await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Ask nothing more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _kill(pool: Pool, callers: _Callers) -> Kill:
    found = [a for a in await describe_all(pool, KIND) if a["state"] == "running"]
    victim = random.choice(found)
    callers.slowest_s = 0.0
    killed_at, started = time.time(), time.perf_counter()
    os.kill(victim["pid"], signal.SIGKILL)
    # A caller alone meets the partition in every second transfer only: ask until it is there.
    while True:
        about = await describe(pool, victim["stream"])
        if about["state"] == "running" and about["pid"] != victim["pid"]:
            break
        if time.perf_counter() - started > _SERVED_MAX_S:
            raise TimeoutError(f"{victim['stream']} did not come back")
        await asyncio.sleep(0.02)
    await callers.answered_since(time.perf_counter())
    return Kill(
        round(about["started_at"] - killed_at, 3),
        round(about["recovery_seconds"], 3),
        round(callers.slowest_s, 3),
    )


async def _run(database_url: str, options: Options, progress: Progress) -> list[dict[str, Any]]:
    pool = await open_pool(database_url, name="bench", size_max=2)
    client = await AccountsClient.connect(database_url, name="bench")
    results = []
    try:
        customers = Population(options.customers)
        await customers.create(pool, client)
        for count in options.callers:
            callers = _Callers(client, customers, count)
            await asyncio.sleep(_REST_S)
            kills = []
            for _ in range(options.kills):
                kills.append(await _kill(pool, callers))
                progress(f"killed an actor, {count} callers: {kills[-1]}")
                await asyncio.sleep(_REST_S)
            await callers.stop()
            pauses = sorted(kill.pause_s for kill in kills)
            results.append(
                {
                    "callers": count,
                    "pause_s_median": statistics.median(pauses),
                    "pause_s_max": pauses[-1],
                    "kills": msgspec.to_builtins(kills),
                }
            )
    finally:
        await client.close()
        await pool.close()
    return results


def run(database_url: str, options: Options, progress: Progress) -> list[dict[str, Any]]:
    """Kill actors of the platform with this database, with few and with many callers."""
    return asyncio.run(_run(database_url, options, progress))
