"""Payments: durable transfers a second, over HTTP, in the cluster and in batches, beside peers.

Every transfer is between two different customers chosen at random among ``customers``; half of
them cross partitions. Each customer makes four transfers before the clock starts, so that each
gateway has met most of them and what is measured is not the first loading. The peers run
afterwards on the same Postgres, with the same durability: pgbench's TPC-B, and the plain
alternative to actors, one transaction a transfer that locks both rows, as a pgbench script (so
without any Python in its way).
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from actors.accounts import AccountsClient
from benchmarks.load import Result, drive, plain, summary, until
from benchmarks.peers import pgbench, tpcb_tables
from benchmarks.population import BATCH, Population
from benchmarks.processors import per_item, processor_seconds
from domain.accounts.commands import Receipt
from persistence.database import connection, open_pool

HOT: Final = 10
WARM_ROUNDS: Final = 4
_DEPOSIT: Final = 100_000_000
_PEER: Final = "kontor_bench_peer"

Progress = Callable[[str], None]


class Target(msgspec.Struct, frozen=True):
    """The platform under load; ``pid`` is the process below which all of it runs.

    ``secret`` is the platform's own, with which API keys are made.
    """

    url: str
    database_url: str
    postgres_binaries: str
    pid: int
    secret: bytes = b""


class Options(msgspec.Struct, frozen=True):
    """How hard and how long; ``peers=False`` leaves the peers out."""

    seconds: float = 10.0
    connections: int = 64
    customers: int = 10_000
    peers: bool = True


async def _over_http(target: Target, options: Options, customers: Population, among: int) -> Result:
    place = urlsplit(target.url)
    host, port = place.hostname or "127.0.0.1", place.port or 80
    every = iter(range(among * WARM_ROUNDS))

    def warm_up() -> bytes | None:
        number = next(every, None)
        return None if number is None else customers.request(place.netloc, among, number % among)

    first = await drive(host, port, [warm_up] * options.connections)
    deadline = time.perf_counter() + options.seconds
    source = until(deadline, lambda: customers.request(place.netloc, among))
    result = await drive(host, port, [source] * options.connections)
    return msgspec.structs.replace(result, warm_requests=first.requests + result.requests)


async def _batches(target: Target, customers: Population, rounds: int) -> Result:
    """Full batches, four senders at a time; the requests are made before the clock starts."""
    place = urlsplit(target.url)
    host, port = place.hostname or "127.0.0.1", place.port or 80
    codes: Counter[str] = Counter()

    def keep(status: int, body: bytes) -> None:
        if status == 200:
            for answer in msgspec.json.decode(body)["results"]:
                codes[answer.get("code") or answer["status"]] += 1
        else:
            codes[str(status)] += BATCH

    for count in (1, rounds):
        ready = [
            [customers.batch_request(place.netloc, 100 + sender) for _ in range(count)]
            for sender in range(4)
        ]
        codes.clear()
        sources = [
            (lambda requests=requests: requests.pop() if requests else None) for requests in ready
        ]
        bodies: list[tuple[int, bytes]] = []

        def collect(status: int, body: bytes, bodies: list[tuple[int, bytes]] = bodies) -> None:
            bodies.append((status, body))

        result = await drive(host, port, sources, keep=collect)
        for status, body in bodies:
            keep(status, body)
    transfers = sum(codes.values())
    return msgspec.structs.replace(
        result,
        requests=transfers,
        warm_requests=transfers + 4 * BATCH,
        per_second=round(transfers / result.seconds, 1),
        statuses=dict(codes),
    )


async def _in_cluster(
    client: AccountsClient, options: Options, customers: Population, in_flight: int
) -> Result:
    latencies: list[float] = []
    statuses: Counter[str] = Counter()
    deadline = 0.0

    async def work() -> None:
        while (started := time.perf_counter()) < deadline:
            reply = await client.call(customers.transfer(options.customers))
            latencies.append(time.perf_counter() - started)
            statuses["ok" if isinstance(reply, Receipt) else type(reply).__name__] += 1

    warm = 0
    for seconds in (min(2.0, options.seconds), options.seconds):
        warm += len(latencies)
        latencies.clear()
        statuses.clear()
        started = time.perf_counter()
        deadline = started + seconds
        await asyncio.gather(*(work() for _ in range(in_flight)))
    result = summary(latencies, time.perf_counter() - started, dict(statuses))
    return msgspec.structs.replace(result, warm_requests=warm + result.requests)


_LOCKING: Final = r"""\set a random(1, :accounts)
\set b random(1, :accounts)
BEGIN;
SELECT balance FROM plain_accounts WHERE id IN (:a, :b) ORDER BY id FOR UPDATE;
UPDATE plain_accounts SET balance = balance - 1 WHERE id = :a;
UPDATE plain_accounts SET balance = balance + 1 WHERE id = :b;
INSERT INTO plain_transfers (source, destination, amount) VALUES (:a, :b, 1);
COMMIT;
"""


async def _peers(target: Target, options: Options) -> dict[str, Any]:
    async with connection(target.database_url, name="bench") as admin:
        await admin.execute(f"DROP DATABASE IF EXISTS {_PEER}")
        await admin.execute(f"CREATE DATABASE {_PEER}")
    try:
        url = urlsplit(target.database_url)._replace(path=f"/{_PEER}").geturl()
        async with connection(url, name="bench") as peer:
            await peer.execute(
                "CREATE TABLE plain_accounts (id bigint PRIMARY KEY, balance bigint NOT NULL);"
                "CREATE TABLE plain_transfers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
                " source bigint, destination bigint, amount bigint,"
                " at timestamptz DEFAULT now());"
                "CREATE INDEX ON plain_transfers (source, at);"
                "CREATE INDEX ON plain_transfers (destination, at);"
            )
            await peer.execute(
                "INSERT INTO plain_accounts SELECT n, 100000000 FROM generate_series(1, $1) AS n",
                options.customers,
            )
        binaries = target.postgres_binaries
        load = ["-c", str(min(32, options.connections)), "-j", "1", "-T", str(int(options.seconds))]
        await asyncio.to_thread(tpcb_tables, binaries, url)
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
            script.write(_LOCKING)
            script.flush()
            locking = [*load, "-f", script.name, "-D", f"accounts={options.customers}"]
            return {
                "pgbench_tpcb": await asyncio.to_thread(pgbench, binaries, [*load, url]),
                "plain_sql": await asyncio.to_thread(pgbench, binaries, [*locking, url]),
            }
    finally:
        async with connection(target.database_url, name="bench") as admin:
            await admin.execute(f"DROP DATABASE IF EXISTS {_PEER} WITH (FORCE)")


async def _run(target: Target, options: Options, progress: Progress) -> dict[str, Any]:
    pool = await open_pool(target.database_url, name="bench", size_max=2)
    client = await AccountsClient.connect(target.database_url, name="bench")
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
        progress(f"{options.customers} customers")
        customers = Population(options.customers)
        await customers.create(pool, client)
        progress("single transfers over HTTP")
        await measure("http", _over_http(target, options, customers, options.customers))
        progress(f"single transfers over HTTP among {HOT} hot accounts")
        await measure("http_hot", _over_http(target, options, customers, HOT))
        progress("batches over HTTP")
        await measure("http_batch", _batches(target, customers, 8))
        progress("single transfers in the cluster")
        await measure("cluster", _in_cluster(client, options, customers, options.connections))
        if options.peers:
            progress("peers on the same Postgres")
            results["peers"] = await _peers(target, options)
    finally:
        await client.close()
        await pool.close()
    return _with_ratios(plain(results), options)


def _with_ratios(results: dict[str, Any], options: Options) -> dict[str, Any]:
    rate = results["http"]["per_second"]
    ratios = {"hot_to_uniform": round(results["http_hot"]["per_second"] / rate, 2)}
    for name, peer in results.get("peers", {}).items():
        for ours in ("http", "cluster", "http_batch"):
            ratio = results[ours]["per_second"] / peer["per_second"]
            ratios[f"{ours}_to_{name}"] = round(ratio, 2)
    return {
        "benchmark": "payments",
        "options": plain(options),
        "processors": os.cpu_count(),
        "results": results,
        "ratios": ratios,
    }


def run(target: Target, options: Options, progress: Progress = lambda step: None) -> dict[str, Any]:
    """Run all scenarios one after the other; rates are durable transfers a second."""
    return asyncio.run(_run(target, options, progress))
