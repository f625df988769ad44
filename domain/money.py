"""Currencies and exact amounts.

An amount is an ``int`` in the currency's minor unit (cents, fen) everywhere but at the edges,
where it is a decimal string. Binary floats never touch money.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

RATE_SCALE: Final = 10**9
"""A conversion rate is an ``int``: destination units per source unit, times this."""

AMOUNT_MAX: Final = 10**15
"""The largest amount of one movement, in minor units; keeps every sum within 64 bits."""

_DECIMAL: Final = re.compile(r"([0-9]{1,16})(?:\.([0-9]{1,18}))?", re.ASCII)


class Currency(msgspec.Struct, frozen=True):
    """An ISO 4217 currency: ``exponent`` is the number of decimals of its minor unit."""

    code: str
    exponent: int
    symbol: str
    name: str

    @property
    def scale(self) -> int:
        """Minor units in one whole unit."""
        return int(10**self.exponent)


CURRENCIES: Final[dict[str, Currency]] = {
    currency.code: currency
    for currency in (
        Currency("USD", 2, "$", "US dollar"),
        Currency("CNY", 2, "¥", "Chinese yuan"),
        Currency("EUR", 2, "€", "Euro"),
    )
}


class AmountError(ValueError):
    """An amount that cannot be read. ``code`` is the rejection code to answer with."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def parse_amount(text: str, currency: str) -> int:
    """Read a decimal string such as ``"12.50"`` as minor units.

    Signs, exponents, separators and more decimals than the currency has are refused with
    ``AmountError``; zero is read (whether it is allowed is the command's business).
    """
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise AmountError("amount_invalid", "An amount is digits with an optional decimal point.")
    whole, fraction = match.group(1), match.group(2) or ""
    exponent = CURRENCIES[currency].exponent
    if len(fraction) > exponent:
        raise AmountError("too_many_decimals", f"{currency} has {exponent} decimals.")
    amount = int(whole + fraction.ljust(exponent, "0"))
    if amount > AMOUNT_MAX:
        raise AmountError("amount_too_large", "The amount is larger than one movement may be.")
    return amount


def format_amount(amount: int, asset: str) -> str:
    """Write minor units as a plain decimal string with all decimals of the currency.

    An asset that is no currency says itself how many it has: ``BTC.8``.
    """
    _, dot, decimals = asset.rpartition(".")
    exponent = int(decimals) if dot else CURRENCIES[asset].exponent
    sign = "-" if amount < 0 else ""
    digits = str(abs(amount)).rjust(exponent + 1, "0")
    return f"{sign}{digits[:-exponent]}.{digits[-exponent:]}" if exponent else sign + digits


def convert(amount: int, source: str, destination: str, rate: int) -> int:
    """Convert minor units of ``source`` at ``rate`` (see ``RATE_SCALE``).

    The result is rounded down to the destination's minor unit: a conversion never creates money.
    """
    numerator = amount * rate * CURRENCIES[destination].scale
    return numerator // (RATE_SCALE * CURRENCIES[source].scale)
