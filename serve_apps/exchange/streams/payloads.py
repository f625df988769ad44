"""The stream events of the dialect, as JSON text.

Each is written once for all who follow it, by hand: numbers are strings of digits and symbols are
capitals, so that nothing in them needs escaping, and texts of prices repeat. Times are
milliseconds on the wire.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from actors.marketdata import TimedTrade
from persistence.trading.queries import start_of_next
from serve_apps.exchange.numbers import Steps, asset_text
from serve_apps.exchange.streams.bars import Bar, Totals
from serve_apps.exchange.streams.copy import Best, Levels

_TEXTS_MAX: Final = 50_000
_BUY: Final = 1
STATUSES: Final = {
    0: "UNLISTED",
    1: "TRADING",
    2: "HALTED",
    3: "AUCTION",
    4: "DELISTED",
}
_json: Final = msgspec.json.Encoder().encode


class Texts:
    """Texts of prices, quantities and amounts of one instrument."""

    __slots__ = ("_lot", "_prices", "_quantities", "_unit", "symbol", "tick")

    def __init__(self, symbol: str, steps: Steps) -> None:
        self.symbol = symbol
        self.tick, self._lot, self._unit = steps.tick, steps.lot, steps.unit
        self._prices: dict[int, str] = {}
        self._quantities: dict[int, str] = {}

    def price(self, ticks: int) -> str:
        """Ticks as text."""
        text = self._prices.get(ticks)
        if text is None:
            if len(self._prices) >= _TEXTS_MAX:
                self._prices.clear()
            text = self._prices[ticks] = asset_text(ticks * self.tick)
        return text

    def quantity(self, lots: int) -> str:
        """Lots as text."""
        text = self._quantities.get(lots)
        if text is None:
            if len(self._quantities) >= _TEXTS_MAX:
                self._quantities.clear()
            text = self._quantities[lots] = asset_text(lots * self._lot)
        return text

    def amount(self, quote: int) -> str:
        """Ticks x lots as text."""
        return asset_text(quote * self._unit)


def _pairs(texts: Texts, levels: Iterable[tuple[int, int]]) -> str:
    price, quantity = texts.price, texts.quantity
    return ",".join([f'["{price(p)}","{quantity(q)}"]' for p, q in levels])


def depth_update(
    texts: Texts, at: int, first: int, last: int, levels: dict[tuple[int, int], int]
) -> bytes:
    """Levels that have changed from update ``first`` to ``last``; 0 for those that are gone."""
    bids = _pairs(texts, [(p, q) for (side, p), q in levels.items() if side == _BUY])
    asks = _pairs(texts, [(p, q) for (side, p), q in levels.items() if side != _BUY])
    return (
        f'{{"e":"depthUpdate","E":{at // 1_000},"s":"{texts.symbol}","U":{first},"u":{last},'
        f'"b":[{bids}],"a":[{asks}]}}'
    ).encode()


def partial_depth(texts: Texts, update: int, bids: Levels, asks: Levels) -> bytes:
    """The best levels."""
    return (
        f'{{"lastUpdateId":{update},"bids":[{_pairs(texts, bids)}],"asks":[{_pairs(texts, asks)}]}}'
    ).encode()


def trade(texts: Texts, now: int, item: TimedTrade) -> bytes:
    """One trade."""
    number, price, quantity, side, _, at = item
    maker = "false" if side == _BUY else "true"
    return (
        f'{{"e":"trade","E":{now // 1_000},"s":"{texts.symbol}","t":{number},'
        f'"p":"{texts.price(price)}","q":"{texts.quantity(quantity)}","T":{at // 1_000},'
        f'"m":{maker},"M":true}}'
    ).encode()


def aggregated(trades: Sequence[TimedTrade]) -> list[tuple[TimedTrade, int, int]]:
    """Trades of one taker order at one price as one: the first, their quantity, the last id.

    The id of an aggregate is that of its first trade.
    """
    result: list[tuple[TimedTrade, int, int]] = []
    for item in trades:
        if result and item[4]:
            first, quantity, last = result[-1]
            if first[1] == item[1] and last + 1 == item[0]:
                result[-1] = (first, quantity + item[2], item[0])
                continue
        result.append((item, item[2], item[0]))
    return result


def agg_trade(texts: Texts, now: int, item: TimedTrade, quantity: int, last: int) -> bytes:
    """Trades of one taker at one price."""
    first, price, _, side, _, at = item
    maker = "false" if side == _BUY else "true"
    return (
        f'{{"e":"aggTrade","E":{now // 1_000},"s":"{texts.symbol}","a":{first},'
        f'"p":"{texts.price(price)}","q":"{texts.quantity(quantity)}","f":{first},"l":{last},'
        f'"T":{at // 1_000},"m":{maker},"M":true}}'
    ).encode()


def book_ticker(texts: Texts, update: int, best: Best) -> bytes:
    """The touch."""
    bid, bid_quantity, ask, ask_quantity = best
    return (
        f'{{"u":{update},"s":"{texts.symbol}","b":"{texts.price(bid)}",'
        f'"B":"{texts.quantity(bid_quantity)}","a":"{texts.price(ask)}",'
        f'"A":"{texts.quantity(ask_quantity)}"}}'
    ).encode()


def kline(texts: Texts, now: int, interval: str, bar: Bar, *, closed: bool) -> bytes:
    """A candle. One without trades has -1 for their ids."""
    first, last = (bar.first, bar.last) if bar.first else (-1, -1)
    end = start_of_next(interval, bar.at) // 1_000 - 1
    return (
        f'{{"e":"kline","E":{now // 1_000},"s":"{texts.symbol}","k":{{"t":{bar.at // 1_000},'
        f'"T":{end},"s":"{texts.symbol}","i":"{interval}","f":{first},"L":{last},'
        f'"o":"{texts.price(bar.open)}","c":"{texts.price(bar.close)}",'
        f'"h":"{texts.price(bar.high)}","l":"{texts.price(bar.low)}",'
        f'"v":"{texts.quantity(bar.volume)}","n":{bar.count},"x":{"true" if closed else "false"},'
        f'"q":"{texts.amount(bar.quote)}","V":"{texts.quantity(bar.bought)}",'
        f'"Q":"{texts.amount(bar.bought_quote)}","B":"0"}}}}'
    ).encode()


def mini_ticker(texts: Texts, now: int, totals: Totals) -> bytes:
    """24 hours in short."""
    return (
        f'{{"e":"24hrMiniTicker","E":{now // 1_000},"s":"{texts.symbol}",'
        f'"c":"{texts.price(totals.last)}","o":"{texts.price(totals.open)}",'
        f'"h":"{texts.price(totals.high)}","l":"{texts.price(totals.low)}",'
        f'"v":"{texts.quantity(totals.volume)}","q":"{texts.amount(totals.quote)}"}}'
    ).encode()


def ticker(texts: Texts, now: int, totals: Totals, best: Best) -> bytes:
    """24 hours, with the touch."""
    bid, bid_quantity, ask, ask_quantity = best
    change = totals.last - totals.open
    first, last = (totals.first_id, totals.last_id) if totals.first_id else (-1, -1)
    return (
        f'{{"e":"24hrTicker","E":{now // 1_000},"s":"{texts.symbol}",'
        f'"p":"{texts.price(change)}","P":"{percent(change, totals.open)}",'
        f'"w":"{average(texts, totals)}","x":"{texts.price(totals.previous)}",'
        f'"c":"{texts.price(totals.last)}","Q":"{texts.quantity(totals.last_quantity)}",'
        f'"b":"{texts.price(bid)}","B":"{texts.quantity(bid_quantity)}",'
        f'"a":"{texts.price(ask)}","A":"{texts.quantity(ask_quantity)}",'
        f'"o":"{texts.price(totals.open)}","h":"{texts.price(totals.high)}",'
        f'"l":"{texts.price(totals.low)}","v":"{texts.quantity(totals.volume)}",'
        f'"q":"{texts.amount(totals.quote)}","O":{totals.open_at // 1_000},'
        f'"C":{totals.close_at // 1_000},"F":{first},"L":{last},"n":{totals.count}}}'
    ).encode()


def percent(change: int, base: int) -> str:
    """``change`` in hundredths of ``base``, three decimals, rounded towards zero."""
    if not base:
        return "0.000"
    thousandths = abs(change) * 100_000 // base
    sign = "-" if change < 0 and thousandths else ""
    return f"{sign}{thousandths // 1_000}.{thousandths % 1_000:03d}"


def average(texts: Texts, totals: Totals) -> str:
    """The average price, weighted by quantity."""
    if not totals.volume:
        return texts.price(totals.last)
    return asset_text(totals.quote * texts.tick // totals.volume)


def state(symbol: str, now: int, status: int, reason: str, until: int) -> bytes:
    """Ours: the instrument trades, is halted, in an auction or gone."""
    return _json(
        {
            "e": "instrumentState",
            "E": now // 1_000,
            "s": symbol,
            "state": STATUSES.get(status, "UNLISTED"),
            "reason": reason,
            "until": until // 1_000,
        }
    )


def heartbeat(symbol: str, now: int, update: int, last_trade: int) -> bytes:
    """Ours: the last update and trade, each second."""
    return (
        f'{{"e":"heartbeat","E":{now // 1_000},"s":"{symbol}","u":{update},"t":{last_trade}}}'
    ).encode()


L3Order = tuple[int, int, int]
"""Side, price, visible quantity."""


def l3_update(
    texts: Texts, now: int, first: int, last: int, orders: dict[str, L3Order], *, whole: bool
) -> bytes:
    """Ours: orders that have changed, 0 for those that are gone; ``whole`` for all there are.

    Of one price, those that came first are first.
    """
    sides: tuple[list[str], list[str]] = ([], [])
    for number, (side, price, quantity) in orders.items():
        sides[side != _BUY].append(
            f'["{number}","{texts.price(price)}","{texts.quantity(quantity)}"]'
        )
    kind = "l3Snapshot" if whole else "l3Update"
    return (
        f'{{"e":"{kind}","E":{now // 1_000},"s":"{texts.symbol}","U":{first},"u":{last},'
        f'"b":[{",".join(sides[0])}],"a":[{",".join(sides[1])}]}}'
    ).encode()
