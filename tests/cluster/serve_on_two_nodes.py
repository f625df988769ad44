"""A Ray cluster of two nodes on this machine with replicas of Serve on both, under load.

Run as a program by ``test_nodes``, because Ray reads its flags once in a process. One node is told
to leave, as the last step of ``kontor drain``; what callers saw is written as JSON.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

from cluster import runtime

CALLERS = 8
PATIENCE_S = 60.0


class Callers:
    """Call without pause; which node has answered, how long it took at the longest."""

    def __init__(self, handle: Any) -> None:
        self.answers: dict[str, int] = {}
        self.last: dict[str, float] = {}
        self.errors: list[str] = []
        self.longest_s = 0.0
        self.stopping = False
        self._handle = handle

    async def run(self) -> None:
        """Until told to stop."""
        await asyncio.gather(*(self._call() for _ in range(CALLERS)))

    async def _call(self) -> None:
        while not self.stopping:
            asked = time.monotonic()
            try:
                node = await asyncio.wait_for(_answer(self._handle), 30)
            except Exception as error:
                self.errors.append(repr(error)[:300])
                await asyncio.sleep(0.05)
                continue
            now = time.monotonic()
            self.longest_s = max(self.longest_s, now - asked)
            self.answers[node] = self.answers.get(node, 0) + 1
            self.last[node] = now


async def _answer(handle: Any) -> str:
    node: str = await handle.remote()
    return node


def _alive(node: str) -> bool:
    import ray

    nodes: Any = ray.nodes  # untyped
    return any(row["Alive"] and row["NodeID"] == node for row in nodes())


async def scenario(cluster: Any, handle: Any) -> dict[str, Any]:
    """Load on both nodes, then one of them leaves."""
    from cluster.nodes import leave

    callers = Callers(handle)
    at_work = asyncio.create_task(callers.run())
    leaving = cluster.worker_nodes.copy().pop().node_id
    async with asyncio.timeout(PATIENCE_S):
        while len(callers.answers) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    callers.longest_s = 0.0
    started = time.monotonic()
    leave(cluster.address, leaving)
    async with asyncio.timeout(PATIENCE_S):
        while _alive(leaving):  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    gone = time.monotonic()
    await asyncio.sleep(2.0)
    callers.stopping = True
    await at_work
    return {
        "answers": sum(callers.answers.values()),
        "errors": callers.errors[:5],
        "longest_s": round(callers.longest_s, 2),
        "gone_after_s": round(gone - started, 2),
        "last_answer_there_s": round(callers.last[leaving] - started, 2),
        "answered_after_it_was_gone": max(callers.last.values()) > gone,
    }


def main() -> None:
    """Start a cluster of two small nodes. Argument: the file for what was seen."""
    flags = {**runtime.CLUSTER_FLAGS, **runtime.FLAGS, "RAY_AUTH_MODE": "disabled"}
    runtime.apply({**flags, "RAY_SERVE_ENABLE_HA_PROXY": "0"})
    os.environ["RAY_AUTH_MODE"] = "disabled"
    import ray
    from ray import serve
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 2, "object_store_memory": 80 * 2**20}
    cluster: Any = Cluster(
        initialize_head=True, head_node_args={**small, "include_dashboard": False}
    )
    cluster.add_node(**small)
    ray.init(
        cluster.address,
        namespace=runtime.NAMESPACE,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )

    class App:
        async def __call__(self) -> str:
            await asyncio.sleep(0.01)
            node: str = ray.get_runtime_context().get_node_id()
            return node

    try:
        serve.start(proxy_location="Disabled")
        deployment: Any = serve.deployment(num_replicas=3, ray_actor_options={"num_cpus": 0.5})
        handle = serve.run(deployment(App).bind())
        seen = asyncio.run(scenario(cluster, handle))
        Path(sys.argv[1]).write_text(json.dumps(seen, indent=1))
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main()
