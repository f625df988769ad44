"""Decimal numbers as clients write them, and the integers that everything else works with.

Prices are ticks and quantities lots of the instrument, amounts are units of 10^-8. Between text
and integer there is never a binary float.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, Protocol

from domain.durable import Rejection
from domain.orders import UNIT, UNIT_EXPONENT
from serve_apps.exchange.errors import Refused, filter_failure, illegal

LEGAL: Final = r"^([0-9]{1,20})(\.[0-9]{1,20})?$"
INTEGER_MAX: Final = 2**63 - 1

_DECIMAL: Final = re.compile(r"([0-9]{1,20})(?:\.([0-9]{1,20}))?", re.ASCII)
_ZEROS: Final = "0" * UNIT_EXPONENT


class Steps(Protocol):
    """What of an instrument is needed here, in units of 10^-8."""

    @property
    def tick(self) -> int:
        """Size of a tick."""

    @property
    def lot(self) -> int:
        """Size of a lot."""

    @property
    def unit(self) -> int:
        """Units of the quote in one tick x lot."""


@lru_cache(maxsize=65_536)
def _units(text: str) -> int:
    """Units of 10^-8. ``ValueError``: no decimal number; ``ArithmeticError``: too precise."""
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise ValueError(text)
    fraction = match[2]
    if fraction is None:
        return int(match[1]) * UNIT
    if len(fraction) > UNIT_EXPONENT:
        if fraction[UNIT_EXPONENT:].strip("0"):
            raise ArithmeticError(text)
        fraction = fraction[:UNIT_EXPONENT]
    return int(match[1] + fraction + _ZEROS[len(fraction) :])


def units(name: str, text: str) -> int:
    """The units in a parameter; raises ``Refused`` with -1100, -1111 or -1108."""
    try:
        value = _units(text)
    except ValueError:
        raise illegal(name, LEGAL) from None
    except ArithmeticError:
        raise Refused(-1111, f"Parameter '{name}' has too much precision.") from None
    if value > INTEGER_MAX:
        raise Refused(-1108, f"Parameter '{name}' overflowed.")
    return value


def ticks(name: str, text: str, instrument: Steps) -> int:
    """A price in ticks; raises ``Refused``, for one between two ticks with PRICE_FILTER."""
    price, rest = divmod(units(name, text), instrument.tick)
    if rest or not price:
        raise filter_failure("PRICE_FILTER")
    return price


def lots(name: str, text: str, instrument: Steps) -> int:
    """A quantity in lots; raises ``Refused``, for a broken lot with LOT_SIZE."""
    quantity, rest = divmod(units(name, text), instrument.lot)
    if rest or not quantity:
        raise filter_failure("LOT_SIZE")
    return quantity


def parse(text: str, step: int) -> int | Rejection:
    """Steps of ``step`` units in what somebody has typed, for pages; never less than one."""
    try:
        value, rest = divmod(_units(text.strip()), step)
    except (ValueError, ArithmeticError):
        return Rejection("amount_invalid", {"step": shortest(step)})
    if rest or not 0 < value <= INTEGER_MAX:
        return Rejection("step_invalid", {"step": shortest(step)})
    return value


@lru_cache(maxsize=65_536)
def asset_text(amount: int) -> str:
    """Units with all eight decimals, as the dialect writes every number."""
    if amount < 0:
        return "-" + asset_text(-amount)
    return f"{amount // UNIT}.{amount % UNIT:08d}"


def price_text(price: int, instrument: Steps) -> str:
    """A price as the dialect writes it."""
    return asset_text(price * instrument.tick)


def quantity_text(quantity: int, instrument: Steps) -> str:
    """A quantity as the dialect writes it."""
    return asset_text(quantity * instrument.lot)


def shortest(amount: int) -> str:
    """Units without the zeros at the end: ``0.01``."""
    return asset_text(amount).rstrip("0").rstrip(".")


def decimals(step: int) -> int:
    """Decimals that a multiple of ``step`` units can have."""
    text = shortest(step)
    return len(text) - text.index(".") - 1 if "." in text else 0


def step_text(amount: int, step: int) -> str:
    """Units with as many decimals as the step has, for people: ``64210.50``."""
    places = decimals(step)
    text = asset_text(amount)
    return text[: len(text) - UNIT_EXPONENT + places] if places else text[:-9]
