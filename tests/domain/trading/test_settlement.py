"""Customers who do as they please: what they are told always adds up to what the book is."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from domain.orders import Amend, Cancel, OrderType, Place, SelfTrade, Side, TimeInForce
from domain.trading import commands as cmd
from domain.trading.rules import BookStatus
from tests.domain.trading.market import ABOUT, ANN, BEN, CAT, RULES, SYMBOL, Market, changed

CUSTOMERS = st.sampled_from((ANN, BEN, CAT))
PRICES = st.integers(95, 105)
RATES = st.sampled_from(((1_000, 2_000), (0, 1), (333, 999_999)))


class Trading(RuleBasedStateMachine):
    """One book and three customers, who trade with each other and with themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.market = Market(changed(RULES, orders_max=30, notional_min=50))
        self.refs = {ANN: 0, BEN: 0, CAT: 0}

    def _place(self, data: st.DataObject, customer: int) -> Place:
        draw = data.draw
        self.refs[customer] += 1
        kind = draw(st.sampled_from(list(OrderType)))
        force = draw(st.sampled_from(list(TimeInForce)))
        priced = kind not in (OrderType.MARKET, OrderType.STOP_LOSS, OrderType.TAKE_PROFIT)
        quantity = draw(st.integers(0, 60))
        more: dict[str, Any] = {}
        if kind >= OrderType.STOP_LOSS:
            more["trigger"] = draw(PRICES)
        if force is TimeInForce.GTD:
            more["expires_at"] = self.market.now + draw(st.integers(0, 40))
        if draw(st.booleans()):
            more["display"] = draw(st.integers(0, 9))
        if draw(st.booleans()):
            more["budget"] = draw(st.integers(1, 3_000))
        return Place(
            self.refs[customer], draw(st.sampled_from(list(Side))), kind, force,
            draw(PRICES) if priced else 0, quantity,
            self_trade=draw(st.sampled_from(list(SelfTrade))),
            after=draw(st.booleans()), **more,
        )  # fmt: skip

    def _action(self, data: st.DataObject, customer: int) -> Place | Cancel | Amend:
        what = data.draw(st.sampled_from(("place", "place", "place", "cancel", "amend")))
        if what == "place" or not self.refs[customer]:
            return self._place(data, customer)
        ref = data.draw(st.integers(1, self.refs[customer] + 1))
        return Cancel(ref) if what == "cancel" else Amend(ref, data.draw(st.integers(0, 40)))

    @rule(data=st.data(), customer=CUSTOMERS, rates=RATES, count=st.integers(1, 6))
    def work(self, data: st.DataObject, customer: int, rates: tuple[int, int], count: int) -> None:
        actions = [self._action(data, customer) for _ in range(count)]
        self.market.work(customer, *actions, maker=rates[0], taker=rates[1])

    @rule(customer=CUSTOMERS, side=st.sampled_from(list(Side)), price=PRICES)
    def rest(self, customer: int, side: Side, price: int) -> None:
        self.refs[customer] += 1
        self.market.one(
            customer,
            Place(self.refs[customer], side, OrderType.LIMIT, TimeInForce.GTC, price, 20),
        )

    @rule(microseconds=st.integers(1, 30))
    def wait(self, microseconds: int) -> None:
        self.market.wait(microseconds)

    @precondition(lambda self: self.market.state.status is not BookStatus.HALTED)
    @rule()
    def halt(self) -> None:
        market = self.market
        market.carry_out(cmd.Halt(market.id(), b"f", SYMBOL, "a pause"))

    @precondition(lambda self: self.market.state.status is not BookStatus.TRADING)
    @rule()
    def resume(self) -> None:
        self.market.carry_out(cmd.Resume(self.market.id(), b"f", SYMBOL))

    @precondition(lambda self: self.market.state.status is not BookStatus.AUCTION)
    @rule(lasts=st.integers(2, 60))
    def auction(self, lasts: int) -> None:
        market = self.market
        market.carry_out(cmd.StartAuction(market.id(), b"f", SYMBOL, market.now + lasts))

    @rule(up=st.sampled_from((0, 20_000)), down=st.sampled_from((0, 30_000)))
    def band(self, up: int, down: int) -> None:
        rules = changed(self.market.state.rules, band_up=up, band_down=down, reference=100)
        self.market.carry_out(cmd.ChangeRules(self.market.id(), b"f", SYMBOL, rules, ABOUT))

    @invariant()
    def everything_adds_up(self) -> None:
        self.market.prove()

    def teardown(self) -> None:
        self.market.prove_fees()
        self.market.prove_replay()


TestTrading = Trading.TestCase
TestTrading.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)  # fmt: skip
