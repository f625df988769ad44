"""What the pages show of a market: read from the replica's copies, as the streams are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from domain.trading.commands import BookView, ReadBook
from persistence.trading.catalogue import Instrument
from persistence.trading.queries import Bar, candles
from serve_apps.accounts import microseconds
from serve_apps.pages.exchange.figures import Drawing, draw, line, price, quantity
from serve_apps.services import Services

LEVELS: Final = 14
PRINTS: Final = 40
BARS: Final = 90
SPARK_BARS: Final = 24
SPARK_BARS_MIN: Final = 5
CHOICES: Final = ("1s", "1m", "5m", "15m", "1h", "4h", "1d")
USUAL: Final = ("15m", "1m", "1s")
"""Widths to begin with: the first that has enough candles."""

ENOUGH_BARS: Final = 24


class Quote(msgspec.Struct, frozen=True):
    """24 hours: prices in ticks, volume in lots, turnover in ticks x lots."""

    last: int
    open: int
    high: int
    low: int
    volume: int
    quote_volume: int


class Level(msgspec.Struct, frozen=True):
    """A price of the book; ``total`` is up to it, ``share`` thousandths of the longest bar."""

    price: int
    quantity: int
    total: int
    share: int


class Depth(msgspec.Struct, frozen=True):
    """Both sides, the best first."""

    bids: list[Level]
    asks: list[Level]
    spread: int | None


class Print(msgspec.Struct, frozen=True):
    """A trade; ``taker`` is 1 where the buyer took."""

    price: int
    quantity: int
    taker: int
    at: int


class Row(msgspec.Struct, frozen=True):
    """An instrument with its prices of now."""

    instrument: Instrument
    ticker: Quote | None
    spark: str = ""


async def quote(services: Services, symbol: str) -> Quote | None:
    """The last 24 hours; ``None`` before the first trade, and while it cannot be read."""
    totals = await services.market.ticker(symbol)
    if totals is None or not totals.last:
        return None
    return Quote(totals.last, totals.open, totals.high, totals.low, totals.volume, totals.quote)


async def rows(services: Services, listed: Iterable[Instrument]) -> list[Row]:
    """Instruments with their prices, in the same order."""
    chosen = list(listed)
    quotes = await asyncio.gather(*(quote(services, each.symbol) for each in chosen))
    return [Row(each, found) for each, found in zip(chosen, quotes, strict=True)]


async def with_sparks(services: Services, found: Sequence[Row]) -> list[Row]:
    """The same with a line of the last day, or of the last minutes of a young market."""
    lines = await asyncio.gather(*(_spark(services, row.instrument.symbol) for row in found))
    return [
        msgspec.structs.replace(row, spark=points) for row, points in zip(found, lines, strict=True)
    ]


async def _spark(services: Services, symbol: str) -> str:
    for interval in ("1h", "1m"):
        found = await bars(services, symbol, interval, SPARK_BARS)
        if len(found) >= SPARK_BARS_MIN:
            return line([bar.close for bar in found])
    return ""


async def depth(services: Services, symbol: str) -> Depth:
    """The best levels; empty while the book cannot be read."""
    found = await services.market.depth(symbol, LEVELS)
    if found is None:
        return Depth([], [], None)
    most = max((sum(lots for _, lots in side) for side in (found.bids, found.asks)), default=0)
    bids, asks = _levels(found.bids, most), _levels(found.asks, most)
    spread = asks[0].price - bids[0].price if bids and asks else None
    return Depth(bids, asks, spread)


def _levels(side: Sequence[tuple[int, int]], most: int) -> list[Level]:
    total, found = 0, []
    for ticks, lots in side:
        total += lots
        found.append(Level(ticks, lots, total, total * 1_000 // most))
    return found


async def prints(services: Services, symbol: str) -> list[Print]:
    """The latest trades, newest first."""
    found = await services.market.trades(symbol, PRINTS) or ()
    return [Print(each.price, each.quantity, each.taker, each.at) for each in reversed(found)]


async def bars(services: Services, symbol: str, interval: str, count: int) -> list[Bar]:
    """The latest candles, oldest first."""
    now = microseconds(services.now())
    found = await candles(services.pool, symbol, interval, now=now, limit=count)
    return list(found)


async def drawing(services: Services, symbol: str, interval: str) -> Drawing:
    """The latest candles as a drawing."""
    return draw(await bars(services, symbol, interval, BARS))


async def chart(
    services: Services, symbol: str, asked: str, usual: Sequence[str] = USUAL
) -> tuple[str, Drawing]:
    """The drawing of the width that was asked for, or of one that suits the market's age."""
    if asked in CHOICES:
        return asked, await drawing(services, symbol, asked)
    for interval in usual:
        found = await bars(services, symbol, interval, BARS)
        if len(found) >= ENOUGH_BARS:
            return interval, draw(found)
    return usual[-1], draw(found)


async def state(services: Services, instrument: Instrument) -> tuple[str, str]:
    """State and reason, as the book says or else the catalogue."""
    number, reason = services.market.state(instrument.symbol)
    words = {1: "trading", 2: "halted", 3: "auction", 4: "delisted"}
    if number in words:
        return words[number], reason
    return instrument.status, instrument.reason


async def banner(services: Services, instrument: Instrument, word: str, reason: str) -> str:
    """What is said above the market when it does not trade as usual."""
    why = f": {reason.rstrip('.')}" if reason else ""
    if word == "delisted":
        return f"This instrument is not traded any more{why}."
    if word != "auction":
        return f"Trading is halted{why}. Orders can be cancelled, not placed."
    text = "Auction: orders are collected and trade at a single price when it ends."
    view = await services.books.call(ReadBook(instrument.symbol, 1))
    if not isinstance(view, BookView) or not view.until:
        return text
    end = datetime.fromtimestamp(view.until // 1_000_000, UTC)
    text = (
        f"Auction until {end:%H:%M:%S} UTC: orders are collected and trade at a single price then."
    )
    if view.indicative:
        at, lots = price(view.indicative, instrument), quantity(view.matched, instrument)
        text += f" As it stands, {lots} {instrument.base} would trade at {at}."
    return text
