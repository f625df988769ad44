"""Trading: durable orders a second, in batches and one by one, beside a transaction for each.

Orders are limit orders about a fixed middle, each of which meets about one other: what is
measured is hold, match and settlement, with both journals. An answer is sent when the match is
durable. Rates are measured after latencies, the highest last: what they leave behind for the
projector takes minutes to work off. The peer runs at the end on the same Postgres with the same
durability (``plain_orders``).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from actors.accounts import AccountsClient
from actors.books import BooksClient
from benchmarks import fanout, over_websocket, plain_orders
from benchmarks.load import Result, plain, summary
from benchmarks.payments import Target
from benchmarks.processors import per_item, processor_seconds
from benchmarks.traders import Market
from domain.accounts.trading import TradeReply
from persistence.database import open_pool

Progress = Callable[[str], None]
Measure = Callable[[str, Awaitable[Result]], Awaitable[None]]

_FED_PER_SECOND = 50


class Options(msgspec.Struct, frozen=True):
    """How hard and how long; ``peers=False`` leaves the peer out."""

    seconds: float = 10.0
    traders: int = 16
    books: int = 4
    batch: int = 200
    connections: int = 8
    in_flight: int = 64
    pipelined: int = 512
    paced_per_second: int = 1_000
    subscribers: int = 500
    peers: bool = True


class Clients(msgspec.Struct):
    """What reaches the partitions without a gateway."""

    accounts: AccountsClient
    books: BooksClient


async def _in_cluster(
    clients: Clients, market: Market, *, seconds: float, callers: int, size: int, books: int = 1
) -> Result:
    """Callers, each with one command of ``size`` orders under way; all on the first ``books``."""
    latencies: list[float] = []
    statuses: Counter[str] = Counter()
    deadline = 0.0

    async def work(number: int) -> None:
        trader = market.traders[number % len(market.traders)]
        book = number % books
        ready = [market.trade(trader, book, size) for _ in range(4)]
        while (started := time.perf_counter()) < deadline:
            # Making orders takes longer than sending them: the same ones, under another id.
            command = msgspec.structs.replace(ready[started_count() % 4], id=os.urandom(16))
            reply = await clients.accounts.call(command)
            latencies.append(time.perf_counter() - started)
            _count(reply, statuses)

    rounds = iter(range(1 << 60))

    def started_count() -> int:
        return next(rounds)

    warm = 0
    started = 0.0
    for length in (min(2.0, seconds), seconds):
        warm += sum(statuses.values())
        latencies.clear()
        statuses.clear()
        started = time.perf_counter()
        deadline = started + length
        await asyncio.gather(*(work(number) for number in range(callers)))
    result = summary(latencies, time.perf_counter() - started, dict(statuses))
    return msgspec.structs.replace(result, warm_requests=warm + result.requests)


def _count(reply: Any, statuses: Counter[str]) -> None:
    """What became of each order of a reply."""
    if isinstance(reply, TradeReply):
        for report in reply.reports:
            statuses[report.code or "ok"] += 1
    else:
        statuses[type(reply).__name__] += 1


async def _run(target: Target, options: Options, progress: Progress) -> dict[str, Any]:
    pool = await open_pool(target.database_url, name="bench", size_max=2)
    clients = Clients(
        await AccountsClient.connect(target.database_url, name="bench"),
        await BooksClient.connect(target.database_url, name="bench"),
    )
    results: dict[str, Any] = {}

    async def measure(name: str, scenario: Awaitable[Result]) -> None:
        before = processor_seconds(target.pid)
        result = await scenario
        used = per_item(before, processor_seconds(target.pid), result.warm_requests)
        results[name] = {**plain(result), "processor_us": used}
        progress(
            f"  {result.per_second:,.0f}/s, p50 {result.p50_ms} ms, p99 {result.p99_ms} ms,"
            f" {result.statuses}, us of processor for each: {used}"
        )

    try:
        market = Market(options.traders, options.books)
        progress(f"{options.traders} traders, {options.books} instruments")
        await market.create(pool, clients.accounts, clients.books)
        place = over_websocket.Place(target.url, await market.keys(pool, target.secret))
        await _latencies(place, options, market, measure, results, progress)
        await _singles(place, options, clients, market, measure, progress)
        await _batches(place, options, clients, market, measure, progress)
        if options.peers:
            progress("a database transaction an order")
            results["plain_sql"] = await plain_orders.measure(
                target.database_url,
                target.postgres_binaries,
                traders=options.traders,
                connections=16,
                seconds=options.seconds,
            )
    finally:
        await clients.accounts.close()
        await clients.books.close()
        await pool.close()
    return {
        "benchmark": "trading",
        "options": plain(options),
        "processors": os.cpu_count(),
        "results": plain(results),
    }


async def _latencies(
    place: over_websocket.Place,
    options: Options,
    market: Market,
    measure: Measure,
    results: dict[str, Any],
    progress: Progress,
) -> None:
    """How long one waits while there is room: before all that leaves the projector a backlog, and
    after REST, during which the last processes of the platform have started."""
    seconds, per_second = options.seconds, options.paced_per_second
    progress("single orders over REST")
    await measure(
        "rest", over_websocket.rest(place, market, seconds=seconds, connections=options.in_flight)
    )
    progress(f"{per_second} orders a second over websockets")
    await over_websocket.paced(place, market, seconds=min(2.0, seconds), per_second=per_second)
    await measure(
        "paced", over_websocket.paced(place, market, seconds=seconds, per_second=per_second)
    )
    if options.subscribers:
        progress(f"market data to {options.subscribers} subscribers")
        results["fanout"] = await fanout.measure(
            place,
            market,
            seconds=seconds,
            subscribers=options.subscribers,
            per_second=_FED_PER_SECOND,
            progress=progress,
        )


async def _singles(
    place: over_websocket.Place,
    options: Options,
    clients: Clients,
    market: Market,
    measure: Measure,
    progress: Progress,
) -> None:
    seconds, connections = options.seconds, options.connections
    progress(f"single orders in the cluster, {options.in_flight} in flight")
    await measure(
        "cluster_single",
        _in_cluster(clients, market, seconds=seconds, callers=options.in_flight, size=1),
    )
    progress(f"single orders over websockets, {options.pipelined} in flight")
    depth = options.pipelined // connections
    await measure(
        "single",
        over_websocket.single(place, market, seconds=seconds, connections=connections, depth=depth),
    )


async def _batches(
    place: over_websocket.Place,
    options: Options,
    clients: Clients,
    market: Market,
    measure: Measure,
    progress: Progress,
) -> None:
    seconds, connections, size = options.seconds, options.connections, options.batch
    progress(f"batches of {size} in the cluster, one book")
    await measure(
        "cluster_batches",
        _in_cluster(clients, market, seconds=seconds, callers=connections, size=size),
    )
    for books in (1, 2, 4):
        if books > options.books:
            break
        progress(f"batches of {size} over websockets, {books} books")
        await measure(
            f"batches_{books}" if books > 1 else "batches",
            over_websocket.batches(
                place, market, seconds=seconds, connections=connections, size=size, books=books
            ),
        )


def run(target: Target, options: Options, progress: Progress = lambda step: None) -> dict[str, Any]:
    """Run all scenarios one after the other; rates are durable orders a second."""
    return asyncio.run(_run(target, options, progress))
