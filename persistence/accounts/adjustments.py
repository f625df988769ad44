"""Adjustments as the back office reads them: the rows that a turn writes, and the queries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from asyncpg.pgproto.pgproto import UUID

from domain.accounts import events as ev
from domain.accounts.adjustment import AdjustmentStatus, adjustment_digest
from domain.accounts.numbers import customer_of
from persistence.database import Connection, Pool
from persistence.journal import Statement, to_datetime, to_microseconds

ADJUSTMENTS: Final = frozenset(
    {ev.AdjustmentProposed, ev.AdjustmentPosted, ev.AdjustmentRefused, ev.AdjustmentExpired}
)

_PROPOSED: Final = """
INSERT INTO adjustments (id, customer, account, currency, amount, reason, maker, at, expires_at,
    status, checker, note, decided_at)
SELECT a.* FROM fence, unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[],
    $6::text[], $7::bigint[], $8::timestamptz[], $9::timestamptz[], $10::smallint[],
    $11::bigint[], $12::text[], $13::timestamptz[]) AS a"""

_ENDED: Final = """
UPDATE adjustments SET status = a.status, checker = a.checker, note = a.note, decided_at = $5
FROM fence, unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::text[])
    AS a (id, status, checker, note) WHERE adjustments.id = a.id"""

_End = tuple[AdjustmentStatus, int | None, str]


def adjustment_statements(events: Sequence[Any], at: Any) -> Iterable[Statement]:
    """The rows of one turn; an update does not see what the same statement inserts."""
    ended = {event.adjustment: _end(event) for event in events if _end(event) is not None}
    columns: list[list[Any]] = [[] for _ in range(13)]
    for event in events:
        if type(event) is not ev.AdjustmentProposed:
            continue
        status, checker, note = ended.pop(event.adjustment, None) or (
            AdjustmentStatus.PENDING, None, "",
        )  # fmt: skip
        row = (
            UUID(event.adjustment),
            customer_of(event.account),
            event.account,
            event.currency,
            event.amount,
            event.reason,
            event.maker,
            to_datetime(event.at),
            to_datetime(event.expires_at),
            int(status),
            checker,
            note,
            None if status is AdjustmentStatus.PENDING else at,
        )
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    if columns[0]:
        yield Statement(_PROPOSED, tuple(columns))
    if ended:
        ends = [end for end in ended.values() if end is not None]
        yield Statement(
            _ENDED,
            (
                [UUID(adjustment) for adjustment in ended],
                [int(status) for status, _, _ in ends],
                [checker for _, checker, _ in ends],
                [note for _, _, note in ends],
                at,
            ),
        )


def _end(event: Any) -> _End | None:
    kind = type(event)
    if kind is ev.AdjustmentPosted:
        return AdjustmentStatus.POSTED, event.checker, event.note
    if kind is ev.AdjustmentRefused:
        return AdjustmentStatus.REFUSED, event.checker, event.note
    if kind is ev.AdjustmentExpired:
        return AdjustmentStatus.EXPIRED, None, ""
    return None


class AdjustmentRow(msgspec.Struct, frozen=True):
    """An adjustment, with the addresses of whoever made and decided it, as far as they exist."""

    id: bytes
    customer: int
    account: int
    currency: str
    amount: int
    reason: str
    maker: int
    at: datetime
    expires_at: datetime
    status: AdjustmentStatus
    checker: int | None
    note: str
    decided_at: datetime | None
    customer_name: str
    maker_email: str
    checker_email: str

    @property
    def digest(self) -> bytes:
        """What a checker sends back, to decide this and nothing else."""
        return adjustment_digest(
            self.id, self.account, self.currency, self.amount, self.reason, self.maker,
            to_microseconds(self.expires_at),
        )  # fmt: skip


_SELECT: Final = """
SELECT a.id, a.customer, a.account, a.currency, a.amount, a.reason, a.maker, a.at, a.expires_at,
    a.status, a.checker, a.note, a.decided_at, coalesce(u.name, '') AS customer_name,
    coalesce(m.email, '') AS maker_email, coalesce(c.email, '') AS checker_email
FROM adjustments a LEFT JOIN users u ON u.id = a.customer LEFT JOIN users m ON m.id = a.maker
    LEFT JOIN users c ON c.id = a.checker"""


async def adjustments(
    database: Pool | Connection,
    *,
    status: AdjustmentStatus | None = None,
    customer: int | None = None,
    limit: int = 100,
) -> list[AdjustmentRow]:
    """Adjustments: those that wait oldest first, others newest first."""
    order = "a.at" if status is AdjustmentStatus.PENDING else "a.at DESC"
    rows = await database.fetch(
        f"{_SELECT} WHERE ($1::smallint IS NULL OR a.status = $1)"
        f" AND ($2::bigint IS NULL OR a.customer = $2) ORDER BY {order}, a.id LIMIT $3",
        None if status is None else int(status), customer, limit,
    )  # fmt: skip
    return [_row(row) for row in rows]


async def adjustment(database: Pool | Connection, number: bytes) -> AdjustmentRow | None:
    """One adjustment."""
    row = await database.fetchrow(f"{_SELECT} WHERE a.id = $1", UUID(number))
    return None if row is None else _row(row)


async def pending_adjustments(database: Pool | Connection) -> int:
    """How many wait for a decision."""
    count: int = await database.fetchval("SELECT count(*) FROM adjustments WHERE status = 1")
    return count


def _row(row: Any) -> AdjustmentRow:
    values: dict[str, Any] = dict(row)
    values.update(id=row["id"].bytes, status=AdjustmentStatus(row["status"]))
    return AdjustmentRow(**values)
