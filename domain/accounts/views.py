"""Answers made from the state of a customer's accounts."""

from __future__ import annotations

from domain.accounts import commands as cmd
from domain.accounts.events import TransferSent
from domain.accounts.policy import Policy
from domain.accounts.state import Account, Customer, spent_on

_DAY_US = 86_400_000_000


def account_view(account: Account) -> cmd.AccountView:
    """An account as its owner sees it."""
    return cmd.AccountView(
        account.id,
        account.currency,
        account.name,
        account.status,
        account.posted,
        account.held,
        account.opened_at,
    )


def customer_view(customer: int, state: Customer, policy: Policy, now: int) -> cmd.CustomerView:
    """Accounts, holds that are active at ``now``, and what is left of the limits of the day."""
    day = now // _DAY_US
    limits = []
    for currency, limit in sorted({**policy.daily_limits, **state.limits}.items()):
        limits.append(cmd.LimitView(currency, limit, spent_on(state, currency, day)))
    return cmd.CustomerView(
        customer,
        tuple(account_view(account) for account in state.accounts.values()),
        tuple(
            cmd.HoldView(hold_id, hold.account, hold.amount, hold.expires_at, hold.purpose)
            for hold_id, hold in state.holds.items()
        ),
        tuple(limits),
    )


def receipt(
    sent: TransferSent, status: cmd.TransferStatus, at: int, reason: str = ""
) -> cmd.Receipt:
    """The receipt of a transfer that was sent at ``at``."""
    return cmd.Receipt(
        sent.transfer,
        status,
        sent.source,
        sent.destination,
        sent.amount,
        sent.fee,
        sent.currency,
        sent.credited,
        sent.credited_currency,
        at,
        sent.rate,
        sent.reference,
        reason,
    )
