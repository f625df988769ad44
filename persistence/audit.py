"""The audit log: who did what to whom, from where, as rows that are only ever added.

Each row carries the hash of the one before, and the head of the chain is a row of its own, so a
byte that was changed, a row that was taken out and one cut off the end are all found. Written in
the transaction of what it tells of; a trigger refuses every change. Never holds a secret.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any, Final, cast

import msgspec

from persistence.database import Connection, Pool
from persistence.journal import to_microseconds

Database = Pool | Connection

GENESIS: Final = bytes(32)
TEXT_MAX: Final = 200
_CHUNK: Final = 1_000
_SECRET: Final = re.compile(r"password|secret|token|recovery|code_hash", re.IGNORECASE)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_encode: Final = msgspec.json.Encoder(order="deterministic").encode
_pack: Final = msgspec.msgpack.Encoder().encode


class Told(msgspec.Struct, frozen=True):
    """Who did what to whom, from where.

    ``actor`` is the user who did it, ``by`` how people call them (an address, or who was at the
    command line); ``origin`` is ``page``, ``api``, ``console`` or ``platform``. ``action`` is named
    like a permission, ``subject`` like ``customer:1234567890`` or ``account:12345678901234``.
    """

    actor: int | None
    by: str
    origin: str
    ip: str
    session: int | None
    request: str
    action: str
    subject: str


class Entry(Told, frozen=True):
    """Something that was done. ``before`` and ``after`` hold what JSON can, and never a secret."""

    before: Mapping[str, Any]
    after: Mapping[str, Any]


class Actor(msgspec.Struct, frozen=True):
    """Whoever does something, and from where: what all their entries have in common."""

    user: int | None
    by: str
    origin: str
    ip: str = ""
    session: int | None = None
    request: str = ""

    def did(
        self,
        action: str,
        subject: str,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
    ) -> Entry:
        """The entry that says so."""
        return Entry(
            self.user, self.by, self.origin, self.ip, self.session, self.request, action, subject,
            before or {}, after or {},
        )  # fmt: skip


class Row(Told, frozen=True):
    """An entry as stored; ``before`` and ``after`` are JSON."""

    before: str
    after: str
    seq: int
    at: datetime
    previous_hash: bytes
    hash: bytes

    def digest(self) -> bytes:
        """The hash that the row must have."""
        texts = tuple(getattr(self, name) for name in Entry.__struct_fields__)
        return _digest(self.previous_hash, self.seq, to_microseconds(self.at), texts)


COLUMNS: Final = (
    "seq", "at", *Told.__struct_fields__, "before", "after", "previous_hash", "hash"
)  # fmt: skip
"""In the order in which people read them."""


class Filter(msgspec.Struct, frozen=True):
    """Which entries: ``None`` and empty keep all. ``text`` is looked for in every column of text.

    ``date_from`` is inclusive, ``date_to`` exclusive; ``before_seq`` continues a list.
    """

    text: str = ""
    action: str = ""
    subject: str = ""
    actor: int | None = None
    date_from: datetime | None = None
    date_to: datetime | None = None
    before_seq: int | None = None


class Verdict(msgspec.Struct, frozen=True):
    """What following the chain has found; ``broken_at`` is the first row that does not fit."""

    rows: int
    head: str
    broken_at: int | None = None
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing was changed."""
        return self.broken_at is None


def _digest(previous: bytes, seq: int, at: int, texts: tuple[Any, ...]) -> bytes:
    return hashlib.sha256(previous + _pack((seq, at, *texts))).digest()


def _clean(text: str) -> str:
    return _CONTROL.sub(" ", text)[:TEXT_MAX]


def _json(values: Mapping[str, Any]) -> str:
    for name in values:
        if _SECRET.search(name):
            raise ValueError(f"{name} has no place in the audit log")
    return _encode(dict(values)).decode()


async def append(connection: Connection, entry: Entry) -> int:
    """Add an entry in the caller's transaction; its number.

    From here to the end of that transaction everybody else who appends waits: do it last. Raises
    ``ValueError`` where a value is named like a secret.
    """
    before, after = _json(entry.before), _json(entry.after)
    texts = (
        entry.actor, _clean(entry.by), _clean(entry.origin), _clean(entry.ip), entry.session,
        _clean(entry.request), _clean(entry.action), _clean(entry.subject), before, after,
    )  # fmt: skip
    async with connection.transaction():
        head = await connection.fetchrow("select seq, hash from audit_head for update")
        at: datetime = await connection.fetchval("select clock_timestamp()")
        assert head is not None
        seq: int = head["seq"] + 1
        digest = _digest(head["hash"], seq, to_microseconds(at), texts)
        await connection.execute(
            "insert into audit_log (seq, at, actor, by, origin, ip, session, request, action,"
            " subject, before, after, previous_hash, hash)"
            " values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
            seq, at, *texts, head["hash"], digest,
        )  # fmt: skip
        await connection.execute("update audit_head set seq = $1, hash = $2", seq, digest)
    return seq


async def record(pool: Pool, entry: Entry) -> int:
    """Add an entry of something that is not in this database's transaction."""
    async with pool.acquire() as proxy:
        return await append(cast(Connection, proxy), entry)


_COLUMNS: Final = ", ".join(Row.__struct_fields__)


async def search(database: Database, flt: Filter, limit: int = 50) -> list[Row]:
    """Entries, newest first."""
    arguments: list[Any] = []
    conditions: list[str] = []

    def add(sql: str, value: Any) -> None:
        if value is not None and value != "":
            arguments.append(value)
            conditions.append(sql.format(f"${len(arguments)}"))

    escaped = flt.text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    everywhere = "by || ' ' || ip || ' ' || request || ' ' || action || ' ' || subject"
    everywhere += " || ' ' || before || ' ' || after"
    add(f"({everywhere}) ilike {{}}", f"%{escaped}%" if escaped else "")
    add("action = {}", flt.action)
    add("subject = {}", flt.subject)
    add("actor = {}", flt.actor)
    add("at >= {}", flt.date_from)
    add("at < {}", flt.date_to)
    add("seq < {}", flt.before_seq)
    where = " and ".join(conditions) or "true"
    arguments.append(limit)
    rows = await database.fetch(
        f"select {_COLUMNS} from audit_log where {where} order by seq desc limit ${len(arguments)}",
        *arguments,
    )
    return [Row(*row) for row in rows]


async def actions(database: Database) -> list[str]:
    """What has been done so far, by name."""
    rows = await database.fetch("select distinct action from audit_log order by action")
    return [row["action"] for row in rows]


async def export(database: Database, flt: Filter, chunk: int = _CHUNK) -> AsyncIterator[Row]:
    """All entries, newest first, a few at a time."""
    while True:
        rows = await search(database, flt, chunk)
        for row in rows:
            yield row
        if len(rows) < chunk:
            return
        flt = msgspec.structs.replace(flt, before_seq=rows[-1].seq)


async def verify(
    database: Database, known: Mapping[int, str] | None = None, chunk: int = _CHUNK
) -> Verdict:
    """Follow the chain from the first entry to its head.

    ``known`` are hashes (hex) by number that were noted elsewhere: whoever could rewrite the whole
    chain cannot make it come to these.
    """
    expected = dict(known or {})
    head = await database.fetchrow("select seq, hash from audit_head")
    if head is None:
        return Verdict(0, "", 0, "the head of the chain is gone")
    count, previous = 0, GENESIS
    while count < head["seq"]:
        rows = await database.fetch(
            f"select {_COLUMNS} from audit_log where seq > $1 and seq <= $2 order by seq limit $3",
            count, head["seq"], chunk,
        )  # fmt: skip
        if not rows:
            return Verdict(count, previous.hex(), count + 1, "the entry is not there")
        for row in (Row(*found) for found in rows):
            reason = _fault(row, count + 1, previous, expected.pop(count + 1, None))
            if reason:
                return Verdict(count, previous.hex(), count + 1, reason)
            count, previous = row.seq, row.hash
    if previous != head["hash"]:
        return Verdict(count, previous.hex(), count, "the chain does not end as its head says")
    # An entry may have been added meanwhile; one that the head does not know of by now is forged.
    unknown = await database.fetchval(
        "select min(seq) from audit_log where seq < 1 or seq > (select seq from audit_head)"
    )
    if unknown is not None:
        return Verdict(count, previous.hex(), unknown, "the head does not know of the entry")
    if expected:
        return Verdict(count, previous.hex(), min(expected), "the entry is not there")
    return Verdict(count, previous.hex())


def _fault(row: Row, seq: int, previous: bytes, known: str | None) -> str:
    if row.seq != seq:
        return "the entry is not there"
    if row.previous_hash != previous:
        return "it does not follow the one before"
    if row.hash != row.digest():
        return "it was changed after it was written"
    if known is not None and row.hash.hex() != known.lower():
        return "it is another entry than the one that was noted"
    return ""
