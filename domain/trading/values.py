"""Numbers that the engine works with: the values of enumerations, bounds, and codes as text.

Plain constants, because the engine is compiled and an enumeration's member costs a look-up each
time; a test holds them against ``domain.orders`` and ``domain.trading.state``.
"""

from __future__ import annotations

from typing import Final

from domain.trading.codes import Refusal

# The values of the enumerations of domain.orders and domain.trading.state, as plain integers.
BUY: Final = 1
SELL: Final = 2
LIMIT: Final = 1
MARKET: Final = 2
LIMIT_MAKER: Final = 3
STOP_LOSS: Final = 4
STOP_LOSS_LIMIT: Final = 5
TAKE_PROFIT: Final = 6
TAKE_PROFIT_LIMIT: Final = 7
GTC: Final = 1
IOC: Final = 2
FOK: Final = 3
GTD: Final = 4
NOBODY: Final = 0
EXPIRE_TAKER: Final = 1
EXPIRE_MAKER: Final = 2
EXPIRE_BOTH: Final = 3
DECREMENT: Final = 4
NEW: Final = 1
PARTIALLY_FILLED: Final = 2
FILLED: Final = 3
CANCELED: Final = 4
REJECTED: Final = 5
EXPIRED: Final = 6
EXPIRED_IN_MATCH: Final = 7
OPEN: Final = 1
HALTED: Final = 2
AUCTION: Final = 3
CLOSED: Final = 4

OWNER_SHIFT: Final = 29
"""The owner of an order is its number shifted right by this."""

SLICES_MAX: Final = 100
"""An iceberg comes in at most so many visible parts: it bounds the trades of one order."""

NUMBER_MAX: Final = 1 << 48
"""No price, trigger or quantity is larger; a price times a quantity is at most ``WORTH_MAX``."""

WORTH_MAX: Final = (1 << 62) - 1

ANY: Final = 1 << 60
"""Further than any price."""

BAND_UNIT: Final = 1_000_000

# Why an order stopped taking.
DONE: Final = 0
"""Nothing is left of it."""
WAITS: Final = 1
"""There is nobody more to trade with at its price."""
SPENT: Final = 2
"""Its budget does not reach for another lot."""
STOPPED: Final = 3
"""It met an order of its own owner."""

# Codes of refusals, looked up once.
MARKET_CLOSED: Final = Refusal.MARKET_CLOSED.value
MARKET_HALTED: Final = Refusal.MARKET_HALTED.value
DUPLICATE_ORDER: Final = Refusal.DUPLICATE_ORDER.value
INVALID_ORDER: Final = Refusal.INVALID_ORDER.value
ICEBERG_SLICES: Final = Refusal.ICEBERG_SLICES.value
ORDER_EXPIRED: Final = Refusal.ORDER_EXPIRED.value
FILTER_BAND: Final = Refusal.FILTER_BAND.value
AUCTION_LIMIT_ONLY: Final = Refusal.AUCTION_LIMIT_ONLY.value
WOULD_TRIGGER: Final = Refusal.WOULD_TRIGGER.value
WOULD_MATCH: Final = Refusal.WOULD_MATCH.value
UNKNOWN_ORDER: Final = Refusal.UNKNOWN_ORDER.value
AMEND_QUANTITY: Final = Refusal.AMEND_QUANTITY.value
