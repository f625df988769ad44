"""Holds: funds put aside, and how each hold ends once: posted, voided or expired."""

from __future__ import annotations

from abc import ABC, abstractmethod

from domain.accounts import commands as cmd
from domain.accounts import events as ev
from domain.accounts.codes import Code
from domain.accounts.guards import (
    DAY_US,
    bad_text,
    cannot_arrive,
    cannot_leave,
    over_limit,
    reject,
)
from domain.accounts.numbers import customer_of
from domain.accounts.policy import Policy, transfer_fee
from domain.accounts.state import Customer
from domain.durable import Decision, Rejection
from domain.money import AMOUNT_MAX


class HoldDecisions(ABC):
    """The part of ``AccountsMachine`` that deals with holds."""

    policy: Policy

    @abstractmethod
    def send(self, state: Customer, sent: ev.TransferSent, now: int) -> Decision:
        """Carry out a judged transfer; see ``AccountsMachine``."""

    # -- holds ----------------------------------------------------------------------------

    def _reserve(self, state: Customer, command: cmd.ReserveHold, now: int) -> Decision | Rejection:
        if command.amount <= 0:
            return reject(Code.AMOUNT_NOT_POSITIVE)
        if command.amount > AMOUNT_MAX:
            return reject(Code.AMOUNT_TOO_LARGE, maximum=AMOUNT_MAX)
        refused = bad_text(command.purpose)
        if refused is not None:
            return refused
        account = state.accounts.get(command.account)
        if account is None:
            return reject(Code.UNKNOWN_SOURCE_ACCOUNT, account=command.account)
        refused = cannot_leave(account)
        if refused is not None:
            return refused
        if not now < command.expires_at <= now + self.policy.hold_days_max * DAY_US:
            return reject(Code.EXPIRY_INVALID, days_max=self.policy.hold_days_max)
        if account.available < command.amount:
            return reject(
                Code.INSUFFICIENT_FUNDS,
                available=account.available,
                needed=command.amount,
                currency=account.currency,
            )
        if len(state.holds) >= self.policy.holds_max:
            return reject(Code.TOO_MANY_HOLDS, maximum=self.policy.holds_max)
        view = cmd.HoldView(
            command.id, command.account, command.amount, command.expires_at, command.purpose
        )
        event = ev.HoldReserved(
            command.id, command.account, command.amount, command.expires_at, command.purpose
        )
        return Decision([event], cmd.HoldReply(view))

    def _post_hold(self, state: Customer, command: cmd.PostHold, now: int) -> Decision | Rejection:
        if command.amount <= 0:
            return reject(Code.AMOUNT_NOT_POSITIVE)
        refused = bad_text(command.reference)
        if refused is not None:
            return refused
        hold = state.holds.get(command.hold)
        if hold is not None and hold.account == command.destination:
            return reject(Code.SAME_ACCOUNT, account=command.destination)
        own = customer_of(command.destination) == command.customer
        if not command.destination_currency or (own and command.destination not in state.accounts):
            return reject(Code.UNKNOWN_DESTINATION_ACCOUNT, account=command.destination)
        if hold is None or hold.expires_at <= now:
            return reject(Code.HOLD_UNKNOWN)
        source = state.accounts[hold.account]
        if own:
            refused = cannot_arrive(state, command.destination, source.currency)
            if refused is not None:
                return refused
        if command.destination_currency != source.currency:
            return reject(Code.CURRENCY_MISMATCH, currency=command.destination_currency)
        fee = 0 if own else transfer_fee(self.policy, command.amount, source.currency)
        if command.amount + fee > hold.amount:
            return reject(Code.HOLD_EXCEEDED, held=hold.amount, needed=command.amount + fee)
        day = now // DAY_US
        if not own:
            refused = over_limit(self.policy, state, source.currency, command.amount, day)
            if refused is not None:
                return refused
        sent = ev.TransferSent(
            command.id,
            command.fingerprint,
            hold.account,
            command.destination,
            command.amount,
            fee,
            source.currency,
            command.amount,
            source.currency,
            None,
            command.reference,
            day,
            not own,
            command.hold,
            hold.amount if command.release else command.amount + fee,
        )
        return self.send(state, sent, now)

    def _void_hold(self, state: Customer, command: cmd.VoidHold, now: int) -> Decision | Rejection:
        hold = state.holds.get(command.hold)
        if hold is None:
            return reject(Code.HOLD_UNKNOWN)
        view = cmd.HoldView(command.hold, hold.account, 0, hold.expires_at, hold.purpose)
        return Decision([ev.HoldEnded(command.hold, hold.account, False)], cmd.HoldReply(view))

    def _expire_holds(
        self, state: Customer, command: cmd.ExpireHolds, now: int
    ) -> Decision | Rejection:
        return Decision(
            [
                ev.HoldEnded(hold_id, hold.account, True)
                for hold_id, hold in state.holds.items()
                if hold.expires_at <= now
            ],
            cmd.Done(),
        )
