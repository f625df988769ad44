"""The journal, checkpoints, snapshots and ownership of durable partitions, in Postgres.

A turn is one statement: the fence (the row of ``streams`` is share-locked and its epoch compared),
the journal row, and each projection's rows, as one chain of common table expressions. Either all
of it is there afterwards or nothing.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import msgspec

from persistence.database import Connection, Pool, Standing

SLOTS: Final = 4096
"""Slots that keys share by their hash. Those from here on belong to one key each."""
SLOTS_MAX: Final = 32_768
GENESIS: Final = bytes(32)
"""The previous hash of the first row of a stream."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PARAMETER: Final = re.compile(r"\$([0-9]+)")


class Fenced(Exception):
    """Another incarnation holds this stream: nothing was written, and nothing may be any more."""


class WishChanged(Exception):
    """The slots that were to be released are to go elsewhere by now: nothing was written."""


class Corrupt(Exception):
    """A stored row is not what was written: the stream must not go on from it."""


class Statement(msgspec.Struct, frozen=True):
    """A projection's part of a turn; ``sql`` selects from ``fence`` and numbers from ``$1``."""

    sql: str
    arguments: tuple[Any, ...]


class JournalRow(msgspec.Struct, frozen=True):
    """One turn as stored. ``at`` is microseconds since the epoch."""

    stream: str
    seq: int
    epoch: int
    at: int
    entries: bytes
    previous_hash: bytes
    hash: bytes


class Checkpoint(msgspec.Struct, frozen=True):
    """Where a stream's snapshots stand: everything up to ``seq`` is in them."""

    seq: int
    hash: bytes
    state: bytes


class Arrival(msgspec.Struct, frozen=True):
    """Slots that ``origin`` has released to a stream in its row ``seq``, and what goes along."""

    origin: str
    seq: int
    slots: list[int]
    parcel: bytes


class Look(msgspec.Struct, frozen=True):
    """What a stream is to do about its slots.

    ``leaving`` are own slots and where they are to go, ``splits`` keys of the kind that are to
    have a slot to themselves, ``arrivals`` what was released to the stream.
    """

    leaving: list[tuple[int, str]]
    splits: list[tuple[str, int]]
    arrivals: list[Arrival]


class Release(msgspec.Struct, frozen=True):
    """Slots to let go of, with the checkpoint that is taken at the same moment."""

    to: str
    slots: list[int]
    parcel: bytes
    checkpoint: bytes
    snapshots: list[tuple[str, int, bytes]]


def to_datetime(at: int) -> datetime:
    """Microseconds since the epoch as an aware datetime."""
    return _EPOCH + timedelta(microseconds=at)


def to_microseconds(at: datetime) -> int:
    """An aware datetime as microseconds since the epoch."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def row_hash(previous: bytes, stream: str, seq: int, epoch: int, at: int, entries: bytes) -> bytes:
    """SHA-256 over the previous hash, the row's position and time, and its entries."""
    head = f"{stream}\0{seq}\0{epoch}\0{at}\0".encode()
    return hashlib.sha256(previous + head + entries).digest()


_HEAD: Final = """
WITH fence AS MATERIALIZED (
    SELECT 1 FROM streams WHERE stream = $1 AND epoch = $3 FOR SHARE
), journal_row AS (
    INSERT INTO journal (stream, seq, epoch, at, entries, previous_hash, hash)
    SELECT $1, $2, $3, $4, $5, $6, $7 FROM fence
)"""
_HEAD_PARAMETERS: Final = 7
_COPY_MAX: Final = 4_000
_composed: dict[tuple[str, ...], str] = {}


def _shift(sql: str, offset: int) -> str:
    return _PARAMETER.sub(lambda match: f"${int(match[1]) + offset}", sql)


def _compose(parts: tuple[str, ...], counts: Sequence[int]) -> str:
    """One statement of the journal row and the projections' parts, renumbered and cached."""
    sql = _composed.get(parts)
    if sql is None:
        offset = _HEAD_PARAMETERS
        sql = _HEAD
        for index, (part, count) in enumerate(zip(parts, counts, strict=True)):
            sql += f", part_{index} AS ({_shift(part, offset)})"
            offset += count
        sql += " SELECT count(*) FROM fence"
        _composed[parts] = sql
    return sql


class Journal:
    """The stored side of one partition. ``kind`` names the context, ``stream`` the partition."""

    def __init__(
        self,
        pool: Pool,
        kind: str,
        stream: str,
        writing: Standing | None = None,
        asking: Standing | None = None,
    ) -> None:
        self.pool = pool
        self.asking: Pool | Standing = asking or pool
        """For the question that almost each turn asks."""
        self._writing = writing or pool
        self.kind = kind
        self.stream = stream
        self.epoch = 0

    async def take_over(self, endpoint: tuple[str, int, bytes] | None = None) -> int:
        """Become the stream's only writer: whoever held it before is fenced from now on.

        ``endpoint`` (host, port, token) tells callers where to find the new owner.
        """
        host, port, token = endpoint or (None, None, None)
        epoch = await self.pool.fetchval(
            "UPDATE streams SET epoch = epoch + 1, host = $2, port = $3, token = $4"
            " WHERE stream = $1 RETURNING epoch",
            self.stream,
            host,
            port,
            token,
        )
        if epoch is None:
            raise Corrupt(f"There is no stream {self.stream}.")
        self.epoch = epoch
        return self.epoch

    async def check_epoch(self) -> None:
        """Raise ``Fenced`` unless this is still the stream's only writer."""
        epoch = await self._writing.fetchval(
            "SELECT epoch FROM streams WHERE stream = $1", self.stream
        )
        if epoch != self.epoch:
            raise Fenced(self.stream)

    async def slots(self) -> list[int]:
        """The slots that this stream owns and has taken in."""
        rows = await self.pool.fetch(_HELD, self.kind, self.stream)
        return [row["slot"] for row in rows]

    async def look(self) -> Look:
        """What this stream is to do about its slots, as of one moment."""
        look = Look([], [], [])
        for row in await self.pool.fetch(_LOOK, self.kind, self.stream):
            if row["what"] == "leave":
                look.leaving.append((row["number"], row["name"]))
            elif row["what"] == "split":
                look.splits.append((row["name"], row["number"]))
            else:
                if zlib.crc32(row["state"]) != row["crc"]:
                    raise Corrupt(f"The handover of {row['name']} {row['number']} is damaged.")
                look.arrivals.append(
                    Arrival(row["name"], row["number"], row["slots"], row["state"])
                )
        return look

    async def release(self, row: JournalRow, release: Release) -> None:
        """Write a turn that lets go of slots: the row, a checkpoint and the handover, at once.

        Raises ``WishChanged`` when a slot is not to go there any more, ``Fenced`` when the stream
        has a newer owner.
        """
        released = await self.pool.fetchval(
            _RELEASE,
            *self._row_arguments(row),
            release.checkpoint,
            zlib.crc32(release.checkpoint),
            self.kind,
            [key for key, _, _ in release.snapshots],
            [slot for _, slot, _ in release.snapshots],
            [state for _, _, state in release.snapshots],
            [zlib.crc32(state) for _, _, state in release.snapshots],
            release.to,
            release.slots,
            release.parcel,
            zlib.crc32(release.parcel),
        )
        if not released:
            epoch = await self.pool.fetchval(
                "SELECT epoch FROM streams WHERE stream = $1", self.stream
            )
            raise Fenced(self.stream) if epoch != row.epoch else WishChanged(self.stream)

    async def due(self, now: int, limit: int) -> list[str]:
        """Keys in this stream's slots that are to be woken at ``now``, the longest due first."""
        rows = await self.pool.fetch(_DUE, self.kind, self.stream, to_datetime(now), limit)
        return [row["key"] for row in rows]

    async def states(self, chunk: int = 2_000) -> AsyncIterator[list[tuple[str, bytes]]]:
        """Key and state of all stored entities of the kind, in chunks; for upgrades only."""
        last = ""
        while True:
            rows = await self.pool.fetch(_STATES, self.kind, last, chunk)
            if not rows:
                return
            yield [(row["key"], row["state"]) for row in rows]
            last = rows[-1]["key"]

    async def commit(self, row: JournalRow, statements: Sequence[Statement]) -> None:
        """Write one turn; raise ``Fenced`` when the stream has a newer owner."""
        sql = _compose(
            tuple(statement.sql for statement in statements),
            [len(statement.arguments) for statement in statements],
        )
        arguments = self._row_arguments(row)
        for statement in statements:
            arguments.extend(statement.arguments)
        if not await self._writing.fetchval(sql, *arguments):
            raise Fenced(self.stream)

    async def checkpoint(self) -> Checkpoint:
        """The latest checkpoint, or an empty one for a new stream."""
        row = await self.pool.fetchrow(
            "SELECT seq, hash, state, crc FROM checkpoints WHERE stream = $1", self.stream
        )
        if row is None:
            return Checkpoint(0, GENESIS, b"")
        if zlib.crc32(row["state"]) != row["crc"]:
            raise Corrupt(f"The checkpoint of {self.stream} at {row['seq']} is damaged.")
        return Checkpoint(row["seq"], row["hash"], row["state"])

    async def tail(self, after: Checkpoint, chunk: int = 1_000) -> AsyncIterator[list[JournalRow]]:
        """The turns since a checkpoint, in order and in chunks, held against their hash chain."""
        seq, previous = after.seq, after.hash
        while rows := await read_journal(self.pool, self.stream, seq, chunk):
            for row in rows:
                check_link(row, seq + 1, previous)
                seq, previous = row.seq, row.hash
            yield rows
            if len(rows) < chunk:
                return

    async def snapshots(self, keys: Iterable[str]) -> dict[str, bytes]:
        """The stored states of entities; those that never had one are left out."""
        rows = await self.pool.fetch(
            "SELECT key, state, crc FROM snapshots WHERE kind = $1 AND key = ANY($2::text[])",
            self.kind,
            list(keys),
        )
        for row in rows:
            if zlib.crc32(row["state"]) != row["crc"]:
                raise Corrupt(f"The snapshot of {self.kind} {row['key']} is damaged.")
        return {row["key"]: row["state"] for row in rows}

    async def save(
        self, checkpoint: Checkpoint, snapshots: Sequence[tuple[str, int, bytes]]
    ) -> None:
        """Store a checkpoint with the (key, slot, state) of all entities changed since the last.

        One transaction, under the fence; in several statements, so that turns get their share of
        the processor meanwhile. The states are copied beside the table and then merged into it:
        half the work of an upsert.
        """
        async with self.pool.acquire() as connection, connection.transaction():
            if snapshots:
                await connection.execute(_CHANGED)
            for start in range(0, len(snapshots), _COPY_MAX):
                await connection.copy_records_to_table(
                    "changed",
                    schema_name="pg_temp",
                    records=[
                        (key, slot, state, zlib.crc32(state))
                        for key, slot, state in snapshots[start : start + _COPY_MAX]
                    ],
                )
            saved = await connection.fetchval(
                _SAVE,
                self.stream,
                checkpoint.seq,
                self.epoch,
                checkpoint.hash,
                checkpoint.state,
                zlib.crc32(checkpoint.state),
            )
            if not saved:
                raise Fenced(self.stream)
            if snapshots:
                await connection.execute(_MERGE, self.kind)

    def _row_arguments(self, row: JournalRow) -> list[Any]:
        return [
            row.stream,
            row.seq,
            row.epoch,
            to_datetime(row.at),
            row.entries,
            row.previous_hash,
            row.hash,
        ]


_READ: Final = """
SELECT stream, seq, epoch, at, entries, previous_hash, hash FROM journal
WHERE stream = $1 AND seq > $2 ORDER BY seq LIMIT $3"""

_SAVE: Final = """
WITH fence AS MATERIALIZED (
    SELECT 1 FROM streams WHERE stream = $1 AND epoch = $3 FOR SHARE
), head AS (
    INSERT INTO checkpoints (stream, seq, hash, state, crc)
    SELECT $1, $2, $4, $5, $6 FROM fence
    ON CONFLICT (stream) DO UPDATE
    SET seq = excluded.seq, hash = excluded.hash, state = excluded.state, crc = excluded.crc
) SELECT count(*) FROM fence"""

# How many rows there are to merge differs from one checkpoint to the next, and so does the plan.
_CHANGED: Final = """
SET LOCAL plan_cache_mode = force_custom_plan;
CREATE TEMPORARY TABLE IF NOT EXISTS changed (
    key text, slot smallint, state bytea, crc bigint
) ON COMMIT DELETE ROWS"""

_MERGE: Final = """
MERGE INTO snapshots s USING pg_temp.changed c ON s.kind = $1 AND s.key = c.key
WHEN MATCHED THEN UPDATE SET slot = c.slot, state = c.state, crc = c.crc
WHEN NOT MATCHED THEN INSERT (kind, key, slot, state, crc)
    VALUES ($1, c.key, c.slot, c.state, c.crc)"""

_RELEASE: Final = """
WITH wished AS MATERIALIZED (
    SELECT slot FROM slots
    WHERE kind = $10 AND slot = ANY($16::smallint[]) AND stream = $1 AND target = $15
    ORDER BY slot FOR UPDATE
), fence AS MATERIALIZED (
    SELECT 1 FROM streams WHERE stream = $1 AND epoch = $3
    AND (SELECT count(*) FROM wished) = cardinality($16::smallint[]) FOR SHARE
), journal_row AS (
    INSERT INTO journal (stream, seq, epoch, at, entries, previous_hash, hash)
    SELECT $1, $2, $3, $4, $5, $6, $7 FROM fence
), head AS (
    INSERT INTO checkpoints (stream, seq, hash, state, crc)
    SELECT $1, $2, $7, $8, $9 FROM fence
    ON CONFLICT (stream) DO UPDATE
    SET seq = excluded.seq, hash = excluded.hash, state = excluded.state, crc = excluded.crc
), entities AS (
    INSERT INTO snapshots (kind, key, slot, state, crc)
    SELECT $10, e.key, e.slot, e.state, e.crc
    FROM fence, unnest($11::text[], $12::smallint[], $13::bytea[], $14::bigint[])
         AS e (key, slot, state, crc)
    ON CONFLICT (kind, key) DO UPDATE
    SET slot = excluded.slot, state = excluded.state, crc = excluded.crc
), moved AS (
    UPDATE slots SET stream = $15, target = NULL
    FROM fence WHERE kind = $10 AND slot = ANY($16::smallint[])
), handover AS (
    INSERT INTO handovers (origin, seq, stream, slots, state, crc, at)
    SELECT $1, $2, $15, $16, $17, $18, $4 FROM fence
) SELECT count(*) FROM fence"""

_HELD: Final = """
SELECT slot FROM slots s WHERE kind = $1 AND stream = $2 AND NOT EXISTS (
    SELECT FROM handovers h WHERE h.stream = s.stream AND s.slot = ANY(h.slots))"""

_LOOK: Final = """
SELECT 'leave' AS what, slot::bigint AS number, target AS name, NULL::smallint[] AS slots,
    NULL::bytea AS state, NULL::bigint AS crc
FROM slots WHERE kind = $1 AND stream = $2 AND target IS NOT NULL
UNION ALL
SELECT 'split', p.slot, p.key, NULL, NULL, NULL
FROM private_slots p LEFT JOIN slots s USING (kind, slot)
WHERE p.kind = $1 AND s.slot IS NULL
UNION ALL
(SELECT 'arrive', seq, origin, slots, state, crc FROM handovers WHERE stream = $2
 ORDER BY at, origin, seq)"""

_DUE: Final = """
SELECT t.key FROM timers t LEFT JOIN private_slots p ON p.kind = t.kind AND p.key = t.key
LEFT JOIN slots o ON o.kind = p.kind AND o.slot = p.slot
JOIN slots s ON s.kind = t.kind AND s.slot = coalesce(o.slot, t.slot)
WHERE t.kind = $1 AND t.due <= $3 AND s.stream = $2
ORDER BY t.due LIMIT $4"""

_STATES: Final = """
SELECT key, state FROM snapshots WHERE kind = $1 AND key > $2 ORDER BY key LIMIT $3"""


def _row(stored: asyncpg.Record) -> JournalRow:
    return JournalRow(
        stored["stream"],
        stored["seq"],
        stored["epoch"],
        to_microseconds(stored["at"]),
        stored["entries"],
        stored["previous_hash"],
        stored["hash"],
    )


def check_link(row: JournalRow, seq: int, previous: bytes) -> None:
    """Hold a row against its place in the chain; raise ``Corrupt`` naming what does not fit."""
    place = f"{row.stream} {row.seq}"
    if row.seq != seq:
        raise Corrupt(f"Journal row {row.stream} {seq} is missing.")
    if row.previous_hash != previous:
        raise Corrupt(f"Journal row {place} does not follow the row before it.")
    if row_hash(previous, row.stream, row.seq, row.epoch, row.at, row.entries) != row.hash:
        raise Corrupt(f"Journal row {place} is not what was written.")


async def prepare_streams(pool: Pool, kind: str, count: int) -> list[str]:
    """Make ``count`` streams for a kind and spread the slots over them, unless it has some.

    Returns the kind's streams. Slots are given out in ranges, so that neighbours stay together.
    """
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE streams IN SHARE ROW EXCLUSIVE MODE")
        rows = await connection.fetch(
            "SELECT stream FROM streams WHERE kind = $1 ORDER BY length(stream), stream", kind
        )
        if rows:
            return [row["stream"] for row in rows]
        streams = [f"{kind}/{index}" for index in range(count)]
        await connection.executemany(
            "INSERT INTO streams (stream, kind) VALUES ($1, $2)", [(s, kind) for s in streams]
        )
        await connection.executemany(
            "INSERT INTO slots (kind, slot, stream) VALUES ($1, $2, $3)",
            [(kind, slot, streams[slot * count // SLOTS]) for slot in range(SLOTS)],
        )
        return streams


async def slot_map(pool: Pool, kind: str) -> list[str]:
    """The owner of each slot, by slot number; empty when the kind has no streams yet."""
    rows = await pool.fetch(
        "SELECT stream FROM slots WHERE kind = $1 AND slot < $2 ORDER BY slot", kind, SLOTS
    )
    return [row["stream"] for row in rows]


async def private_owners(pool: Pool, kind: str) -> dict[str, str]:
    """The owner of each key that has a slot to itself."""
    rows = await pool.fetch(
        "SELECT p.key, s.stream FROM private_slots p JOIN slots s USING (kind, slot)"
        " WHERE p.kind = $1",
        kind,
    )
    return {row["key"]: row["stream"] for row in rows}


async def endpoint_of(pool: Pool, stream: str) -> tuple[str, int, bytes] | None:
    """Host, port and token of the stream's present owner; ``None`` when nobody has taken it."""
    row = await pool.fetchrow("SELECT host, port, token FROM streams WHERE stream = $1", stream)
    if row is None or row["host"] is None:
        return None
    return row["host"], row["port"], row["token"]


async def read_journal(
    pool: Pool | Connection, stream: str, after: int, limit: int
) -> list[JournalRow]:
    """Rows of a stream after a position, in order, as stored."""
    return [_row(stored) for stored in await pool.fetch(_READ, stream, after, limit)]


async def streams(pool: Pool | Connection) -> list[tuple[str, str, int]]:
    """Kind, name and epoch of all streams."""
    rows = await pool.fetch(
        "SELECT kind, stream, epoch FROM streams ORDER BY kind, length(stream), stream"
    )
    return [(row["kind"], row["stream"], row["epoch"]) for row in rows]
