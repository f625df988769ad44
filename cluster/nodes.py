"""Emptying a Ray node before it leaves: the wish, how far it is, and the last step.

The wish is a row (``nodes.draining``), which the supervisor in ``kontor up`` follows: it starts
each partition of the node elsewhere and ends the old one when the new one runs. Whoever wished may
die at once. When no partition is left, Ray itself is told, so that Serve moves its replicas and
gives the node no more work.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec

from persistence import supervision
from persistence.database import Pool
from persistence.supervision import NodeRow

_LOOK_EVERY_S: Final = 0.25
_REASON: Final = "kontor drain"
_PREEMPTION: Final = 2
"""``DRAIN_NODE_REASON_PREEMPTION`` of Ray's protocol: not refused for being busy."""


class CannotDrain(Exception):
    """The node must stay. The text is one line for the operator."""


class Progress(msgspec.Struct, frozen=True):
    """How far a node is from being empty."""

    node: str
    name: str
    partitions: int
    alive: bool

    @property
    def empty(self) -> bool:
        """Whether no partition lives there any more."""
        return self.partitions == 0 or not self.alive


async def drain(pool: Pool, name: str) -> NodeRow:
    """Wish that a node is emptied; asking again changes nothing.

    ``name`` is a node's name, address, or the beginning of its id. Raises ``UnknownNode``, and
    ``CannotDrain`` for the head and for the last node that takes partitions.
    """
    node = await supervision.find_node(pool, name)
    others = [
        row
        for row in await supervision.nodes(pool)
        if row.alive and not row.draining and row.node != node.node
    ]
    if not others:
        raise CannotDrain(f"{node.name} is the only node that takes partitions: add one first.")
    if node.head:
        raise CannotDrain(f"{node.name} is the head of the Ray cluster, which cannot leave it.")
    await supervision.wish_drained(pool, node.node, True)
    return node


async def undrain(pool: Pool, name: str) -> NodeRow:
    """Take the wish back: the node gets partitions again. Raises ``UnknownNode``.

    Once ``leave`` was called this no longer helps: Ray starts nothing more on that node.
    """
    node = await supervision.find_node(pool, name)
    await supervision.wish_drained(pool, node.node, False)
    return node


async def progress(pool: Pool, node: str, timeout_s: float) -> AsyncIterator[Progress]:
    """How far the node with that id is, now and at each change, until it is empty.

    Raises ``TimeoutError``; the wish stays.
    """
    last: Progress | None = None
    async with asyncio.timeout(timeout_s):
        while last is None or not last.empty:
            rows = {row.node: row for row in await supervision.nodes(pool)}
            row = rows.get(node)
            now = Progress(node, "", 0, False)
            if row is not None:
                now = Progress(node, row.name, row.partitions, row.alive)
            if now != last:
                last = now
                yield now
            await asyncio.sleep(_LOOK_EVERY_S)


def leave(ray_address: str, node: str) -> None:
    """Tell Ray that an empty node is about to leave: Serve moves its replicas away.

    Raises ``CannotDrain`` when Ray refuses.
    """
    import ray

    internals: Any = ray._raylet
    client: Any = internals.GcsClient(address=ray_address)
    accepted, reason = client.drain_node(node, _PREEMPTION, _REASON, 0)
    if not accepted:
        raise CannotDrain(f"Ray does not let node {node[:12]} go: {reason}")
