"""Reading the committed journal behind a durable position in each stream.

Whoever makes something of the journal, at its own pace, keeps its positions in a table of its own
and moves them in the transaction that writes what came of the rows: each row counts once, whatever
happens. Two readers of one table do no harm: a position that is not where the rows began refuses
the second. May read the journal and write that table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec

from persistence.database import Connection, Pool
from persistence.journal import Corrupt


class Overtaken(Exception):
    """Another reader has moved a position: nothing was written; read the positions again."""


class Stored(msgspec.Struct, frozen=True):
    """A row of the journal that is to be read."""

    stream: str
    seq: int
    at: datetime
    entries: bytes


class Position(msgspec.Struct, frozen=True):
    """How far a stream has been read, and how far it goes; ``behind_s`` is the age of the next row.

    ``behind_s`` is 0 where nothing waits.
    """

    stream: str
    seq: int
    head: int
    behind_s: float

    @property
    def behind(self) -> int:
        """Rows that wait."""
        return self.head - self.seq


class Chunk:
    """Some rows of the journal that are read together; subclasses gather what these say."""

    def __init__(self) -> None:
        self.ranges: dict[str, tuple[int, int, datetime]] = {}
        """By stream: the position before, the position after, and the time of the last row."""

    def read(self, row: Stored) -> None:
        """Note that a row has been read; rows of a stream come without gaps."""
        before, last, _ = self.ranges.get(row.stream, (row.seq - 1, row.seq - 1, row.at))
        if row.seq != last + 1:
            raise Corrupt(f"Journal row {row.stream} {last + 1} is missing.")
        self.ranges[row.stream] = (before, row.seq, row.at)


_ENROL: Final = """
INSERT INTO {table} (stream, seq) SELECT stream, 0 FROM streams WHERE kind = ANY($1::text[])
ON CONFLICT DO NOTHING"""

_NEXT: Final = """
SELECT p.stream, j.seq, j.at, j.entries FROM {table} p
JOIN streams s ON s.stream = p.stream AND s.kind = ANY($2::text[])
CROSS JOIN LATERAL (
    SELECT seq, at, entries FROM journal WHERE stream = p.stream AND seq > p.seq
    ORDER BY seq LIMIT $1) AS j
ORDER BY p.stream, j.seq"""

_POSITIONS: Final = """
SELECT p.stream, p.seq, coalesce(last.seq, 0) AS head,
    coalesce(extract(epoch FROM now() - next.at), 0)::float8 AS behind_s
FROM {table} p
JOIN streams s ON s.stream = p.stream AND s.kind = ANY($1::text[])
LEFT JOIN LATERAL (
    SELECT seq FROM journal WHERE stream = p.stream ORDER BY seq DESC LIMIT 1) AS last ON true
LEFT JOIN LATERAL (
    SELECT at FROM journal WHERE stream = p.stream AND seq > p.seq ORDER BY seq LIMIT 1
) AS next ON true
ORDER BY length(p.stream), p.stream"""

_ADVANCE: Final = """
UPDATE {table} p SET seq = m.last, at = m.at
FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::timestamptz[])
    AS m (stream, before, last, at)
WHERE p.stream = m.stream AND p.seq = m.before"""


class Cursor:
    """The positions of one reader, in ``table``, over the streams of ``kinds``."""

    def __init__(self, table: str, kinds: Sequence[str]) -> None:
        assert table.isidentifier()
        self.table = table
        self.kinds = list(kinds)
        self._enrol, self._next, self._positions, self._advance = (
            sql.format(table=table) for sql in (_ENROL, _NEXT, _POSITIONS, _ADVANCE)
        )

    async def enrol(self, pool: Pool) -> None:
        """Begin to follow the streams that are not followed yet."""
        await pool.execute(self._enrol, self.kinds)

    async def next_rows(self, pool: Pool, limit: int) -> list[Stored]:
        """The rows that come next, at most ``limit`` of each stream."""
        return [Stored(*row) for row in await pool.fetch(self._next, limit, self.kinds)]

    async def positions(self, database: Pool | Connection) -> list[Position]:
        """How far each stream has been read."""
        return [
            Position(row["stream"], row["seq"], row["head"], max(0.0, row["behind_s"]))
            for row in await database.fetch(self._positions, self.kinds)
        ]

    async def advance(
        self, connection: Connection, ranges: Mapping[str, tuple[int, int, datetime]]
    ) -> None:
        """Move the positions, as part of a transaction; raises ``Overtaken``."""
        streams = sorted(ranges)
        done = await connection.execute(
            self._advance,
            streams,
            *(list(part) for part in zip(*(ranges[name] for name in streams), strict=True)),
        )
        if done != f"UPDATE {len(streams)}":
            raise Overtaken(", ".join(streams))
