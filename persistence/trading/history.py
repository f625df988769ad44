"""What customers ask about their own trading: orders and fills of the past.

Written by the projector, so a moment behind; what is open and what ended just now is answered by
the customer's entity. Prices are ticks, quantities lots, times microseconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import asyncpg
import msgspec

from domain.accounts.trading import OrderReport
from domain.orders import Fill, OrderStatus, OrderType, SelfTrade, Side, TimeInForce
from persistence.cursors import CursorInvalid, read_cursor, write_cursor
from persistence.database import Connection, Pool
from persistence.journal import to_datetime, to_microseconds

Database = Connection | Pool

OPEN: Final = (OrderStatus.PENDING, OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED)


class OrderRow(msgspec.Struct, frozen=True):
    """An order of the past. ``fee`` is the sum of its fills' fees, in the asset received.

    ``life`` is each status that it has had, with its time.
    """

    customer: int
    fee: int
    report: OrderReport
    life: tuple[tuple[OrderStatus, int], ...]


class FillRow(msgspec.Struct, frozen=True):
    """A trade as one side sees it; ``ref`` is that side's order, ``fee`` of the asset received."""

    symbol: str
    trade: int
    ref: int
    side: Side
    price: int
    quantity: int
    fee: int
    maker: bool
    at: int


class OrderFilter(msgspec.Struct, frozen=True):
    """What to keep of a customer's orders; ``None`` keeps all.

    Dates are aware, of the placing, ``date_from`` inclusive and ``date_to`` exclusive. ``search``
    is an order's number or the beginning of the client's id for it.
    """

    symbol: str | None = None
    side: Side | None = None
    type: OrderType | None = None
    statuses: Sequence[OrderStatus] | None = None
    date_from: datetime | None = None
    date_to: datetime | None = None
    search: str | None = None


class FillFilter(msgspec.Struct, frozen=True):
    """What to keep of a customer's fills; ``None`` keeps all. ``order`` is an order's number."""

    symbol: str | None = None
    side: Side | None = None
    maker: bool | None = None
    date_from: datetime | None = None
    date_to: datetime | None = None
    order: int | None = None


class OrderPage(msgspec.Struct, frozen=True):
    """Rows in the order asked for, and where the next page starts (``None`` at the end)."""

    rows: list[OrderRow]
    next_cursor: str | None


class FillPage(msgspec.Struct, frozen=True):
    """Rows in the order asked for, and where the next page starts (``None`` at the end)."""

    rows: list[FillRow]
    next_cursor: str | None


def _report(row: asyncpg.Record, fills: tuple[Fill, ...] = ()) -> OrderReport:
    return OrderReport(
        row["ref"],
        row["client"],
        row["symbol"],
        Side(row["side"]),
        OrderType(row["type"]),
        TimeInForce(row["time_in_force"]),
        row["price"],
        row["quantity"],
        row["trigger"],
        row["display"],
        SelfTrade(row["self_trade"]),
        OrderStatus(row["status"]),
        row["filled"],
        row["quote"],
        fills,
        row["code"],
        to_microseconds(row["placed_at"]),
        to_microseconds(row["updated_at"]),
        row["previous"],
        row["budget"],
        to_microseconds(row["expires_at"]) if row["expires_at"] else 0,
    )


def _order_row(row: asyncpg.Record) -> OrderRow:
    life = row["life"]
    pairs = zip(life[::2], life[1::2], strict=True)
    return OrderRow(
        row["customer"],
        row["fee"],
        _report(row),
        tuple((OrderStatus(status), at) for status, at in pairs),
    )


def _fill_row(row: asyncpg.Record) -> FillRow:
    return FillRow(
        row["symbol"], row["trade"], row["ref"], Side(row["side"]), row["price"], row["quantity"],
        row["fee"], row["maker"], to_microseconds(row["at"]),
    )  # fmt: skip


class _Where:
    """Conditions with their values, numbered as they come."""

    def __init__(self, *values: Any) -> None:
        self.values: list[Any] = list(values)
        self.conditions: list[str] = []

    def add(self, sql: str, value: Any) -> None:
        """Add a condition on a value, unless that is ``None``."""
        if value is not None:
            self.values.append(value)
            self.conditions.append(sql.format(f"${len(self.values)}"))

    @property
    def sql(self) -> str:
        """All of them together."""
        return " AND ".join(self.conditions) or "true"


# -- for programs -----------------------------------------------------------------------------


async def order(
    database: Database, customer: int, *, ref: int = 0, client: str = "", symbol: str = ""
) -> OrderRow | None:
    """One order, by its number or else the last with this client's id."""
    where = _Where(customer)
    where.add("ref = {}", ref or None)
    where.add("client = {}", None if ref else client)
    where.add("symbol = {}", symbol or None)
    row = await database.fetchrow(
        f"SELECT * FROM orders WHERE customer = $1 AND {where.sql} ORDER BY ref DESC LIMIT 1",
        *where.values,
    )
    return None if row is None else _order_row(row)


async def all_orders(
    database: Database,
    customer: int,
    symbol: str,
    *,
    from_ref: int | None = None,
    start: int | None = None,
    end: int | None = None,
    limit: int = 500,
) -> list[OrderReport]:
    """Orders of an instrument, the oldest first: from a number or time on, or else the latest."""
    where = _Where(customer, symbol)
    where.add("ref >= {}", from_ref)
    where.add("placed_at >= {}", None if start is None else to_datetime(start))
    where.add("placed_at <= {}", None if end is None else to_datetime(end))
    latest = from_ref is None and start is None
    rows = await database.fetch(
        f"SELECT * FROM orders WHERE customer = $1 AND symbol = $2 AND {where.sql}"
        f" ORDER BY ref {'DESC' if latest else 'ASC'} LIMIT {int(limit)}",
        *where.values,
    )
    return [_report(row) for row in (rows[::-1] if latest else rows)]


async def own_trades(
    database: Database,
    customer: int,
    symbol: str,
    *,
    order: int | None = None,
    from_id: int | None = None,
    start: int | None = None,
    end: int | None = None,
    limit: int = 500,
) -> list[FillRow]:
    """A customer's trades in an instrument, the oldest first: from an id or a time, or the latest.

    Of a trade with oneself there are two rows.
    """
    where = _Where(customer, symbol)
    where.add("ref = {}", order)
    where.add("trade >= {}", from_id)
    where.add("at >= {}", None if start is None else to_datetime(start))
    where.add("at <= {}", None if end is None else to_datetime(end))
    latest = from_id is None and start is None
    way = "DESC" if latest else "ASC"
    rows = await database.fetch(
        f"SELECT * FROM fills WHERE customer = $1 AND symbol = $2 AND {where.sql}"
        f" ORDER BY trade {way}, ref {way} LIMIT {int(limit)}",
        *where.values,
    )
    return [_fill_row(row) for row in (rows[::-1] if latest else rows)]


async def fills_of(
    database: Database, customer: int, ref: int, limit: int = 1_000
) -> list[FillRow]:
    """The fills of one order, the oldest first."""
    rows = await database.fetch(
        "SELECT * FROM fills WHERE customer = $1 AND ref = $2 ORDER BY trade LIMIT $3",
        customer,
        ref,
        limit,
    )
    return [_fill_row(row) for row in rows]


# -- pages ------------------------------------------------------------------------------------

_ORDER_SORTS: Final = {
    "date": ("ref", "bigint"),
    "symbol": ("symbol", "text"),
    "side": ("side", "smallint"),
    "type": ("type", "smallint"),
    "status": ("status", "smallint"),
    "price": ("price", "bigint"),
    "quantity": ("quantity", "bigint"),
    "filled": ("filled", "bigint"),
    "updated": ("updated_at", "timestamptz"),
}
_FILL_SORTS: Final = {
    "date": ("at", "timestamptz"),
    "symbol": ("symbol", "text"),
    "side": ("side", "smallint"),
    "price": ("price", "bigint"),
    "quantity": ("quantity", "bigint"),
    "fee": ("fee", "bigint"),
}
ORDER_SORTS: Final = tuple(_ORDER_SORTS)
"""Columns that orders can be sorted by; a customer's orders are numbered as they are placed."""
FILL_SORTS: Final = tuple(_FILL_SORTS)
"""Columns that fills can be sorted by."""


async def orders_page(
    database: Database,
    customer: int,
    flt: OrderFilter,
    *,
    sort: str = "date",
    descending: bool = True,
    cursor: str | None = None,
    limit: int = 50,
) -> OrderPage:
    """A page of the customer's orders. Raises ``CursorInvalid``."""
    where = _Where(customer)
    where.add("symbol = {}", flt.symbol)
    where.add("side = {}", flt.side)
    where.add("type = {}", flt.type)
    where.add("status = ANY({}::smallint[])", None if flt.statuses is None else list(flt.statuses))
    where.add("placed_at >= {}", flt.date_from)
    where.add("placed_at < {}", flt.date_to)
    if flt.search and flt.search.isascii() and flt.search.isdigit() and len(flt.search) < 19:
        where.add("(ref = {0} OR starts_with(client, {0}::bigint::text))", int(flt.search))
    elif flt.search:
        where.add("starts_with(client, {})", flt.search)
    column, kind = _ORDER_SORTS[sort]
    rows, following = await _page(
        database, "orders", where, (column, "ref"), (kind, "bigint"), sort, descending, cursor,
        limit,
    )  # fmt: skip
    return OrderPage([_order_row(row) for row in rows], following)


async def fills_page(
    database: Database,
    customer: int,
    flt: FillFilter,
    *,
    sort: str = "date",
    descending: bool = True,
    cursor: str | None = None,
    limit: int = 50,
) -> FillPage:
    """A page of the customer's fills. Raises ``CursorInvalid``."""
    where = _Where(customer)
    where.add("symbol = {}", flt.symbol)
    where.add("side = {}", flt.side)
    where.add("maker = {}", flt.maker)
    where.add("ref = {}", flt.order)
    where.add("at >= {}", flt.date_from)
    where.add("at < {}", flt.date_to)
    column, kind = _FILL_SORTS[sort]
    rows, following = await _page(
        database, "fills", where, (column, "ref", "trade"), (kind, "bigint", "bigint"), sort,
        descending, cursor, limit,
    )  # fmt: skip
    return FillPage([_fill_row(row) for row in rows], following)


async def _page(
    database: Database,
    table: str,
    where: _Where,
    columns: Sequence[str],
    kinds: Sequence[str],
    sort: str,
    descending: bool,
    cursor: str | None,
    limit: int,
) -> tuple[list[asyncpg.Record], str | None]:
    """Rows after the cursor; ``columns`` tell any two rows apart."""
    if cursor is not None:
        values = read_cursor(cursor, sort, descending, kinds)
        first = len(where.values) + 1
        where.values += values
        places = ", ".join(f"${first + index}::text::{kind}" for index, kind in enumerate(kinds))
        sign = "<" if descending else ">"
        where.conditions.append(f"({', '.join(columns)}) {sign} ({places})")
    way = "DESC" if descending else "ASC"
    order_by = ", ".join(f"{column} {way}" for column in columns)
    texts = ", ".join(f"{column}::text" for column in columns)
    where.values.append(limit + 1)
    try:
        rows = await database.fetch(
            f"SELECT *, ARRAY[{texts}] AS place FROM {table} WHERE customer = $1 AND {where.sql}"
            f" ORDER BY {order_by} LIMIT ${len(where.values)}",
            *where.values,
        )
    except asyncpg.DataError as error:
        if cursor is None:
            raise
        raise CursorInvalid from error
    if len(rows) <= limit:
        return rows, None
    rows = rows[:limit]
    return rows, write_cursor(sort, descending, rows[-1]["place"])
