"""Random trading of several customers: what the book has to say arrives in any order allowed.

The naive book keeps a ledger of its own, of what each customer will have when all is settled.
"""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from domain.accounts import trading as tr
from domain.accounts.machine import AccountsMachine
from domain.accounts.state import Customer
from domain.durable import Rejection
from domain.orders import OrderType, SelfTrade, Side, TimeInForce
from tests.domain.accounts.bank import ALICE, BOB, CAROL, POLICY, usd
from tests.domain.accounts.floor import CENTS, Floor

CUSTOMERS = (ALICE, BOB, CAROL)

customers = st.sampled_from(CUSTOMERS)
plain = st.builds(
    tr.PlaceOrder,
    client=st.just(""),
    side=st.sampled_from(Side),
    type=st.just(OrderType.LIMIT),
    time_in_force=st.just(TimeInForce.GTC),
    price=st.integers(98, 102),
    quantity=st.integers(1, 40),
)
odd = st.builds(
    tr.PlaceOrder,
    client=st.sampled_from(["", "", "one", "two", "three"]),
    side=st.sampled_from(Side),
    type=st.sampled_from([OrderType.LIMIT, OrderType.MARKET, OrderType.LIMIT_MAKER]),
    time_in_force=st.sampled_from([TimeInForce.GTC, TimeInForce.GTC, TimeInForce.IOC]),
    price=st.integers(98, 102) | st.sampled_from([0, 5_000]),
    quantity=st.integers(1, 40) | st.sampled_from([0, 500, 900]),
    self_trade=st.sampled_from([SelfTrade.NONE, SelfTrade.DECREMENT]),
    budget=st.sampled_from([0] * 4 + [900, 20_000]),
    after=st.booleans(),
)
large = st.builds(
    tr.PlaceOrder,
    client=st.just(""),
    side=st.sampled_from(Side),
    type=st.just(OrderType.LIMIT),
    time_in_force=st.just(TimeInForce.GTC),
    price=st.integers(99, 101),
    quantity=st.integers(400, 1_000),
    after=st.booleans(),
)
places = plain | plain | odd | large
names = st.sampled_from(["", "one", "two", "three"])


class BrokerageModel(RuleBasedStateMachine):
    """The machine under test beside a book that anybody can follow."""

    @initialize()
    def begin(self) -> None:
        self.floor = Floor()
        self.asked: dict[bytes, tr.Trade] = {}
        self.floor.trader(ALICE, cents=100_000)
        self.floor.trader(BOB, coins=20_000_000)
        self.floor.trader(CAROL, cents=50_000, coins=10_000_000)

    @rule(customer=customers, count=st.integers(1, 6), data=st.data())
    def trade(self, customer: int, count: int, data: st.DataObject) -> None:
        """A trade of some actions; most name an order that is open."""
        refs = st.sampled_from([*self.floor.brokerage(customer).orders, 0, 1])
        changes = (
            st.builds(tr.CancelOrder, ref=refs)
            | st.builds(tr.CancelOrder, client=names)
            | st.builds(tr.AmendOrder, ref=refs, quantity=st.integers(0, 30))
            | st.just(tr.CancelAll())
        )
        actions: list[Any] = []
        for _ in range(count):
            after_change = bool(actions) and not isinstance(actions[-1], tr.PlaceOrder)
            actions.append(data.draw(places if after_change else places | changes))
        self.ask(self.floor.order(customer, *actions))

    @rule(customer=customers, order=plain)
    def place(self, customer: int, order: tr.PlaceOrder) -> None:
        self.ask(self.floor.order(customer, order))

    @rule(customer=customers, order=large, data=st.data())
    def replace(self, customer: int, order: tr.PlaceOrder, data: st.DataObject) -> None:
        """An order for another, which may be covered only by what the other one frees."""
        if refs := list(self.floor.brokerage(customer).orders):
            cancel = tr.CancelOrder(data.draw(st.sampled_from(refs)))
            order = msgspec.structs.replace(order, after=True)
            self.ask(self.floor.order(customer, cancel, order))

    def ask(self, command: tr.Trade) -> None:
        before = self.floor.snapshot()
        reply = self.floor.put(command, deliver=False)
        if reply is None:
            self.asked[command.id] = command
        else:
            assert self.floor.snapshot() == before
            self.judge(command, reply)

    @rule(customer=customers)
    def ask_again(self, customer: int) -> None:
        """What is under way is neither done twice nor answered before its time."""
        for trade in self.floor.brokerage(customer).trades:
            before = self.floor.snapshot()
            assert self.floor.put(self.asked[trade], deliver=False) is None
            again = msgspec.structs.replace(self.asked[trade], fingerprint=b"other")
            assert self.floor.put(again, deliver=False) == Rejection("id_reused")
            assert self.floor.snapshot() == before

    @rule()
    def match(self) -> None:
        if self.floor.works:
            self.floor.match()

    @rule(customer=customers)
    def answer(self, customer: int) -> None:
        if self.floor.said[customer]:
            self.floor.answer(customer)

    @rule(customer=customers)
    def settle(self, customer: int) -> None:
        if self.floor.settles[customer]:
            self.floor.settle(customer)

    @rule(halted=st.sampled_from(["", "", "", "market_closed"]))
    def halt(self, halted: str) -> None:
        self.floor.book.halted = halted

    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        if self.floor.book.orders:
            self.floor.book.expire(data.draw(st.sampled_from(self.floor.book.orders)))
            self.floor.tell()

    @rule(customer=customers, cents=st.integers(1, 60_000), withdraw=st.booleans())
    def move_funds(self, customer: int, cents: int, withdraw: bool) -> None:
        kind = tr.WithdrawBrokerage if withdraw else tr.FundBrokerage
        total, held = self.floor.has(customer, "USD")
        account = self.floor.account(usd(customer)).posted
        reply = self.floor.put(kind(self.floor.id(), b"", usd(customer), cents))
        enough = cents * CENTS <= total - held if withdraw else cents <= account
        assert isinstance(reply, Rejection) is not enough
        if enough:
            sign = -1 if withdraw else 1
            self.floor.balances[customer, "USD"] += sign * cents * CENTS
            assert reply.balance.total == total + sign * cents * CENTS
            assert self.floor.account(usd(customer)).posted == account - sign * cents

    @rule()
    def finish(self) -> None:
        self.floor.run()
        self.floor.prove_settled()

    def judge(self, command: tr.Trade, reply: tr.TradeReply) -> None:
        """Each action has its report, in its place."""
        if any(type(action) is tr.CancelAll for action in command.actions):
            return
        assert len(reply.reports) == len(command.actions)
        for action, report in zip(command.actions, reply.reports, strict=True):
            if isinstance(action, tr.PlaceOrder):
                assert report.client == action.client
                if report.code != "duplicate_client_id":
                    assert report.side is action.side
            elif not report.code:
                assert not isinstance(action, tr.CancelAll)
                assert action.ref in {0, report.ref}
                assert action.client in {"", report.client}

    @invariant()
    def right_at_every_moment(self) -> None:
        self.floor.prove()
        for trade in list(self.asked):
            if trade in self.floor.answers:
                self.judge(self.asked.pop(trade), self.floor.answers[trade])

    def teardown(self) -> None:
        if not hasattr(self, "floor"):
            return
        self.floor.book.halted = ""
        self.floor.run()
        self.floor.prove_settled()
        assert set(self.asked) <= set(self.floor.answers)
        self.replay()

    def replay(self) -> None:
        """Events alone lead to the same bytes, by way of the journal's encoding."""
        machine = AccountsMachine(POLICY)
        states: dict[int, Customer] = {}
        for number, state in self.floor.customers.items():
            states[number] = machine.new("")
            for own, event in self.floor.events:
                if own == number:
                    machine.apply(states[number], event)
            assert msgspec.msgpack.encode(states[number].brokerage) == msgspec.msgpack.encode(
                state.brokerage
            )


BrokerageModel.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestBrokerage = BrokerageModel.TestCase
