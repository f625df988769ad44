"""Decisions on a customer's accounts.

Each ``_decide`` method is a ladder of guard clauses in the order of ``codes.Code``: the first
that applies is the answer, and a rejection changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from domain.accounts import commands as cmd
from domain.accounts import events as ev
from domain.accounts import trading as tr
from domain.accounts.adjusting import AdjustmentDecisions
from domain.accounts.adjustment import DecideAdjustment, ProposeAdjustment
from domain.accounts.brokerage_funds import FundsDecisions
from domain.accounts.codes import Code
from domain.accounts.commands import AccountStatus, TransferStatus
from domain.accounts.guards import (
    DAY_US,
    bad_text,
    cannot_arrive,
    cannot_leave,
    has_control,
    over_limit,
    reject,
)
from domain.accounts.holds import HoldDecisions
from domain.accounts.linked import LinkedDecisions, waits_in_group
from domain.accounts.numbers import ACCOUNTS_MAX, account_number, customer_of
from domain.accounts.placing import PlacingDecisions
from domain.accounts.policy import Policy, transfer_fee
from domain.accounts.settling import SettlingDecisions
from domain.accounts.state import APPLY, Account, Customer, house_postings, postings
from domain.accounts.views import account_view, customer_view, receipt
from domain.durable import Decision, Message, Posting, Rejection, Version
from domain.money import AMOUNT_MAX, CURRENCIES, convert
from domain.orders import UNIT_EXPONENT, Settle, Work

NAME_MAX: Final = 40
FAR: Final = 2**62
"""Later than any time."""

_LEDGER: Final = f".{UNIT_EXPONENT}"
"""See ``brokerage.ledger_asset``."""

_BY_ACCOUNT: Final = frozenset(
    {
        cmd.ReserveHold,
        cmd.SetAccountStatus,
        tr.FundBrokerage,
        tr.WithdrawBrokerage,
        ProposeAdjustment,
    }
)
_WITHOUT_ID: Final = frozenset(
    {cmd.ReadCustomer, cmd.ReadVersion, cmd.ExpireHolds, tr.ReadBrokerage, tr.WakeCustomer}
)

_ACCEPTED: Final = Decision()

# Members of an enumeration cost a look-up in its class, which shows in what every transfer does.
_OPEN: Final = AccountStatus.OPEN
_COMPLETED: Final = TransferStatus.COMPLETED
_RETURNED: Final = TransferStatus.RETURNED


class AccountsMachine(
    LinkedDecisions,
    HoldDecisions,
    PlacingDecisions,
    SettlingDecisions,
    FundsDecisions,
    AdjustmentDecisions,
):
    """The accounts context as ``domain.durable.Machine``; the key is the customer number."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._decide: dict[type, Callable[[Customer, Any, int], Decision | Rejection]] = {
            cmd.Transfer: self._transfer,
            cmd.Credit: self._credit,
            cmd.ReadCustomer: self._read,
            cmd.ReadVersion: self._version,
            cmd.OpenCustomer: self._open_customer,
            cmd.OpenAccount: self._open_account,
            cmd.SetAccountStatus: self._set_status,
            cmd.SetDailyLimit: self._set_limit,
            cmd.LinkedTransfers: self._linked,
            cmd.PrepareCredit: self._prepare_credit,
            cmd.ReleaseCredit: self._release_credit,
            cmd.ReserveHold: self._reserve,
            cmd.PostHold: self._post_hold,
            cmd.VoidHold: self._void_hold,
            cmd.ExpireHolds: self._expire_holds,
            tr.Trade: self._trade,
            Settle: self._settled,
            tr.PlaceLater: self._place_later,
            tr.ReadBrokerage: self._read_brokerage,
            tr.FundBrokerage: self._fund,
            tr.WithdrawBrokerage: self._withdraw,
            tr.IssueAsset: self._issue,
            tr.CancelAfter: self._cancel_after,
            tr.WakeCustomer: self._wake,
            ProposeAdjustment: self._propose,
            DecideAdjustment: self._decide_adjustment,
        }

    def new(self, key: str) -> Customer:
        return Customer()

    def decide(self, state: Customer, command: Any, now: int) -> Decision | Rejection:
        kind = type(command)
        # Until a group ends no table knows its ids: only its customer's state does.
        if (
            state.groups
            and kind is not cmd.LinkedTransfers
            and waits_in_group(state, getattr(command, "id", b""))
        ):
            return reject(Code.ID_REUSED)
        if (
            state.brokerage is not None
            and state.brokerage.trades
            and kind is not tr.Trade
            and getattr(command, "id", b"") in state.brokerage.trades
        ):
            return reject(Code.ID_REUSED)
        return self._decide[kind](state, command, now)

    def apply(self, state: Customer, event: Any) -> None:
        APPLY[type(event)](state, event)

    def postings(self, event: Any) -> tuple[Posting, ...]:
        return postings(event)

    def house_postings(self, event: Any) -> tuple[tuple[str, str, int], ...]:
        return house_postings(event)

    def balances(self, state: Customer) -> dict[str, int]:
        """Posted amounts of all the customer's accounts, summed by asset; see ``brokerage``."""
        sums: dict[str, int] = {}
        for account in state.accounts.values():
            sums[account.currency] = sums.get(account.currency, 0) + account.posted
        if state.brokerage is not None:
            for asset, balance in state.brokerage.balances.items():
                sums[asset + _LEDGER] = balance.total
        return sums

    def due(self, state: Customer) -> int:
        """When a hold or a proposed adjustment expires first, or a dead man's switch goes off."""
        if state.adjustments:
            proposed = [waiting.expires_at for waiting in state.adjustments.values()]
            return min(*proposed, self._due(state) or FAR, FAR)
        return self._due(state)

    def _due(self, state: Customer) -> int:
        if state.brokerage is not None and state.brokerage.switches:
            holds = [hold.expires_at for hold in state.holds.values()]
            return min(*state.brokerage.switches.values(), *holds, FAR)
        if not state.holds:
            return 0
        return min(hold.expires_at for hold in state.holds.values())

    def wake(self, key: str) -> tr.WakeCustomer:
        """End what has come to its time."""
        return tr.WakeCustomer(int(key))

    def _wake(self, state: Customer, command: tr.WakeCustomer, now: int) -> Decision | Rejection:
        expired = self._expire_holds(state, cmd.ExpireHolds(command.customer), now)
        assert type(expired) is Decision
        events, messages = self.switched(state, now)
        proposed = self.expired_adjustments(state, now)
        return Decision([*expired.events, *proposed, *events], cmd.Done(), messages)

    # Types are compared by identity below: ``isinstance`` on a msgspec type goes through the
    # abstract base class machinery, which shows at this rate.

    def touches(self, command: Any) -> tuple[str, ...]:
        kind = type(command)
        if kind is cmd.Transfer or kind is cmd.PostHold:
            return (str(customer_of(command.destination)),)
        if kind is cmd.LinkedTransfers:
            # In an order that is the same in every run.
            return tuple(
                dict.fromkeys(str(customer_of(leg.destination)) for leg in command.transfers)
            )
        return ()

    def key(self, command: Any) -> str:
        kind = type(command)
        if kind is cmd.Transfer:
            return str(customer_of(command.source))
        if kind in _BY_ACCOUNT:
            return str(customer_of(command.account))
        if kind is cmd.LinkedTransfers:
            return str(customer_of(command.transfers[0].source))
        return str(command.customer)

    def identities(self, command: Any) -> Sequence[tuple[bytes, bytes]]:
        kind = type(command)
        if kind in _WITHOUT_ID:
            return ()
        own = (command.id, command.fingerprint)
        if kind is tr.Trade:
            return (own, *((part, b"") for part in _parts(command)))
        if kind is cmd.LinkedTransfers:
            return (own, *((leg.id, leg.fingerprint) for leg in command.transfers))
        return (own,)

    def results(self, reply: Any) -> Sequence[Any]:
        return reply.results if type(reply) is cmd.LinkedReply else ()

    def acknowledge(self, state: Customer, message: Any, outcome: Any, now: int) -> Decision:
        if type(message) is Work:
            return self._worked(state, message, outcome, now)
        if type(message) is cmd.Credit:
            return self._credit_acknowledged(message, outcome, now)
        if type(message) is cmd.PrepareCredit:
            return self._prepare_acknowledged(state, message, outcome, now)
        return _ACCEPTED

    # -- opening and status ---------------------------------------------------------------

    def _open_customer(
        self, state: Customer, command: cmd.OpenCustomer, now: int
    ) -> Decision | Rejection:
        if state.accounts:
            return Decision(reply=customer_view(command.customer, state, self.policy, now))
        events: list[ev.Event] = []
        bonus: ev.BonusCredited | None = None
        for index, currency in enumerate(command.currencies):
            if currency not in CURRENCIES:
                return reject(Code.UNKNOWN_CURRENCY, currency=currency)
            number = account_number(command.customer, index)
            events.append(ev.AccountOpened(number, currency, CURRENCIES[currency].name, now))
            if currency == command.bonus_currency and command.bonus_amount:
                bonus = ev.BonusCredited(command.id, number, currency, command.bonus_amount)
        if bonus is not None:
            events.append(bonus)
        scratch = Customer()
        for event in events:
            self.apply(scratch, event)
        return Decision(events, customer_view(command.customer, scratch, self.policy, now))

    def _open_account(
        self, state: Customer, command: cmd.OpenAccount, now: int
    ) -> Decision | Rejection:
        if has_control(command.name):
            return reject(Code.TEXT_INVALID)
        if not state.accounts:
            return reject(Code.UNKNOWN_CUSTOMER, customer=command.customer)
        if command.currency not in CURRENCIES:
            return reject(Code.UNKNOWN_CURRENCY, currency=command.currency)
        if len(state.accounts) >= ACCOUNTS_MAX:
            return reject(Code.TOO_MANY_ACCOUNTS, maximum=ACCOUNTS_MAX)
        if not 1 <= len(command.name.strip()) <= NAME_MAX:
            return reject(Code.NAME_INVALID, maximum=NAME_MAX)
        number = account_number(command.customer, len(state.accounts))
        name = command.name.strip()
        account = Account(number, command.currency, name, now)
        return Decision(
            [ev.AccountOpened(number, command.currency, name, now)],
            cmd.AccountReply(account_view(account)),
        )

    def _set_status(
        self, state: Customer, command: cmd.SetAccountStatus, now: int
    ) -> Decision | Rejection:
        account = state.accounts.get(command.account)
        if account is None:
            return reject(Code.UNKNOWN_SOURCE_ACCOUNT, account=command.account)
        if account.status == command.status:
            return Decision(reply=cmd.AccountReply(account_view(account)))
        if account.status == AccountStatus.CLOSED:
            return reject(Code.ACCOUNT_CLOSED, account=command.account)
        if command.status == AccountStatus.CLOSED:
            if account.status == AccountStatus.FROZEN:
                return reject(Code.ACCOUNT_FROZEN, account=command.account)
            if not _idle(state, account):
                return reject(Code.ACCOUNT_NOT_EMPTY, account=command.account)
        changed = Account(
            account.id,
            account.currency,
            account.name,
            account.opened_at,
            command.status,
            account.posted,
            account.held,
        )
        return Decision(
            [ev.StatusChanged(command.account, command.status)],
            cmd.AccountReply(account_view(changed)),
        )

    def _set_limit(
        self, state: Customer, command: cmd.SetDailyLimit, now: int
    ) -> Decision | Rejection:
        if command.amount < 0:
            return reject(Code.AMOUNT_NOT_POSITIVE)
        if command.amount > AMOUNT_MAX:
            return reject(Code.AMOUNT_TOO_LARGE, maximum=AMOUNT_MAX)
        if not state.accounts:
            return reject(Code.UNKNOWN_CUSTOMER, customer=command.customer)
        if command.currency not in CURRENCIES:
            return reject(Code.UNKNOWN_CURRENCY, currency=command.currency)
        return Decision([ev.LimitChanged(command.currency, command.amount)], cmd.Done())

    def _read(self, state: Customer, command: cmd.ReadCustomer, now: int) -> Decision | Rejection:
        if not state.accounts:
            return reject(Code.UNKNOWN_CUSTOMER, customer=command.customer)
        return Decision(reply=customer_view(command.customer, state, self.policy, now))

    def _version(self, state: Customer, command: cmd.ReadVersion, now: int) -> Decision:
        return Decision(reply=Version())

    # -- transfers ------------------------------------------------------------------------

    def _transfer(self, state: Customer, command: cmd.Transfer, now: int) -> Decision | Rejection:
        sent = self.judge_transfer(state, command, now)
        if type(sent) is Rejection:
            return sent
        return self.send(state, sent, now)

    def judge_transfer(
        self, state: Customer, command: cmd.Transfer, now: int
    ) -> ev.TransferSent | Rejection:
        """The ladder of guard clauses for one transfer, and the event it leads to."""
        amount = command.amount
        if state.groups and waits_in_group(state, command.id):
            return reject(Code.ID_REUSED)
        if amount <= 0:
            return reject(Code.AMOUNT_NOT_POSITIVE)
        if amount > AMOUNT_MAX:
            return reject(Code.AMOUNT_TOO_LARGE, maximum=AMOUNT_MAX)
        if command.reference and (refused := bad_text(command.reference)):
            return refused
        number, destination = command.source, command.destination
        if number == destination:
            return reject(Code.SAME_ACCOUNT, account=number)
        source = state.accounts.get(number)
        if source is None:
            return reject(Code.UNKNOWN_SOURCE_ACCOUNT, account=number)
        own = customer_of(destination) == customer_of(number)
        arrives = command.destination_currency
        if not arrives or (own and destination not in state.accounts):
            return reject(Code.UNKNOWN_DESTINATION_ACCOUNT, account=destination)
        if source.status is not _OPEN and (refused := cannot_leave(source)):
            return refused
        if own:
            refused = cannot_arrive(state, destination, arrives)
            if refused is not None:
                return refused
        currency = source.currency
        credited, rate = amount, None
        if arrives != currency:
            if command.rate is None:
                return reject(Code.RATE_REQUIRED, currency=arrives)
            if command.rate.expires_at < now:
                return reject(Code.QUOTE_EXPIRED)
            rate = command.rate.value
            credited = convert(amount, currency, arrives, rate)
            if credited <= 0:
                return reject(Code.AMOUNT_TOO_SMALL, currency=arrives)
            if credited > AMOUNT_MAX:
                return reject(Code.AMOUNT_TOO_LARGE, maximum=AMOUNT_MAX)
        fee, day = 0, now // DAY_US
        if not own:
            fee = transfer_fee(self.policy, amount, currency)
            refused = over_limit(self.policy, state, currency, amount, day)
            if refused is not None:
                return refused
        if source.available < amount + fee:
            return reject(
                Code.INSUFFICIENT_FUNDS,
                available=source.available,
                needed=amount + fee,
                currency=currency,
            )
        return ev.TransferSent(
            command.id,
            command.fingerprint,
            number,
            destination,
            amount,
            fee,
            currency,
            credited,
            arrives,
            rate,
            command.reference,
            day,
            not own,
        )

    def send(self, state: Customer, sent: ev.TransferSent, now: int) -> Decision:
        """Carry out a judged transfer: at once between own accounts, by message to others."""
        if sent.destination in state.accounts:
            received = ev.TransferReceived(
                sent.transfer, sent.source, sent.destination, sent.credited, sent.credited_currency
            )
            return Decision([sent, received], receipt(sent, _COMPLETED, now))
        return Decision([sent], None, [self.credit_message(sent, now)])

    def credit_message(
        self, sent: ev.TransferSent, now: int, group: bytes | None = None
    ) -> Message:
        """The message that brings a sent transfer to its destination."""
        credit = cmd.Credit(
            sent.transfer,
            sent.source,
            sent.destination,
            sent.credited,
            sent.credited_currency,
            sent.amount,
            sent.fee,
            sent.currency,
            now,
            sent.rate,
            sent.reference,
            group,
        )
        return Message(str(customer_of(sent.destination)), credit)

    def _credit(self, state: Customer, message: cmd.Credit, now: int) -> Decision | Rejection:
        # A promise is to its group: the same id may be another transfer by now.
        group = message.group
        promised = group is not None and state.promised.get(message.transfer) == group
        if not promised:
            refused = cannot_arrive(state, message.destination, message.currency)
            if refused is not None:
                return refused
        return Decision(
            [
                ev.TransferReceived(
                    message.transfer,
                    message.source,
                    message.destination,
                    message.amount,
                    message.currency,
                    promised,
                )
            ]
        )

    def _credit_acknowledged(
        self, message: cmd.Credit, outcome: Rejection | None, now: int
    ) -> Decision:
        status = _COMPLETED if outcome is None else _RETURNED
        event: ev.Event
        if outcome is None:
            event = ev.TransferDelivered(message.transfer, message.source)
        else:
            event = ev.TransferReturned(
                message.transfer,
                message.source,
                message.destination,
                message.source_amount,
                message.fee,
                message.source_currency,
                message.amount,
                message.currency,
                outcome.code,
                message.at // DAY_US,
            )
        if message.group is not None:
            return Decision([event])
        reply = cmd.Receipt(
            message.transfer,
            status,
            message.source,
            message.destination,
            message.source_amount,
            message.fee,
            message.source_currency,
            message.amount,
            message.currency,
            message.at,
            message.rate,
            message.reference,
            "" if outcome is None else outcome.code,
        )
        return Decision([event], reply, answers=message.transfer, durable=outcome is None)


def _parts(command: tr.Trade) -> list[bytes]:
    """Ids of single orders in a trade, where they have their own."""
    return [action.id for action in command.actions if type(action) is tr.PlaceOrder and action.id]


def _idle(state: Customer, account: Account) -> bool:
    if account.posted or account.held or account.pending or account.expecting:
        return False
    return not any(
        leg.destination == account.id for group in state.groups.values() for leg in group.legs
    )
