"""Fees and limits: the parameters that the rules are given."""

from __future__ import annotations

import msgspec

BASIS_POINTS = 10_000


class FeeRate(msgspec.Struct, frozen=True):
    """A fee of ``basis_points`` hundredths of a per cent, at least ``minimum`` minor units."""

    basis_points: int
    minimum: int


class Policy(msgspec.Struct, frozen=True):
    """What an operator sets: fees and limits of the day by currency, in minor units.

    A currency without a fee rate is free of charge, one without a limit is unlimited.
    """

    fees: dict[str, FeeRate]
    daily_limits: dict[str, int]
    hold_days_max: int = 90
    holds_max: int = 1_000
    orders_max: int = 5_000


def transfer_fee(policy: Policy, amount: int, currency: str) -> int:
    """The fee for sending ``amount`` to another customer, in minor units of ``currency``.

    The proportional part is rounded up to the next minor unit; then the minimum applies.
    """
    rate = policy.fees.get(currency)
    if rate is None:
        return 0
    return max(rate.minimum, -(-amount * rate.basis_points // BASIS_POINTS))
