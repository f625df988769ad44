"""What customers ask about their accounts: history with filters, sorting and cursors."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

import asyncpg
import msgspec

from domain.accounts.commands import TransferStatus
from persistence.accounts.projection import (
    KIND_ADJUSTMENT,
    KIND_BONUS,
    KIND_FUNDING,
    KIND_HOLD,
    KIND_TRANSFER,
    KIND_WITHDRAWAL,
)
from persistence.cursors import CursorInvalid, read_cursor, write_cursor
from persistence.database import Connection as _Connection
from persistence.database import Pool

Connection = _Connection | Pool
"""Anything that a query can be put to."""

_KINDS: Final = {
    KIND_TRANSFER: "transfer",
    KIND_BONUS: "bonus",
    KIND_HOLD: "hold",
    KIND_FUNDING: "funding",
    KIND_WITHDRAWAL: "withdrawal",
    KIND_ADJUSTMENT: "adjustment",
}


class HistoryFilter(msgspec.Struct, frozen=True):
    """What to keep of a customer's history; ``None`` keeps all.

    Dates are aware, ``date_from`` inclusive and ``date_to`` exclusive. Amounts are minor units of
    what moved on the customer's side. ``counterparty`` is an account number, ``search`` a transfer
    id (32 hex digits, dashes allowed) or a part of the reference.
    """

    date_from: datetime | None = None
    date_to: datetime | None = None
    amount_min: int | None = None
    amount_max: int | None = None
    currency: str | None = None
    account: int | None = None
    direction: str | None = None
    counterparty: int | None = None
    status: TransferStatus | None = None
    search: str | None = None


class TransferRow(msgspec.Struct, frozen=True):
    """One transfer as stored.

    ``source`` is ``None`` when the house paid, and of what came from the brokerage;
    ``destination`` of what went there, and of an adjustment that took something away.
    """

    id: bytes
    kind: str
    source: int | None
    destination: int | None
    source_customer: int | None
    destination_customer: int | None
    amount: int
    fee: int
    currency: str
    credited: int
    credited_currency: str
    rate: int | None
    status: TransferStatus
    reason: str
    reference: str
    at: datetime
    completed_at: datetime | None
    stream: str
    seq: int

    def direction(self, customer: int) -> str:
        """``in``, ``out`` or ``own``, as the customer sees it."""
        if self.source_customer == self.destination_customer:
            return "own"
        return "out" if self.source_customer == customer else "in"


class HistoryPage(msgspec.Struct, frozen=True):
    """Rows in the order asked for, and where the next page starts (``None`` at the end)."""

    rows: list[TransferRow]
    next_cursor: str | None


async def account_currencies(connection: Connection, accounts: Iterable[int]) -> dict[int, str]:
    """The currency of each account that exists; it never changes."""
    rows = await connection.fetch(
        "SELECT id, currency FROM accounts WHERE id = ANY($1::bigint[])", list(accounts)
    )
    return {row["id"]: row["currency"] for row in rows}


_DIRECTION: Final = """CASE WHEN source_customer = destination_customer THEN 'own'
    WHEN source_customer = $1 THEN 'out' ELSE 'in' END"""

_SIDES: Final = f"""
SELECT *, {_DIRECTION} AS direction,
    CASE WHEN source_customer = $1 THEN amount ELSE credited END AS side_amount,
    CASE WHEN source_customer = $1 THEN currency ELSE credited_currency END AS side_currency,
    coalesce(CASE WHEN source_customer = $1 THEN destination ELSE source END, 0) AS counterparty
FROM (
    SELECT * FROM transfers WHERE source_customer = $1
    UNION ALL
    SELECT * FROM transfers WHERE destination_customer = $1
        AND source_customer IS DISTINCT FROM $1 AND status = 2
) AS parties"""

_SORTS: Final = {
    "date": ("at", "timestamptz"),
    "amount": ("side_amount", "bigint"),
    "currency": ("side_currency", "text"),
    "direction": ("direction", "text"),
    "counterparty": ("counterparty", "bigint"),
    "status": ("status", "smallint"),
    "fee": ("fee", "bigint"),
}
SORTS: Final = tuple(_SORTS)
"""Columns that a history can be sorted by."""


def _conditions(flt: HistoryFilter, arguments: list[Any]) -> list[str]:
    """The filter as SQL, its values appended to ``arguments``."""
    conditions: list[str] = []

    def add(sql: str, value: Any) -> None:
        if value is not None:
            arguments.append(value)
            conditions.append(sql.format(f"${len(arguments)}"))

    add("at >= {}", flt.date_from)
    add("at < {}", flt.date_to)
    add("side_amount >= {}", flt.amount_min)
    add("side_amount <= {}", flt.amount_max)
    add("{0} IN (currency, credited_currency)", flt.currency)
    add("{0} IN (source, destination)", flt.account)
    add("direction = {}", flt.direction)
    add("counterparty = {}", flt.counterparty)
    add("status = {}", None if flt.status is None else int(flt.status))
    if flt.search:
        compact = flt.search.replace("-", "").lower()
        if len(compact) == 32 and all(char in "0123456789abcdef" for char in compact):
            add("id = {}::uuid", compact)
        else:
            escaped = flt.search.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
            add("reference ILIKE {}", f"%{escaped}%")
    return conditions


async def history(
    connection: Connection,
    customer: int,
    flt: HistoryFilter,
    *,
    sort: str = "date",
    descending: bool = True,
    cursor: str | None = None,
    limit: int = 50,
) -> HistoryPage:
    """A page of the customer's transfers.

    An incoming transfer shows when it has arrived. ``sort`` is one of ``SORTS``; equal rows are
    told apart by time and id, so that pages neither repeat nor skip. Raises ``CursorInvalid``.
    """
    column, sql_type = _SORTS[sort]
    arguments: list[Any] = [customer]
    conditions = _conditions(flt, arguments)
    order = "DESC" if descending else "ASC"
    if cursor is not None:
        first = len(arguments) + 1
        arguments += read_cursor(cursor, sort, descending, (sql_type, "timestamptz", "uuid"))
        conditions.append(
            f"({column}, at, id) {'<' if descending else '>'}"
            f" (${first}::text::{sql_type}, ${first + 1}::text::timestamptz,"
            f" ${first + 2}::text::uuid)"
        )
    where = " AND ".join(conditions) or "true"
    arguments.append(limit + 1)
    sql = (
        f"SELECT *, {column}::text AS cursor_value, at::text AS cursor_at"
        f" FROM ({_SIDES}) AS sides WHERE {where}"
        f" ORDER BY {column} {order}, at {order}, id {order} LIMIT ${len(arguments)}"
    )
    try:
        rows = await connection.fetch(sql, *arguments)
    except asyncpg.DataError as error:
        if cursor is None:
            raise
        raise CursorInvalid from error
    more = len(rows) > limit
    rows = rows[:limit]
    following = None
    if more:
        last = rows[-1]
        place = last["cursor_value"], last["cursor_at"], str(last["id"])
        following = write_cursor(sort, descending, place)
    return HistoryPage([transfer_row(row) for row in rows], following)


async def transfer(connection: Connection, transfer_id: bytes, customer: int) -> TransferRow | None:
    """One transfer, if the customer is a party to it."""
    row = await connection.fetchrow(
        "SELECT * FROM transfers WHERE id = $1::uuid"
        " AND (source_customer = $2 OR destination_customer = $2 AND status = 2)",
        transfer_id.hex(),
        customer,
    )
    return None if row is None else transfer_row(row)


def transfer_row(row: asyncpg.Record) -> TransferRow:
    """A row of the table as a transfer."""
    return TransferRow(
        row["id"].bytes,
        _KINDS[row["kind"]],
        row["source"],
        row["destination"],
        row["source_customer"],
        row["destination_customer"],
        row["amount"],
        row["fee"],
        row["currency"],
        row["credited"],
        row["credited_currency"],
        row["rate"],
        TransferStatus(row["status"]),
        row["reason"],
        row["reference"],
        row["at"],
        row["completed_at"],
        row["stream"],
        row["seq"],
    )


async def has_accounts(connection: Connection, customer: int) -> bool:
    """Whether the customer has ever had an account."""
    found: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM accounts WHERE customer = $1)", customer
    )
    return found
