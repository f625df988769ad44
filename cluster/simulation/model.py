"""Accounts again, in one thread and in plain dictionaries: what the platform is held against.

Written from the documentation of the commands and events and not from the machine: it shares no
code with ``domain.accounts.machine`` and ``domain.accounts.state``. It judges each command and
message at the place in the journal where the platform did, and follows each event with its own
arithmetic. What does not agree is a ``Violation``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from domain.accounts import commands as cmd
from domain.accounts import events as ev
from domain.accounts.commands import AccountStatus
from domain.accounts.numbers import account_number, customer_of
from domain.accounts.policy import Policy
from domain.durable import Rejection
from domain.money import CURRENCIES, RATE_SCALE

DAY: Final = 86_400_000_000


class Violation(Exception):
    """A promise that was not kept: ``check`` is the number of the promise."""

    def __init__(self, check: int, text: str) -> None:
        super().__init__(text)
        self.check = check
        self.text = text


def must(check: int, holds: object, text: str, *details: object) -> None:
    """Raise a ``Violation`` of ``check`` unless it holds."""
    if not holds:
        raise Violation(check, " ".join((text, *map(str, details))))


class Pot:
    """One account."""

    __slots__ = ("currency", "expecting", "held", "pending", "posted", "status")

    def __init__(self, currency: str) -> None:
        self.currency = currency
        self.status = AccountStatus.OPEN
        self.posted = self.held = self.pending = self.expecting = 0

    def copy(self) -> Pot:
        """One to try things on."""
        other = Pot(self.currency)
        other.status, other.posted, other.held = self.status, self.posted, self.held
        return other


class Party:
    """One customer."""

    def __init__(self) -> None:
        self.pots: dict[int, Pot] = {}
        self.holds: dict[bytes, list[int]] = {}
        self.groups: dict[bytes, ev.GroupReserved] = {}
        self.waiting: dict[bytes, list[bytes]] = {}
        self.limits: dict[str, int] = {}
        self.sent: dict[tuple[str, int], int] = {}
        self.promised: dict[bytes, bytes] = {}

    def spent(self, currency: str, day: int) -> int:
        """What counts towards the limit of a day."""
        used = self.sent.get((currency, day), 0)
        for group in self.groups.values():
            for leg in group.legs:
                if leg.limited and (leg.currency, leg.day) == (currency, day):
                    used += leg.amount
        return used

    def waits(self, command_id: bytes) -> bool:
        """Whether an id belongs to a group that has not ended."""
        return any(
            command_id == group or any(leg.transfer == command_id for leg in reserved.legs)
            for group, reserved in self.groups.items()
        )

    def view(self) -> tuple[tuple[int, int, int], ...]:
        """What a customer sees of the accounts."""
        return tuple((pot.posted, pot.held, int(pot.status)) for pot in self.pots.values())


class Terms:
    """What a transfer that is accepted comes to."""

    __slots__ = ("credited", "fee")

    def __init__(self, fee: int, credited: int) -> None:
        self.fee = fee
        self.credited = credited


class Judge:
    """What should be answered to a command, in the state as it is."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.parties: dict[int, Party] = {}
        self._verdicts: dict[type, Callable[[Any, int], str | None]] = {
            cmd.Transfer: self._transfer,
            cmd.LinkedTransfers: self._linked,
            cmd.ReserveHold: self._reserve,
            cmd.PostHold: self._post,
            cmd.VoidHold: self._void,
            cmd.SetAccountStatus: self._status,
            cmd.OpenAccount: self._account,
            cmd.SetDailyLimit: self._limit,
            cmd.OpenCustomer: lambda command, now: None,
        }

    def party(self, customer: int) -> Party:
        """A customer, known or not."""
        found = self.parties.get(customer)
        if found is None:
            found = self.parties[customer] = Party()
        return found

    def verdict(self, command: Any, now: int) -> str | None:
        """The code of the refusal, or ``None``. A group: ``index:code`` of the leg at fault."""
        return self._verdicts[type(command)](command, now)

    def fee(self, currency: str, amount: int) -> int:
        """Half a per cent and so on, rounded up, with a minimum."""
        rate = self.policy.fees.get(currency)
        if rate is None:
            return 0
        share, rest = divmod(amount * rate.basis_points, 10_000)
        return max(rate.minimum, share + (1 if rest else 0))

    def _over_limit(self, party: Party, currency: str, amount: int, day: int) -> bool:
        limit = party.limits.get(currency, self.policy.daily_limits.get(currency))
        return limit is not None and party.spent(currency, day) + amount > limit

    def transfer(
        self, party: Party, pots: dict[int, Pot], t: cmd.Transfer, now: int, extra: int = 0
    ) -> Terms | str:
        """Judge a transfer; ``extra`` has been sent today by the same group."""
        if t.amount <= 0:
            return "amount_not_positive"
        if t.source == t.destination:
            return "same_account"
        source = pots.get(t.source)
        if source is None:
            return "unknown_source_account"
        own = customer_of(t.source) == customer_of(t.destination)
        if not t.destination_currency or (own and t.destination not in pots):
            return "unknown_destination_account"
        if source.status != AccountStatus.OPEN:
            closed = source.status == AccountStatus.CLOSED
            return "account_closed" if closed else "account_frozen"
        if own and (refusal := arrival(pots, t.destination, t.destination_currency)):
            return refusal
        credited = t.amount
        if t.destination_currency != source.currency:
            if t.rate is None:
                return "rate_required"
            if now > t.rate.expires_at:
                return "quote_expired"
            scales = CURRENCIES[t.destination_currency].scale, CURRENCIES[source.currency].scale
            credited = t.amount * t.rate.value * scales[0] // RATE_SCALE // scales[1]
            if credited < 1:
                return "amount_too_small"
        fee = 0 if own else self.fee(source.currency, t.amount)
        if not own and self._over_limit(party, source.currency, t.amount + extra, now // DAY):
            return "daily_limit_exceeded"
        if source.posted - source.held < t.amount + fee:
            return "insufficient_funds"
        return Terms(fee, credited)

    def _transfer(self, command: cmd.Transfer, now: int) -> str | None:
        party = self.party(customer_of(command.source))
        terms = self.transfer(party, party.pots, command, now)
        return terms if isinstance(terms, str) else None

    def _linked(self, command: cmd.LinkedTransfers, now: int) -> str | None:
        party = self.party(customer_of(command.transfers[0].source))
        pots = {number: pot.copy() for number, pot in party.pots.items()}
        inside = all(leg.destination in party.pots for leg in command.transfers)
        extra: dict[str, int] = {}
        for index, leg in enumerate(command.transfers):
            currency = pots[leg.source].currency if leg.source in pots else ""
            terms = self.transfer(party, pots, leg, now, extra.get(currency, 0))
            if party.waits(leg.id):
                terms = "id_reused"
            if isinstance(terms, str):
                return f"{index}:{terms}"
            pots[leg.source].posted -= leg.amount + terms.fee
            if customer_of(leg.source) != customer_of(leg.destination):
                extra[currency] = extra.get(currency, 0) + leg.amount
            if inside:
                pots[leg.destination].posted += terms.credited
        return None

    def _reserve(self, command: cmd.ReserveHold, now: int) -> str | None:
        party = self.party(customer_of(command.account))
        pot = party.pots.get(command.account)
        if command.amount <= 0:
            return "amount_not_positive"
        if pot is None:
            return "unknown_source_account"
        if pot.status != AccountStatus.OPEN:
            return "account_closed" if pot.status == AccountStatus.CLOSED else "account_frozen"
        if not now < command.expires_at <= now + self.policy.hold_days_max * DAY:
            return "expiry_invalid"
        if pot.posted - pot.held < command.amount:
            return "insufficient_funds"
        return "too_many_holds" if len(party.holds) >= self.policy.holds_max else None

    def post(self, command: cmd.PostHold, now: int) -> int | str:
        """Judge the posting of a hold; the fee, if it is accepted."""
        party = self.party(command.customer)
        hold = party.holds.get(command.hold)
        if command.amount <= 0:
            return "amount_not_positive"
        if hold is not None and hold[0] == command.destination:
            return "same_account"
        own = customer_of(command.destination) == command.customer
        if not command.destination_currency or (own and command.destination not in party.pots):
            return "unknown_destination_account"
        if hold is None or now >= hold[2]:
            return "hold_unknown"
        currency = party.pots[hold[0]].currency
        if own and (refusal := arrival(party.pots, command.destination, currency)):
            return refusal
        if command.destination_currency != currency:
            return "currency_mismatch"
        fee = 0 if own else self.fee(currency, command.amount)
        if command.amount + fee > hold[1]:
            return "hold_exceeded"
        if not own and self._over_limit(party, currency, command.amount, now // DAY):
            return "daily_limit_exceeded"
        return fee

    def _post(self, command: cmd.PostHold, now: int) -> str | None:
        judged = self.post(command, now)
        return judged if isinstance(judged, str) else None

    def _void(self, command: cmd.VoidHold, now: int) -> str | None:
        return None if command.hold in self.party(command.customer).holds else "hold_unknown"

    def _status(self, command: cmd.SetAccountStatus, now: int) -> str | None:
        party = self.party(customer_of(command.account))
        pot = party.pots.get(command.account)
        if pot is None:
            return "unknown_source_account"
        if pot.status == command.status:
            return None
        if pot.status == AccountStatus.CLOSED:
            return "account_closed"
        if command.status == AccountStatus.CLOSED:
            if pot.status == AccountStatus.FROZEN:
                return "account_frozen"
            awaited = any(
                leg.destination == command.account
                for group in party.groups.values()
                for leg in group.legs
            )
            if pot.posted or pot.held or pot.pending or pot.expecting or awaited:
                return "account_not_empty"
        return None

    def _account(self, command: cmd.OpenAccount, now: int) -> str | None:
        pots = self.party(command.customer).pots
        if not pots:
            return "unknown_customer"
        return "too_many_accounts" if len(pots) >= 100 else None

    def _limit(self, command: cmd.SetDailyLimit, now: int) -> str | None:
        return None if self.party(command.customer).pots else "unknown_customer"

    def message(self, body: Any) -> str | None:
        """What should be answered to a message."""
        party = self.party(customer_of(body.destination))
        if isinstance(body, cmd.ReleaseCredit):
            return None
        promised = party.promised.get(body.transfer)
        if isinstance(body, cmd.PrepareCredit) and promised not in (None, body.group):
            return "id_reused"
        if isinstance(body, cmd.Credit) and promised is not None and promised == body.group:
            return None
        return arrival(party.pots, body.destination, body.currency)


def arrival(pots: dict[int, Pot], destination: int, currency: str) -> str | None:
    """Why money cannot come to an account, if it cannot."""
    pot = pots.get(destination)
    if pot is None:
        return "unknown_destination_account"
    if pot.status == AccountStatus.CLOSED:
        return "destination_closed"
    return None if pot.currency == currency else "currency_mismatch"


def refusal_of(reply: Any) -> str | None:
    """The code of a refusal as ``Judge.verdict`` says it, or ``None``."""
    if isinstance(reply, Rejection):
        return reply.code
    if isinstance(reply, cmd.LinkedReply):
        for index, result in enumerate(reply.results):
            if isinstance(result, Rejection) and result.code != "linked_failed":
                return f"{index}:{result.code}"
    return None


def first_account(customer: int) -> int:
    """The customer's account in US dollars."""
    return account_number(customer, 0)
