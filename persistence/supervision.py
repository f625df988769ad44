"""What the supervisor knows and did, for operators: nodes of the cluster, and incidents.

``nodes.draining`` alone is a wish, which a command writes and the supervisor follows; everything
else is written by the supervisor and read by people.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from persistence.database import Pool
from persistence.journal import SLOTS

INCIDENTS_MAX: Final = 10_000
_FORGET_DAYS: Final = 30
_INCIDENTS_SHOWN: Final = 50


class NodeRow(msgspec.Struct, frozen=True):
    """A node of the cluster. ``partitions`` live on it; ``draining`` ones get no more."""

    node: str
    address: str
    name: str
    head: bool
    alive: bool
    draining: bool = False
    partitions: int = 0
    seen: datetime | None = None


class Incident(msgspec.Struct, frozen=True):
    """Something that was found or done. ``what`` is a sentence for people."""

    at: datetime
    event: str
    stream: str | None
    node: str | None
    what: str


class UnknownNode(LookupError):
    """No node, or more than one, has that name. The text is for the operator."""


async def nodes(pool: Pool) -> list[NodeRow]:
    """All nodes that were seen lately, the head first; those that are gone as well."""
    rows = await pool.fetch(
        "SELECT node, address, name, head, alive, draining, partitions, seen FROM nodes"
        " ORDER BY head DESC, name, address, node"
    )
    return [NodeRow(**row) for row in rows]


async def see_nodes(pool: Pool, seen: Sequence[NodeRow]) -> None:
    """Note the nodes as they are now; those that are missing are not alive."""
    await pool.execute(
        """
        WITH seen AS (
            SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bool[], $5::bool[],
                                 $6::int[]) AS s (node, address, name, head, alive, partitions)
        ), gone AS (
            UPDATE nodes SET alive = false, partitions = 0
            WHERE alive AND node NOT IN (SELECT node FROM seen)
        ), forgotten AS (
            DELETE FROM nodes WHERE NOT alive AND node NOT IN (SELECT node FROM seen)
                AND seen < now() - make_interval(days => $7)
        )
        INSERT INTO nodes (node, address, name, head, alive, partitions)
        SELECT * FROM seen
        ON CONFLICT (node) DO UPDATE SET address = excluded.address, name = excluded.name,
            head = excluded.head, alive = excluded.alive, partitions = excluded.partitions,
            seen = now()""",
        [row.node for row in seen],
        [row.address for row in seen],
        [row.name for row in seen],
        [row.head for row in seen],
        [row.alive for row in seen],
        [row.partitions for row in seen],
        _FORGET_DAYS,
    )


async def draining(pool: Pool) -> list[str]:
    """Living nodes that are to be emptied."""
    rows = await pool.fetch("SELECT node FROM nodes WHERE draining AND alive")
    return [row["node"] for row in rows]


async def unowned_slots(pool: Pool, kind: str) -> list[int]:
    """Shared slots of a kind that are in nobody's hands; none before the first are given out."""
    rows = await pool.fetch(
        """
        SELECT wanted.slot FROM generate_series(0, $2::int - 1) AS wanted (slot)
        WHERE EXISTS (SELECT FROM slots WHERE kind = $1)
            AND NOT EXISTS (SELECT FROM slots o WHERE o.kind = $1 AND o.slot = wanted.slot)
        ORDER BY wanted.slot""",
        kind,
        SLOTS,
    )
    return [row["slot"] for row in rows]


async def find_node(pool: Pool, name: str) -> NodeRow:
    """The living node with that name, address, or beginning of its id.

    Raises ``UnknownNode`` when there is none or more than one.
    """
    living = [row for row in await nodes(pool) if row.alive]
    for found in (
        [row for row in living if row.name == name or row.address == name],
        [row for row in living if len(name) >= 4 and row.node.startswith(name)],
    ):
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(row.node[:12] for row in found)
            raise UnknownNode(f"{name} is the name of {len(found)} nodes: use one of {ids}.")
    raise UnknownNode(f"No living node is called {name}.")


async def wish_drained(pool: Pool, node: str, draining: bool) -> None:
    """Wish that a node is emptied of partitions, or that it may have some again."""
    await pool.execute("UPDATE nodes SET draining = $2 WHERE node = $1", node, draining)


async def note(
    pool: Pool, event: str, what: str, *, stream: str | None = None, node: str | None = None
) -> None:
    """Keep an incident."""
    await pool.execute(
        "INSERT INTO incidents (event, stream, node, what) VALUES ($1, $2, $3, $4)",
        event,
        stream,
        node,
        what[:1_000],
    )


async def prune(pool: Pool) -> None:
    """Forget incidents that are old or too many."""
    await pool.execute(
        "DELETE FROM incidents WHERE at < now() - make_interval(days => $1)"
        " OR id <= (SELECT max(id) FROM incidents) - $2",
        _FORGET_DAYS,
        INCIDENTS_MAX,
    )


async def incidents(pool: Pool, limit: int = _INCIDENTS_SHOWN) -> list[Incident]:
    """The latest incidents, newest first."""
    rows = await pool.fetch(
        "SELECT at, event, stream, node, what FROM incidents ORDER BY id DESC LIMIT $1", limit
    )
    return [Incident(**row) for row in rows]
