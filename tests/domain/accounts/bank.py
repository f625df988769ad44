"""Several customers in one place, without a runtime: what the accounts tests are written in.

Messages between customers wait in a queue until they are delivered, so that a test can look at
what is on its way. Every decision is proved to have changed nothing by itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from domain.accounts import commands as cmd
from domain.accounts import events as ev
from domain.accounts.machine import AccountsMachine
from domain.accounts.numbers import account_number
from domain.accounts.policy import FeeRate, Policy
from domain.accounts.state import Account, Customer
from domain.durable import Decision, Message, Rejection

NOON = 1_800_000_000_000_000 - 1_800_000_000_000_000 % 86_400_000_000 + 43_200_000_000
"""A noon, in microseconds since the epoch."""

DAY = 86_400_000_000
ALICE, BOB, CAROL = 1_000_000_001, 1_000_000_002, 1_000_000_003
CURRENCIES = ("USD", "CNY", "EUR")
POLICY = Policy(
    fees={"USD": FeeRate(50, 10), "EUR": FeeRate(25, 0)}, daily_limits={"USD": 1_000_000}
)

ReplyType = TypeVar("ReplyType")


def usd(customer: int) -> int:
    """The customer's account in US dollars."""
    return account_number(customer, 0)


def cny(customer: int) -> int:
    """The customer's account in Chinese yuan."""
    return account_number(customer, 1)


def eur(customer: int) -> int:
    """The customer's account in euros."""
    return account_number(customer, 2)


def command_id(number: int) -> bytes:
    """The id number ``number`` of a test."""
    return number.to_bytes(16, "big")


class Bank:
    """Customers, the messages on their way between them, and everything that happened."""

    def __init__(self, policy: Policy = POLICY) -> None:
        self.machine = AccountsMachine(policy)
        self.customers: dict[int, Customer] = {}
        self.transit: deque[tuple[int, Message]] = deque()
        self.events: list[tuple[int, Any]] = []
        self.answers: dict[bytes, Any] = {}
        self.now = NOON
        self._ids = 0

    def id(self) -> bytes:
        """A new id."""
        self._ids += 1
        return command_id(self._ids)

    # -- asking ---------------------------------------------------------------------------

    def put(self, command: Any, *, deliver: bool = True) -> Any:
        """Carry out a command; the reply, which may come with the delivery of messages."""
        customer = int(self.machine.key(command))
        decision = self._judge(customer, command)
        if isinstance(decision, Rejection):
            return decision
        self._enact(customer, decision)
        if deliver:
            self.deliver()
        if decision.reply is not None:
            return decision.reply
        return self.answers.get(command.id)

    def expect(self, command: Any, kind: type[ReplyType]) -> ReplyType:
        """Carry out a command that is answered with a ``kind``."""
        reply = self.put(command)
        assert isinstance(reply, kind), reply
        return reply

    def refusal(self, command: Any) -> str:
        """Carry out a command that is refused; the code."""
        return self.expect(command, Rejection).code

    def deliver(self, count: int | None = None) -> None:
        """Bring messages to where they go, oldest first, all or ``count`` of them."""
        while self.transit and count != 0:
            sender, message = self.transit.popleft()
            receiver = int(message.to)
            reaction = self._judge(receiver, message.body)
            outcome = reaction if isinstance(reaction, Rejection) else None
            if isinstance(reaction, Decision):
                self._enact(receiver, reaction)
            before = self._encoded(sender)
            follow = self.machine.acknowledge(self._state(sender), message.body, outcome, self.now)
            assert self._encoded(sender) == before
            self._enact(sender, follow)
            count = None if count is None else count - 1

    def _judge(self, customer: int, command: Any) -> Decision | Rejection:
        before = self._encoded(customer)
        decision = self.machine.decide(self._state(customer), command, self.now)
        assert self._encoded(customer) == before, f"decide changed the state on {command}"
        return decision

    def _enact(self, customer: int, decision: Decision) -> None:
        for event in decision.events:
            self.machine.apply(self._state(customer), event)
            self.events.append((customer, event))
        self.transit.extend((customer, message) for message in decision.messages)
        if decision.answers is not None:
            self.answers[decision.answers] = decision.reply

    def _state(self, customer: int) -> Customer:
        if customer not in self.customers:
            self.customers[customer] = self.machine.new(str(customer))
        return self.customers[customer]

    def _encoded(self, customer: int) -> bytes:
        return msgspec.msgpack.encode(self._state(customer))

    # -- usual commands -------------------------------------------------------------------

    def open(self, customer: int, *funds: int) -> None:
        """Open accounts in the three currencies, funded by the house with ``funds`` each."""
        self.put(cmd.OpenCustomer(self.id(), b"", customer, CURRENCIES, "USD", 0))
        for currency, amount in zip(CURRENCIES, funds, strict=False):
            self.fund(customer, currency, amount)

    def fund(self, customer: int, currency: str, amount: int) -> None:
        """Give a customer money, as if it came from a customer elsewhere."""
        if amount:
            number = account_number(customer, CURRENCIES.index(currency))
            event = ev.TransferReceived(self.id(), usd(9_999_999_999), number, amount, currency)
            self.machine.apply(self._state(customer), event)

    def transfer(
        self, source: int, destination: int, amount: int, currency: str = "USD", **fields: Any
    ) -> cmd.Transfer:
        """A transfer command with an id of its own; ``currency`` is the destination's."""
        given = {"id": self.id(), "fingerprint": b"", **fields}
        return cmd.Transfer(
            source=source,
            destination=destination,
            amount=amount,
            destination_currency=currency,
            **given,
        )

    def reserve(self, account: int, amount: int, *, days: float = 1) -> bytes:
        """Reserve a hold; its id."""
        command = cmd.ReserveHold(
            self.id(), b"", account, amount, self.now + int(days * DAY), "order"
        )
        return self.expect(command, cmd.HoldReply).hold.id

    def post(
        self, customer: int, hold: bytes, amount: int, destination: int, *, release: bool = True
    ) -> cmd.PostHold:
        """A command to post a hold in US dollars."""
        return cmd.PostHold(
            self.id(), b"", customer, hold, amount, destination, "USD", release=release
        )

    def set_status(self, account: int, status: cmd.AccountStatus) -> Any:
        """Change an account's status; the reply."""
        return self.put(cmd.SetAccountStatus(self.id(), b"", account, status))

    # -- looking --------------------------------------------------------------------------

    def account(self, number: int) -> Account:
        """An account's state."""
        return self.customers[number // 10_000].accounts[number]

    def snapshot(self) -> Sequence[bytes]:
        """All customers' states, encoded."""
        return [self._encoded(customer) for customer in sorted(self.customers)]

    def spent(self, customer: int, *, deliver: bool = True) -> int:
        """What counts towards the customer's limit in US dollars today."""
        view = self.put(cmd.ReadCustomer(customer), deliver=deliver)
        assert isinstance(view, cmd.CustomerView)
        return next(limit.used for limit in view.limits if limit.currency == "USD")
