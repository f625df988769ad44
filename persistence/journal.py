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

from persistence.database import Connection, Pool

SLOTS: Final = 4096
GENESIS: Final = bytes(32)
"""The previous hash of the first row of a stream."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PARAMETER: Final = re.compile(r"\$([0-9]+)")


class Fenced(Exception):
    """Another incarnation holds this stream: nothing was written, and nothing may be any more."""


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

    def __init__(self, pool: Pool, kind: str, stream: str) -> None:
        self.pool = pool
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

    async def slots(self) -> list[int]:
        """The slots that this stream owns."""
        rows = await self.pool.fetch(
            "SELECT slot FROM slots WHERE kind = $1 AND stream = $2", self.kind, self.stream
        )
        return [row["slot"] for row in rows]

    async def commit(self, row: JournalRow, statements: Sequence[Statement]) -> None:
        """Write one turn; raise ``Fenced`` when the stream has a newer owner."""
        sql = _compose(
            tuple(statement.sql for statement in statements),
            [len(statement.arguments) for statement in statements],
        )
        arguments: list[Any] = [
            row.stream,
            row.seq,
            row.epoch,
            to_datetime(row.at),
            row.entries,
            row.previous_hash,
            row.hash,
        ]
        for statement in statements:
            arguments.extend(statement.arguments)
        if not await self.pool.fetchval(sql, *arguments):
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

    async def tail(self, after: Checkpoint, chunk: int = 1_000) -> AsyncIterator[JournalRow]:
        """The turns since a checkpoint, in order, each held against its hash chain."""
        seq, previous = after.seq, after.hash
        while True:
            rows = await read_journal(self.pool, self.stream, seq, chunk)
            for row in rows:
                check_link(row, seq + 1, previous)
                seq, previous = row.seq, row.hash
                yield row
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

        One transaction, under the fence.
        """
        saved = await self.pool.fetchval(
            _SAVE,
            self.stream,
            self.epoch,
            checkpoint.seq,
            checkpoint.hash,
            checkpoint.state,
            zlib.crc32(checkpoint.state),
            self.kind,
            [key for key, _, _ in snapshots],
            [slot for _, slot, _ in snapshots],
            [state for _, _, state in snapshots],
            [zlib.crc32(state) for _, _, state in snapshots],
        )
        if not saved:
            raise Fenced(self.stream)


_READ: Final = """
SELECT stream, seq, epoch, at, entries, previous_hash, hash FROM journal
WHERE stream = $1 AND seq > $2 ORDER BY seq LIMIT $3"""

_SAVE: Final = """
WITH fence AS MATERIALIZED (
    SELECT 1 FROM streams WHERE stream = $1 AND epoch = $2 FOR SHARE
), head AS (
    INSERT INTO checkpoints (stream, seq, hash, state, crc)
    SELECT $1, $3, $4, $5, $6 FROM fence
    ON CONFLICT (stream) DO UPDATE
    SET seq = excluded.seq, hash = excluded.hash, state = excluded.state, crc = excluded.crc
), entities AS (
    INSERT INTO snapshots (kind, key, slot, state, crc)
    SELECT $7, e.key, e.slot, e.state, e.crc
    FROM fence, unnest($8::text[], $9::smallint[], $10::bytea[], $11::bigint[])
         AS e (key, slot, state, crc)
    ON CONFLICT (kind, key) DO UPDATE
    SET slot = excluded.slot, state = excluded.state, crc = excluded.crc
)
SELECT count(*) FROM fence"""


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
    rows = await pool.fetch("SELECT stream FROM slots WHERE kind = $1 ORDER BY slot", kind)
    return [row["stream"] for row in rows]


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
