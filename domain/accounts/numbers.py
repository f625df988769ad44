"""Customer numbers and account numbers.

An account number has 14 digits: the customer's number (10), the account's index (2) and two check
digits by ISO 7064 MOD 97-10, as in an IBAN, so that a mistyped digit or a swap of two neighbours
is found before any money moves. Inside the platform both are integers.
"""

from __future__ import annotations

import re
from typing import Final

ACCOUNTS_MAX: Final = 100
"""How many accounts a customer may open in all, closed ones included."""

_ACCOUNT: Final = re.compile(r"[1-9][0-9]{13}", re.ASCII)
_CUSTOMER: Final = re.compile(r"[1-9][0-9]{9}", re.ASCII)


def account_number(customer: int, index: int) -> int:
    """The account number of a customer's account ``index`` (0 to 99)."""
    stem = customer * 100 + index
    return stem * 100 + (98 - stem * 100 % 97)


def customer_of(account: int) -> int:
    """The customer whose account this is."""
    return account // 10_000


def parse_account(text: str) -> int | None:
    """Read an account number, spaces allowed; ``None`` if it cannot be one."""
    digits = text.replace(" ", "")
    if _ACCOUNT.fullmatch(digits) is None or int(digits) % 97 != 1:
        return None
    return int(digits)


def parse_customer(text: str) -> int | None:
    """Read a customer number; ``None`` if it cannot be one."""
    return int(text) if _CUSTOMER.fullmatch(text) else None
