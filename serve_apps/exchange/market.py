"""Market data for everybody: instruments, depth, trades, candles, tickers.

From the replica's own copies in memory where it has them, else from the history in Postgres.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from domain.orders import OrderType, SelfTrade, Side
from persistence.trading import queries
from persistence.trading.catalogue import Instrument
from serve_apps.exchange import errors
from serve_apps.exchange import parameters as p
from serve_apps.exchange.calls import Call
from serve_apps.exchange.errors import Refused
from serve_apps.exchange.numbers import asset_text
from serve_apps.exchange.reports import ZERO

if TYPE_CHECKING:
    from serve_apps.exchange.desk import Desk

DEPTH: Final = 100
DEPTH_MAX: Final = 5_000
TRADES: Final = 500
TRADES_MAX: Final = 1_000
SYMBOLS_MAX: Final = 1_000

STATUS: Final = {"trading": "TRADING", "halted": "HALT", "auction": "TRADING", "delisted": "BREAK"}
INTERVALS: Final = (
    "1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w",
    "1M",
)  # fmt: skip

_PREVENTIONS: Final = [mode.name for mode in SelfTrade]
_TYPES: Final = [kind.name for kind in OrderType]
_LIST: Final = msgspec.json.Decoder(list[str])


class DepthAnswer(msgspec.Struct, rename="camel"):
    """Best levels of a book; texts of price and quantity."""

    last_update_id: int
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


class TradeAnswer(msgspec.Struct, rename="camel"):
    """A trade, without those who made it."""

    id: int
    price: str
    qty: str
    quote_qty: str
    time: int
    is_buyer_maker: bool
    is_best_match: bool


async def ping(desk: Desk, call: Call) -> Any:
    """``ping``"""
    return {}


async def time(desk: Desk, call: Call) -> Any:
    """``time``"""
    return {"serverTime": call.now // 1_000}


async def exchange_info(desk: Desk, call: Call) -> Any:
    """``exchangeInfo``"""
    params = call.params
    chosen = _chosen(desk, params)
    if chosen is None:
        status = p.text(params, "symbolStatus")
        chosen = [
            row
            for row in desk.services.catalogue.all()
            if (STATUS[row.status] == status if status else row.status != "delisted")
        ]
    sets = p.flag(params, "showPermissionSets") is not False
    settings = desk.limits.settings
    return {
        "timezone": "UTC",
        "serverTime": call.now // 1_000,
        "rateLimits": [
            _limit("REQUEST_WEIGHT", "MINUTE", 1, settings.weight_1m),
            _limit("ORDERS", "SECOND", 10, settings.orders_10s),
            _limit("ORDERS", "DAY", 1, settings.orders_1d),
        ],
        "exchangeFilters": [],
        "symbols": [_symbol(row, sets) for row in chosen],
    }


def _limit(kind: str, interval: str, number: int, limit: int) -> dict[str, Any]:
    return {"rateLimitType": kind, "interval": interval, "intervalNum": number, "limit": limit}


def _symbol(row: Instrument, sets: bool) -> dict[str, Any]:
    return {
        "symbol": row.symbol,
        "status": STATUS[row.status],
        "baseAsset": row.base,
        "baseAssetPrecision": 8,
        "quoteAsset": row.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": _TYPES,
        "icebergAllowed": True,
        "ocoAllowed": False,
        "otoAllowed": False,
        "opoAllowed": False,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": False,
        "cancelReplaceAllowed": True,
        "amendAllowed": True,
        "pegInstructionsAllowed": False,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": _filters(row),
        "permissions": [],
        "permissionSets": [["SPOT"]] if sets else [],
        "defaultSelfTradePreventionMode": "NONE",
        "allowedSelfTradePreventionModes": _PREVENTIONS,
    }


def _filters(row: Instrument) -> list[dict[str, Any]]:
    tick, lot = asset_text(row.tick), asset_text(row.lot)
    most = asset_text(row.quantity_max * row.lot)
    filters: list[dict[str, Any]] = [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": tick,
            "maxPrice": asset_text(row.price_max * row.tick),
            "tickSize": tick,
        },
        {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": most, "stepSize": lot},
        {
            "filterType": "NOTIONAL",
            "minNotional": asset_text(row.notional_min * row.unit),
            "applyMinToMarket": True,
            "maxNotional": asset_text(row.price_max * row.quantity_max * row.unit),
            "applyMaxToMarket": False,
            "avgPriceMins": 0,
        },
        {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": row.orders_max},
    ]
    if row.band_up or row.band_down:
        filters.append(
            {
                "filterType": "PERCENT_PRICE",
                "multiplierUp": asset_text((1_000_000 + row.band_up) * 100),
                "multiplierDown": asset_text((1_000_000 - row.band_down) * 100),
                "avgPriceMins": 0,
            }
        )
    return filters


def _chosen(desk: Desk, params: p.Parameters) -> list[Instrument] | None:
    """The instruments that are asked for by name; ``None`` for all. Raises ``Refused``."""
    one, several = params.get("symbol"), params.get("symbols")
    if one is not None and several is not None:
        raise Refused(-1128, "Combination of optional parameters invalid.")
    if one is not None:
        return [desk.instrument(p.symbol(params))]
    if several is None:
        return None
    if isinstance(several, str):
        try:
            several = _LIST.decode(several)
        except msgspec.MsgspecError:
            raise errors.illegal("symbols", '^\\[("[A-Z0-9-_.]{1,20}",?)*\\]$') from None
    if not isinstance(several, list) or not 1 <= len(several) <= SYMBOLS_MAX:
        raise errors.invalid("symbols")
    if len(set(map(str, several))) != len(several):
        raise Refused(-1151, "Symbol is present multiple times in the list.")
    return [desk.instrument(str(symbol)) for symbol in several]


async def depth(desk: Desk, call: Call) -> Any:
    """``depth``"""
    instrument = desk.instrument(p.symbol(call.params))
    limit = p.limit(call.params, DEPTH, DEPTH_MAX)
    found = await desk.services.market.depth(instrument.symbol, limit)
    if found is None:
        raise errors.unavailable()
    tick, lot = instrument.tick, instrument.lot
    return DepthAnswer(
        found.update,
        [(asset_text(price * tick), asset_text(quantity * lot)) for price, quantity in found.bids],
        [(asset_text(price * tick), asset_text(quantity * lot)) for price, quantity in found.asks],
    )


def depth_weight(params: p.Parameters) -> int:
    """Deep books cost more."""
    limit = p.limit(params, DEPTH, DEPTH_MAX)
    return 5 if limit <= 100 else 25 if limit <= 500 else 50 if limit <= 1_000 else 250


async def trades(desk: Desk, call: Call) -> Any:
    """``trades.recent``"""
    instrument = desk.instrument(p.symbol(call.params))
    limit = p.limit(call.params, TRADES, TRADES_MAX)
    found = await desk.services.market.trades(instrument.symbol, limit)
    if found is None:
        raise errors.unavailable()
    return [
        _trade(instrument, number, price, quantity, side, at)
        for number, price, quantity, side, at, *_ in found
    ]


async def old_trades(desk: Desk, call: Call) -> Any:
    """``trades.historical``: from one on."""
    first = p.integer(call.params, "fromId")
    if first is None:
        return await trades(desk, call)
    instrument = desk.instrument(p.symbol(call.params))
    limit = p.limit(call.params, TRADES, TRADES_MAX)
    rows = await queries.trades_range(desk.services.pool, instrument.symbol, first, limit=limit)
    return [_trade(instrument, row.id, row.price, row.quantity, row.side, row.at) for row in rows]


def _trade(
    instrument: Instrument, number: int, price: int, quantity: int, side: int, at: int
) -> TradeAnswer:
    return TradeAnswer(
        number,
        asset_text(price * instrument.tick),
        asset_text(quantity * instrument.lot),
        asset_text(price * quantity * instrument.unit),
        at // 1_000,
        side == Side.SELL,
        True,
    )


async def aggregate_trades(desk: Desk, call: Call) -> Any:
    """``trades.aggregate``: consecutive trades of one taker order at one price are one."""
    params = call.params
    instrument = desk.instrument(p.symbol(params))
    rows = await queries.aggregate_trades(
        desk.services.pool,
        instrument.symbol,
        first=p.integer(params, "fromId"),
        start=p.moment(params, "startTime"),
        end=p.until(params, "endTime"),
        limit=p.limit(params, TRADES, TRADES_MAX),
    )
    return [
        {
            "a": row.first,
            "p": asset_text(row.price * instrument.tick),
            "q": asset_text(row.quantity * instrument.lot),
            "f": row.first,
            "l": row.last,
            "T": row.at // 1_000,
            "m": row.side == Side.SELL,
            "M": True,
        }
        for row in rows
    ]


async def klines(desk: Desk, call: Call) -> Any:
    """``klines``"""
    params = call.params
    instrument = desk.instrument(p.symbol(params))
    interval = p.required(params, "interval")
    if interval not in INTERVALS:
        raise Refused(-1120, "Invalid interval.")
    rows = await queries.candles(
        desk.services.pool,
        instrument.symbol,
        interval,
        now=call.now,
        start=p.moment(params, "startTime"),
        end=p.moment(params, "endTime"),
        limit=p.limit(params, TRADES, TRADES_MAX),
    )
    tick, lot, unit = instrument.tick, instrument.lot, instrument.unit
    return [
        (
            row.at // 1_000,
            asset_text(row.open * tick),
            asset_text(row.high * tick),
            asset_text(row.low * tick),
            asset_text(row.close * tick),
            asset_text(row.volume * lot),
            queries.start_of_next(interval, row.at) // 1_000 - 1,
            asset_text(row.quote * unit),
            row.count,
            asset_text(row.bought * lot),
            asset_text(row.bought_quote * unit),
            "0",
        )
        for row in rows
    ]


async def average_price(desk: Desk, call: Call) -> Any:
    """``avgPrice``: of the last five minutes, else the last price."""
    instrument = desk.instrument(p.symbol(call.params))
    rows = await queries.candles(desk.services.pool, instrument.symbol, "1m", now=call.now, limit=5)
    volume, quote = sum(row.volume for row in rows), sum(row.quote for row in rows)
    price = desk.services.market.last_price(instrument.symbol) * instrument.tick
    if volume:
        price = quote * instrument.tick // volume
    return {"mins": 5, "price": asset_text(price), "closeTime": call.now // 1_000}


async def ticker_day(desk: Desk, call: Call) -> Any:
    """``ticker.24hr``"""
    kind = p.text(call.params, "type") or "FULL"
    if kind not in ("FULL", "MINI"):
        raise Refused(-1139, "Invalid ticker type.")
    return await _each(desk, call, _ticker_day if kind == "FULL" else _ticker_mini)


async def ticker_price(desk: Desk, call: Call) -> Any:
    """``ticker.price``"""
    return await _each(desk, call, _ticker_price)


async def ticker_book(desk: Desk, call: Call) -> Any:
    """``ticker.book``"""
    return await _each(desk, call, _ticker_book)


async def _each(desk: Desk, call: Call, one: Any) -> Any:
    chosen = _chosen(desk, call.params)
    rows: Sequence[Instrument] = chosen or [
        row for row in desk.services.catalogue.all() if row.status != "delisted"
    ]
    answers = await asyncio.gather(*(one(desk, row) for row in rows))
    return answers[0] if "symbol" in call.params else answers


async def _ticker_price(desk: Desk, row: Instrument) -> Any:
    price = desk.services.market.last_price(row.symbol)
    if not price:
        total = await desk.services.market.ticker(row.symbol)
        price = total.last if total is not None else 0
    return {"symbol": row.symbol, "price": asset_text(price * row.tick)}


async def _ticker_book(desk: Desk, row: Instrument) -> Any:
    found = await desk.services.market.best(row.symbol)
    bid, bids, ask, asks = found[1] if found is not None else (0, 0, 0, 0)
    return {
        "symbol": row.symbol,
        "bidPrice": asset_text(bid * row.tick),
        "bidQty": asset_text(bids * row.lot),
        "askPrice": asset_text(ask * row.tick),
        "askQty": asset_text(asks * row.lot),
    }


async def _ticker_mini(desk: Desk, row: Instrument) -> dict[str, Any]:
    total = await desk.services.market.ticker(row.symbol)
    if total is None:
        raise errors.unavailable()
    tick = row.tick
    return {
        "symbol": row.symbol,
        "openPrice": asset_text(total.open * tick),
        "highPrice": asset_text(total.high * tick),
        "lowPrice": asset_text(total.low * tick),
        "lastPrice": asset_text(total.last * tick),
        "volume": asset_text(total.volume * row.lot),
        "quoteVolume": asset_text(total.quote * row.unit),
        "openTime": total.open_at // 1_000,
        "closeTime": total.close_at // 1_000,
        "firstId": total.first_id,
        "lastId": total.last_id,
        "count": total.count,
    }


async def _ticker_day(desk: Desk, row: Instrument) -> dict[str, Any]:
    mini, book = await asyncio.gather(_ticker_mini(desk, row), _ticker_book(desk, row))
    total = await desk.services.market.ticker(row.symbol)
    if total is None:
        raise errors.unavailable()
    tick = row.tick
    change = total.last - total.open
    average = total.quote * tick // total.volume if total.volume else 0
    return {
        **mini,
        "priceChange": asset_text(change * tick),
        "priceChangePercent": percent(change, total.open),
        "weightedAvgPrice": asset_text(average),
        "prevClosePrice": asset_text(total.previous * tick),
        "lastQty": asset_text(total.last_quantity * row.lot),
        **book,
    }


def percent(change: int, base: int) -> str:
    """A change in per cent, with three decimals: ``-95.960``."""
    if not base:
        return "0.000"
    thousandths = abs(change) * 100_000 // base
    sign = "-" if change < 0 and thousandths else ""
    return f"{sign}{thousandths // 1_000}.{thousandths % 1_000:03d}"


def ticker_weight(few: int, many: int) -> Any:
    """Weights of tickers: of one instrument, or of many."""

    def weight(params: p.Parameters) -> int:
        return few if "symbol" in params else many

    return weight


async def no_markets(desk: Desk, call: Call) -> Any:
    """Clients that look for derivatives, margin or options learn that there are none."""
    return {
        "timezone": "UTC",
        "serverTime": call.now // 1_000,
        "rateLimits": [],
        "exchangeFilters": [],
        "assets": [],
        "symbols": [],
    }


async def no_pairs(desk: Desk, call: Call) -> Any:
    """Nothing is traded on margin."""
    return []


async def currencies(desk: Desk, call: Call) -> Any:
    """The assets that are traded; nothing is paid in or out by this way."""
    names: dict[str, None] = {}
    for row in desk.services.catalogue.all():
        names[row.base] = names[row.quote] = None
    return [
        {
            "coin": name,
            "name": name,
            "depositAllEnable": False,
            "withdrawAllEnable": False,
            "trading": True,
            "isLegalMoney": name in ("USD", "EUR", "CNY"),
            "free": ZERO,
            "locked": ZERO,
            "freeze": ZERO,
            "withdrawing": ZERO,
            "ipoing": ZERO,
            "ipoable": ZERO,
            "storage": ZERO,
            "networkList": [],
        }
        for name in sorted(names)
    ]
