"""Amounts as text and back, and conversion."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.money import (
    AMOUNT_MAX,
    CURRENCIES,
    RATE_SCALE,
    AmountError,
    convert,
    format_amount,
    parse_amount,
)

currencies = st.sampled_from(sorted(CURRENCIES))


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0", 0),
        ("0.00", 0),
        ("0.01", 1),
        ("1", 100),
        ("1.5", 150),
        ("1.50", 150),
        ("007.05", 705),
        ("12345678.90", 1_234_567_890),
        ("10000000000000.00", AMOUNT_MAX),
    ],
)
def test_reads_plain_decimals(text: str, amount: int) -> None:
    assert parse_amount(text, "USD") == amount


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "amount_invalid"),
        (".", "amount_invalid"),
        (".5", "amount_invalid"),
        ("5.", "amount_invalid"),
        ("-1", "amount_invalid"),
        ("+1", "amount_invalid"),
        (" 1", "amount_invalid"),
        ("1\n", "amount_invalid"),
        ("1,000", "amount_invalid"),
        ("1_000", "amount_invalid"),
        ("1e3", "amount_invalid"),
        ("0x10", "amount_invalid"),
        ("NaN", "amount_invalid"),
        ("Infinity", "amount_invalid"),
        ("١٢", "amount_invalid"),
        ("１２", "amount_invalid"),
        ("1.2.3", "amount_invalid"),
        ("9" * 17, "amount_invalid"),
        ("1.001", "too_many_decimals"),
        ("1.000", "too_many_decimals"),
        ("10000000000000.01", "amount_too_large"),
        ("9" * 16, "amount_too_large"),
    ],
)
def test_refuses_all_else(text: str, code: str) -> None:
    with pytest.raises(AmountError) as caught:
        parse_amount(text, "USD")
    assert caught.value.code == code


@given(st.integers(0, AMOUNT_MAX), currencies)
def test_amounts_survive_a_round_trip(amount: int, currency: str) -> None:
    text = format_amount(amount, currency)
    assert parse_amount(text, currency) == amount
    assert Fraction(text) == Fraction(amount, CURRENCIES[currency].scale)


@given(st.integers(-AMOUNT_MAX, -1), currencies)
def test_negative_amounts_are_written_with_a_sign(amount: int, currency: str) -> None:
    assert format_amount(amount, currency) == "-" + format_amount(-amount, currency)


@given(st.text(max_size=12), currencies)
def test_any_text_is_an_amount_or_a_rejection(text: str, currency: str) -> None:
    outcome: int | str
    try:
        outcome = parse_amount(text, currency)
    except AmountError as error:
        outcome = error.code
    if isinstance(outcome, str):
        assert outcome in {"amount_invalid", "too_many_decimals", "amount_too_large"}
    else:
        assert 0 <= outcome <= AMOUNT_MAX


@pytest.mark.parametrize(
    ("amount", "rate", "credited"),
    [
        (100, RATE_SCALE, 100),
        (100, 7_123_456_789, 712),
        (1, RATE_SCALE - 1, 0),
        (199, RATE_SCALE // 2, 99),
        (AMOUNT_MAX, RATE_SCALE, AMOUNT_MAX),
    ],
)
def test_conversion_rounds_down(amount: int, rate: int, credited: int) -> None:
    assert convert(amount, "USD", "CNY", rate) == credited


@given(
    st.integers(0, AMOUNT_MAX),
    st.integers(1, 10**13),
    currencies,
    currencies,
)
def test_conversion_never_makes_money(
    amount: int, rate: int, source: str, destination: str
) -> None:
    exact = (
        Fraction(amount, CURRENCIES[source].scale)
        * Fraction(rate, RATE_SCALE)
        * CURRENCIES[destination].scale
    )
    credited = convert(amount, source, destination, rate)
    assert credited <= exact < credited + 1
