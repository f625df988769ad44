"""What everybody may ask of a market's past: trades, candles, the figures of 24 hours.

Prices are ticks, quantities lots, turnovers (``quote``) ticks x lots, times microseconds since the
epoch. Trades are numbered without gaps and in the order of time, and candles know their first and
last trade: a time is found through them, without an index of times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg
import msgspec

from persistence.database import Connection, Pool
from persistence.journal import to_datetime, to_microseconds
from persistence.trading.projector import LEVELS

Database = Connection | Pool

SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND
DAY: Final = 86_400 * SECOND
ROWS_MAX: Final = 1_000
"""The most rows of a question, where it does not say another limit."""

INTERVALS: Final[Mapping[str, int]] = {
    "1s": 1, "1m": 60, "3m": 180, "5m": 300, "15m": 900, "30m": 1_800, "1h": 3_600, "2h": 7_200,
    "4h": 14_400, "6h": 21_600, "8h": 28_800, "12h": 43_200, "1d": 86_400, "3d": 259_200,
    "1w": 604_800, "1M": 0,
}  # fmt: skip
"""Lengths of candles in seconds. A month has none of its own; weeks begin on Monday."""

_MONDAY: Final = 4 * DAY
_DAYS_OF_MONTHS: Final = 31


class TradeRow(msgspec.Struct, frozen=True):
    """A trade; ``side`` is the taker's.

    ``same``: by the taker order of the trade before, ``joined``: and at its price too.
    """

    id: int
    price: int
    quantity: int
    side: int
    at: int
    same: bool
    joined: bool


class AggregateRow(msgspec.Struct):
    """Trades in a row of one taker order at one price; ``first`` and ``last`` are their ids."""

    first: int
    last: int
    price: int
    quantity: int
    side: int
    at: int


class Bar(msgspec.Struct):
    """What was traded from ``at`` on; ``bought`` is that part in which the taker bought.

    ``first`` and ``last`` are ids of trades, 0 where there was none.
    """

    at: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    quote: int
    bought: int
    bought_quote: int
    first: int
    last: int

    @property
    def count(self) -> int:
        """Number of trades."""
        return self.last - self.first + 1 if self.first else 0


class Ticker(msgspec.Struct, frozen=True):
    """24 hours of a market; prices are 0 where nothing was ever traded.

    Where nothing was traded in them, ``open`` and the others are the last price before.
    ``previous`` is the last price before the 24 hours.
    """

    symbol: str
    open: int
    high: int
    low: int
    last: int
    last_quantity: int
    previous: int
    volume: int
    quote: int
    first: int
    final: int
    open_at: int
    close_at: int

    @property
    def count(self) -> int:
        """Number of trades."""
        return self.final - self.first + 1 if self.first else 0


# -- trades -----------------------------------------------------------------------------------

_TRADES: Final = """
SELECT t.id, t.price, t.quantity, t.side, t.at, t.taker,
    t.taker = lag(t.taker) OVER (ORDER BY t.id) AS same,
    (t.taker, t.price) = (lag(t.taker) OVER (ORDER BY t.id), lag(t.price) OVER (ORDER BY t.id))
        AS joined
FROM ({inner}) AS t ORDER BY t.id"""
_RANGE: Final = _TRADES.format(
    inner="SELECT * FROM trades WHERE symbol = $1 AND id >= $2::bigint - 1"
    " AND id <= $3 ORDER BY id LIMIT $4 + 1"
)
_RECENT: Final = _TRADES.format(
    inner="SELECT * FROM trades WHERE symbol = $1 ORDER BY id DESC LIMIT $2 + 1"
)
_FIRST: Final = """
SELECT first FROM candles WHERE symbol = $1 AND seconds = 60 AND at >= $2 ORDER BY at LIMIT 1"""
_LAST: Final = """
SELECT last FROM candles WHERE symbol = $1 AND seconds = 60 AND at <= $2 ORDER BY at DESC LIMIT 1"""
_ID_MAX: Final = 2**62


def _trades(rows: Sequence[asyncpg.Record], first: int) -> list[TradeRow]:
    """Rows from id ``first`` on; the one before it only says whether it is of the same order."""
    return [
        TradeRow(
            row["id"], row["price"], row["quantity"], row["side"], to_microseconds(row["at"]),
            bool(row["same"]), bool(row["joined"]),
        )
        for row in rows
        if row["id"] >= first
    ]  # fmt: skip


async def trades_range(
    database: Database, symbol: str, first: int, last: int = _ID_MAX, limit: int = ROWS_MAX
) -> list[TradeRow]:
    """Trades by their ids, both ends included, the oldest first."""
    return _trades(await database.fetch(_RANGE, symbol, first, last, limit), first)[:limit]


async def recent_trades(
    database: Database, symbol: str, limit: int = 50, *, before: int | None = None
) -> list[TradeRow]:
    """The latest trades, the newest first; those older than the trade ``before``."""
    if before is not None:
        first = max(1, before - limit)
        found = await trades_range(database, symbol, first, before - 1, limit)
        return found[::-1]
    rows = await database.fetch(_RECENT, symbol, limit)
    return _trades(rows[-limit:], 0)[::-1]


async def trades_between(
    database: Database, symbol: str, start: int, end: int, limit: int = ROWS_MAX
) -> list[TradeRow]:
    """Trades at ``start`` or later and before ``end``, the oldest first."""
    first, last = await _ids(database, symbol, start, end)
    found: list[TradeRow] = []
    while first <= last and len(found) < limit:
        rows = await trades_range(database, symbol, first, last, ROWS_MAX)
        if not rows:
            break
        found += [row for row in rows if start <= row.at < end]
        if rows[-1].at >= end:
            break
        first = rows[-1].id + 1
    return found[:limit]


async def _ids(database: Database, symbol: str, start: int, end: int) -> tuple[int, int]:
    """Ids between which all trades of a time are, and at most those of a minute more."""
    minute = to_datetime(start - start % MINUTE)
    first = await database.fetchval(_FIRST, symbol, minute)
    last = await database.fetchval(_LAST, symbol, to_datetime(end))
    return (first or _ID_MAX, last or 0)


async def aggregate_trades(
    database: Database,
    symbol: str,
    *,
    first: int | None = None,
    start: int | None = None,
    end: int | None = None,
    limit: int = 500,
) -> list[AggregateRow]:
    """Trades put together, the oldest first: from an id on, of a time, or the latest.

    One that began before ``first`` or ``start`` is left out.
    """
    if first is None and start is None:
        return await _latest_aggregates(database, symbol, limit, end)
    until = _ID_MAX
    if first is None:
        assert start is not None
        first, until = await _ids(database, symbol, start, _ID_TIME if end is None else end)
    found: list[AggregateRow] = []
    while first <= until and len(found) <= limit:
        rows = await trades_range(database, symbol, first, until)
        for row in rows:
            if row.at >= (start or 0) and (end is None or row.at < end):
                _join(found, row)
        if len(rows) < ROWS_MAX or (end is not None and rows[-1].at >= end):
            break
        first = rows[-1].id + 1
    return found[:limit]


_ID_TIME: Final = to_microseconds(datetime(9000, 1, 1, tzinfo=UTC))


def _join(found: list[AggregateRow], row: TradeRow) -> None:
    """Add a trade to the last aggregate, or begin one; its beginning may not be wanted."""
    if not row.joined:
        found.append(AggregateRow(row.id, row.id, row.price, row.quantity, row.side, row.at))
    elif found:
        found[-1].last, found[-1].quantity = row.id, found[-1].quantity + row.quantity


async def _latest_aggregates(
    database: Database, symbol: str, limit: int, end: int | None
) -> list[AggregateRow]:
    before = None
    if end is not None:
        _, last = await _ids(database, symbol, 0, end)
        before = last + 1
    rows: list[TradeRow] = []
    while True:
        page = await recent_trades(database, symbol, ROWS_MAX, before=before)
        rows = page[::-1] + rows
        found: list[AggregateRow] = []
        for row in rows:
            if end is None or row.at < end:
                _join(found, row)
        if len(page) < ROWS_MAX or len(found) > limit:
            return found[-limit:]
        before = page[-1].id


# -- candles ----------------------------------------------------------------------------------

_BARS: Final = """
SELECT {bucket} AS bucket, (array_agg(open ORDER BY at))[1], max(high), min(low),
    (array_agg(close ORDER BY at DESC))[1], sum(volume)::text, sum(quote)::text,
    sum(bought)::text, sum(bought_quote)::text, min(first), max(last)
FROM candles WHERE symbol = $1 AND seconds = $2 AND at >= $3 AND at < $4
GROUP BY bucket ORDER BY bucket"""
_BINNED: Final = _BARS.format(bucket="date_bin(make_interval(secs => $5), at, $6)")
_MONTHS: Final = _BARS.format(bucket="date_trunc('month', at, 'UTC')")
_STORED: Final = """
SELECT at, open, high, low, close, volume::text, quote::text, bought::text, bought_quote::text,
    first, last
FROM candles WHERE symbol = $1 AND seconds = $2 AND at >= $3 AND at < $4 ORDER BY at"""
_SECONDS: Final = """
SELECT date_bin('1 second', at, '1970-01-01Z') AS bucket, (array_agg(price ORDER BY id))[1],
    max(price), min(price), (array_agg(price ORDER BY id DESC))[1], sum(quantity)::text,
    sum(price::numeric * quantity)::text, sum(quantity) FILTER (WHERE side = 1)::text,
    sum(price::numeric * quantity) FILTER (WHERE side = 1)::text, min(id), max(id)
FROM trades WHERE symbol = $1 AND id BETWEEN $2 AND $3 AND at >= $4 AND at < $5
GROUP BY bucket ORDER BY bucket"""
_PRICE_BEFORE: Final = """
SELECT price FROM trades WHERE symbol = $1 AND at < $2 AND id <= (
    SELECT last FROM candles WHERE symbol = $1 AND seconds = 60 AND at < $2
    ORDER BY at DESC LIMIT 1)
ORDER BY id DESC LIMIT 1"""
_CLOSE_BEFORE: Final = """
SELECT close FROM candles WHERE symbol = $1 AND seconds = 60 AND at < $2 ORDER BY at DESC LIMIT 1"""
_NEXT_MINUTE: Final = """
SELECT at FROM candles WHERE symbol = $1 AND seconds = 60 AND at >= $2 ORDER BY at LIMIT 1"""
_NEXT_TRADE: Final = """
SELECT t.at FROM candles c JOIN trades t ON t.symbol = c.symbol AND t.id = c.first
WHERE c.symbol = $1 AND c.seconds = 60 AND c.at >= $2 ORDER BY c.at LIMIT 1"""


def _bar(row: asyncpg.Record) -> Bar:
    at, opened, high, low, close, *sums, first, last = row
    volume, quote, bought, bought_quote = (int(text or 0) for text in sums)
    return Bar(
        to_microseconds(at), opened, high, low, close, volume, quote, bought, bought_quote,
        first, last,
    )  # fmt: skip


def start_of(interval: str, at: int) -> int:
    """When the candle begins that ``at`` is in: whole UTC units, weeks on Monday."""
    if interval == "1M":
        first = to_datetime(at).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return to_microseconds(first)
    length = INTERVALS[interval] * SECOND
    origin = _MONDAY if interval == "1w" else 0
    return at - (at - origin) % length


def start_of_next(interval: str, start: int) -> int:
    """When the candle begins that follows the one at ``start``."""
    if interval == "1M":
        return start_of("1M", start + (_DAYS_OF_MONTHS + 1) * DAY)
    return start + INTERVALS[interval] * SECOND


async def bars(database: Database, symbol: str, interval: str, start: int, end: int) -> list[Bar]:
    """Candles that begin at ``start`` or later and before ``end``; those without trades are not.

    The first is whole: ``start`` counts from the beginning of the candle that it is in.
    """
    since = start_of(interval, start)
    until = start_of_next(interval, start_of(interval, end - 1)) if end > since else since
    window = (to_datetime(since), to_datetime(until))
    if interval == "1s":
        first, last = await _ids(database, symbol, since, until)
        rows = await database.fetch(_SECONDS, symbol, first, last, *window)
        return [_bar(row) for row in rows]
    seconds = INTERVALS[interval]
    if seconds in LEVELS:
        rows = await database.fetch(_STORED, symbol, seconds, *window)
    elif interval == "1M":
        rows = await database.fetch(_MONTHS, symbol, LEVELS[-1], *window)
    else:
        level = max(level for level in LEVELS if seconds % level == 0)
        origin = to_datetime(_MONDAY if interval == "1w" else 0)
        rows = await database.fetch(_BINNED, symbol, level, *window, float(seconds), origin)
    return [_bar(row) for row in rows]


async def candles(
    database: Database,
    symbol: str,
    interval: str,
    *,
    now: int,
    start: int | None = None,
    end: int | None = None,
    limit: int = 500,
) -> list[Bar]:
    """Candles without gaps, the oldest first: from ``start`` on, or the latest until ``end``.

    Where nothing was traded, a candle stands at the close before. None begins before the first
    trade, and none after ``now``.
    """
    last = start_of(interval, now if end is None else min(now, end))
    if start is not None:
        first = start_of(interval, start)
        first = first if first == start else start_of_next(interval, first)
    else:
        first = last
        for _ in range(limit - 1):
            if first <= 0:
                break
            first = start_of(interval, first - 1)
    by_second = interval == "1s"  # all others begin with a minute
    before, following = (_PRICE_BEFORE, _NEXT_TRADE) if by_second else (_CLOSE_BEFORE, _NEXT_MINUTE)
    close = await database.fetchval(before, symbol, to_datetime(first))
    if close is None:
        begin = await database.fetchval(following, symbol, to_datetime(first))
        if begin is None:
            return []
        first = start_of(interval, to_microseconds(begin))
    if interval != "1M":
        last = min(last, first + (limit - 1) * INTERVALS[interval] * SECOND)
    found = await bars(database, symbol, interval, first, last + 1)
    return _filled(interval, found, first, last, close, limit)


def _filled(
    interval: str, found: Sequence[Bar], first: int, last: int, close: int | None, limit: int
) -> list[Bar]:
    """The bars with those between them in which nothing was traded."""
    result: list[Bar] = []
    by_start = {bar.at: bar for bar in found}
    at = first if close is not None else (found[0].at if found else last + 1)
    while at <= last and len(result) < limit:
        bar = by_start.get(at)
        if bar is None:
            assert close is not None
            bar = Bar(at, close, close, close, close, 0, 0, 0, 0, 0, 0)
        close = bar.close
        result.append(bar)
        at = start_of_next(interval, at)
    return result


# -- 24 hours ---------------------------------------------------------------------------------

# Minutes until the first whole quarter of an hour, then quarters.
_TICKERS: Final = """
SELECT s.symbol, d.*, l.price AS last, l.quantity AS last_quantity, l.at AS last_at,
    p.close AS previous
FROM unnest($1::text[]) AS s (symbol)
LEFT JOIN LATERAL (
    SELECT (array_agg(open ORDER BY at))[1] AS open, max(high) AS high, min(low) AS low,
        sum(volume)::text AS volume, sum(quote)::text AS quote, min(first) AS first,
        max(c.last) AS final
    FROM (
        SELECT * FROM candles WHERE symbol = s.symbol AND seconds = 60 AND at >= $2 AND at < $3
        UNION ALL
        SELECT * FROM candles WHERE symbol = s.symbol AND seconds = 900 AND at >= $3
    ) AS c) AS d ON true
LEFT JOIN LATERAL (
    SELECT price, quantity, at FROM trades WHERE symbol = s.symbol ORDER BY id DESC LIMIT 1
) AS l ON true
LEFT JOIN LATERAL (
    SELECT close FROM candles WHERE symbol = s.symbol AND seconds = 60 AND at < $2
    ORDER BY at DESC LIMIT 1) AS p ON true"""


async def tickers(database: Database, now: int, symbols: Sequence[str]) -> dict[str, Ticker]:
    """The last 24 hours of these markets, by whole minutes."""
    since = to_datetime(now) - timedelta(days=1)
    minute = since.replace(second=0, microsecond=0) + timedelta(minutes=1)
    quarter = minute + timedelta(minutes=-minute.minute % 15)
    rows = await database.fetch(_TICKERS, list(symbols), minute, quarter)
    return {row["symbol"]: _ticker(row, now) for row in rows}


def _ticker(row: asyncpg.Record, now: int) -> Ticker:
    last = row["last"] or 0
    traded = row["first"] is not None
    return Ticker(
        row["symbol"],
        row["open"] if traded else last,
        row["high"] if traded else last,
        row["low"] if traded else last,
        last,
        row["last_quantity"] or 0,
        row["previous"] or (row["open"] if traded else last),
        int(row["volume"] or 0),
        int(row["quote"] or 0),
        row["first"] or 0,
        row["final"] or 0,
        now - DAY,
        now,
    )
