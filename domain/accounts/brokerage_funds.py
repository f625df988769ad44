"""What a customer does with a brokerage besides trading: fund, withdraw, look, set a timer.

Money comes from current accounts and goes back to them, in whole minor units. Everything else that
is traded comes into being by ``IssueAsset``, which only the operator may ask for.
"""

from __future__ import annotations

import re
from typing import Final

from domain.accounts import events as ev
from domain.accounts import trading as tr
from domain.accounts.brokerage import Brokerage
from domain.accounts.codes import Code
from domain.accounts.commands import AccountStatus, Done
from domain.accounts.guards import DAY_US, cannot_leave, reject
from domain.accounts.numbers import customer_of
from domain.accounts.placing import open_cancels
from domain.accounts.reports import brokerage_view
from domain.accounts.state import Account, Customer
from domain.accounts.trading import HOLDING_MAX, BalanceView
from domain.durable import Decision, Message, Rejection
from domain.money import AMOUNT_MAX, CURRENCIES
from domain.orders import BOOKS, UNIT, Work

SWITCHES_MAX: Final = 100
_ASSET: Final = re.compile(r"[A-Z][A-Z0-9]{1,9}")
_SYMBOL: Final = re.compile(r"[A-Z0-9]{0,20}")


def units_of(amount: int, currency: str) -> int:
    """Minor units of a currency as units of the brokerage."""
    return amount * (UNIT // CURRENCIES[currency].scale)


def _balance(state: Customer, asset: str) -> BalanceView:
    brokerage = state.brokerage
    balance = None if brokerage is None else brokerage.balances.get(asset)
    if balance is None:
        return BalanceView(asset, 0, 0)
    return BalanceView(asset, balance.total, balance.held)


class FundsDecisions:
    """The part of ``AccountsMachine`` that deals with a brokerage's funds and timers."""

    def _fund(self, state: Customer, command: tr.FundBrokerage, now: int) -> Decision | Rejection:
        account = _account(state, command, Code.UNKNOWN_SOURCE_ACCOUNT)
        if type(account) is Rejection:
            return account
        refused = cannot_leave(account)
        if refused is not None:
            return refused
        currency, amount = account.currency, command.amount
        if account.available < amount:
            return _short(account.available, amount, currency)
        quantity, before = units_of(amount, currency), _balance(state, currency)
        if before.total + quantity > HOLDING_MAX:
            maximum = (HOLDING_MAX - before.total) // units_of(1, currency)
            return reject(Code.AMOUNT_TOO_LARGE, maximum=max(0, maximum))
        event = ev.BrokerageFunded(
            command.id, command.fingerprint, account.id, currency, amount, quantity, now
        )
        return Decision([event], _reply(command, quantity, before, now))

    def _withdraw(
        self, state: Customer, command: tr.WithdrawBrokerage, now: int
    ) -> Decision | Rejection:
        account = _account(state, command, Code.UNKNOWN_DESTINATION_ACCOUNT)
        if type(account) is Rejection:
            return account
        if account.status is AccountStatus.CLOSED:
            return reject(Code.DESTINATION_CLOSED, account=account.id)
        currency, amount = account.currency, command.amount
        quantity, before = units_of(amount, currency), _balance(state, currency)
        if before.available < quantity:
            return _short(before.available // units_of(1, currency), amount, currency)
        event = ev.BrokerageWithdrawn(
            command.id, command.fingerprint, account.id, currency, amount, quantity, now
        )
        return Decision([event], _reply(command, -quantity, before, now))

    def _issue(self, state: Customer, command: tr.IssueAsset, now: int) -> Decision | Rejection:
        if command.quantity <= 0:
            return reject(Code.AMOUNT_NOT_POSITIVE)
        before = _balance(state, command.asset)
        if before.total + command.quantity > HOLDING_MAX:
            return reject(Code.AMOUNT_TOO_LARGE, maximum=HOLDING_MAX)
        if not state.accounts:
            return reject(Code.UNKNOWN_CUSTOMER, customer=command.customer)
        if _ASSET.fullmatch(command.asset) is None or command.asset in CURRENCIES:
            return reject(Code.ASSET_INVALID, asset=command.asset[:20])
        event = ev.AssetIssued(command.id, command.customer, command.asset, command.quantity, now)
        total = before.total + command.quantity
        balance = BalanceView(command.asset, total, before.held)
        reply = tr.BrokerageReply(command.id, command.customer, command.quantity, balance, now)
        return Decision([event], reply)

    def _read_brokerage(
        self, state: Customer, command: tr.ReadBrokerage, now: int
    ) -> Decision | Rejection:
        if not state.accounts:
            return reject(Code.UNKNOWN_CUSTOMER, customer=command.customer)
        brokerage = state.brokerage or Brokerage(command.customer)
        return Decision(reply=brokerage_view(brokerage, command))

    # -- dead man's switch ----------------------------------------------------------------

    def _cancel_after(
        self, state: Customer, command: tr.CancelAfter, now: int
    ) -> Decision | Rejection:
        if _SYMBOL.fullmatch(command.symbol) is None:
            return reject(Code.TEXT_INVALID)
        if not state.accounts:
            return reject(Code.UNKNOWN_CUSTOMER, customer=command.customer)
        if command.at and not now < command.at <= now + DAY_US:
            return reject(Code.EXPIRY_INVALID, days_max=1)
        switches = {} if state.brokerage is None else state.brokerage.switches
        if command.at and command.symbol not in switches and len(switches) >= SWITCHES_MAX:
            return reject(Code.TOO_MANY_HOLDS, maximum=SWITCHES_MAX)
        event = ev.SwitchSet(command.customer, command.symbol, command.at)
        return Decision([event], Done())

    def switched(self, state: Customer, now: int) -> tuple[list[ev.Event], list[Message]]:
        """Switches whose time has come go off, and what is open of their instruments with them."""
        brokerage = state.brokerage
        if brokerage is None:
            return [], []
        due = [symbol for symbol, at in brokerage.switches.items() if at <= now]
        events: list[ev.Event] = [ev.SwitchSet(brokerage.customer, symbol, 0) for symbol in due]
        symbols = {order.symbol: order.terms for order in brokerage.orders.values()} if due else {}
        messages = []
        for symbol, terms in symbols.items():
            if symbol in due or "" in due:
                cancels = tuple(open_cancels(brokerage, symbol))
                if cancels:
                    work = Work(b"", brokerage.customer, terms.maker, terms.taker, cancels)
                    messages.append(Message(symbol, work, BOOKS))
        return events, messages


def _account(
    state: Customer, command: tr.FundBrokerage | tr.WithdrawBrokerage, unknown: Code
) -> Account | Rejection:
    """The current account of a movement, once its amount is judged."""
    if command.amount <= 0:
        return reject(Code.AMOUNT_NOT_POSITIVE)
    if command.amount > AMOUNT_MAX:
        return reject(Code.AMOUNT_TOO_LARGE, maximum=AMOUNT_MAX)
    account = state.accounts.get(command.account)
    return reject(unknown, account=command.account) if account is None else account


def _short(available: int, needed: int, currency: str) -> Rejection:
    return reject(Code.INSUFFICIENT_FUNDS, available=available, needed=needed, currency=currency)


def _reply(
    command: tr.FundBrokerage | tr.WithdrawBrokerage, quantity: int, before: BalanceView, now: int
) -> tr.BrokerageReply:
    balance = BalanceView(before.asset, before.total + quantity, before.held)
    customer = customer_of(command.account)
    return tr.BrokerageReply(
        command.id, customer, quantity, balance, now, command.account, command.amount
    )
