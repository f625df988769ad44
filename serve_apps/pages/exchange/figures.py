"""Prices, quantities, balances and small drawings as pages show them. Pure.

Prices come in ticks and quantities in lots; an instrument says what one of each is worth in units
of 10^-8. Nothing here goes through a binary float.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from domain.money import CURRENCIES
from domain.orders import UNIT, UNIT_EXPONENT, OrderStatus, OrderType, Side, TimeInForce

MINUS: Final = "\u2212"
DRAWING_WIDTH: Final = 1_000
DRAWING_HEIGHT: Final = 400
_VOLUME_HEIGHT: Final = 80
_SLOTS_MIN: Final = 60

SIDE_WORDS: Final = {Side.BUY: "Buy", Side.SELL: "Sell"}
TYPE_WORDS: Final = {
    OrderType.LIMIT: "Limit",
    OrderType.MARKET: "Market",
    OrderType.LIMIT_MAKER: "Maker only",
    OrderType.STOP_LOSS_LIMIT: "Stop limit",
    OrderType.STOP_LOSS: "Stop market",
    OrderType.TAKE_PROFIT_LIMIT: "Take-profit limit",
    OrderType.TAKE_PROFIT: "Take-profit market",
}
FORCE_WORDS: Final = {
    TimeInForce.GTC: "Until cancelled",
    TimeInForce.IOC: "At once or cancel",
    TimeInForce.FOK: "All at once or nothing",
    TimeInForce.GTD: "Until a time",
}
ORDER_WORDS: Final = {
    OrderStatus.PENDING: "On its way",
    OrderStatus.NEW: "Open",
    OrderStatus.PARTIALLY_FILLED: "Partly filled",
    OrderStatus.FILLED: "Filled",
    OrderStatus.CANCELED: "Cancelled",
    OrderStatus.REJECTED: "Refused",
    OrderStatus.EXPIRED: "Expired",
    OrderStatus.EXPIRED_IN_MATCH: "Expired",
}
TICKET_TYPES: Final = (
    ("limit", "Limit"),
    ("market", "Market"),
    ("limit_maker", "Limit, maker only"),
    ("stop_limit", "Stop limit"),
    ("stop_market", "Stop market"),
    ("take_profit_limit", "Take-profit limit"),
    ("take_profit_market", "Take-profit market"),
)
TICKET_FORCES: Final = (
    ("gtc", "Until cancelled (GTC)"),
    ("ioc", "At once, rest cancelled (IOC)"),
    ("fok", "All at once or nothing (FOK)"),
    ("gtd", "Until a time (GTD)"),
)
TICKET_SELF_TRADES: Final = (
    ("none", "Trade"),
    ("expire_taker", "Cancel the new order"),
    ("expire_maker", "Cancel the one in the book"),
    ("expire_both", "Cancel both"),
    ("decrement", "Take both down by the smaller"),
)
KIND_WORDS: Final = {
    "stock": "Stock",
    "bond": "Bond",
    "fund": "Fund",
    "crypto": "Crypto",
}


class Steps(Protocol):
    """What is needed of an instrument to write its numbers."""

    @property
    def tick(self) -> int:
        """Size of a tick in units of the quote."""

    @property
    def lot(self) -> int:
        """Size of a lot in units of the base."""


class Bar(Protocol):
    """A candle: prices in ticks, volume in lots."""

    @property
    def open(self) -> int:
        """The first price."""

    @property
    def high(self) -> int:
        """The highest."""

    @property
    def low(self) -> int:
        """The lowest."""

    @property
    def close(self) -> int:
        """The last."""

    @property
    def volume(self) -> int:
        """What was traded."""


class Drawing(msgspec.Struct, frozen=True):
    """Candles as three paths of an SVG of 1,000 by 400: risen, fallen, volume."""

    up: str
    down: str
    volume: str


def decimals_of(step: int) -> int:
    """Decimals that a multiple of ``step`` units of 10^-8 can have."""
    count = UNIT_EXPONENT
    while count and step % 10 == 0:
        step //= 10
        count -= 1
    return count


def units_text(units: int, decimals: int = UNIT_EXPONENT, *, plain: bool = False) -> str:
    """Units of 10^-8 with so many decimals, what is beyond them cut off.

    ``plain`` is for fields and machines: without separators and with an ASCII minus.
    """
    whole, fraction = divmod(abs(units), UNIT)
    shown = f"{fraction:0{UNIT_EXPONENT}d}"[:decimals]
    text = f"{whole}" if plain else f"{whole:,}"
    text += f".{shown}" if decimals else ""
    return ("-" if plain else MINUS) + text if units < 0 else text


def price(ticks: int, steps: Steps, *, plain: bool = False) -> str:
    """A price with the decimals of its tick."""
    return units_text(ticks * steps.tick, decimals_of(steps.tick), plain=plain)


def quantity(lots: int, steps: Steps, *, plain: bool = False) -> str:
    """A quantity with the decimals of its lot."""
    return units_text(lots * steps.lot, decimals_of(steps.lot), plain=plain)


def value(ticks_lots: int, steps: Steps, *, plain: bool = False) -> str:
    """An amount of the quote, given in ticks x lots, with at most as many decimals as it needs."""
    units = ticks_lots * (steps.tick * steps.lot // UNIT)
    return trimmed(units, 2, plain=plain)


def trimmed(units: int, least: int = 0, *, plain: bool = False) -> str:
    """Units of 10^-8 without zeros at the end, but with at least so many decimals."""
    decimals = UNIT_EXPONENT
    rest = abs(units)
    while decimals > least and rest % 10 == 0:
        rest //= 10
        decimals -= 1
    return units_text(units, decimals, plain=plain)


def holding(units: int, asset: str) -> str:
    """A balance: currencies with their cents, everything else as exactly as it is."""
    if asset in CURRENCIES:
        return units_text(units, 2)
    return trimmed(units)


def compact(units: int) -> str:
    """A large amount in few digits: ``1.24 M``."""
    whole = units // UNIT
    for size, mark in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if whole >= size:
            return f"{whole // size}.{whole * 100 // size % 100:02d}\u202f{mark}"
    return trimmed(units - units % (UNIT // 100))


def percent(last: int, first: int) -> str:
    """By how much ``last`` differs from ``first``, in per cent with a sign and two decimals."""
    if not first:
        return "0.00"
    hundredths = (abs(last - first) * 10_000 + first // 2) // first
    sign = "+" if last > first else MINUS if last < first else ""
    return f"{sign}{hundredths // 100:,}.{hundredths % 100:02d}"


def rate_percent(millionths: int) -> str:
    """A fee rate in per cent: 1000 is ``0.1``."""
    text = f"{millionths // 10_000}.{millionths % 10_000:04d}"
    return text.rstrip("0").rstrip(".")


def draw(bars: Sequence[Bar]) -> Drawing:
    """Candles over a strip of volume, as wide as the drawing."""
    if not bars:
        return Drawing("", "", "")
    low, high = min(bar.low for bar in bars), max(bar.high for bar in bars)
    most = max(bar.volume for bar in bars) or 1
    room = DRAWING_HEIGHT - _VOLUME_HEIGHT - 40
    span = max(high - low, 1)

    def y(ticks: int) -> int:
        return 20 + room - (ticks - low) * room // span

    slots = max(len(bars), _SLOTS_MIN)
    width = max(DRAWING_WIDTH * 7 // (slots * 10), 2)
    up: list[str] = []
    down: list[str] = []
    volume: list[str] = []
    for place, bar in enumerate(bars, slots - len(bars)):
        left = place * DRAWING_WIDTH // slots
        top, bottom = y(max(bar.open, bar.close)), y(min(bar.open, bar.close))
        body = f"M{left} {top}h{width}v{max(bottom - top, 2)}h-{width}z"
        wick = f"M{left + width // 2} {y(bar.high)}h1v{max(y(bar.low) - y(bar.high), 1)}h-1z"
        (up if bar.close >= bar.open else down).append(body + wick)
        tall = bar.volume * _VOLUME_HEIGHT // most
        volume.append(f"M{left} {DRAWING_HEIGHT}v-{tall}h{width}v{tall}z")
    return Drawing("".join(up), "".join(down), "".join(volume))


def line(prices: Sequence[int]) -> str:
    """Prices as the points of a line in an SVG of 100 by 30; empty for fewer than two."""
    if len(prices) < 2:
        return ""
    low, span = min(prices), max(max(prices) - min(prices), 1)
    last = len(prices) - 1
    return " ".join(
        f"{place * 100 // last},{28 - (ticks - low) * 26 // span}"
        for place, ticks in enumerate(prices)
    )
