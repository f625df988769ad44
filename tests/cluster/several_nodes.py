"""A Ray cluster of several nodes on this machine, with partitions, a supervisor and load.

Run as a program by ``test_nodes``, because Ray reads its flags once in a process. It loses nodes,
freezes one, empties one, and writes as JSON what it saw.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from cluster import runtime

STREAMS = 3
CUSTOMERS = 60
WORKERS = 12
PATIENCE_S = 60.0
NOTICED_S = 6.0
"""By then whatever happened to a node has been noticed."""


class Load:
    """Transfers between customers; each is repeated with its id until it is answered."""

    def __init__(self, client: Any, customers: list[int], stream_of: Callable[[int], str]) -> None:
        self.acknowledged: set[bytes] = set()
        self.last: dict[str, float] = {}
        self.gaps: dict[str, float] = {}
        self.stopping = False
        self._client = client
        self._customers = customers
        self._stream_of = stream_of
        self._ids = itertools.count(1_000_000)

    async def run(self) -> None:
        """Until told to stop."""
        await asyncio.gather(*(self._work() for _ in range(WORKERS)))

    async def _work(self) -> None:
        from domain.accounts import commands as cmd
        from domain.accounts.numbers import account_number
        from domain.durable import Unavailable

        while not self.stopping:
            source, destination = random.sample(self._customers, 2)
            command = cmd.Transfer(
                next(self._ids).to_bytes(16, "big"),
                b"t",
                account_number(source, 0),
                account_number(destination, 0),
                1,
                "USD",
            )
            while isinstance(reply := await self._client.call(command), Unavailable):
                pass
            assert isinstance(reply, cmd.Receipt), reply
            self.acknowledged.add(command.id)
            self._note(self._stream_of(source))

    def _note(self, stream: str) -> None:
        now = time.monotonic()
        self.gaps[stream] = max(self.gaps.get(stream, 0.0), now - self.last.get(stream, now))
        self.last[stream] = now

    async def answered(self, since: float) -> None:
        """Wait until every stream has answered after ``since``."""
        async with asyncio.timeout(PATIENCE_S):
            while len([at for at in self.last.values() if at > since]) < STREAMS:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


class Scenario:
    """Nodes, partitions and what happens to them."""

    def __init__(self, cluster: Any, supervisor: Any, load: Load) -> None:
        self.cluster = cluster
        self.supervisor = supervisor
        self.load = load
        self.seen: dict[str, Any] = {}

    def actors(self, node: str) -> list[Any]:
        """Running actors on a node."""
        return [a for a in self.supervisor.actors.values() if a.node == node and not a.ending]

    async def until(self, what: str, true: Callable[[], bool]) -> float:
        """Wait until it is true; the seconds that took."""
        started = time.monotonic()
        while not true():
            assert time.monotonic() - started < PATIENCE_S, f"{what} does not come"
            await asyncio.sleep(0.05)
        return time.monotonic() - started

    def steady(self) -> bool:
        """One actor for each stream, all running."""
        actors = [a for a in self.supervisor.actors.values() if not a.ending]
        return len(actors) == STREAMS and all(actor.running for actor in actors)

    def nodes_used(self) -> set[str]:
        """Nodes with a running actor."""
        return {a.node for a in self.supervisor.actors.values() if a.running and not a.ending}

    def processes(self, node: Any) -> list[psutil.Process]:
        """The raylet of a node and everything that it started."""
        (raylet,) = node.all_processes["raylet"]
        process = psutil.Process(raylet.process.pid)
        return [process, *process.children(recursive=True)]

    async def fault(self, name: str, do: Callable[[], None]) -> None:
        """Let it happen under load; note the longest pause of a partition."""
        await self.until("rest", self.steady)
        self.load.gaps.clear()
        do()
        await asyncio.sleep(NOTICED_S)
        await self.until(f"rest after {name}", self.steady)
        await self.load.answered(time.monotonic())
        self.seen[f"{name}_pause_s"] = round(max(self.load.gaps.values()), 2)

    async def lose(self, node: Any) -> None:
        """kill -9 of everything on a node at once."""
        processes = self.processes(node)

        def kill() -> None:
            for process in processes:
                process.kill()

        await self.fault("lost", kill)
        self.seen["lost_left"] = len(self.actors(node.node_id))

    async def freeze(self, node: Any) -> None:
        """SIGSTOP of everything on a node; it thaws beside its replacement."""
        processes = self.processes(node)
        (pid,) = [a.pid for a in self.actors(node.node_id) if a.running][:1]
        old = psutil.Process(pid)

        def stop() -> None:
            for process in processes:
                process.send_signal(signal.SIGSTOP)

        await self.fault("frozen", stop)
        for process in processes:
            if process.is_running():
                process.send_signal(signal.SIGCONT)
        gone = lambda: not old.is_running() or old.status() == psutil.STATUS_ZOMBIE  # noqa: E731
        self.seen["thawed_ends_after_s"] = round(await self.until("its end", gone), 2)

    async def drain(self, pool: Any) -> None:
        """Empty the node that has a partition and is not the head."""
        from cluster import nodes

        head = self.cluster.head_node.node_id
        await self.until("rest", self.steady)
        node = next(a.node for a in self.supervisor.actors.values() if a.running and a.node != head)
        (refused,) = [await _refused(nodes.drain(pool, head[:12]))]
        self.seen["head_refused"] = refused
        at = time.monotonic()
        await nodes.drain(pool, node[:12])
        self.load.gaps.clear()
        steps = [p.partitions async for p in nodes.progress(pool, node, PATIENCE_S)]
        self.seen["drained_after_s"] = round(time.monotonic() - at, 2)
        self.seen["drain_steps"] = steps
        await self.until("rest after the drain", self.steady)
        await self.load.answered(time.monotonic())
        self.seen["drain_pause_s"] = round(max(self.load.gaps.values()), 2)
        self.seen["drained_left"] = len(self.actors(node))


async def _refused(asked: Any) -> str:
    from cluster.nodes import CannotDrain

    try:
        await asked
    except CannotDrain as error:
        return str(error)
    return ""


async def _open(client: Any, customers: list[int]) -> None:
    from domain.accounts import commands as cmd

    for customer in customers:
        command = cmd.OpenCustomer(
            customer.to_bytes(16, "big"), b"o", customer, ("USD",), "USD", 1_000_000
        )
        reply = await client.call(command, timeout_s=30)
        assert isinstance(reply, cmd.CustomerView), reply


async def scenario(cluster: Any, database_url: str) -> dict[str, Any]:
    """Everything, one thing after the other."""
    from actors.accounts import KIND, AccountsClient, accounts_recipe
    from actors.durable.hosts import RayHosts
    from actors.durable.routing import SlotMap
    from actors.durable.supervisor import Supervisor
    from actors.durable.watched import Limits
    from cluster import books
    from domain.accounts.policy import Policy
    from persistence.database import open_pool
    from persistence.journal import prepare_streams

    pool = await open_pool(database_url, name="several nodes")
    await prepare_streams(pool, KIND, STREAMS)
    recipe = accounts_recipe(database_url=database_url, redis_url=None, policy=Policy({}, {}))
    hosts = RayHosts(recipe, runtime.NAMESPACE)
    supervisor = Supervisor(pool, KIND, hosts, Limits(spread_after_s=5.0))
    assert await supervisor.bring_up(PATIENCE_S)
    watching = asyncio.create_task(supervisor.run())
    client = await AccountsClient.connect(database_url, name="load")
    slots = SlotMap(pool, KIND)
    await slots.load()
    customers = list(range(1_000_000_001, 1_000_000_001 + CUSTOMERS))
    await _open(client, customers)
    load = Load(client, customers, lambda customer: slots.owner(str(customer)))
    at_work = asyncio.create_task(load.run())
    play = Scenario(cluster, supervisor, load)
    await play.until("rest", play.steady)
    seen = play.seen
    seen["nodes_used"] = len(play.nodes_used())
    lost, frozen = sorted(cluster.worker_nodes, key=lambda node: node.node_id)
    await play.lose(lost)
    await play.freeze(frozen)
    cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    seen["new_node_used_after_s"] = round(
        await play.until("use of the new node", lambda: len(play.nodes_used()) > 1), 2
    )
    await play.drain(pool)
    load.stopping = True
    await asyncio.wait_for(at_work, PATIENCE_S)
    watching.cancel()
    await hosts.end_all(5.0)
    stored = {row["id"].bytes for row in await pool.fetch("SELECT id FROM transfers")}
    seen["acknowledged"] = len(load.acknowledged)
    seen["missing"] = len(load.acknowledged - stored)
    report = await books.check(pool)
    seen["books"] = report.ok
    seen["findings"] = report.findings[:5]
    seen["events"] = [
        f"{event.event} {event.stream} on {event.node and event.node[:8]}: {event.what}"
        for event in supervisor.events
    ]
    await client.close()
    await pool.close()
    return seen


def main() -> None:
    """Start a cluster of three small nodes and play on it.

    Arguments: the database's URL, and the file for what was seen.
    """
    runtime.apply({**runtime.CLUSTER_FLAGS, **runtime.FLAGS, "RAY_AUTH_MODE": "disabled"})
    os.environ["RAY_AUTH_MODE"] = "disabled"
    import ray
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    cluster: Any = Cluster(
        initialize_head=True, head_node_args={**small, "include_dashboard": False}
    )
    for _ in range(2):
        cluster.add_node(**small)
    ray.init(
        cluster.address,
        namespace=runtime.NAMESPACE,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"worker_process_setup_hook": "cluster.worker.prepare"},
    )
    try:
        seen = asyncio.run(scenario(cluster, sys.argv[1]))
        Path(sys.argv[2]).write_text(json.dumps(seen, indent=1))
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main()
