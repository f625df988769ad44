"""Trades of several actions, replacements, and what books say in whatever order it comes."""

from __future__ import annotations

import msgspec
import pytest

from domain.accounts import events as ev
from domain.accounts import trading as tr
from domain.durable import Decision, Rejection
from domain.orders import (
    Amend,
    Cancel,
    OrderStatus,
    Place,
    SelfTrade,
    Update,
    Work,
    Worked,
)
from tests.domain.accounts.bank import ALICE, BOB, CAROL, NOON
from tests.domain.accounts.floor import (
    BUY,
    CENTS,
    MAKER,
    SELL,
    TERMS,
    Floor,
    floor,
    limit,
    market,
)

UNIT, LOT = TERMS.unit, TERMS.lot


def make_bank() -> Floor:
    """The customers that this module's tests are about."""
    return floor()


@pytest.fixture
def bank() -> Floor:
    return make_bank()


# -- several at once ----------------------------------------------------------------------


def test_reports_are_in_the_order_of_the_actions(bank: Floor) -> None:
    bank.say(ALICE, limit(BUY, 99, 1, "a"), limit(BUY, 98, 1, "b"))
    reports = bank.say(
        ALICE,
        limit(BUY, 0, 1, "x"),
        tr.CancelOrder(client="a"),
        limit(BUY, 97, 2, "c"),
        tr.CancelOrder(77),
        tr.AmendOrder(client="b", quantity=1),
        tr.CancelAll(),
        limit(BUY, 96, 3, "d"),
    )
    assert [(report.client, report.code, report.status.name) for report in reports] == [
        ("x", "filter_price", "REJECTED"),
        ("a", "", "CANCELED"),
        ("c", "", "NEW"),
        ("", "unknown_order", "REJECTED"),
        ("b", "amend_quantity", "NEW"),
        ("b", "", "CANCELED"),
        ("c", "", "CANCELED"),
        ("d", "", "NEW"),
    ]
    bank.prove_settled()


def test_a_trade_is_one_event_and_one_message(bank: Floor) -> None:
    actions = [limit(BUY, 100 + n, 1) for n in range(20)]
    before = len(bank.events)
    command = bank.order(ALICE, *actions)
    bank.put(command, deliver=False)
    ((_, placed),) = bank.events[before:]
    ((_, work),) = bank.works
    assert isinstance(placed, ev.OrdersPlaced)
    assert work.actions is placed.actions
    assert placed.holds == tuple((100 + n) * UNIT for n in range(20))
    bank.run()
    assert [type(event) for _, event in bank.events[before:]] == [ev.OrdersPlaced, ev.OrdersWorked]


def test_what_the_book_refuses_is_given_back(bank: Floor) -> None:
    bank.say(BOB, limit(SELL, 100, 5))
    reports = bank.say(ALICE, limit(BUY, 100, 5, type=MAKER), limit(BUY, 99, 5, type=MAKER))
    assert [(report.code, report.ref) for report in reports] == [("would_match", 1), ("", 2)]
    assert (reports[0].status, reports[0].quantity) == (OrderStatus.REJECTED, 5)
    assert bank.has(ALICE, "USD") == (1_000_000 * CENTS, 495 * UNIT)
    bank.prove_settled()


def test_a_book_that_takes_nothing(bank: Floor) -> None:
    bank.say(ALICE, limit(BUY, 99, 5, "old"))
    bank.book.halted = "market_closed"
    reports = bank.say(ALICE, limit(BUY, 100, 5), tr.CancelOrder(1), tr.AmendOrder(1, quantity=2))
    assert [report.code for report in reports] == ["market_closed"] * 3
    assert [report.status.name for report in reports] == ["REJECTED", "NEW", "NEW"]
    assert bank.has(ALICE, "USD") == (1_000_000 * CENTS, 495 * UNIT)


# -- replacing ----------------------------------------------------------------------------


def test_a_replacement_goes_with_the_cancel_where_there_is_enough(bank: Floor) -> None:
    bank.say(ALICE, limit(BUY, 100, 5, "old"))
    command = bank.order(ALICE, tr.CancelOrder(client="old"), limit(BUY, 101, 5, "new", after=True))
    bank.put(command, deliver=False)
    ((_, work),) = bank.works
    assert [type(action) for action in work.actions] == [Cancel, Place]
    assert getattr(work.actions[1], "after", False)
    bank.run()
    old, new = bank.answers[command.id].reports
    assert (old.status, new.status, new.previous) == (OrderStatus.CANCELED, OrderStatus.NEW, "old")
    assert bank.has(ALICE, "USD") == (1_000_000 * CENTS, 505 * UNIT)


def most_of(bank: Floor) -> tr.PlaceOrder:
    """An order for nearly all that Alice has."""
    return limit(BUY, 100, 1_000_000 * CENTS // UNIT // 100 - 10, "all")


def test_a_replacement_waits_for_what_the_cancel_frees(bank: Floor) -> None:
    bank.say(ALICE, most_of(bank))
    new = limit(BUY, 200, most_of(bank).quantity // 2, "new", after=True)
    bank.say(BOB, limit(SELL, 99, 7))
    command = bank.order(ALICE, tr.CancelOrder(client="all"), new, limit(BUY, 1, 1))
    bank.put(command, deliver=False)
    bank.match()
    bank.answer(ALICE)
    assert command.id not in bank.answers
    bank.run()
    old, replaced, third = bank.answers[command.id].reports
    assert (old.status, replaced.status, third.status) == (
        OrderStatus.CANCELED,
        OrderStatus.NEW,
        OrderStatus.NEW,
    )
    assert (replaced.previous, replaced.code, third.previous) == ("all", "", "")
    bank.prove_settled()


def test_ids_of_both_halves_are_remembered(bank: Floor) -> None:
    bank.say(ALICE, most_of(bank))
    first, second = b"1" * 16, b"2" * 16
    for quantity, seen in ((most_of(bank).quantity // 2, [first, second]), (10**9, [first])):
        names = iter((f"a{quantity}", f"b{quantity}"))
        command = bank.order(
            ALICE,
            limit(BUY, 1, 1, next(names), id=first),
            tr.CancelAll(),
            limit(BUY, 200, quantity, next(names), id=second, after=True),
        )
        bank.put(command, deliver=False)
        bank.run()
        assert len(bank.answers[command.id].reports) == 4
        (answered,) = [made for made in bank.durable if made.answers == command.id]
        assert [part for part, _, _ in answered.parts] == seen
        for part, _, reply in answered.parts:
            wanted = "a" if part == first else "b"
            assert [report.client for report in reply.reports] == [f"{wanted}{quantity}"]


def test_after_nothing_was_cancelled_nothing_is_freed(bank: Floor) -> None:
    (report,) = bank.say(ALICE, tr.CancelAll(), limit(BUY, 100, 10**9, after=True))
    assert report.code == "insufficient_balance"
    (report,) = bank.say(ALICE, tr.CancelAll(), limit(BUY, 100, 1, after=True))
    assert report.code == ""


def test_a_replacement_that_is_not_covered_after_all(bank: Floor) -> None:
    bank.say(ALICE, most_of(bank))
    new = limit(BUY, 300, most_of(bank).quantity, "new", after=True)
    cancelled, refused = bank.say(ALICE, tr.CancelOrder(client="all"), new)
    assert (cancelled.status, refused.code) == (OrderStatus.CANCELED, "insufficient_balance")
    assert bank.has(ALICE, "USD") == (1_000_000 * CENTS, 0)
    bank.prove_settled()


def test_a_replacement_is_not_attempted_when_the_cancel_fails(bank: Floor) -> None:
    new = limit(BUY, 100, 5, "new", after=True)
    assert [report.code for report in bank.say(ALICE, tr.CancelOrder(9), new)] == [
        "unknown_order",
        "not_attempted",
    ]
    bank.say(ALICE, most_of(bank))
    for replacement in (new, msgspec.structs.replace(new, quantity=most_of(bank).quantity)):
        command = bank.order(ALICE, tr.CancelOrder(client="all"), replacement)
        bank.put(command, deliver=False)
        for order in list(bank.book.orders):
            bank.book.expire(order)
        bank.tell()
        bank.run()
        reports = bank.answers[command.id].reports
        assert [report.code for report in reports] == ["unknown_order", "not_attempted"]
        assert bank.has(ALICE, "USD") == (1_000_000 * CENTS, 0)
        new = msgspec.structs.replace(new, client="newer")
        bank = make_bank()
        bank.say(ALICE, most_of(bank))


# -- in any order -------------------------------------------------------------------------


def worked(ref: int, status: OrderStatus, *, filled: int = 0, quantity: int = 5) -> Update:
    """An update of an order at 100 for 5 lots."""
    return Update(ref, status, quantity, filled, filled * 100)


def test_fills_may_overtake_the_answer(bank: Floor) -> None:
    command = bank.order(ALICE, limit(BUY, 100, 5))
    bank.put(command, deliver=False)
    bank.match()
    bank.put(bank.order(BOB, limit(SELL, 100, 5)), deliver=False)
    bank.match()
    bank.settle(ALICE)
    assert bank.has(ALICE, "USD") == (1_000_000 * CENTS - 500 * UNIT, 0)
    assert list(bank.brokerage(ALICE).orders) == [1]
    bank.answer(ALICE)
    assert list(bank.brokerage(ALICE).ended) == [1]
    (report,) = bank.answers[command.id].reports
    assert (report.status, report.filled) == (OrderStatus.NEW, 0)
    assert bank.brokerage(ALICE).ended[1].status == OrderStatus.FILLED
    bank.run()
    bank.prove_settled()


def test_an_end_may_overtake_the_last_fills(bank: Floor) -> None:
    bank.say(ALICE, limit(BUY, 100, 5))
    bank.put(bank.order(BOB, limit(SELL, 100, 3)), deliver=False)
    bank.put(cancel := bank.order(ALICE, tr.CancelOrder(1)), deliver=False)
    bank.match()
    bank.match()
    bank.answer(ALICE)
    (report,) = bank.answers[cancel.id].reports
    assert (report.status, report.filled) == (OrderStatus.CANCELED, 3)
    assert bank.has(ALICE, "USD") == (1_000_000 * CENTS, 300 * UNIT)
    (again,) = bank.put(bank.order(ALICE, tr.CancelOrder(1)), deliver=False).reports
    assert again.code == "unknown_order"
    bank.settle(ALICE)
    assert bank.has(ALICE, "USD") == (1_000_000 * CENTS - 300 * UNIT, 0)
    assert bank.brokerage(ALICE).orders == {}
    bank.run()
    bank.prove_settled()


def test_a_late_answer_does_not_take_a_reduction_back(bank: Floor) -> None:
    order = limit(BUY, 100, 5, self_trade=SelfTrade.DECREMENT)
    for command in (bank.order(CAROL, limit(SELL, 100, 8)), bank.order(CAROL, order)):
        bank.put(command, deliver=False)
        bank.match()
    bank.settle(CAROL)
    assert bank.has(CAROL, "BTC") == (10**8, 3 * LOT)
    bank.answer(CAROL)
    assert bank.has(CAROL, "BTC") == (10**8, 3 * LOT)
    assert bank.brokerage(CAROL).orders[1].quantity == 3
    bank.run()
    bank.prove_settled()


def test_fills_of_an_order_that_is_not_there_are_not_lost(bank: Floor) -> None:
    bank.say(ALICE, limit(BUY, 100, 5))
    bank.put(bank.order(BOB, limit(SELL, 100, 5)), deliver=False)
    bank.match()
    news = bank.settles[ALICE][0]
    bank.settle(ALICE)
    state = bank.customers[ALICE]
    before = bank.snapshot()
    assert bank.machine.decide(state, news, bank.now) == Rejection("unknown_order", {"ref": "1"})
    without = msgspec.structs.replace(news, updates=(worked(1, OrderStatus.CANCELED),))
    assert bank.machine.decide(state, without, bank.now) == Decision()
    assert bank.machine.decide(bank.machine.new(""), without, bank.now) == Decision()
    assert bank.snapshot() == before


def test_an_answer_tells_of_orders_that_are_forgotten(bank: Floor) -> None:
    state = bank.customers[ALICE]
    work = Work(b"gone" * 4, ALICE, 0, 0, (Cancel(77), Amend(78, 1)))
    updates = (worked(77, OrderStatus.CANCELED), Update(78, OrderStatus.REJECTED, 0, 0, 0, (), "x"))
    decision = bank.machine.acknowledge(state, work, Worked(5, updates), bank.now)
    (event,) = decision.events
    assert event.updates == ()
    assert decision.reply is None
    ((customer, reports, actions),) = [msgspec.structs.astuple(news) for news in decision.news]
    assert (customer, [report.code for report in reports]) == (ALICE, ["unknown_order", "x"])
    assert actions == work.actions


def test_what_is_asked_again_waits_for_the_same_answer(bank: Floor) -> None:
    command = bank.order(ALICE, limit(BUY, 100, 5, "a", id=b"a" * 16), limit(BUY, 0, 5))
    assert bank.put(command, deliver=False) is None
    before = bank.snapshot()
    assert bank.machine.decide(bank.customers[ALICE], command, bank.now) == Decision()
    other = msgspec.structs.replace(command, fingerprint=b"other")
    assert bank.put(other, deliver=False) == Rejection("id_reused")
    for kind in (tr.IssueAsset, tr.CancelAfter):
        taken = kind(command.id, b"", ALICE, "XYZ", NOON + 1)
        assert bank.put(taken, deliver=False) == Rejection("id_reused")
    assert bank.snapshot() == before
    bank.run()
    decision = bank.durable[-1]
    assert (decision.durable, decision.answers) == (True, command.id)
    assert decision.parts == [
        (b"a" * 16, b"", tr.TradeReply(decision.reply.at, decision.reply.reports[:1]))
    ]
    assert bank.machine.identities(command) == ((command.id, b""), (b"a" * 16, b""))


def test_what_rests_on_more_than_the_book_said_is_told_when_it_is_written(bank: Floor) -> None:
    """A refused cancel shows the order as it is known here: that may not be written yet."""
    bank.say(ALICE, limit(BUY, 100, 5))
    assert bank.durable[-1].durable
    bank.put(bank.order(ALICE, tr.CancelOrder(1)), deliver=False)
    bank.book.expire(bank.book.orders[0])
    bank.tell()
    bank.run()
    (decision,) = [made for made in bank.durable[-3:] if isinstance(made.reply, tr.TradeReply)]
    assert decision.reply.reports[0].code == "unknown_order"
    assert not decision.durable


def test_news_tell_what_was_done(bank: Floor) -> None:
    bank.say(ALICE, limit(BUY, 100, 5), limit(BUY, 99, 5))
    bank.say(ALICE, tr.AmendOrder(2, quantity=3), tr.CancelOrder(2), tr.CancelOrder(1))
    bank.say(ALICE, limit(BUY, 98, 5))
    bank.say(BOB, limit(SELL, 98, 2), market(SELL, 9))
    told = [
        (news.customer, tr.news_kind(report, action))
        for news in bank.news
        for report, action in zip(
            news.reports, news.actions or [None] * len(news.reports), strict=True
        )
    ]
    assert [kind for customer, kind in told if customer == ALICE] == [
        "NEW", "NEW", "REPLACED", "CANCELED", "CANCELED", "NEW", "TRADE", "TRADE",
    ]  # fmt: skip
    assert [kind for customer, kind in told if customer == BOB] == ["TRADE", "TRADE"]
