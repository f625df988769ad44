"""Who owns which slot, and who is to own it: wishes that the owners themselves fulfil.

A wish is a row: ``slots.target``, or a key in ``private_slots`` that is not split off yet. Whoever
writes it may die at once; the stream that owns the slot sees it and takes the slot there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, cast
from zlib import crc32

import msgspec

from persistence.database import Connection, Pool
from persistence.journal import SLOTS, Fenced


class StreamRow(msgspec.Struct, frozen=True):
    """A stream and its share of the slots.

    ``arriving`` are slots on their way to it, ``leaving`` those of its own that are to go, and
    ``pinned`` the keys whose private slot it owns or awaits.
    """

    stream: str
    kind: str
    epoch: int
    slots: int
    arriving: int
    leaving: int
    pinned: list[str]
    host: str | None = None
    port: int | None = None
    token: bytes | None = None

    @property
    def wanted(self) -> bool:
        """Whether the stream has, or is to have, anything to do."""
        return bool(self.slots or self.arriving or self.pinned)


class Unknown(LookupError):
    """There is no such kind, stream or pin."""


_PLACEMENT: Final = """
WITH held AS (
    SELECT stream, count(*) AS slots, count(target) AS leaving
    FROM slots WHERE kind = $1 GROUP BY stream
), awaited AS (
    SELECT target, count(*) AS slots FROM slots
    WHERE kind = $1 AND target IS NOT NULL GROUP BY target
)
SELECT s.stream, s.kind, s.epoch, s.host, s.port, s.token, coalesce(held.slots, 0) AS slots,
    coalesce(awaited.slots, 0)
    + (SELECT coalesce(sum(cardinality(h.slots)), 0) FROM handovers h WHERE h.stream = s.stream)
        AS arriving,
    coalesce(held.leaving, 0) AS leaving,
    ARRAY(SELECT p.key FROM private_slots p LEFT JOIN slots o USING (kind, slot)
          WHERE p.kind = s.kind AND coalesce(o.target, o.stream, p.target) = s.stream
          ORDER BY p.slot) AS pinned
FROM streams s LEFT JOIN held USING (stream) LEFT JOIN awaited ON awaited.target = s.stream
WHERE s.kind = $1"""


def order_of(stream: str) -> tuple[bool, int, str]:
    """Sorts streams by number, those of pinned keys last."""
    tail = stream.rpartition("/")[2]
    return (not tail.isdigit(), len(tail), tail)


async def placement(pool: Pool | Connection, kind: str) -> list[StreamRow]:
    """All streams of a kind, in order; those that have nothing to do as well."""
    rows = [StreamRow(**row) for row in await pool.fetch(_PLACEMENT, kind)]
    return sorted(rows, key=lambda row: order_of(row.stream))


async def owners(pool: Pool | Connection, kind: str) -> dict[int, str]:
    """Who owns each slot."""
    rows = await pool.fetch("SELECT slot, stream FROM slots WHERE kind = $1 ORDER BY slot", kind)
    return {row["slot"]: row["stream"] for row in rows}


async def wishes(pool: Pool | Connection, kind: str) -> dict[int, tuple[str, str]]:
    """For each slot that is to move: its owner and where it is to go."""
    rows = await pool.fetch(
        "SELECT slot, stream, target FROM slots WHERE kind = $1 AND target IS NOT NULL"
        " ORDER BY slot",
        kind,
    )
    return {row["slot"]: (row["stream"], row["target"]) for row in rows}


async def under_way(pool: Pool | Connection, kind: str) -> int:
    """Slots and keys that are not where they are to be, those between two owners included."""
    count: int = await pool.fetchval(
        """
        SELECT (SELECT count(*) FROM slots WHERE kind = $1 AND target IS NOT NULL)
             + (SELECT coalesce(sum(cardinality(h.slots)), 0)
                FROM handovers h JOIN streams s USING (stream) WHERE s.kind = $1)
             + (SELECT count(*) FROM private_slots p LEFT JOIN slots o USING (kind, slot)
                WHERE p.kind = $1 AND o.slot IS NULL)""",
        kind,
    )
    return count


async def give_back(
    pool: Pool,
    kind: str,
    epochs: Mapping[str, int],
    owners: Mapping[int, str],
    private: Mapping[str, int],
) -> dict[int, str]:
    """Write the rows of slots that have none; who got which.

    ``owners`` is who has each slot, and ``private`` the slot of each key that has one to itself.
    Only for who holds all streams of the kind, in ``epochs``: somebody who runs may have such a
    slot in memory. Raises ``Fenced`` when one of them has another owner by now.
    """
    async with changing(pool) as connection:
        held = await connection.fetch(
            "SELECT stream, epoch FROM streams WHERE kind = $1 ORDER BY stream FOR SHARE", kind
        )
        if {row["stream"]: row["epoch"] for row in held} != dict(epochs):
            raise Fenced(kind)
        await connection.execute(
            "INSERT INTO private_slots (kind, key, slot, target)"
            " SELECT $1, * FROM unnest($2::text[], $3::smallint[], $4::text[])"
            " ON CONFLICT DO NOTHING",
            kind,
            list(private),
            list(private.values()),
            [owners[slot] for slot in private.values()],
        )
        given = await connection.fetch(
            "INSERT INTO slots (kind, slot, stream)"
            " SELECT $1, * FROM unnest($2::smallint[], $3::text[])"
            " ON CONFLICT DO NOTHING RETURNING slot, stream",
            kind,
            list(owners),
            list(owners.values()),
        )
        return {row["slot"]: row["stream"] for row in given}


@asynccontextmanager
async def changing(pool: Pool) -> AsyncIterator[Connection]:
    """A transaction in which nobody else changes wishes."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE private_slots IN SHARE ROW EXCLUSIVE MODE")
        yield cast(Connection, connection)


async def make_streams(connection: Connection, kind: str, streams: Sequence[str]) -> None:
    """Make the streams that do not exist yet."""
    await connection.execute(
        "INSERT INTO streams (stream, kind) SELECT unnest($2::text[]), $1 ON CONFLICT DO NOTHING",
        kind,
        list(streams),
    )


async def retarget(pool: Pool, kind: str, targets: Mapping[int, str]) -> int:
    """Wish that each slot goes to its stream; how many have to move.

    A slot that is there already stays, and one that was to go elsewhere changes its way. Raises
    ``Unknown`` for a stream that does not exist.
    """
    async with changing(pool) as connection:
        return await write_targets(connection, kind, targets)


async def write_targets(connection: Connection, kind: str, targets: Mapping[int, str]) -> int:
    """``retarget`` within a transaction."""
    known = await connection.fetch("SELECT stream FROM streams WHERE kind = $1", kind)
    if missing := set(targets.values()) - {row["stream"] for row in known}:
        raise Unknown(f"There is no stream {min(missing)}.")
    # In order, as a release does: two who wait for each other would wait for ever.
    await connection.execute(
        "SELECT FROM slots WHERE kind = $1 AND slot = ANY($2::smallint[]) ORDER BY slot FOR UPDATE",
        kind,
        list(targets),
    )
    moving = await connection.fetch(
        """
        UPDATE slots SET target = nullif(w.target, slots.stream)
        FROM unnest($2::smallint[], $3::text[]) AS w (slot, target)
        WHERE slots.kind = $1 AND slots.slot = w.slot
        RETURNING slots.target IS NOT NULL AS moves""",
        kind,
        list(targets),
        list(targets.values()),
    )
    return sum(row["moves"] for row in moving)


async def cancel(pool: Pool, kind: str) -> int:
    """Let every slot stay where it is, except what is between two owners; how many would go."""
    async with changing(pool) as connection:
        dropped = await connection.fetch(
            "UPDATE slots SET target = NULL WHERE kind = $1 AND target IS NOT NULL RETURNING slot",
            kind,
        )
        return len(dropped)


async def pin(pool: Pool, kind: str, key: str) -> str:
    """Wish that a key has a stream to itself; which one it will be.

    The first pinned stream that is free is used again. Raises ``Unknown`` when the kind has no
    slots yet.
    """
    async with changing(pool) as connection:
        rows = await placement(connection, kind)
        if not rows:
            raise Unknown(f"There are no {kind}.")
        for row in rows:
            if key in row.pinned and is_pin(row.stream):
                return row.stream
        free = [row.stream for row in rows if is_pin(row.stream) and not row.wanted]
        count = sum(is_pin(row.stream) for row in rows)
        stream = free[0] if free else f"{kind}/pin-{count + 1}"
        await make_streams(connection, kind, [stream])
        slot = await connection.fetchval(
            """
            INSERT INTO private_slots (kind, key, slot, target)
            SELECT $1, $2, coalesce(max(slot) + 1, $4), $3 FROM private_slots WHERE kind = $1
            ON CONFLICT (kind, key) DO UPDATE SET target = excluded.target
            RETURNING slot""",
            kind,
            key,
            stream,
            SLOTS,
        )
        await write_targets(connection, kind, {slot: stream})
        return stream


async def unpin(pool: Pool, kind: str, key: str) -> str:
    """Wish that a pinned key lives beside the others of its hash slot again; in which stream.

    It keeps its private slot. Raises ``Unknown`` when the key is not pinned.
    """
    async with changing(pool) as connection:
        row = await connection.fetchrow(
            """
            SELECT p.slot, coalesce(o.target, o.stream, p.target) AS place,
                coalesce(h.target, h.stream) AS home
            FROM private_slots p JOIN slots h ON h.kind = p.kind AND h.slot = $3
            LEFT JOIN slots o ON o.kind = p.kind AND o.slot = p.slot
            WHERE p.kind = $1 AND p.key = $2""",
            kind,
            key,
            crc32(key.encode()) % SLOTS,
        )
        if row is None or not is_pin(row["place"]):
            raise Unknown(f"{key} is not pinned.")
        home: str = row["home"]
        # Whether it has been split off by now or not: its owner may be about to.
        await connection.execute(
            "UPDATE private_slots SET target = $3 WHERE kind = $1 AND key = $2", kind, key, home
        )
        await write_targets(connection, kind, {row["slot"]: home})
        return home


def is_pin(stream: str) -> bool:
    """Whether the stream is for a pinned key alone."""
    return order_of(stream)[0]
