"""Adjustments: what the back office asks of a customer's accounts, and the answers.

One person makes a proposal, another checks it; see ``adjusting`` for the rules. Amounts are signed
minor units: more for the customer, or less. Times are microseconds since the epoch.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum

import msgspec


class AdjustmentStatus(IntEnum):
    """Life of an adjustment: it waits, and ends once."""

    PENDING = 1
    POSTED = 2
    REFUSED = 3
    EXPIRED = 4


class _Wire(msgspec.Struct, frozen=True, array_like=True, gc=False):
    pass


class ProposeAdjustment(_Wire, frozen=True, tag=15):
    """Propose to change a balance; ``id`` is the adjustment's. ``maker`` is a user."""

    id: bytes
    fingerprint: bytes
    account: int
    amount: int
    reason: str
    maker: int


class DecideAdjustment(_Wire, frozen=True, tag=16):
    """Approve or refuse an adjustment. ``digest`` is of what the checker has seen."""

    id: bytes
    fingerprint: bytes
    customer: int
    adjustment: bytes
    digest: bytes
    checker: int
    approve: bool
    note: str = ""


Command = ProposeAdjustment | DecideAdjustment
"""What the back office may ask."""


class AdjustmentReply(_Wire, frozen=True, tag=26):
    """An adjustment as it stands; ``checker`` is 0 while nobody has decided."""

    id: bytes
    account: int
    currency: str
    amount: int
    reason: str
    maker: int
    expires_at: int
    status: AdjustmentStatus
    checker: int = 0


def adjustment_digest(
    adjustment: bytes,
    account: int,
    currency: str,
    amount: int,
    reason: str,
    maker: int,
    expires_at: int,
) -> bytes:
    """A hash of everything that a checker has to see: of a changed proposal it is another one."""
    told = (adjustment.hex(), account, currency, amount, maker, expires_at, reason)
    return hashlib.blake2b("\0".join(map(str, told)).encode(), digest_size=16).digest()
