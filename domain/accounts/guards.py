"""The guard clauses that several decisions share, and the bounds that they hold to."""

from __future__ import annotations

import re
from typing import Final

from domain.accounts.codes import Code
from domain.accounts.commands import AccountStatus
from domain.accounts.policy import Policy
from domain.accounts.state import Account, Customer, spent_on
from domain.durable import Rejection

DAY_US: Final = 86_400_000_000
REFERENCE_MAX: Final = 140

_CLOSED: Final = AccountStatus.CLOSED
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def reject(code: Code, **fields: object) -> Rejection:
    """A rejection with its fields as text."""
    return Rejection(code.value, {name: str(value) for name, value in fields.items()})


def bad_text(text: str) -> Rejection | None:
    """Refuse what is too long, or cannot be stored as text or shown on one line."""
    if len(text) > REFERENCE_MAX:
        return reject(Code.REFERENCE_TOO_LONG, maximum=REFERENCE_MAX)
    if has_control(text):
        return reject(Code.TEXT_INVALID)
    return None


def has_control(text: str) -> bool:
    """Whether there are control characters or lone surrogates in it."""
    return _CONTROL.search(text) is not None


def over_limit(
    policy: Policy, state: Customer, currency: str, amount: int, day: int
) -> Rejection | None:
    """Refuse what would pass the customer's limit of the day."""
    limit = state.limits.get(currency, policy.daily_limits.get(currency))
    if limit is None:
        return None
    used = spent_on(state, currency, day)
    if used + amount <= limit:
        return None
    return reject(Code.DAILY_LIMIT_EXCEEDED, limit=limit, remaining=limit - used, currency=currency)


def cannot_leave(account: Account) -> Rejection | None:
    """Refuse to take money from an account that is closed or frozen."""
    if account.status == AccountStatus.CLOSED:
        return reject(Code.ACCOUNT_CLOSED, account=account.id)
    if account.status == AccountStatus.FROZEN:
        return reject(Code.ACCOUNT_FROZEN, account=account.id)
    return None


def cannot_arrive(state: Customer, destination: int, currency: str) -> Rejection | None:
    """Refuse to bring money to an account that is not there, closed or in another currency."""
    account = state.accounts.get(destination)
    if account is None:
        return reject(Code.UNKNOWN_DESTINATION_ACCOUNT, account=destination)
    if account.status is _CLOSED:
        return reject(Code.DESTINATION_CLOSED, account=destination)
    if account.currency != currency:
        return reject(Code.CURRENCY_MISMATCH, currency=currency)
    return None
