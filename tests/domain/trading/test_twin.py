"""The engine against its naive twin: random commands of every kind, and tapes of whole markets."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from benchmarks.flows import Message, Placed, Shape, Tape, crash, deep, hot, lively, swinging
from domain.orders import OrderType, SelfTrade, Side, TimeInForce
from tests.domain.trading.pair import Pair

PRICES = st.integers(95, 105)
QUANTITIES = st.integers(1, 12)
OWNERS = st.integers(1, 3)
SIDES = st.sampled_from([int(side) for side in Side])
FORCES = st.sampled_from([int(force) for force in TimeInForce])
STOPS = st.sampled_from([4, 5, 6, 7])
SELF_TRADES = st.sampled_from([0, 0, 0, 1, 2, 3, 4])


class Books(RuleBasedStateMachine):
    """Orders of three owners at a few prices, so that everything meets everything."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair()
        self.serial = 0
        self.numbers: list[int] = []

    def number(self, owner: int) -> int:
        self.serial += 1
        self.numbers.append((owner << 29) + self.serial)
        return self.numbers[-1]

    def end(self, force: int, after: int) -> int:
        return self.pair.book.now + after if force == TimeInForce.GTD else 0

    @rule(owner=OWNERS, side=SIDES, price=PRICES, quantity=QUANTITIES)
    def limit(self, owner: int, side: int, price: int, quantity: int) -> None:
        self.pair.do("place", self.number(owner), side, 1, 1, price, quantity)

    @rule(
        owner=OWNERS,
        side=SIDES,
        maker=st.booleans(),
        force=FORCES,
        price=PRICES,
        quantity=QUANTITIES,
        display=st.integers(0, 4),
        self_trade=SELF_TRADES,
        after=st.integers(0, 20),
    )
    def any_limit(
        self,
        owner: int,
        side: int,
        maker: bool,
        force: int,
        price: int,
        quantity: int,
        display: int,
        self_trade: int,
        after: int,
    ) -> None:
        kind = int(OrderType.LIMIT_MAKER if maker else OrderType.LIMIT)
        end = self.end(force, after)
        fields = price, quantity, 0, display, self_trade, end
        self.pair.do("place", self.number(owner), side, kind, force, *fields)

    @rule(
        owner=OWNERS,
        side=SIDES,
        force=FORCES,
        worst=st.one_of(st.just(0), PRICES),
        quantity=st.integers(0, 30),
        self_trade=SELF_TRADES,
        budget=st.one_of(st.just(0), st.integers(0, 4_000)),
    )
    def market(
        self,
        owner: int,
        side: int,
        force: int,
        worst: int,
        quantity: int,
        self_trade: int,
        budget: int,
    ) -> None:
        fields = worst, quantity, 0, 0, self_trade, 0, budget
        self.pair.do("place", self.number(owner), side, 2, force, *fields)

    @rule(
        owner=OWNERS,
        side=SIDES,
        kind=STOPS,
        force=FORCES,
        price=PRICES,
        quantity=QUANTITIES,
        trigger=PRICES,
        display=st.sampled_from([0, 0, 2]),
        self_trade=SELF_TRADES,
        after=st.integers(0, 20),
        budget=st.sampled_from([0, 0, 500]),
    )
    def stop(
        self,
        owner: int,
        side: int,
        kind: int,
        force: int,
        price: int,
        quantity: int,
        trigger: int,
        display: int,
        self_trade: int,
        after: int,
        budget: int,
    ) -> None:
        if kind in (OrderType.STOP_LOSS, OrderType.TAKE_PROFIT):
            price = 0 if price % 2 else price
        fields = price, quantity, trigger, display, self_trade, self.end(force, after), budget
        self.pair.do("place", self.number(owner), side, kind, force, *fields)

    @rule(fields=st.lists(st.integers(-1, 8), min_size=11, max_size=11))
    def rubbish(self, fields: list[int]) -> None:
        self.pair.do("place", *fields)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        known = self.numbers[-20:] or [1]
        self.pair.do("cancel", data.draw(st.sampled_from(known)))

    @rule(data=st.data(), quantity=st.integers(0, 12))
    def amend(self, data: st.DataObject, quantity: int) -> None:
        known = self.numbers[-20:] or [1]
        self.pair.do("amend", data.draw(st.sampled_from(known)), quantity)

    @rule(data=st.data(), side=SIDES)
    def same_number_again(self, data: st.DataObject, side: int) -> None:
        number = data.draw(st.sampled_from(self.numbers[-20:] or [1]))
        self.pair.do("place", number, side, 1, 1, 100, 5)

    @rule(passed=st.integers(0, 10))
    def advance(self, passed: int) -> None:
        self.pair.do("advance", self.pair.book.now + passed)

    @rule(up=st.sampled_from([0, 20_000, 50_000]), down=st.sampled_from([0, 20_000, 50_000]))
    def bands(self, up: int, down: int) -> None:
        self.pair.do("set_bands", up, down)

    @rule(price=st.one_of(st.just(0), PRICES))
    def reference(self, price: int) -> None:
        self.pair.do("set_reference", price)

    @rule()
    def halt_and_resume(self) -> None:
        self.pair.do("halt")
        self.pair.do("place", self.number(1), 1, 1, 1, 100, 5)
        for number in self.numbers[-3:]:
            self.pair.do("amend", number, 2)
            self.pair.do("cancel", number)
        self.pair.do("resume")

    @rule()
    def start_auction(self) -> None:
        self.pair.do("start_auction")

    @rule()
    def uncross(self) -> None:
        self.pair.do("indicative")
        self.pair.do("uncross")

    @rule()
    def compare_states(self) -> None:
        self.pair.compare_states()

    @rule()
    def restart(self) -> None:
        self.pair.restart()

    def teardown(self) -> None:
        self.pair.compare_states()
        self.pair.do("delist")
        self.pair.do("place", self.number(1), 1, 1, 1, 100, 5)
        self.pair.do("amend", self.numbers[0], 1)
        self.pair.do("cancel", self.numbers[0])


Books.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestBooks = Books.TestCase


def seasoned(messages: Iterator[Message], seed: int) -> Iterator[Message]:
    """A tape with a part of its new orders made into orders of the other types."""
    random = Random(seed)
    for message in messages:
        order = message.order
        if order is None or random.random() < 0.6:
            yield message
        else:
            yield message._replace(order=_special(order, random))  # type: ignore[arg-type]


def _special(order: Placed, random: Random) -> tuple[int, ...]:
    number, side, _, force, price, quantity = order
    owner_rule = random.choice([int(mode) for mode in SelfTrade])
    dice = random.randrange(6)
    if dice == 0:
        return number, side, 1, 1, price, quantity, 0, max(1, quantity // 4), owner_rule
    if dice == 1:
        trigger = max(1, price + random.randint(-20, 20))
        kind = random.choice([4, 5, 6, 7])
        return number, side, kind, 1, price, quantity, trigger, 0, owner_rule
    if dice == 2:
        return number, side, 1, int(TimeInForce.FOK), price, quantity, 0, 0, owner_rule
    if dice == 3:
        return number, side, 3, 1, price, quantity
    if dice == 4:
        return number, side, 2, 2, 0, 0, 0, 0, owner_rule, 0, price * quantity
    return number, side, 1, force, price, quantity, 0, 0, owner_rule


def run(tape: Tape, count: int, seed: int = 0) -> Pair:
    """Both books through a tape: compared after each message, restarted now and then."""
    pair = Pair()
    flow = seasoned(tape.messages, seed) if seed else tape.messages
    for step, message in enumerate([*tape.opening, *islice(flow, count)]):
        pair.play(message)
        if step % 50 == 0:
            pair.compare_states()
        if step % 70 == 0:
            pair.restart()
    assert pair.book.trade_id > 0
    return pair


TAPES = [
    (lambda: lively(1, Shape(resting=60)), 600),
    (lambda: deep(3, 150, 3), 400),
    (lambda: swinging(2, 60), 600),
    (lambda: crash(4, 100), 300),
    (lambda: hot(5, 1, 60), 500),
]


@pytest.mark.parametrize(("make", "count"), TAPES, ids=["lively", "deep", "swing", "crash", "hot"])
@pytest.mark.parametrize("seed", [0, 7], ids=["plain", "seasoned"])
def test_tapes(make: object, count: int, seed: int) -> None:
    assert callable(make)
    run(make(), count, seed)
