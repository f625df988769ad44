"""Orders and fills of the past: filters in the URL, sorting, pages by cursor, export as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from starlette.responses import Response, StreamingResponse

from domain.orders import UNIT, OrderStatus, OrderType, Side
from persistence.cursors import CursorInvalid
from persistence.trading.catalogue import Instrument
from persistence.trading.history import (
    FILL_SORTS,
    OPEN,
    ORDER_SORTS,
    FillFilter,
    FillPage,
    FillRow,
    OrderFilter,
    OrderPage,
    OrderRow,
    fills_page,
    orders_page,
)
from serve_apps.pages import sorted_list
from serve_apps.pages.exchange.figures import (
    SIDE_WORDS,
    TYPE_WORDS,
    price,
    quantity,
    units_text,
)
from serve_apps.pages.sorted_list import Column, address, headings
from serve_apps.pages.visit import Refused, Visit
from serve_apps.services import Services
from serve_apps.trading import SIDES, TYPES

PAGE_ROWS: Final = 25
EXPORT_CHUNK: Final = 500
EXPORT_CHUNKS_MAX: Final = 400
STATES: Final[Mapping[str, tuple[str, tuple[OrderStatus, ...]]]] = {
    "open": ("Open", OPEN),
    "filled": ("Filled", (OrderStatus.FILLED,)),
    "cancelled": ("Cancelled", (OrderStatus.CANCELED,)),
    "expired": ("Expired", (OrderStatus.EXPIRED, OrderStatus.EXPIRED_IN_MATCH)),
    "refused": ("Refused", (OrderStatus.REJECTED,)),
}
_ROLES: Final = {"maker": ("Maker", True), "taker": ("Taker", False)}
_WORDS: Final = {
    "q": "The search",
    "symbol": "The instrument",
    "side": "The side",
    "type": "The type",
    "status": "The state",
    "role": "The role",
    "from_date": "The first day",
    "to_date": "The last day",
    "sort": "The order",
}

_SORTED: Final = {
    "-date": "Newest first",
    "date": "Oldest first",
    "-price": "Highest price first",
    "price": "Lowest price first",
    "-quantity": "Largest first",
    "quantity": "Smallest first",
}

Page = OrderPage | FillPage


class Kind(msgspec.Struct, frozen=True):
    """What differs between the two lists. ``orders`` are the words for what they are sorted by."""

    name: str
    title: str
    template: str
    filters: tuple[str, ...]
    sorts: tuple[str, ...]
    columns: tuple[Column, ...]
    orders: Mapping[str, str]
    header: tuple[str, ...]


ORDERS: Final = Kind(
    "orders",
    "Orders",
    "exchange/orders.html",
    ("q", "symbol", "side", "type", "status", "from_date", "to_date"),
    ORDER_SORTS,
    (
        ("date", "Placed", "start"),
        ("symbol", "Instrument", "start"),
        ("type", "Type", "start"),
        ("side", "Side", "start"),
        ("price", "Price", "end"),
        ("quantity", "Quantity", "end"),
        ("filled", "Filled", "end"),
        ("status", "State", "start"),
    ),
    {
        **_SORTED,
        "-filled": "Most filled first",
        "symbol": "By instrument",
        "type": "By type",
        "side": "By side",
        "status": "By state",
    },
    (
        "id", "client_id", "placed", "updated", "symbol", "side", "type", "time_in_force", "status",
        "price", "trigger", "quantity", "filled", "value", "quote", "fee", "fee_asset",
    ),
)  # fmt: skip
FILLS: Final = Kind(
    "fills",
    "Fills",
    "exchange/fills.html",
    ("symbol", "side", "role", "from_date", "to_date"),
    FILL_SORTS,
    (
        ("date", "Time", "start"),
        ("symbol", "Instrument", "start"),
        ("side", "Side", "start"),
        ("price", "Price", "end"),
        ("quantity", "Quantity", "end"),
        ("fee", "Fee", "end"),
    ),
    {
        **_SORTED,
        "-fee": "Highest fee first",
        "symbol": "By instrument",
        "side": "By side",
    },
    (
        "trade", "order", "time", "symbol", "side", "role", "price", "quantity", "value", "quote",
        "fee", "fee_asset",
    ),
)  # fmt: skip


class Unreadable(Exception):
    """A parameter that is none of ours."""


async def orders(visit: Visit) -> Response:
    """A page of the orders."""
    return await _show(visit, ORDERS)


async def fills(visit: Visit) -> Response:
    """A page of the fills."""
    return await _show(visit, FILLS)


async def export_orders(visit: Visit) -> Response:
    """All orders that the filters keep."""
    return await _export(visit, ORDERS)


async def export_fills(visit: Visit) -> Response:
    """All fills that the filters keep."""
    return await _export(visit, FILLS)


def _given(kind: Kind, query: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name in kind.filters if (text := query.get(name, "").strip()[:80])}


def _sort(kind: Kind, query: Mapping[str, str]) -> tuple[str, bool]:
    text = query.get("sort", "") or "-date"
    sort = text.removeprefix("-")
    if sort not in kind.sorts:
        raise Unreadable("sort")
    return sort, text.startswith("-")


def _chosen(given: Mapping[str, str], name: str, choices: Mapping[str, Any]) -> Any:
    text = given.get(name)
    if text is None:
        return None
    if text not in choices:
        raise Unreadable(name)
    return choices[text]


def _day(given: Mapping[str, str], name: str, later: timedelta = timedelta()) -> datetime | None:
    text = given.get(name)
    if text is None:
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC) + later
    except (ValueError, OverflowError):
        raise Unreadable(name) from None


async def _read(
    services: Services,
    user: int,
    kind: Kind,
    given: Mapping[str, str],
    sort: tuple[str, bool],
    cursor: str | None,
    limit: int,
) -> Page:
    """A page. Raises ``Unreadable`` and ``CursorInvalid``."""
    symbol, side = given.get("symbol"), _chosen(given, "side", SIDES)
    since, until = _day(given, "from_date"), _day(given, "to_date", timedelta(days=1))
    order = {"sort": sort[0], "descending": sort[1], "cursor": cursor, "limit": limit}
    if kind is FILLS:
        role = _chosen(given, "role", _ROLES)
        wanted = FillFilter(symbol, side, role[1] if role else None, since, until)
        return await fills_page(services.pool, user, wanted, **order)  # type: ignore[arg-type]
    state = _chosen(given, "status", STATES)
    flt = OrderFilter(
        symbol, side, _chosen(given, "type", TYPES), state[1] if state else None, since, until,
        given.get("q"),
    )  # fmt: skip
    return await orders_page(services.pool, user, flt, **order)  # type: ignore[arg-type]


async def _show(visit: Visit, kind: Kind) -> Response:
    given, base = _given(kind, visit.query), f"{visit.home}{kind.name}/"
    error, status, page = "", 200, None
    sort, descending = "date", True
    try:
        sort, descending = _sort(kind, visit.query)
        page = await _read(
            visit.services, visit.user, kind, given, (sort, descending),
            visit.query.get("cursor") or None, PAGE_ROWS,
        )  # fmt: skip
    except Unreadable as unreadable:
        error = f"{_WORDS[str(unreadable)]} cannot be read. Correct it to see your {kind.name}."
        status = 422
    except CursorInvalid:
        return visit.go(base, **given)
    order = ("-" if descending else "") + sort
    following = page.next_cursor if page else None
    current = address(base, given, sort=order, cursor=visit.query.get("cursor", ""))
    response = visit.page(
        kind.template,
        status,
        kind=kind,
        given=given,
        order=order,
        error=error,
        rows=await _lines(visit.services, page.rows if page else ()),
        instruments=visit.services.catalogue.all(),
        sides=[(name, SIDE_WORDS[side]) for name, side in SIDES.items()],
        types=[(name, TYPE_WORDS[each]) for name, each in TYPES.items()],
        states=[(name, words) for name, (words, _) in STATES.items()],
        roles=[(name, words) for name, (words, _) in _ROLES.items()],
        chips=_chips(base, given, order),
        columns=headings(kind.columns, base, given, sort, descending),
        orders=sorted_list.orders(kind.orders, order),
        current_url=current,
        next_url=address(base, given, sort=order, cursor=following) if following else "",
        first_url=address(base, given, sort=order) if visit.query.get("cursor") else "",
        export_url=address(f"{base}export.csv", given, sort=order),
    )
    asked = visit.request.url
    if visit.by_htmx and current != (f"{asked.path}?{asked.query}" if asked.query else asked.path):
        response.headers["HX-Push-Url"] = current
    return response


async def _lines(
    services: Services, rows: Sequence[OrderRow | FillRow]
) -> list[tuple[Any, Instrument]]:
    """The rows with their instruments; one that is not known any more is left out."""
    found = []
    for row in rows:
        symbol = row.report.symbol if isinstance(row, OrderRow) else row.symbol
        instrument = await services.catalogue.find(symbol)
        if instrument is not None:
            found.append((row.report if isinstance(row, OrderRow) else row, instrument))
    return found


def _chips(base: str, given: Mapping[str, str], order: str) -> list[tuple[str, str]]:
    """Each filter in words, with the address that leaves it out."""
    words: dict[str, Callable[[str], str]] = {
        "q": lambda text: f"\u201c{text}\u201d",
        "from_date": lambda text: f"From {text}",
        "to_date": lambda text: f"Until {text}",
        "side": lambda text: text.title(),
        "type": lambda text: TYPE_WORDS[TYPES[text]] if text in TYPES else text,
        "status": lambda text: STATES[text][0] if text in STATES else text,
        "role": lambda text: _ROLES[text][0] if text in _ROLES else text,
        "symbol": lambda text: text,
    }
    result = []
    for name, value in given.items():
        rest = {other: text for other, text in given.items() if other != name}
        result.append((words[name](value), address(base, rest, sort=order)))
    return result


async def _export(visit: Visit, kind: Kind) -> Response:
    given = _given(kind, visit.query)
    try:
        sort = _sort(kind, visit.query)
        first = await _read(visit.services, visit.user, kind, given, sort, None, EXPORT_CHUNK)
    except Unreadable:
        raise Refused(422) from None
    name = f"kontor-{kind.name}-{visit.services.now():%Y-%m-%d}.csv"
    return StreamingResponse(
        _csv_lines(visit, kind, given, sort, first),
        media_type="text/csv; charset=utf-8",
        headers={
            "content-disposition": f'attachment; filename="{name}"',
            "cache-control": "no-store",
        },
    )


async def _csv_lines(
    visit: Visit, kind: Kind, given: Mapping[str, str], sort: tuple[str, bool], page: Page
) -> AsyncIterator[str]:
    yield _csv([kind.header])
    for _ in range(EXPORT_CHUNKS_MAX):
        rows: Sequence[OrderRow | FillRow] = page.rows
        fees = [row.fee for row in rows]
        lines = await _lines(visit.services, rows)
        write = _order_line if kind is ORDERS else _fill_line
        yield _csv([write(row, of, fee) for (row, of), fee in zip(lines, fees, strict=True)])
        if page.next_cursor is None:
            return
        page = await _read(
            visit.services, visit.user, kind, given, sort, page.next_cursor, EXPORT_CHUNK
        )


def _csv(rows: Sequence[Sequence[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue()


def _time(at: int) -> str:
    moment = datetime.fromtimestamp(at // 1_000_000, UTC).replace(microsecond=at % 1_000_000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _value(ticks_lots: int, of: Instrument) -> str:
    return units_text(ticks_lots * (of.tick * of.lot // UNIT), plain=True)


def _harmless(text: str) -> str:
    """Text that a spreadsheet will not take for a formula."""
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _order_line(order: Any, of: Instrument, fee: int) -> list[str]:
    received = of.base if order.side == Side.BUY else of.quote
    return [
        str(order.ref), _harmless(order.client), _time(order.placed_at), _time(order.updated_at),
        order.symbol, order.side.name.lower(), OrderType(order.type).name.lower(),
        order.time_in_force.name.lower(), order.status.name.lower(),
        price(order.price, of, plain=True) if order.price else "",
        price(order.trigger, of, plain=True) if order.trigger else "",
        quantity(order.quantity, of, plain=True), quantity(order.filled, of, plain=True),
        _value(order.quote, of), of.quote, units_text(fee, plain=True), received,
    ]  # fmt: skip


def _fill_line(fill: Any, of: Instrument, fee: int) -> list[str]:
    received = of.base if fill.side == Side.BUY else of.quote
    return [
        str(fill.trade), str(fill.ref), _time(fill.at), fill.symbol, fill.side.name.lower(),
        "maker" if fill.maker else "taker", price(fill.price, of, plain=True),
        quantity(fill.quantity, of, plain=True), _value(fill.price * fill.quantity, of), of.quote,
        units_text(fee, plain=True), received,
    ]  # fmt: skip
