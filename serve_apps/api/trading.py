"""Operations on a customer's trading of the past: orders and fills, as pages and as CSV.

Orders are placed and open ones read through the trading dialect; this is what the projector wrote,
a moment behind.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, TypeVar

import msgspec

from domain.durable import Rejection
from domain.orders import OrderStatus, OrderType, SelfTrade, Side, TimeInForce
from persistence.cursors import CursorInvalid
from persistence.trading import history
from persistence.trading.catalogue import Instrument
from persistence.trading.history import FillFilter, FillRow, OrderFilter, OrderRow
from serve_apps.accounts import refuse, time_text
from serve_apps.api.routing import Answer, Call, Operation, Outcome, Parameter
from serve_apps.exchange.numbers import asset_text, step_text
from serve_apps.services import Services

LIMIT_MAX: Final = 500
EXPORT_CHUNK: Final = 1_000
EXPORT_MAX: Final = 50_000
"""The most rows of an export; what is older is had by dates."""

STATUSES: Final[Mapping[str, tuple[OrderStatus, ...]]] = {
    "open": history.OPEN,
    "filled": (OrderStatus.FILLED,),
    "canceled": (OrderStatus.CANCELED,),
    "rejected": (OrderStatus.REJECTED,),
    "expired": (OrderStatus.EXPIRED, OrderStatus.EXPIRED_IN_MATCH),
}
_SIDES: Final = {side.name.lower(): side for side in Side}
_TYPES: Final = {kind.name.lower(): kind for kind in OrderType}
_ROLES: Final = {"maker": True, "taker": False}
_SEARCH_MAX: Final = 36

T = TypeVar("T")


class OrderBody(msgspec.Struct):
    """An order. ``turnover`` and prices are in the quote asset, ``fee`` is in ``fee_asset``.

    ``price``, ``trigger`` and ``average`` are null where there is none. ``reason`` is the code of
    a refusal.
    """

    id: str
    client_id: str
    symbol: str
    side: str
    type: str
    time_in_force: str
    status: str
    price: str | None
    trigger: str | None
    quantity: str
    filled: str
    average: str | None
    turnover: str
    fee: str
    fee_asset: str
    self_trade: str
    reason: str
    placed_at: str
    updated_at: str
    expires_at: str | None
    replaces: str


class FillBody(msgspec.Struct):
    """A trade as one side of it; ``fee`` is in the asset received, ``fee_asset``."""

    trade: str
    order: str
    symbol: str
    side: str
    role: str
    price: str
    quantity: str
    turnover: str
    fee: str
    fee_asset: str
    at: str


class StageBody(msgspec.Struct):
    """A status that the order has had, from ``at`` on."""

    status: str
    at: str


class OrderDetailBody(OrderBody):
    """An order with its life and its fills, the oldest first."""

    life: list[StageBody] = []
    fills: list[FillBody] = []


class OrdersBody(msgspec.Struct):
    """A page of orders; ask again with ``cursor`` for the next, null at the end."""

    orders: list[OrderBody]
    next_cursor: str | None


class FillsBody(msgspec.Struct):
    """A page of fills; ask again with ``cursor`` for the next, null at the end."""

    fills: list[FillBody]
    next_cursor: str | None


# -- rows as text -----------------------------------------------------------------------------


def _received(row: Instrument, side: Side) -> str:
    return row.base if side == Side.BUY else row.quote


def order_body(order: OrderRow, row: Instrument) -> OrderBody:
    """An order for its owner."""
    report = order.report
    average = None
    if report.filled:
        average = asset_text(report.quote * row.tick // report.filled)

    def price(ticks: int) -> str | None:
        return step_text(ticks * row.tick, row.tick) if ticks else None

    return OrderBody(
        str(report.ref),
        report.client,
        report.symbol,
        report.side.name.lower(),
        report.type.name.lower(),
        TimeInForce(report.time_in_force).name.lower(),
        report.status.name.lower(),
        price(report.price),
        price(report.trigger),
        step_text(report.quantity * row.lot, row.lot),
        step_text(report.filled * row.lot, row.lot),
        average,
        asset_text(report.quote * row.unit),
        asset_text(order.fee),
        _received(row, report.side),
        SelfTrade(report.self_trade).name.lower(),
        report.code,
        time_text(report.placed_at),
        time_text(report.updated_at),
        time_text(report.expires_at) if report.expires_at else None,
        report.previous,
    )


def fill_body(fill: FillRow, row: Instrument) -> FillBody:
    """A fill for its owner."""
    return FillBody(
        str(fill.trade),
        str(fill.ref),
        fill.symbol,
        fill.side.name.lower(),
        "maker" if fill.maker else "taker",
        step_text(fill.price * row.tick, row.tick),
        step_text(fill.quantity * row.lot, row.lot),
        asset_text(fill.price * fill.quantity * row.unit),
        asset_text(fill.fee),
        _received(row, fill.side),
        time_text(fill.at),
    )


async def _orders(services: Services, rows: Sequence[OrderRow]) -> list[OrderBody]:
    return [order_body(row, await _listed(services, row.report.symbol)) for row in rows]


async def _fills(services: Services, rows: Sequence[FillRow]) -> list[FillBody]:
    return [fill_body(row, await _listed(services, row.symbol)) for row in rows]


async def _listed(services: Services, symbol: str) -> Instrument:
    row = await services.catalogue.find(symbol)
    assert row is not None  # nothing was ever ordered but of what was listed
    return row


# -- what is asked ----------------------------------------------------------------------------


class _Asked(msgspec.Struct, frozen=True):
    """Filters, sorting and paging of a query."""

    flt: Any
    sort: str
    descending: bool
    cursor: str | None
    limit: int


def _moment(text: str, whole_day: timedelta) -> datetime:
    if len(text) == 10:
        day = date.fromisoformat(text)
        at = datetime(day.year, day.month, day.day, tzinfo=UTC) + whole_day
    else:
        at = datetime.fromisoformat(text)
    if not 1900 < at.year < 9000:
        raise ValueError(text)
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _symbol(text: str) -> str:
    if not (text.isascii() and text.isalnum() and len(text) <= 20):
        raise ValueError(text)
    return text.upper()


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ValueError(text)
    return int(text)


def _search(text: str) -> str:
    if len(text) > _SEARCH_MAX or not text.isprintable():
        raise ValueError(text)
    return text


_DATES: Final[dict[str, tuple[str, Callable[[str], Any]]]] = {
    "from_date": ("date_from", lambda text: _moment(text, timedelta())),
    "to_date": ("date_to", lambda text: _moment(text, timedelta(days=1))),
}
_ORDER_FILTERS: Final[dict[str, tuple[str, Callable[[str], Any]]]] = {
    "symbol": ("symbol", _symbol),
    "side": ("side", _SIDES.__getitem__),
    "type": ("type", _TYPES.__getitem__),
    "status": ("statuses", STATUSES.__getitem__),
    **_DATES,
    "q": ("search", _search),
}
_FILL_FILTERS: Final[dict[str, tuple[str, Callable[[str], Any]]]] = {
    "symbol": ("symbol", _symbol),
    "side": ("side", _SIDES.__getitem__),
    "role": ("maker", _ROLES.__getitem__),
    "order": ("order", _number),
    **_DATES,
}
_PAGING: Final = ("sort", "cursor", "limit")


def _read(
    call: Call,
    filters: Mapping[str, tuple[str, Callable[[str], Any]]],
    make: Callable[..., Any],
    sorts: Sequence[str],
) -> _Asked | Rejection:
    """What a query asks for; empty values filter nothing."""
    values = call.query((*filters, *_PAGING))
    if isinstance(values, Rejection):
        return values
    found: dict[str, Any] = {}
    name = "sort"
    sort = values.get(name, "") or "-date"
    try:
        if sort.removeprefix("-") not in sorts:
            raise ValueError(sort)
        for name, (field, read) in filters.items():
            if text := values.get(name, "").strip():
                found[field] = read(text)
        name = "limit"
        limit = _number(values.get(name, "") or "50")
        if not 1 <= limit <= LIMIT_MAX:
            raise ValueError(limit)
    except (ValueError, KeyError, OverflowError):
        return refuse("malformed_query", parameter=name)
    return _Asked(
        make(**found),
        sort.removeprefix("-"),
        sort.startswith("-"),
        values.get("cursor") or None,
        limit,
    )


def _asked_orders(call: Call) -> _Asked | Rejection:
    return _read(call, _ORDER_FILTERS, OrderFilter, history.ORDER_SORTS)


def _asked_fills(call: Call) -> _Asked | Rejection:
    return _read(call, _FILL_FILTERS, FillFilter, history.FILL_SORTS)


Page = Callable[..., Awaitable[Any]]


async def _page(call: Call, asked: _Asked, page: Page, cursor: str | None, limit: int) -> Any:
    return await page(
        call.services.pool, call.user, asked.flt,
        sort=asked.sort, descending=asked.descending, cursor=cursor, limit=limit,
    )  # fmt: skip


async def orders(call: Call) -> Outcome:
    """A page of orders."""
    asked = _asked_orders(call)
    if isinstance(asked, Rejection):
        return asked
    try:
        page = await _page(call, asked, history.orders_page, asked.cursor, asked.limit)
    except CursorInvalid:
        return Rejection("cursor_invalid")
    return Answer(OrdersBody(await _orders(call.services, page.rows), page.next_cursor))


async def fills(call: Call) -> Outcome:
    """A page of fills."""
    asked = _asked_fills(call)
    if isinstance(asked, Rejection):
        return asked
    try:
        page = await _page(call, asked, history.fills_page, asked.cursor, asked.limit)
    except CursorInvalid:
        return Rejection("cursor_invalid")
    return Answer(FillsBody(await _fills(call.services, page.rows), page.next_cursor))


async def order(call: Call) -> Outcome:
    """One order, with its life and its fills."""
    try:
        number = _number(call.params["order"])
    except ValueError:
        return Rejection("not_found")
    services = call.services
    row = await history.order(services.pool, call.user, ref=number) if number else None
    if row is None:
        return Rejection("not_found")
    instrument = await _listed(services, row.report.symbol)
    body = OrderDetailBody(*msgspec.structs.astuple(order_body(row, instrument)))
    body.life = [StageBody(status.name.lower(), time_text(at)) for status, at in row.life]
    traded = await history.fills_of(services.pool, call.user, number)
    body.fills = [fill_body(fill, instrument) for fill in traded]
    return Answer(body)


# -- export -----------------------------------------------------------------------------------

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def _csv(kind: type, bodies: Iterable[Any]) -> bytes:
    """Rows with a heading; nothing in them is taken for a formula by a spreadsheet."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(kind.__struct_fields__)  # type: ignore[attr-defined]
    for body in bodies:
        cells = ["" if cell is None else cell for cell in msgspec.structs.astuple(body)]
        writer.writerow(f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in cells)
    return out.getvalue().encode()


async def _export(
    call: Call,
    asked: _Asked | Rejection,
    page: Page,
    kind: type,
    bodies: Callable[[Services, Sequence[Any]], Awaitable[list[Any]]],
) -> Outcome:
    if isinstance(asked, Rejection):
        return asked
    rows: list[Any] = []
    cursor = asked.cursor
    try:
        while len(rows) < EXPORT_MAX:
            found = await _page(call, asked, page, cursor, EXPORT_CHUNK)
            rows += await bodies(call.services, found.rows)
            cursor = found.next_cursor
            if cursor is None:
                break
    except CursorInvalid:
        return Rejection("cursor_invalid")
    name = "orders" if kind is OrderBody else "fills"
    headers = [(b"content-disposition", f'attachment; filename="{name}.csv"'.encode())]
    return Answer(_csv(kind, rows), headers=headers, content_type=b"text/csv; charset=utf-8")


async def export_orders(call: Call) -> Outcome:
    """All orders that the filters keep."""
    return await _export(call, _asked_orders(call), history.orders_page, OrderBody, _orders)


async def export_fills(call: Call) -> Outcome:
    """All fills that the filters keep."""
    return await _export(call, _asked_fills(call), history.fills_page, FillBody, _fills)


_FILL: Final[dict[str, Any]] = {
    "trade": "901",
    "order": "17",
    "symbol": "BTCUSD",
    "side": "buy",
    "role": "taker",
    "price": "64250.10",
    "quantity": "0.01000",
    "turnover": "642.50100000",
    "fee": "0.00001000",
    "fee_asset": "BTC",
    "at": "2026-11-20T09:30:00.125000Z",
}
_ORDER: Final[dict[str, Any]] = {
    "id": "17",
    "client_id": "mine-17",
    "symbol": "BTCUSD",
    "side": "buy",
    "type": "limit",
    "time_in_force": "gtc",
    "status": "partially_filled",
    "price": "64250.10",
    "trigger": None,
    "quantity": "0.02000",
    "filled": "0.01000",
    "average": "64250.10000000",
    "turnover": "642.50100000",
    "fee": "0.00001000",
    "fee_asset": "BTC",
    "self_trade": "none",
    "reason": "",
    "placed_at": "2026-11-20T09:30:00.125000Z",
    "updated_at": "2026-11-20T09:30:00.125000Z",
    "expires_at": None,
    "replaces": "",
}
_STAGES: Final = [
    {"status": "pending", "at": "2026-11-20T09:30:00.120000Z"},
    {"status": "partially_filled", "at": "2026-11-20T09:30:00.125000Z"},
]


def _sorting(columns: Sequence[str]) -> str:
    return f"One of {', '.join(columns)}; with `-` in front for descending"


_BOTH: Final = (
    Parameter("symbol", "Instrument", "BTCUSD"),
    Parameter("side", "", choices=tuple(_SIDES)),
    Parameter("from_date", "First day, or RFC 3339 time", "2026-11-01"),
    Parameter("to_date", "Last day, or RFC 3339 time before which", "2026-11-30"),
    Parameter("cursor", "From the page before"),
    Parameter("limit", f"Rows, at most {LIMIT_MAX}", "50"),
)
_ORDER_PARAMETERS: Final = (
    *_BOTH,
    Parameter("type", "", choices=tuple(_TYPES)),
    Parameter("status", "", choices=tuple(STATUSES)),
    Parameter("q", "An order's number, or the beginning of your own id for it"),
    Parameter("sort", _sorting(history.ORDER_SORTS), "-date"),
)
_FILL_PARAMETERS: Final = (
    *_BOTH,
    Parameter("role", "", choices=tuple(_ROLES)),
    Parameter("order", "An order's number", "17"),
    Parameter("sort", _sorting(history.FILL_SORTS), "-date"),
)
_CODES: Final = ("malformed_query", "cursor_invalid")


def _read_operation(name: str, path: str, handler: Any, summary: str, **more: Any) -> Operation:
    return Operation(
        name=name,
        method="GET",
        path=f"/api/user/{{user}}/{path}",
        handler=handler,
        summary=summary,
        tag="Trading history",
        **{"codes": _CODES, **more},
    )


_EXPORT: Final = f"The newest {EXPORT_MAX:,} rows that the filters keep, unless sorted otherwise."

OPERATIONS: Final = (
    _read_operation(
        "list_orders", "order/", orders, "Orders", parameters=_ORDER_PARAMETERS,
        answer=OrdersBody, answer_example={"orders": [_ORDER], "next_cursor": None},
    ),
    _read_operation(
        "export_orders", "order/export.csv", export_orders, "Orders as CSV",
        parameters=_ORDER_PARAMETERS, description=_EXPORT, answer=str,
        answer_example=f"{','.join(OrderBody.__struct_fields__)}\r\n", answer_type="text/csv",
    ),
    _read_operation(
        "show_order", "order/{order}/", order, "One order", codes=(), answer=OrderDetailBody,
        answer_example={**_ORDER, "life": _STAGES, "fills": [_FILL]},
    ),
    _read_operation(
        "list_fills", "fill/", fills, "Fills", parameters=_FILL_PARAMETERS,
        answer=FillsBody, answer_example={"fills": [_FILL], "next_cursor": None},
    ),
    _read_operation(
        "export_fills", "fill/export.csv", export_fills, "Fills as CSV",
        parameters=_FILL_PARAMETERS, description=_EXPORT, answer=str,
        answer_example=f"{','.join(FillBody.__struct_fields__)}\r\n", answer_type="text/csv",
    ),
)  # fmt: skip
