"""Fees: proportion rounded up, then the minimum."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.accounts.policy import FeeRate, Policy, transfer_fee
from domain.money import AMOUNT_MAX


@pytest.mark.parametrize(
    ("basis_points", "minimum", "amount", "fee"),
    [
        (50, 10, 1, 10),
        (50, 10, 2_000, 10),
        (50, 10, 2_001, 11),
        (50, 10, 10_000, 50),
        (50, 0, 1, 1),
        (50, 0, 200, 1),
        (50, 0, 201, 2),
        (0, 25, 1_000_000, 25),
        (0, 0, 1_000_000, 0),
        (1, 0, AMOUNT_MAX, AMOUNT_MAX // 10_000),
    ],
)
def test_fee(basis_points: int, minimum: int, amount: int, fee: int) -> None:
    policy = Policy(fees={"USD": FeeRate(basis_points, minimum)}, daily_limits={})
    assert transfer_fee(policy, amount, "USD") == fee


def test_a_currency_without_a_rate_is_free() -> None:
    assert transfer_fee(Policy(fees={}, daily_limits={}), 10_000, "USD") == 0


@given(st.integers(1, AMOUNT_MAX), st.integers(0, 10_000), st.integers(0, 10_000))
def test_the_house_never_loses_by_rounding(amount: int, points: int, minimum: int) -> None:
    fee = transfer_fee(
        Policy(fees={"USD": FeeRate(points, minimum)}, daily_limits={}), amount, "USD"
    )
    exact = max(Fraction(amount * points, 10_000), Fraction(minimum))
    assert exact <= fee < exact + 1
