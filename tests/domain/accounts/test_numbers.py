"""Account numbers: what the check digits find."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.accounts.numbers import (
    ACCOUNTS_MAX,
    account_number,
    customer_of,
    parse_account,
    parse_customer,
)

customers = st.integers(1_000_000_000, 9_999_999_999)
indices = st.integers(0, ACCOUNTS_MAX - 1)


@given(customers, indices)
def test_numbers_survive_a_round_trip(customer: int, index: int) -> None:
    number = account_number(customer, index)
    text = str(number)
    assert len(text) == 14
    assert number % 97 == 1
    assert parse_account(text) == number
    assert parse_account(f" {text[:4]} {text[4:8]} {text[8:]} ") == number
    assert customer_of(number) == customer
    assert number // 100 % 100 == index


@given(customers, indices)
def test_every_wrong_digit_is_found(customer: int, index: int) -> None:
    text = str(account_number(customer, index))
    for place, digit in enumerate(text):
        for other in "0123456789":
            if other != digit:
                assert parse_account(text[:place] + other + text[place + 1 :]) is None


@given(customers, indices)
def test_every_swap_of_neighbours_is_found(customer: int, index: int) -> None:
    text = str(account_number(customer, index))
    for place in range(len(text) - 1):
        first, second = text[place], text[place + 1]
        if first != second:
            swapped = text[:place] + second + first + text[place + 2 :]
            assert parse_account(swapped) is None


@pytest.mark.parametrize(
    "text",
    ["", " ", "1", "1" * 13, "1" * 15, "-1000000001000", "1000000001000\n", "١" * 14, "a" * 14],
)
def test_what_is_no_number_is_none(text: str) -> None:
    assert parse_account(text) is None


def test_customer_numbers() -> None:
    assert parse_customer("1000000001") == 1_000_000_001
    for text in ("", "0000000001", "100000000", "10000000011", "1000000001\n", "100000000a"):
        assert parse_customer(text) is None
