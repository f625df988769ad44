"""Random commands on several customers, held against a plain model of dictionaries.

The model knows only sums: what each account should hold, what is put aside, what is on its way.
The rules it checks are those that must be true at every moment and for every event.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from domain.accounts import commands as cmd
from domain.accounts import events as ev
from domain.accounts.commands import AccountStatus, Rate, TransferStatus
from domain.accounts.numbers import account_number, customer_of
from domain.accounts.policy import FeeRate, Policy, transfer_fee
from domain.durable import Rejection
from domain.money import RATE_SCALE, convert
from tests.domain.accounts.bank import CURRENCIES, NOON, Bank

CUSTOMERS = (1_000_000_001, 1_000_000_002, 1_000_000_003, 1_000_000_004)
POLICY = Policy(fees={"USD": FeeRate(50, 10)}, daily_limits={"USD": 30_000}, holds_max=5)

customers = st.sampled_from(CUSTOMERS)
accounts = st.builds(account_number, customers, st.sampled_from([0, 0, 0, 1, 1, 2, 2, 3]))
amounts = st.integers(1, 2_000) | st.integers(-1, 12_000)
good_rates = st.builds(Rate, st.integers(RATE_SCALE, 8 * RATE_SCALE), st.just(NOON + 10**15))
rates = good_rates | st.none() | st.builds(Rate, st.integers(1, RATE_SCALE), st.just(NOON))
statuses = st.sampled_from([*[AccountStatus.OPEN] * 6, AccountStatus.FROZEN, AccountStatus.CLOSED])


class AccountsModel(RuleBasedStateMachine):
    """The machine under test beside a dictionary of what each account should hold."""

    @initialize()
    def begin(self) -> None:
        self.bank = Bank(POLICY)
        self.posted: dict[int, int] = {}
        self.ledger: dict[tuple[str, str], int] = {}
        self.seen = 0
        self.holds: dict[bytes, str] = {}
        self.waiting: dict[bytes, cmd.Transfer] = {}
        self.groups: dict[bytes, tuple[cmd.Transfer, ...]] = {}
        for customer in CUSTOMERS:
            command = cmd.OpenCustomer(self.bank.id(), b"", customer, CURRENCIES, "USD", 10_000)
            self.bank.put(command)
            for index in range(3):
                self.posted[account_number(customer, index)] = 0 if index else 10_000
            for index in (1, 2):
                source, destination = (account_number(customer, i) for i in (0, index))
                self.send(source, destination, 3_000, Rate(2 * RATE_SCALE, NOON))
        self.check_events()

    def currency(self, account: int) -> str:
        states = self.bank.customers[customer_of(account)].accounts
        return states[account].currency if account in states else ""

    def available(self, account: int) -> int:
        state = self.bank.account(account)
        return self.posted[account] - state.held

    # -- commands -------------------------------------------------------------------------

    def transfer(self, source: int, destination: int, amount: int, rate: Rate | None) -> Any:
        return self.bank.transfer(
            source, destination, amount, self.currency(destination), rate=rate
        )

    @rule(source=accounts, destination=accounts, amount=amounts, rate=rates)
    def send(self, source: int, destination: int, amount: int, rate: Rate | None) -> None:
        command = self.transfer(source, destination, amount, rate)
        before = self.bank.snapshot()
        reply = self.bank.put(command, deliver=False)
        if isinstance(reply, Rejection):
            assert self.bank.snapshot() == before
        else:
            own = customer_of(source) == customer_of(destination)
            fee = 0 if own else transfer_fee(POLICY, amount, self.currency(source))
            assert 0 < amount + fee <= self.available(source)
            self.posted[source] -= amount + fee
            if own:
                assert reply.status == TransferStatus.COMPLETED
                self.arrive(command)
            else:
                assert reply is None
                self.waiting[command.id] = command
        self.check_events()

    def arrive(self, command: cmd.Transfer) -> None:
        source, destination = self.currency(command.source), self.currency(command.destination)
        rate = RATE_SCALE if command.rate is None or source == destination else command.rate.value
        self.posted[command.destination] += convert(command.amount, source, destination, rate)

    @rule(count=st.integers(1, 4))
    def deliver(self, count: int) -> None:
        self.bank.deliver(count)
        self.check_events()

    @rule(
        legs=st.lists(st.tuples(accounts, amounts, rates), min_size=1, max_size=4), data=st.data()
    )
    def link(self, legs: list[tuple[int, int, Rate | None]], data: st.DataObject) -> None:
        source = data.draw(accounts)
        transfers = tuple(self.transfer(source, *leg) for leg in legs)
        command = cmd.LinkedTransfers(self.bank.id(), b"", transfers)
        before = self.bank.snapshot()
        reply = self.bank.put(command, deliver=False)
        if reply is None:
            self.groups[command.id] = transfers
        else:
            self.group_answered(reply, transfers)
            if isinstance(reply.results[0], Rejection):
                assert self.bank.snapshot() == before
        self.check_events()

    @rule(account=accounts, amount=amounts, seconds=st.sampled_from([0, 1, 60, 86_400]))
    def reserve(self, account: int, amount: int, seconds: int) -> None:
        expiry = self.bank.now + seconds * 1_000_000
        command = cmd.ReserveHold(self.bank.id(), b"", account, amount, expiry, "")
        reply = self.bank.put(command, deliver=False)
        if not isinstance(reply, Rejection):
            assert 0 < amount <= self.available(account) + amount
            self.holds[command.id] = "active"
        self.check_events()

    def some_hold(self, data: st.DataObject) -> tuple[bytes, int]:
        """A hold, mostly an active one, and mostly its owner."""
        active = [(h, c) for c in CUSTOMERS for h in self.bank.customers[c].holds]
        ended = [(hold, data.draw(customers)) for hold in sorted(self.holds)[:3]]
        return data.draw(st.sampled_from(active * 4 + ended or [(b"none", CUSTOMERS[0])]))

    @rule(data=st.data(), amount=amounts, destination=accounts, release=st.booleans())
    def post(self, data: st.DataObject, amount: int, destination: int, release: bool) -> None:
        hold, customer = self.some_hold(data)
        held = self.bank.customers[customer].holds.get(hold)
        command = cmd.PostHold(
            self.bank.id(),
            b"",
            customer,
            hold,
            amount,
            destination,
            self.currency(destination),
            release=release,
        )
        left = 0 if held is None else held.amount
        account = 0 if held is None else held.account
        reply = self.bank.put(command, deliver=False)
        if not isinstance(reply, Rejection):
            assert self.holds[hold] == "active"
            own = customer_of(destination) == customer
            fee = 0 if own else transfer_fee(POLICY, amount, self.currency(account))
            assert 0 < amount + fee <= left
            self.posted[account] -= amount + fee
            sent = cmd.Transfer(command.id, b"", account, destination, amount, "")
            if reply is None:
                self.waiting[command.id] = sent
            else:
                self.arrive(sent)
        self.check_events()

    @rule(data=st.data())
    def void(self, data: st.DataObject) -> None:
        hold, customer = self.some_hold(data)
        reply = self.bank.put(cmd.VoidHold(self.bank.id(), b"", customer, hold), deliver=False)
        if not isinstance(reply, Rejection):
            assert self.holds[hold] == "active"
        self.check_events()

    @rule(customer=customers)
    def expire(self, customer: int) -> None:
        self.bank.put(cmd.ExpireHolds(customer), deliver=False)
        assert all(
            hold.expires_at > self.bank.now for hold in self.bank.customers[customer].holds.values()
        )
        self.check_events()

    @rule(account=accounts, status=statuses)
    def set_status(self, account: int, status: AccountStatus) -> None:
        command = cmd.SetAccountStatus(self.bank.id(), b"", account, status)
        reply = self.bank.put(command, deliver=False)
        if not isinstance(reply, Rejection) and status == AccountStatus.CLOSED:
            assert self.posted[account] == 0
        self.check_events()

    @rule(customer=customers, currency=st.sampled_from(CURRENCIES))
    def open_account(self, customer: int, currency: str) -> None:
        if len(self.bank.customers[customer].accounts) < 5:
            command = cmd.OpenAccount(self.bank.id(), b"", customer, currency, "More")
            reply = self.bank.expect(command, cmd.AccountReply)
            self.posted[reply.account.id] = 0
        self.check_events()

    @rule(seconds=st.sampled_from([0, 1, 59, 40_000]))
    def wait(self, seconds: int) -> None:
        self.bank.now += seconds * 1_000_000

    # -- what must be true ----------------------------------------------------------------

    def check_events(self) -> None:
        """Every new event balances, and is what the model expects of it."""
        for group in [group for group in self.groups if group in self.bank.answers]:
            self.group_answered(self.bank.answers[group], self.groups.pop(group))
        new, self.seen = self.bank.events[self.seen :], len(self.bank.events)
        for _, event in new:
            postings = list(self.bank.machine.postings(event))
            sums: dict[str, int] = {}
            for posting in postings:
                sums[posting.asset] = sums.get(posting.asset, 0) + posting.amount
                key = (posting.account, posting.asset)
                self.ledger[key] = self.ledger.get(key, 0) + posting.amount
            assert not any(sums.values()), event
            house = [(p.account, p.asset, p.amount) for p in postings if not p.account.isdecimal()]
            assert _summed(self.bank.machine.house_postings(event)) == _summed(house), event
            self.follow(event)

    def follow(self, event: ev.Event) -> None:
        """What arrives or comes back later, and how holds end."""
        if isinstance(event, ev.TransferReceived) and event.transfer in self.waiting:
            self.arrive(self.waiting.pop(event.transfer))
        elif isinstance(event, ev.TransferReturned):
            self.waiting.pop(event.transfer, None)
            self.posted[event.source] += event.amount + event.fee
        elif isinstance(event, ev.HoldEnded):
            assert self.holds[event.hold] == "active"
            self.holds[event.hold] = "expired" if event.expired else "voided"
        elif isinstance(event, ev.TransferSent) and event.hold is not None:
            state = self.bank.customers[customer_of(event.source)]
            assert self.holds[event.hold] == "active"
            if event.hold not in state.holds:
                self.holds[event.hold] = "posted"

    def group_answered(self, reply: cmd.LinkedReply, legs: tuple[cmd.Transfer, ...]) -> None:
        """All legs left, or none did."""
        refused = [isinstance(result, Rejection) for result in reply.results]
        assert all(refused) or not any(refused)
        for leg in legs if not any(refused) else ():
            own = customer_of(leg.source) == customer_of(leg.destination)
            fee = 0 if own else transfer_fee(POLICY, leg.amount, self.currency(leg.source))
            self.posted[leg.source] -= leg.amount + fee
            if own:
                self.arrive(leg)
            else:
                self.waiting[leg.id] = leg

    @invariant()
    def states_are_the_sum_of_their_postings(self) -> None:
        for customer in CUSTOMERS:
            for number, state in self.bank.customers[customer].accounts.items():
                assert self.ledger.get((str(number), state.currency), 0) == state.posted
                assert self.posted[number] == state.posted

    @invariant()
    def nothing_is_overdrawn(self) -> None:
        for customer in CUSTOMERS:
            held: dict[int, int] = {}
            state = self.bank.customers[customer]
            for hold in state.holds.values():
                assert hold.amount > 0
                held[hold.account] = held.get(hold.account, 0) + hold.amount
            for group in state.groups.values():
                for leg in group.legs:
                    held[leg.source] = held.get(leg.source, 0) + leg.amount + leg.fee
            for number, account in state.accounts.items():
                assert account.held == held.get(number, 0)
                assert account.available >= 0
                assert account.pending >= 0
                assert account.expecting >= 0

    @invariant()
    def active_holds_are_the_models(self) -> None:
        active = {hold for customer in CUSTOMERS for hold in self.bank.customers[customer].holds}
        assert active == {hold for hold, condition in self.holds.items() if condition == "active"}

    def teardown(self) -> None:
        """When all messages are delivered, nothing is on its way and every group has ended."""
        self.bank.deliver()
        self.check_events()
        transit = {k: v for k, v in self.ledger.items() if k[0] == "transit" and v}
        assert not transit
        for customer in CUSTOMERS:
            state = self.bank.customers[customer]
            assert not state.groups
            assert not state.promised
            for account in state.accounts.values():
                assert (account.pending, account.expecting) == (0, 0)
        totals: dict[str, int] = {}
        for (_, asset), amount in self.ledger.items():
            totals[asset] = totals.get(asset, 0) + amount
        assert not any(totals.values())


def _summed(postings: Any) -> dict[tuple[str, str], int]:
    sums: dict[tuple[str, str], int] = {}
    for account, asset, amount in postings:
        sums[account, asset] = sums.get((account, asset), 0) + amount
    return {key: amount for key, amount in sums.items() if amount}


TestAccountsModel = AccountsModel.TestCase
TestAccountsModel.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
