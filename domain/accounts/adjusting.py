"""Adjustments under maker and checker, where the money moves.

Nobody checks what they have made, nor makes or checks anything on accounts of their own; what is
approved is what was seen; a proposal that nobody decides expires. The counterpart is the house's
account ``adjustments``. A freeze does not stop an adjustment: it may be why there is one.
"""

from __future__ import annotations

from typing import Final

from domain.accounts import events as ev
from domain.accounts.adjustment import (
    AdjustmentReply,
    AdjustmentStatus,
    DecideAdjustment,
    ProposeAdjustment,
    adjustment_digest,
)
from domain.accounts.codes import Code
from domain.accounts.commands import AccountStatus
from domain.accounts.guards import DAY_US, bad_text, reject
from domain.accounts.numbers import customer_of
from domain.accounts.state import Account, Adjustment, Customer
from domain.durable import Decision, Rejection
from domain.money import AMOUNT_MAX

PENDING_MAX: Final = 20
"""So many adjustments of one customer may wait for a decision."""

LIFE_US: Final = 7 * DAY_US
"""How long a proposal waits."""


class AdjustmentDecisions:
    """The part of ``AccountsMachine`` that deals with adjustments."""

    def _propose(
        self, state: Customer, command: ProposeAdjustment, now: int
    ) -> Decision | Rejection:
        if not command.amount:
            return reject(Code.AMOUNT_NOT_POSITIVE)
        if abs(command.amount) > AMOUNT_MAX:
            return reject(Code.AMOUNT_TOO_LARGE, maximum=AMOUNT_MAX)
        refused = bad_text(command.reason)
        if refused is not None:
            return refused
        if not command.reason.strip():
            return reject(Code.REASON_MISSING)
        account = state.accounts.get(command.account)
        if account is None:
            return reject(Code.UNKNOWN_SOURCE_ACCOUNT, account=command.account)
        if command.maker == customer_of(command.account):
            return reject(Code.ADJUSTMENT_OWN)
        refused = _cannot_post(account, command.amount)
        if refused is not None:
            return refused
        if len(state.adjustments or ()) >= PENDING_MAX:
            return reject(Code.TOO_MANY_ADJUSTMENTS, maximum=PENDING_MAX)
        event = ev.AdjustmentProposed(
            command.id,
            command.account,
            account.currency,
            command.amount,
            command.reason,
            command.maker,
            now,
            now + LIFE_US,
        )
        return Decision(
            [event],
            AdjustmentReply(
                command.id,
                command.account,
                account.currency,
                command.amount,
                command.reason,
                command.maker,
                now + LIFE_US,
                AdjustmentStatus.PENDING,
            ),
        )

    def _decide_adjustment(
        self, state: Customer, command: DecideAdjustment, now: int
    ) -> Decision | Rejection:
        refused = bad_text(command.note)
        if refused is not None:
            return refused
        if not command.approve and not command.note.strip():
            return reject(Code.REASON_MISSING)
        waiting = (state.adjustments or {}).get(command.adjustment)
        if waiting is None:
            return reject(Code.ADJUSTMENT_UNKNOWN)
        if command.checker == command.customer:
            return reject(Code.ADJUSTMENT_OWN)
        if command.checker == waiting.maker:
            return reject(Code.ADJUSTMENT_MAKER)
        account = state.accounts[waiting.account]
        if command.digest != _digest(command.adjustment, waiting, account):
            return reject(Code.ADJUSTMENT_CHANGED)
        if waiting.expires_at <= now:
            return reject(Code.ADJUSTMENT_EXPIRED)
        status = AdjustmentStatus.REFUSED
        event: ev.Event = ev.AdjustmentRefused(
            command.adjustment, waiting.account, command.checker, command.note, now
        )
        if command.approve:
            refused = _cannot_post(account, waiting.amount)
            if refused is not None:
                return refused
            status = AdjustmentStatus.POSTED
            event = ev.AdjustmentPosted(
                command.adjustment,
                waiting.account,
                account.currency,
                waiting.amount,
                waiting.reason,
                waiting.maker,
                command.checker,
                now,
                command.note,
            )
        return Decision(
            [event],
            AdjustmentReply(
                command.adjustment,
                waiting.account,
                account.currency,
                waiting.amount,
                waiting.reason,
                waiting.maker,
                waiting.expires_at,
                status,
                command.checker,
            ),
        )

    def expired_adjustments(self, state: Customer, now: int) -> list[ev.AdjustmentExpired]:
        """The proposals that nobody has decided in time."""
        return [
            ev.AdjustmentExpired(adjustment, waiting.account)
            for adjustment, waiting in (state.adjustments or {}).items()
            if waiting.expires_at <= now
        ]


def _digest(adjustment: bytes, waiting: Adjustment, account: Account) -> bytes:
    return adjustment_digest(
        adjustment,
        waiting.account,
        account.currency,
        waiting.amount,
        waiting.reason,
        waiting.maker,
        waiting.expires_at,
    )


def _cannot_post(account: Account, amount: int) -> Rejection | None:
    """Refuse what would be posted to a closed account, or take more than is available."""
    if account.status == AccountStatus.CLOSED:
        return reject(Code.ACCOUNT_CLOSED, account=account.id)
    if account.available + amount < 0:
        return reject(
            Code.INSUFFICIENT_FUNDS,
            available=account.available,
            needed=-amount,
            currency=account.currency,
        )
    return None
