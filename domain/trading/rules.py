"""What an instrument is and what its book admits: the terms under which it is listed.

Prices are ticks, quantities lots. ``tick`` is the size of a tick in 10^-8 of the quote asset for a
whole base, ``lot`` the size of a lot in 10^-8 of the base, so that one tick times one lot is
``unit`` units of the quote asset: a whole number, or amounts would have to be rounded.
"""

from __future__ import annotations

import re
from enum import IntEnum, StrEnum
from typing import Final

import msgspec

from domain.orders import RATE_UNIT, UNIT

AMOUNT_MAX: Final = 2**62
"""The most that one order may be worth, in units: amounts fit into 64 bits with room for sums."""

ORDERS_MAX: Final = 10_000
"""The most open orders of a customer in a book that an instrument may allow."""

NAME_MAX: Final = 80
DESCRIPTION_MAX: Final = 2_000
REASON_MAX: Final = 200

_ASSET: Final = re.compile(r"[A-Z][A-Z0-9]{1,9}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_CONTROL_TEXT: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


class InstrumentType(StrEnum):
    """What is traded."""

    STOCK = "stock"
    BOND = "bond"
    FUND = "fund"
    CRYPTO = "crypto"


class BookStatus(IntEnum):
    """What a book does. Orders can be cancelled in all but the last, which has none."""

    UNLISTED = 0
    TRADING = 1
    HALTED = 2
    AUCTION = 3
    DELISTED = 4


class BookCode(StrEnum):
    """Why a book refuses, beside the engine's own reasons (``codes.Refusal``).

    The first block is about commands for the instrument, the second about orders: these are
    checked in this order after the market's state and before everything else.
    """

    SYMBOL_INVALID = "symbol_invalid"
    """The symbol is not base and quote, or one of them is no name of an asset."""
    RULES_INVALID = "rules_invalid"
    """The sizes do not fit each other; ``field`` says which."""
    TEXT_INVALID = "text_invalid"
    """A name, description or reason is empty, too long or has control characters in it."""
    UNKNOWN_INSTRUMENT = "unknown_instrument"
    """Nothing is listed under this symbol."""
    ALREADY_LISTED = "already_listed"
    """The symbol is or was an instrument's; it is never given again."""
    STATUS_INVALID = "status_invalid"
    """The book is not in a state in which that can be done."""
    TIME_INVALID = "time_invalid"
    """The time is not in the future."""

    NOT_ATTEMPTED = "not_attempted"
    """The action before was refused, and this one was to follow only upon its success."""
    FILTER_QUANTITY = "filter_quantity"
    """The quantity is missing, or larger than the instrument allows."""
    FILTER_PRICE = "filter_price"
    """A price or trigger is missing where one must be, or larger than the instrument allows."""
    FILTER_NOTIONAL = "filter_notional"
    """The order is worth less than the instrument's minimum."""
    TOO_MANY_ORDERS = "too_many_orders"
    """The customer has as many open orders in this book as are allowed."""


class About(msgspec.Struct, frozen=True, array_like=True):
    """What people are told of an instrument. ``maker`` and ``taker`` are fee rates in millionths.

    ``issued`` is how much of the base there is, in units, and ``issuer`` the customer to whom it
    was issued; both 0 where that is not this platform's doing.
    """

    type: InstrumentType
    name: str
    description: str = ""
    maker: int = 1_000
    taker: int = 1_000
    issued: int = 0
    issuer: int = 0


class Rules(msgspec.Struct, frozen=True, array_like=True):
    """What the book admits.

    ``notional_min`` is in ticks x lots. ``band_up`` and ``band_down`` say how far from the
    reference price an order may be, in millionths of it, 0 for any distance. ``orders_max`` is
    per customer. ``reference`` is the reference price until something has been traded, 0 for none.
    """

    base: str
    quote: str
    tick: int
    lot: int
    notional_min: int = 1
    quantity_max: int = 10**8
    price_max: int = 10**8
    band_up: int = 0
    band_down: int = 0
    orders_max: int = 200
    reference: int = 0

    @property
    def symbol(self) -> str:
        """The name of the instrument."""
        return self.base + self.quote

    @property
    def unit(self) -> int:
        """Units of the quote asset in one tick times one lot."""
        return self.tick * self.lot // UNIT


def flaw_of_rules(rules: Rules) -> str:
    """The first field of ``rules`` that cannot be; empty when they are sound."""
    positive = ("tick", "lot", "notional_min", "quantity_max", "price_max", "orders_max")
    for field in positive:
        if getattr(rules, field) < 1:
            return field
    for field in ("band_up", "band_down", "reference"):
        if getattr(rules, field) < 0:
            return field
    if rules.tick > AMOUNT_MAX or rules.lot > AMOUNT_MAX or rules.tick * rules.lot % UNIT:
        return "tick"
    if rules.price_max * rules.quantity_max * rules.unit > AMOUNT_MAX:
        return "quantity_max"
    if rules.quantity_max * rules.lot > AMOUNT_MAX:
        return "quantity_max"
    if rules.notional_min > rules.price_max * rules.quantity_max:
        return "notional_min"
    if rules.band_down >= RATE_UNIT:
        return "band_down"
    if rules.band_up > 1_000 * RATE_UNIT:
        return "band_up"
    if rules.orders_max > ORDERS_MAX:
        return "orders_max"
    if rules.reference > rules.price_max:
        return "reference"
    return ""


def flaw_of_symbol(symbol: str, rules: Rules) -> bool:
    """Whether the symbol is not base and quote, each a name of 2 to 10 capitals and digits."""
    named = _ASSET.fullmatch(rules.base) and _ASSET.fullmatch(rules.quote)
    return not named or rules.base == rules.quote or symbol != rules.symbol


def flaw_of_about(about: About) -> str:
    """The first field of ``about`` that cannot be; empty when it is sound."""
    if flaw_of_text(about.name, NAME_MAX):
        return "name"
    if len(about.description) > DESCRIPTION_MAX or _CONTROL_TEXT.search(about.description):
        return "description"
    for field in ("maker", "taker"):
        if not 0 <= getattr(about, field) < RATE_UNIT:
            return field
    for field in ("issued", "issuer"):
        if not 0 <= getattr(about, field) <= AMOUNT_MAX:
            return field
    return ""


def flaw_of_text(text: str, length_max: int) -> bool:
    """Whether a line of text is empty, too long or has control characters."""
    return not 1 <= len(text.strip()) <= length_max or bool(_CONTROL.search(text))
