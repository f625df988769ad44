"""Trading from the customer's side: what is refused, put aside, settled, and given back."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from domain.accounts import trading as tr
from domain.accounts.brokerage import ENDED_MAX
from domain.accounts.policy import Policy
from domain.accounts.trading import CLIENT_ID_MAX, ORDER_VALUE_MAX, OrderCode
from domain.durable import Rejection
from domain.orders import (
    Cancel,
    OrderStatus,
    OrderType,
    Place,
    SelfTrade,
    TimeInForce,
)
from tests.domain.accounts.bank import ALICE, BOB, CAROL, DAY, NOON
from tests.domain.accounts.floor import (
    BUY,
    CENTS,
    SELL,
    SYMBOL,
    TERMS,
    Floor,
    fee_of,
    floor,
    limit,
    market,
)

UNIT, LOT = TERMS.unit, TERMS.lot
LIMITED = Policy({}, {}, orders_max=3)


def make_bank() -> Floor:
    """The customers that this module's tests are about."""
    return floor()


@pytest.fixture
def bank() -> Floor:
    return make_bank()


# -- what is put aside --------------------------------------------------------------------


def test_a_buy_holds_what_it_can_cost(bank: Floor) -> None:
    (report,) = bank.say(ALICE, limit(BUY, 100, 7, "mine"))
    assert (report.ref, report.status, report.client) == (1, OrderStatus.NEW, "mine")
    assert bank.has(ALICE, "USD") == (1_000_000 * CENTS, 700 * UNIT)


def test_a_sale_holds_what_it_sells(bank: Floor) -> None:
    (report,) = bank.say(BOB, limit(SELL, 100, 7))
    assert report.status == OrderStatus.NEW
    assert bank.has(BOB, "BTC") == (10**8, 7 * LOT)


def test_a_better_price_frees_the_difference_at_once(bank: Floor) -> None:
    bank.say(BOB, limit(SELL, 90, 5))
    (report,) = bank.say(ALICE, limit(BUY, 100, 8))
    assert (report.status, report.filled, report.quote) == (
        OrderStatus.PARTIALLY_FILLED,
        5,
        450,
    )
    coins, cash = 5 * LOT, 450 * UNIT
    assert bank.has(ALICE, "USD") == (1_000_000 * CENTS - cash, 300 * UNIT)
    assert bank.has(ALICE, "BTC") == (coins - fee_of(coins, TERMS.taker), 0)
    assert bank.has(BOB, "BTC") == (10**8 - coins, 0)
    assert bank.has(BOB, "USD") == (cash - fee_of(cash, TERMS.maker), 0)
    bank.prove_settled()


def test_a_cancel_gives_back_what_is_held(bank: Floor) -> None:
    (placed,) = bank.say(ALICE, limit(BUY, 100, 7))
    (report,) = bank.say(ALICE, tr.CancelOrder(placed.ref))
    assert (report.status, report.price, report.quantity) == (OrderStatus.CANCELED, 100, 7)
    assert bank.has(ALICE, "USD") == (1_000_000 * CENTS, 0)
    bank.prove_settled()


def test_an_amendment_gives_back_a_part(bank: Floor) -> None:
    bank.say(ALICE, limit(BUY, 100, 7, "mine"))
    (report,) = bank.say(ALICE, tr.AmendOrder(client="mine", quantity=4))
    assert (report.ref, report.quantity, report.status) == (1, 4, OrderStatus.NEW)
    assert bank.has(ALICE, "USD") == (1_000_000 * CENTS, 400 * UNIT)
    (refused,) = bank.say(ALICE, tr.AmendOrder(1, quantity=9))
    assert (refused.code, refused.quantity) == ("amend_quantity", 4)
    assert bank.has(ALICE, "USD") == (1_000_000 * CENTS, 400 * UNIT)


def test_a_market_buy_spends_no_more_than_there_is(bank: Floor) -> None:
    bank.say(BOB, limit(SELL, 2_000_000, 10**4))
    free = 1_000_000 * CENTS // UNIT
    command = bank.order(ALICE, market(BUY, 10**4))
    bank.put(command, deliver=False)
    ((_, work),) = bank.works
    assert [action.budget for action in work.actions if isinstance(action, Place)] == [free]
    assert bank.has(ALICE, "USD") == (1_000_000 * CENTS, free * UNIT)
    bank.run()
    (report,) = bank.answers[command.id].reports
    assert (report.status, report.filled) == (OrderStatus.EXPIRED, free // 2_000_000)
    assert bank.has(ALICE, "USD") == (1_000_000 * CENTS - free // 2_000_000 * 2_000_000 * UNIT, 0)
    bank.prove_settled()


def test_a_market_buy_with_a_worst_price_holds_that(bank: Floor) -> None:
    command = bank.order(ALICE, market(BUY, 50, price=120))
    bank.put(command, deliver=False)
    assert bank.has(ALICE, "USD") == (1_000_000 * CENTS, 6_000 * UNIT)
    bank.run()
    assert bank.has(ALICE, "USD") == (1_000_000 * CENTS, 0)


def test_a_budget_buys_or_sells_for_that_much(bank: Floor) -> None:
    bank.say(BOB, limit(SELL, 100, 50))
    (bought,) = bank.say(ALICE, market(BUY, 0, budget=1_250))
    assert (bought.filled, bought.quote, bought.budget) == (12, 1_200, 1_250)
    bank.say(ALICE, limit(BUY, 90, 50))
    command = bank.order(CAROL, market(SELL, 0, budget=500))
    bank.put(command, deliver=False)
    assert bank.has(CAROL, "BTC") == (10**8, 10**8 // LOT * LOT)
    bank.run()
    (sold,) = bank.answers[command.id].reports
    assert (sold.filled, sold.quote) == (5, 450)
    assert bank.has(CAROL, "BTC") == (10**8 - 5 * LOT, 0)
    bank.prove_settled()


def test_self_trade_that_decrements_frees_both_sides(bank: Floor) -> None:
    bank.say(CAROL, limit(SELL, 100, 8))
    order = limit(BUY, 100, 5, self_trade=SelfTrade.DECREMENT)
    (report,) = bank.say(CAROL, order)
    assert (report.status, report.filled) == (OrderStatus.EXPIRED_IN_MATCH, 0)
    assert bank.has(CAROL, "USD") == (500_000 * CENTS, 0)
    assert bank.has(CAROL, "BTC") == (10**8, 3 * LOT)
    bank.prove_settled()


def test_an_order_that_ends_by_itself_gives_back(bank: Floor) -> None:
    bank.say(ALICE, limit(BUY, 100, 7))
    bank.book.expire(bank.book.orders[0])
    bank.tell()
    bank.run()
    assert bank.has(ALICE, "USD") == (1_000_000 * CENTS, 0)
    (ended,) = bank.brokerage(ALICE).ended.values()
    assert ended.status == OrderStatus.EXPIRED


# -- what is refused ----------------------------------------------------------------------

GOOD = limit(BUY, 100, 5, "id")

REFUSED: list[tuple[str, dict[str, Any], OrderCode]] = [
    ("no quantity", {"quantity": 0}, OrderCode.FILTER_QUANTITY),
    ("a negative quantity", {"quantity": -5}, OrderCode.FILTER_QUANTITY),
    ("a budget alone that is no market order", {"quantity": 0, "budget": 5},
     OrderCode.FILTER_QUANTITY),
    ("a limit with a budget", {"budget": 5_000}, OrderCode.FILTER_QUANTITY),
    ("a negative budget", {"type": OrderType.MARKET, "budget": -5}, OrderCode.FILTER_QUANTITY),
    ("more coins than fit", {"quantity": ORDER_VALUE_MAX // LOT + 1, "price": 1},
     OrderCode.FILTER_QUANTITY),
    ("a negative visible part", {"display": -1}, OrderCode.FILTER_QUANTITY),
    ("more visible than there is", {"display": 6}, OrderCode.FILTER_QUANTITY),
    ("no price", {"price": 0}, OrderCode.FILTER_PRICE),
    ("a negative price", {"price": -100}, OrderCode.FILTER_PRICE),
    ("a stop's limit without a price", {"price": 0, "type": OrderType.STOP_LOSS_LIMIT},
     OrderCode.FILTER_PRICE),
    ("a negative trigger", {"trigger": -1}, OrderCode.FILTER_PRICE),
    ("a trigger beyond all bounds", {"trigger": 2**63}, OrderCode.FILTER_PRICE),
    (
        "a worst price beyond all bounds",
        {"type": OrderType.MARKET, "quantity": 0, "budget": 5, "price": 2**63},
        OrderCode.FILTER_PRICE,
    ),
    ("worth more than fits", {"price": ORDER_VALUE_MAX // UNIT, "quantity": 2},
     OrderCode.FILTER_NOTIONAL),
    ("a budget that does not fit",
     {"type": OrderType.MARKET, "price": 0, "budget": ORDER_VALUE_MAX // UNIT + 1},
     OrderCode.FILTER_NOTIONAL),
    ("an end in the past", {"expires_at": NOON}, OrderCode.EXPIRY_INVALID),
    ("an end that never comes", {"expires_at": 2**63}, OrderCode.EXPIRY_INVALID),
    ("a negative end", {"expires_at": -1}, OrderCode.EXPIRY_INVALID),
    ("a long id", {"client": "x" * (CLIENT_ID_MAX + 1)}, OrderCode.CLIENT_ID_INVALID),
    ("an id with a control character", {"client": "a\nb"}, OrderCode.CLIENT_ID_INVALID),
    ("an id of before", {"client": "before"}, OrderCode.DUPLICATE_CLIENT_ID),
    ("more than there is", {"quantity": 10**9}, OrderCode.INSUFFICIENT_BALANCE),
    ("coins that are not there", {"side": SELL}, OrderCode.INSUFFICIENT_BALANCE),
    ("a budget that is not there",
     {"type": OrderType.MARKET, "price": 0, "budget": 10**11}, OrderCode.INSUFFICIENT_BALANCE),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "code"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_a_refused_order_leaves_no_trace(
    bank: Floor, changed: dict[str, Any], code: OrderCode
) -> None:
    refused_order(bank, changed, code)


def refused_order(bank: Floor, changed: dict[str, Any], code: OrderCode) -> None:
    """The order alone is refused; beside it another goes through."""
    bank.say(ALICE, limit(BUY, 90, 1, "before"))
    before = bank.snapshot()
    order = msgspec.structs.replace(GOOD, **changed)
    (report,) = bank.say(ALICE, order)
    assert report.code == code.value
    assert bank.snapshot() == before
    if code is not OrderCode.DUPLICATE_CLIENT_ID:
        assert (report.ref, report.status) == (0, OrderStatus.REJECTED)
        assert (report.price, report.quantity) == (order.price, order.quantity)
    both = bank.say(ALICE, order, limit(BUY, 91, 1))
    assert [(each.code, each.ref) for each in both] == [(code.value, report.ref), ("", 2)]
    assert not bank.works
    bank.prove_settled()


def test_every_refusal_of_an_order_is_tried(bank: Floor) -> None:
    elsewhere = {OrderCode.TOO_MANY_ORDERS, OrderCode.UNKNOWN_ORDER, OrderCode.NOT_ATTEMPTED}
    assert {code for _, _, code in REFUSED} | elsewhere == set(OrderCode)
    order = list(OrderCode)
    assert [order.index(code) for _, _, code in REFUSED] == sorted(
        order.index(code) for _, _, code in REFUSED
    )


def test_two_orders_do_not_share_what_is_there(bank: Floor) -> None:
    most = 1_000_000 * CENTS // UNIT // 100
    reports = bank.say(ALICE, limit(BUY, 100, most - 1), limit(BUY, 100, 2), limit(BUY, 100, 1))
    assert [report.code for report in reports] == ["", "insufficient_balance", ""]
    assert [report.ref for report in reports] == [1, 0, 2]
    assert bank.has(ALICE, "USD") == (1_000_000 * CENTS, 1_000_000 * CENTS)


def test_an_id_is_given_once(bank: Floor) -> None:
    first, second = bank.say(ALICE, limit(BUY, 100, 1, "one"), limit(BUY, 101, 2, "one"))
    assert (first.code, second.code) == ("", "duplicate_client_id")
    assert second.price == 101
    (third,) = bank.say(ALICE, limit(BUY, 102, 3, "one"))
    assert (third.code, third.ref, third.price) == ("duplicate_client_id", 1, 100)
    bank.say(ALICE, tr.CancelOrder(1))
    (ended,) = bank.say(ALICE, limit(BUY, 102, 3, "one"))
    assert (ended.code, ended.status) == ("duplicate_client_id", OrderStatus.CANCELED)
    (bobs,) = bank.say(BOB, limit(SELL, 102, 3, "one"))
    assert bobs.code == ""


def test_the_oldest_ended_orders_are_forgotten(bank: Floor) -> None:
    for number in range(ENDED_MAX + 1):
        bank.say(ALICE, market(BUY, 1, price=100 + number))
        bank.say(ALICE, limit(BUY, 100, 1, f"id {number}"), tr.CancelOrder(client=f"id {number}"))
    brokerage = bank.brokerage(ALICE)
    assert len(brokerage.ended) == ENDED_MAX
    assert list(brokerage.ended) == list(range(ENDED_MAX + 3, 2 * ENDED_MAX + 3))
    assert len(brokerage.clients) == ENDED_MAX // 2
    assert bank.say(ALICE, limit(BUY, 100, 1, "id 1"))[0].code == ""


def test_as_many_as_one_may_have() -> None:
    bank = Floor(policy=LIMITED)
    bank.trader(ALICE, cents=1_000)
    reports = bank.say(ALICE, *[limit(BUY, 1, 1)] * 4)
    assert [report.code for report in reports] == ["", "", "", "too_many_orders"]
    bank.say(ALICE, tr.CancelOrder(2))
    reports = bank.say(ALICE, limit(BUY, 1, 1), limit(BUY, 1, 1))
    assert [(report.code, report.ref) for report in reports] == [("", 4), ("too_many_orders", 0)]


def test_unknown_orders(bank: Floor) -> None:
    bank.say(ALICE, limit(BUY, 100, 1, "mine"), limit(BUY, 100, 1, "gone"))
    bank.say(ALICE, tr.CancelOrder(client="gone"))
    bank.say(BOB, limit(SELL, 200, 1, "his"))
    other = tr.Trade(bank.id(), b"", ALICE, "ETHUSD", TERMS, (tr.CancelOrder(1), tr.CancelAll()))
    before = bank.snapshot()
    (elsewhere,) = bank.put(other).reports
    assert (elsewhere.code, elsewhere.ref, elsewhere.symbol) == ("unknown_order", 1, "ETHUSD")
    reports = bank.say(
        ALICE,
        tr.CancelOrder(),
        tr.CancelOrder(2),
        tr.CancelOrder(99),
        tr.CancelOrder(client="his"),
        tr.CancelOrder(1, "other"),
        tr.AmendOrder(99, quantity=1),
        tr.AmendOrder(1, quantity=0),
    )
    codes = ["unknown_order"] * 6 + ["filter_quantity"]
    assert [report.code for report in reports] == codes
    assert (reports[3].client, reports[6].client) == ("his", "mine")
    assert bank.snapshot() == before


def test_who_has_no_brokerage_or_no_accounts(bank: Floor) -> None:
    nobody = bank.order(4_000_000_000, limit(BUY, 1, 1))
    assert bank.put(nobody) == Rejection("unknown_customer", {"customer": "4000000000"})
    bank.open(5_000_000_000, 1_000)
    before = bank.snapshot()
    reports = bank.say(5_000_000_000, limit(BUY, 1, 1), tr.CancelOrder(1), tr.CancelAll())
    assert [report.code for report in reports] == ["insufficient_balance", "unknown_order"]
    view = bank.expect(tr.ReadBrokerage(5_000_000_000), tr.BrokerageView)
    assert view == tr.BrokerageView(5_000_000_000, (), (), ())
    assert bank.snapshot() == before
    assert bank.customers[5_000_000_000].brokerage is None


# -- funds, timers, looking ---------------------------------------------------------------


def test_what_is_held_cannot_be_withdrawn(bank: Floor) -> None:
    bank.say(ALICE, limit(BUY, 100, 5))
    account = 1_000_000 * CENTS
    number = next(iter(bank.customers[ALICE].accounts))
    too_much = tr.WithdrawBrokerage(bank.id(), b"", number, 1_000_000)
    free = (account - 500 * UNIT) // CENTS
    assert bank.put(too_much) == Rejection(
        "insufficient_funds",
        {"available": str(free), "needed": "1000000", "currency": "USD"},
    )
    reply = bank.expect(tr.WithdrawBrokerage(bank.id(), b"", number, free), tr.BrokerageReply)
    assert reply.balance.available < CENTS
    assert bank.account(number).posted == 100_000 + free


def test_a_view_of_what_was_asked_for(bank: Floor) -> None:
    bank.say(ALICE, limit(BUY, 100, 5, "a"), limit(BUY, 99, 5, "b"), limit(BUY, 98, 5))
    bank.say(ALICE, tr.CancelOrder(2))
    held = (100 + 98) * 5 * UNIT

    def seen(**asked: Any) -> tuple[list[int], list[int]]:
        view = bank.expect(tr.ReadBrokerage(ALICE, **asked), tr.BrokerageView)
        assert view.balances == (tr.BalanceView("USD", 1_000_000 * CENTS, held),)
        return [order.ref for order in view.orders], [order.ref for order in view.recent]

    assert seen() == ([1, 3], [2])
    assert seen(symbol=SYMBOL) == ([1, 3], [2])
    assert seen(symbol="ETHUSD") == ([], [])
    assert seen(ref=3) == ([3], [])
    assert seen(ref=2) == ([], [2])
    assert seen(client="a") == ([1], [])
    assert seen(client="b") == ([], [2])
    assert seen(client="c") == ([], [])
    assert seen(ref=1, client="b") == ([], [])
    assert seen(orders=False) == ([], [])


def test_a_dead_mans_switch_is_put_off_and_goes_off(bank: Floor) -> None:
    bank.say(ALICE, limit(BUY, 100, 5), limit(BUY, 99, 5))
    state, machine = bank.customers[ALICE], bank.machine
    assert machine.due(state) == 0
    for at in (NOON + 5, NOON + 9):
        bank.put(tr.CancelAfter(bank.id(), b"", ALICE, SYMBOL, at))
    bank.put(tr.CancelAfter(bank.id(), b"", ALICE, "", NOON + 100))
    bank.reserve(next(iter(state.accounts)), 5, days=7.5 / DAY)
    assert machine.due(state) == NOON + 7
    bank.now = NOON + 8
    bank.put(machine.wake(str(ALICE)), deliver=False)
    assert (machine.due(state), list(bank.works), state.holds) == (NOON + 9, [], {})
    bank.now = NOON + 9
    bank.put(machine.wake(str(ALICE)), deliver=False)
    ((_, work),) = bank.works
    assert work.actions == (Cancel(1), Cancel(2))
    assert (work.maker, work.taker) == (TERMS.maker, TERMS.taker)
    bank.run()
    assert bank.has(ALICE, "USD") == (1_000_000 * CENTS, 0)
    assert machine.due(state) == NOON + 100
    bank.put(tr.CancelAfter(bank.id(), b"", ALICE, "", 0))
    assert machine.due(state) == 0
    bank.prove_settled()


def test_a_switch_for_all_instruments(bank: Floor) -> None:
    bank.say(ALICE, limit(BUY, 100, 5))
    bank.put(tr.CancelAfter(bank.id(), b"", ALICE, "", NOON + 9))
    bank.put(tr.CancelAfter(bank.id(), b"", ALICE, "ETHUSD", NOON + 5))
    bank.now = NOON + 5
    bank.put(bank.machine.wake(str(ALICE)), deliver=False)
    assert not bank.works
    bank.now = NOON + 9
    bank.put(bank.machine.wake(str(ALICE)), deliver=False)
    bank.run()
    assert bank.brokerage(ALICE).orders == {}
    assert bank.brokerage(ALICE).switches == {}


def test_balances_are_in_the_books_under_names_of_their_own(bank: Floor) -> None:
    bank.say(CAROL, limit(BUY, 100, 5))
    posted = sum(account.posted for account in bank.customers[CAROL].accounts.values())
    assert bank.machine.balances(bank.customers[CAROL]) == {
        "USD": posted,
        "CNY": 0,
        "EUR": 0,
        "USD.8": 500_000 * CENTS,
        "BTC.8": 10**8,
    }


def test_times_in_force_and_types_go_to_the_book_as_they_are(bank: Floor) -> None:
    order = tr.PlaceOrder(
        "x", BUY, OrderType.STOP_LOSS_LIMIT, TimeInForce.GTD, 100, 5, 110, 2,
        SelfTrade.EXPIRE_BOTH, NOON + 5,
    )  # fmt: skip
    bank.put(bank.order(ALICE, order), deliver=False)
    ((_, work),) = bank.works
    assert work.actions == (
        Place(
            1, BUY, OrderType.STOP_LOSS_LIMIT, TimeInForce.GTD, 100, 5, 110, 2,
            SelfTrade.EXPIRE_BOTH, NOON + 5,
        ),
    )  # fmt: skip
