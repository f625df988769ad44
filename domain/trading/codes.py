"""Why the engine refuses an action, in order of precedence: the first that applies is the answer.

A refused action changes nothing. It stands beside the engine so that the ingress can put each
code into words without knowing the engine.
"""

from __future__ import annotations

from enum import StrEnum


class Refusal(StrEnum):
    """Codes of refused actions, as ``Update.code`` carries them."""

    MARKET_CLOSED = "market_closed"
    """The instrument was delisted."""
    MARKET_HALTED = "market_halted"
    """Trading is halted; orders can be cancelled and reduced, not placed."""
    DUPLICATE_ORDER = "duplicate_order"
    """An order with this number is in the book."""
    INVALID_ORDER = "invalid_order"
    """A field is out of range, or does not go with the order's type."""
    ICEBERG_SLICES = "iceberg_slices"
    """The visible part is less than a hundredth of the order."""
    ORDER_EXPIRED = "order_expired"
    """The order's end is in the past."""
    FILTER_BAND = "filter_band"
    """The price lies too far from the reference price."""
    AUCTION_LIMIT_ONLY = "auction_limit_only"
    """An auction collects limit orders and stops that can wait, nothing else."""
    WOULD_TRIGGER = "would_trigger"
    """The last price has reached the stop's trigger already."""
    WOULD_MATCH = "would_match"
    """A limit-maker order would take."""
    UNKNOWN_ORDER = "unknown_order"
    """No such order is in the book, any more or yet."""
    AMEND_QUANTITY = "amend_quantity"
    """An order can only be reduced, and not below what has been filled."""
