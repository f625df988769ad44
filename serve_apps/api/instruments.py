"""Operations on instruments: everybody searches and reads them, administrators change them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec

from domain.accounts.codes import Code
from domain.durable import Rejection
from domain.identity.permissions import Permission
from domain.orders import RATE_UNIT
from domain.trading.commands import InstrumentReply
from domain.trading.rules import BookCode, InstrumentType
from persistence.cursors import CursorInvalid
from persistence.trading.catalogue import LISTED, Instrument
from persistence.trading.queries import Ticker, tickers
from serve_apps import instruments
from serve_apps.accounts import command_id, microseconds, refuse
from serve_apps.api.bodies import moment_text
from serve_apps.api.routing import Answer, Call, Operation, Outcome, Parameter
from serve_apps.exchange.numbers import asset_text, shortest, step_text
from serve_apps.listing import Listing

LIMIT_MAX: Final = 200
_TYPES: Final = tuple(str(kind) for kind in InstrumentType)
_STATUSES: Final = (*LISTED, "delisted")


class InstrumentBody(msgspec.Struct):
    """What is listed, and how it was traded in the last 24 hours.

    ``tick`` is the step of prices in ``quote``, ``lot`` the step of quantities in ``base``;
    ``maker`` and ``taker`` are fees in per cent. ``price`` is null until there was a trade, else
    the last; ``change`` is per cent. ``issued`` is null where the platform did not issue it.
    """

    symbol: str
    type: str
    name: str
    description: str
    base: str
    quote: str
    status: str
    reason: str
    until: str | None
    tick: str
    lot: str
    notional_min: str
    quantity_max: str
    maker: str
    taker: str
    issued: str | None
    price: str | None
    change: str
    high: str | None
    low: str | None
    volume: str
    turnover: str
    listed_at: str


class InstrumentDetailBody(InstrumentBody):
    """An instrument with what its book offers.

    ``available`` is what is for sale in the order book at this moment, ``bid`` and ``ask`` the
    best prices; null while the book does not answer or is empty.
    """

    available: str | None = None
    bid: str | None = None
    ask: str | None = None


class InstrumentsBody(msgspec.Struct):
    """Instruments, the best matches first; ask again with ``cursor``, null at the end."""

    instruments: list[InstrumentBody]
    next_cursor: str | None


class ReasonBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why; everybody is told."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class AuctionBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the auction ends; RFC 3339."""

    until: Annotated[str, msgspec.Meta(max_length=40)]


def percent_text(rate: int) -> str:
    """Millionths as per cent."""
    return shortest(rate * 100 * 10**8 // RATE_UNIT) or "0"


def _body(row: Instrument, ticker: Ticker | None) -> InstrumentBody:
    traded = ticker is not None and ticker.last > 0
    before = ticker.previous or ticker.open if ticker is not None else 0
    change = (ticker.last - before) * 10_000 // before if ticker is not None and before else 0

    def price(ticks: int) -> str | None:
        return step_text(ticks * row.tick, row.tick) if traded else None

    return InstrumentBody(
        row.symbol,
        row.type,
        row.name,
        row.description,
        row.base,
        row.quote,
        row.status,
        row.reason,
        None if row.until is None else moment_text(row.until),
        shortest(row.tick),
        shortest(row.lot),
        asset_text(row.notional_min * row.unit),
        shortest(row.quantity_max * row.lot),
        percent_text(row.maker),
        percent_text(row.taker),
        shortest(row.issued) if row.issued else None,
        price(ticker.last if ticker else 0),
        f"{'-' if change < 0 else ''}{abs(change) // 100}.{abs(change) % 100:02d}",
        price(ticker.high if ticker else 0),
        price(ticker.low if ticker else 0),
        step_text((ticker.volume if ticker else 0) * row.lot, row.lot),
        asset_text((ticker.quote if ticker else 0) * row.unit),
        moment_text(row.listed_at),
    )


async def _bodies(call: Call, rows: Sequence[Instrument]) -> list[InstrumentBody]:
    now = microseconds(call.services.now())
    found = await tickers(call.services.pool, now, [row.symbol for row in rows])
    return [_body(row, found.get(row.symbol)) for row in rows]


async def searched(call: Call) -> Outcome:
    """Instruments by text and type."""
    values = call.query(("q", "type", "status", "cursor", "limit"))
    if isinstance(values, Rejection):
        return values
    types = [text for text in values.get("type", "").split(",") if text]
    statuses = [text for text in values.get("status", "").split(",") if text]
    limit = values.get("limit", "") or "50"
    for name, wrong in (
        ("type", not set(types) <= set(_TYPES)),
        ("status", not set(statuses) <= set(_STATUSES)),
        ("limit", not (limit.isascii() and limit.isdigit() and 1 <= int(limit) <= LIMIT_MAX)),
        ("q", "\0" in values.get("q", "")),
    ):
        if wrong:
            return refuse("malformed_query", parameter=name)
    try:
        page = await call.services.catalogue.search(
            values.get("q", ""),
            types=types or None,
            statuses=statuses or LISTED,
            cursor=values.get("cursor") or None,
            limit=int(limit),
        )
    except CursorInvalid:
        return Rejection("cursor_invalid")
    return Answer(InstrumentsBody(await _bodies(call, page.rows), page.next_cursor))


async def shown(call: Call) -> Outcome:
    """One instrument."""
    row = await call.services.catalogue.find(call.params["symbol"])
    if row is None:
        return Rejection("not_found")
    return Answer(await _detail(call, row))


async def _detail(call: Call, row: Instrument) -> InstrumentDetailBody:
    (body,) = await _bodies(call, [row])
    detail = InstrumentDetailBody(*msgspec.structs.astuple(body))
    depth = await call.services.market.depth(row.symbol, 5_000) if row.open else None
    if depth is not None:
        offered = sum(quantity for _, quantity in depth.asks)
        detail.available = step_text(offered * row.lot, row.lot)
        if depth.bids:
            detail.bid = step_text(depth.bids[0][0] * row.tick, row.tick)
        if depth.asks:
            detail.ask = step_text(depth.asks[0][0] * row.tick, row.tick)
    return detail


# -- administrators ---------------------------------------------------------------------------


async def listed(call: Call) -> Outcome:
    """List an instrument."""
    services = call.services
    number = command_id(call.user, "instrument", call.key)
    return await _changed(
        call, await instruments.enlist(services, call.actor, call.body, number), 201
    )


async def halted(call: Call) -> Outcome:
    """Stop trading."""
    return await _status(call, "halt", call.body.reason)


async def resumed(call: Call) -> Outcome:
    """Trade again."""
    return await _status(call, "resume")


async def delisted(call: Call) -> Outcome:
    """Close the book for good."""
    return await _status(call, "delist", call.body.reason)


async def auctioned(call: Call) -> Outcome:
    """Collect orders until a time, then trade at a single price."""
    try:
        until = datetime.fromisoformat(call.body.until)
    except ValueError:
        return refuse(BookCode.TIME_INVALID, field="until")
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    if not 1971 < until.year < 9000:
        return refuse(BookCode.TIME_INVALID, field="until")
    return await _status(call, "auction", until=until)


async def _status(
    call: Call, change: str, reason: str = "", until: datetime | None = None
) -> Outcome:
    symbol = call.params["symbol"]
    number = command_id(call.user, f"instrument/{symbol}/{change}", call.key)
    reply = await instruments.change(
        call.services,
        call.actor,
        symbol,
        change,
        number,
        reason=reason,
        until=until,
    )
    return await _changed(call, reply)


async def _changed(call: Call, reply: Any, status: int = 200) -> Outcome:
    if not isinstance(reply, InstrumentReply):
        assert isinstance(reply, Outcome)
        return reply
    await call.services.catalogue.refresh()
    row = await call.services.catalogue.find(reply.symbol)
    assert row is not None  # written in the turn that has just been answered
    (body,) = await _bodies(call, [row])
    location = [(b"location", f"/api/instrument/{row.symbol}/".encode())] if status == 201 else []
    return Answer(body, status, location)


_EXAMPLE: Final[dict[str, Any]] = {
    "symbol": "BTCUSD",
    "type": "crypto",
    "name": "Bitcoin",
    "description": "The first coin.",
    "base": "BTC",
    "quote": "USD",
    "status": "trading",
    "reason": "",
    "until": None,
    "tick": "0.01",
    "lot": "0.00001",
    "notional_min": "5.00000000",
    "quantity_max": "7000",
    "maker": "0.1",
    "taker": "0.1",
    "issued": None,
    "price": "64250.10",
    "change": "-1.25",
    "high": "65100.00",
    "low": "63900.50",
    "volume": "12.50410",
    "turnover": "803100.25000000",
    "listed_at": "2026-11-20T09:30:00.125000Z",
}
_DETAIL: Final = {**_EXAMPLE, "available": "4.21000", "bid": "64250.00", "ask": "64250.10"}
_CODES: Final = (
    Code.ID_REUSED,
    Code.TEXT_INVALID,
    BookCode.UNKNOWN_INSTRUMENT,
    BookCode.STATUS_INVALID,
)


def _change(name: str, handler: Any, summary: str, **more: Any) -> Operation:
    return Operation(
        name=f"{name}_instrument",
        method="POST",
        path=f"/api/instrument/{{symbol}}/{name}/",
        handler=handler,
        summary=summary,
        tag="Instruments",
        access="user",
        permission=Permission.MARKET_ADMINISTER,
        answer=InstrumentBody,
        answer_example=_EXAMPLE,
        key="required",
        **{"codes": _CODES, **more},
    )


OPERATIONS: Final = (
    Operation(
        name="search_instruments",
        method="GET",
        path="/api/instrument/",
        handler=searched,
        summary="Search instruments",
        description="Each word of `q` begins a word of the ticker, the name or the description; a"
        " ticker counts most. Figures of the last 24 hours are a moment old.",
        tag="Instruments",
        access="anyone",
        answer=InstrumentsBody,
        answer_example={"instruments": [_EXAMPLE], "next_cursor": None},
        parameters=(
            Parameter("q", "Text to search for", "bit"),
            Parameter("type", "One or more of `stock`, `bond`, `fund`, `crypto`", "stock,fund"),
            Parameter("status", "`trading`, `halted`, `auction` or `delisted`", "trading"),
            Parameter("cursor", "From the page before"),
            Parameter("limit", f"Rows, at most {LIMIT_MAX}", "50"),
        ),
        codes=("malformed_query", "cursor_invalid"),
        cost=5,
        fresh_s=1,
    ),
    Operation(
        name="list_instrument",
        method="POST",
        path="/api/instrument/",
        handler=listed,
        summary="List an instrument",
        description="Opens its order book. With `issued` and `issuer` a fixed quantity of the base"
        " comes into being in the brokerage of that customer.",
        tag="Instruments",
        access="user",
        permission=Permission.MARKET_ADMINISTER,
        body=Listing,
        body_example={
            "base": "NORD",
            "quote": "USD",
            "type": "stock",
            "name": "Nordavia Airlines",
            "tick": "0.01",
            "lot": "1",
            "reference": "42.10",
            "notional_min": "5",
            "band_up": "20",
            "band_down": "20",
            "issued": "12000000",
            "issuer": "4711471147",
        },
        status=201,
        answer=InstrumentBody,
        answer_example=_EXAMPLE,
        key="required",
        codes=(
            Code.ID_REUSED,
            Code.TEXT_INVALID,
            Code.UNKNOWN_CUSTOMER,
            Code.ASSET_INVALID,
            BookCode.SYMBOL_INVALID,
            BookCode.RULES_INVALID,
            BookCode.ALREADY_LISTED,
        ),
    ),
    Operation(
        name="show_instrument",
        method="GET",
        path="/api/instrument/{symbol}/",
        handler=shown,
        summary="One instrument",
        tag="Instruments",
        access="anyone",
        answer=InstrumentDetailBody,
        answer_example=_DETAIL,
        fresh_s=1,
    ),
    _change(
        "halt",
        halted,
        "Stop trading",
        description="Orders stay and can be cancelled; no new ones are taken.",
        body=ReasonBody,
        body_example={"reason": "News are pending"},
    ),
    _change("resume", resumed, "Trade again", description="Ends an auction before its time, too."),
    _change(
        "auction",
        auctioned,
        "Hold an auction",
        description="Orders are collected until the time is over and then traded at one price.",
        body=AuctionBody,
        body_example={"until": "2026-11-20T09:30:00Z"},
        codes=(*_CODES, BookCode.TIME_INVALID),
    ),
    _change(
        "delist",
        delisted,
        "Delist an instrument",
        description="Cancels all orders and closes the book for good.",
        body=ReasonBody,
        body_example={"reason": "The company was bought"},
    ),
)
