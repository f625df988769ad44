"""What customers read of their accounts: the projection that writes it and the queries."""

from persistence.accounts.adjustments import (
    AdjustmentRow,
    adjustment,
    adjustments,
    pending_adjustments,
)
from persistence.accounts.projection import AccountsProjection
from persistence.accounts.queries import (
    HistoryFilter,
    HistoryPage,
    TransferRow,
    account_currencies,
    has_accounts,
    history,
    transfer,
)

__all__ = [
    "AccountsProjection",
    "AdjustmentRow",
    "HistoryFilter",
    "HistoryPage",
    "TransferRow",
    "account_currencies",
    "adjustment",
    "adjustments",
    "has_accounts",
    "history",
    "pending_adjustments",
    "transfer",
]
