"""The order book as an entity: what it refuses, whom it tells what, and that a replay agrees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from domain.durable import Decision, Diverged, Rejection
from domain.orders import (
    Amend,
    Cancel,
    Fill,
    OrderStatus,
    OrderType,
    SelfTrade,
    TimeInForce,
    Work,
    Worked,
)
from domain.trading import commands as cmd
from domain.trading import events as ev
from domain.trading.machine import BooksMachine
from domain.trading.rules import About, BookStatus, InstrumentType, Rules
from tests.domain.trading.market import (
    ABOUT,
    ANN,
    BEN,
    CAT,
    RULES,
    START,
    SYMBOL,
    Market,
    buy,
    changed,
    decode_event,
    encode,
    sell,
)

NEW, PARTLY, FILLED = OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED, OrderStatus.FILLED
CANCELED, REJECTED, EXPIRED = OrderStatus.CANCELED, OrderStatus.REJECTED, OrderStatus.EXPIRED
MARKET, LIMIT, STOP = OrderType.MARKET, OrderType.LIMIT, OrderType.STOP_LOSS
IOC, GTD = TimeInForce.IOC, TimeInForce.GTD


# -- listing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("symbol", "rules", "about", "code", "field"),
    [
        ("BTC-USD", RULES, ABOUT, "symbol_invalid", None),
        ("ETHUSD", RULES, ABOUT, "symbol_invalid", None),
        ("btcUSD", changed(RULES, base="btc"), ABOUT, "symbol_invalid", None),
        ("USDUSD", changed(RULES, base="USD"), ABOUT, "symbol_invalid", None),
        ("BUSD", changed(RULES, base="B"), ABOUT, "symbol_invalid", None),
        (SYMBOL, changed(RULES, tick=0), ABOUT, "rules_invalid", "tick"),
        (SYMBOL, changed(RULES, tick=10, lot=10), ABOUT, "rules_invalid", "tick"),
        (SYMBOL, changed(RULES, tick=3 * 10**5, lot=10**3 + 1), ABOUT, "rules_invalid", "tick"),
        (SYMBOL, changed(RULES, lot=-1), ABOUT, "rules_invalid", "lot"),
        (SYMBOL, changed(RULES, quantity_max=10**10), ABOUT, "rules_invalid", "quantity_max"),
        (SYMBOL, changed(RULES, notional_min=0), ABOUT, "rules_invalid", "notional_min"),
        (SYMBOL, changed(RULES, notional_min=10**17), ABOUT, "rules_invalid", "notional_min"),
        (SYMBOL, changed(RULES, band_down=10**6), ABOUT, "rules_invalid", "band_down"),
        (SYMBOL, changed(RULES, band_up=-1), ABOUT, "rules_invalid", "band_up"),
        (SYMBOL, changed(RULES, orders_max=10_001), ABOUT, "rules_invalid", "orders_max"),
        (SYMBOL, changed(RULES, reference=10**9), ABOUT, "rules_invalid", "reference"),
        (SYMBOL, RULES, changed(ABOUT, name=" "), "text_invalid", "name"),
        (SYMBOL, RULES, changed(ABOUT, name="a\nb"), "text_invalid", "name"),
        (SYMBOL, RULES, changed(ABOUT, description="\x00"), "text_invalid", "description"),
        (SYMBOL, RULES, changed(ABOUT, taker=10**6), "rules_invalid", "taker"),
        (SYMBOL, RULES, changed(ABOUT, issued=-1), "rules_invalid", "issued"),
    ],
)
def test_what_cannot_be_listed(
    symbol: str, rules: Rules, about: About, code: str, field: str | None
) -> None:
    machine = BooksMachine()
    book = machine.new(symbol)
    command = cmd.ListInstrument(b"1" * 16, b"f", symbol, rules, about)
    found = machine.decide(book, command, START)
    assert isinstance(found, Rejection)
    assert found.code == code
    assert found.fields.get("field") == field
    assert book.status is BookStatus.UNLISTED


def test_an_instrument_is_listed_once_and_for_ever() -> None:
    market = Market()
    again = cmd.ListInstrument(market.id(), b"f", SYMBOL, RULES, ABOUT)
    assert market.refused(again).code == "already_listed"
    market.carry_out(cmd.Delist(market.id(), b"f", SYMBOL, "the issuer is gone"))
    assert market.refused(again).code == "already_listed"
    assert market.one(ANN, buy(1, 100, 1)).code == "market_closed"
    assert market.book().status is BookStatus.DELISTED
    market.prove_replay()


def test_without_an_instrument_there_is_no_book() -> None:
    machine = BooksMachine()
    book = machine.new("KTRAUSD")
    decision = machine.decide(book, Work(b"", ANN, 0, 0, (buy(1, 1, 1), Cancel(1))), START)
    assert isinstance(decision, Decision)
    assert not decision.events
    assert isinstance(decision.reply, Worked)
    assert [u.code for u in decision.reply.updates] == ["market_closed"] * 2
    for command in (
        cmd.ReadBook("KTRAUSD", 0), cmd.ReadOrders("KTRAUSD"),
        cmd.Halt(b"", b"", "KTRAUSD", "why"), cmd.Resume(b"", b"", "KTRAUSD"),
        cmd.StartAuction(b"", b"", "KTRAUSD", START + 9), cmd.Delist(b"", b"", "KTRAUSD", "why"),
        cmd.ChangeRules(b"", b"", "KTRAUSD", RULES, ABOUT),
    ):  # fmt: skip
        found = machine.decide(book, command, START)
        assert isinstance(found, Rejection)
        assert found.code == "unknown_instrument"


def test_rules_can_change_but_not_what_prices_mean() -> None:
    market = Market()
    market.one(ANN, buy(1, 100, 5))
    for field, value in (("tick", 10**7), ("lot", 10**4)):
        rules = changed(RULES, **{field: value})
        found = market.refused(cmd.ChangeRules(market.id(), b"f", SYMBOL, rules, ABOUT))
        assert (found.code, found.fields["field"]) == ("rules_invalid", field)
    strict = changed(RULES, notional_min=10_000)
    about = About(InstrumentType.CRYPTO, "Bitcoin in dollars", "", 5, 7)
    reply = market.carry_out(cmd.ChangeRules(market.id(), b"f", SYMBOL, strict, about))
    assert (reply.rules, reply.about, reply.status) == (strict, about, BookStatus.TRADING)
    assert market.one(BEN, sell(1, 100, 5)).code == "filter_notional"
    assert market.one(BEN, sell(2, 100, 100)).status is not REJECTED
    assert market.settlements(ANN)[0].status == FILLED, "what was in the book stayed there"
    market.prove()
    market.prove_replay()


# -- the rules' filters --------------------------------------------------------------------------

STRICT = changed(
    RULES, notional_min=1_000, quantity_max=500, price_max=10_000, orders_max=2, reference=100,
    band_up=100_000, band_down=100_000,
)  # fmt: skip


@pytest.mark.parametrize(
    ("place", "code"),
    [
        (buy(9, 100, 0), "filter_quantity"),
        (buy(9, 100, 501), "filter_quantity"),
        (buy(9, 0, 100), "filter_price"),
        (buy(9, 10_001, 100), "filter_price"),
        (buy(9, 100, 100, OrderType.STOP_LOSS_LIMIT, trigger=10_001), "filter_price"),
        (buy(9, 100, 9), "filter_notional"),
        (buy(9, 0, 9, MARKET, IOC), "filter_notional"),
        (buy(9, 0, 0, MARKET, IOC, budget=999), "filter_notional"),
        (buy(9, 0, 9, STOP, trigger=105), "filter_notional"),
        (buy(9, 111, 100), "filter_band"),
        (sell(9, 89, 100), "filter_band"),
        (buy(9, 100, 100, LIMIT, GTD, expires_at=START), "order_expired"),
        (buy(9, 105, 10, OrderType.LIMIT_MAKER), "would_match"),
    ],
)
def test_orders_that_the_rules_refuse(place: Any, code: str) -> None:
    market = Market(STRICT)
    market.one(ANN, sell(1, 105, 100))
    before = market.book()
    update = market.one(BEN, place)
    assert (update.status, update.code, update.filled) == (REJECTED, code, 0)
    after = market.book()
    assert changed(after, at=0) == changed(before, at=0)
    market.prove()
    market.prove_replay()


def test_a_customer_may_have_so_many_orders_and_no_more() -> None:
    market = Market(STRICT)
    market.work(ANN, buy(1, 100, 20), buy(2, 99, 20))
    assert market.one(ANN, buy(3, 98, 20)).code == "too_many_orders"
    assert market.one(ANN, sell(4, 0, 20, STOP, trigger=95)).code == "too_many_orders"
    assert market.one(BEN, buy(1, 98, 20)).status == NEW, "others may"
    assert market.one(ANN, buy(5, 98, 20, LIMIT, IOC)).status == EXPIRED, "it never rests"
    cancel, place = market.work(ANN, Cancel(1), buy(6, 98, 20))
    assert (cancel.status, place.status) == (CANCELED, NEW)
    market.one(BEN, sell(2, 99, 20))
    assert market.one(ANN, buy(7, 98, 20)).status == NEW, "a filled one makes room"
    market.prove()


def test_bands_follow_the_last_trade() -> None:
    market = Market(STRICT)
    assert market.one(ANN, sell(1, 110, 20)).status == NEW
    assert market.one(BEN, buy(1, 111, 20)).code == "filter_band"
    assert market.one(BEN, buy(2, 110, 20)).status == FILLED
    assert market.one(BEN, buy(3, 121, 20)).status == NEW
    market.prove_replay()


def test_what_follows_a_refused_action_only_on_success() -> None:
    market = Market()
    cancel, place = market.work(ANN, Cancel(1), buy(2, 100, 1, after=True))
    assert (cancel.code, place.code) == ("unknown_order", "not_attempted")
    market.one(ANN, buy(3, 100, 1))
    cancel, place, plain = market.work(ANN, Cancel(3), buy(4, 100, 1, after=True), buy(5, 100, 1))
    assert (cancel.code, place.code, plain.code) == ("", "", "")
    market.prove()


def test_a_number_is_used_once_in_a_work() -> None:
    market = Market()
    first, second = market.work(ANN, buy(1, 100, 1, LIMIT, IOC), buy(1, 100, 1))
    assert (first.status, second.code) == (EXPIRED, "duplicate_order")


# -- who is told what, and pays what -------------------------------------------------------------


def test_both_sides_are_told_and_pay_their_own_rate() -> None:
    market = Market()
    market.one(ANN, sell(1, 333, 3), maker=1_000)
    update = market.one(BEN, buy(1, 333, 3), taker=2_000)
    # Ann receives 333 x 3 x 10 = 9,990 units of the quote, Ben 3,000 of the base.
    assert update.fills == (Fill(1, 333, 3, 6, maker=False),)
    (settled,) = market.settlements(ANN)
    assert settled.fills == (Fill(1, 333, 3, 10, maker=True),)
    assert (settled.status, settled.filled, settled.quote) == (FILLED, 3, 999)
    assert market.settlements(BEN) == []
    market.prove_fees()


def test_each_order_keeps_the_rates_that_it_came_with() -> None:
    market = Market()
    market.one(ANN, sell(1, 100, 10), maker=1_000)
    market.one(ANN, sell(2, 101, 10), maker=5_000)
    market.one(BEN, buy(1, 101, 20), taker=3_000)
    fees = [fill.fee for update in market.settlements(ANN) for fill in update.fills]
    assert fees == [10, 51]
    market.prove_fees()


def test_an_order_that_a_later_action_of_the_same_work_meets() -> None:
    market = Market()
    first, second = market.work(ANN, sell(1, 100, 10), buy(2, 100, 4))
    assert (first.status, first.fills) == (NEW, ())
    assert (second.status, len(second.fills)) == (FILLED, 1)
    (settled,) = market.settlements(ANN)
    assert (settled.ref, settled.status, settled.filled) == (1, PARTLY, 4)
    assert settled.fills[0].maker
    market.prove()
    market.prove_fees()


def test_a_cancel_after_a_fill_in_the_same_work_has_the_last_word() -> None:
    market = Market()
    market.one(ANN, sell(1, 100, 10), maker=7_000)
    _, cancel = market.work(ANN, buy(2, 100, 4), Cancel(1), maker=1)
    assert (cancel.status, cancel.filled, cancel.fills) == (CANCELED, 4, ())
    (settled,) = market.settlements(ANN)
    assert (settled.ref, settled.status, settled.filled, len(settled.fills)) == (1, CANCELED, 4, 1)
    market.prove()
    market.prove_fees()


def test_a_reduction_after_a_fill_in_the_same_work() -> None:
    market = Market()
    market.one(ANN, sell(1, 100, 10))
    market.work(ANN, buy(2, 100, 4), Amend(1, 7), buy(3, 100, 1))
    (settled,) = market.settlements(ANN)
    assert (settled.quantity, settled.filled, len(settled.fills)) == (7, 5, 2)
    market.prove()


def test_a_stop_that_fires_is_settled_with_its_owner() -> None:
    market = Market()
    market.one(CAT, buy(1, 90, 50))
    market.one(ANN, buy(1, 100, 5))
    market.one(BEN, sell(1, 0, 20, STOP, trigger=100), taker=9_000)
    market.one(CAT, sell(2, 100, 5))
    (settled,) = market.settlements(BEN)
    assert (settled.status, settled.filled) == (FILLED, 20)
    assert settled.fills == (Fill(2, 90, 20, 162, maker=False),)
    market.prove()
    market.prove_fees()
    market.prove_replay()


def test_orders_that_meet_their_owner_expire_as_wished() -> None:
    market = Market()
    market.one(ANN, sell(1, 100, 10))
    update = market.one(ANN, buy(2, 100, 4, self_trade=SelfTrade.EXPIRE_BOTH))
    assert update.status == OrderStatus.EXPIRED_IN_MATCH
    (settled,) = market.settlements(ANN)
    assert (settled.ref, settled.status, settled.filled) == (1, OrderStatus.EXPIRED_IN_MATCH, 0)
    assert not market.trades
    market.prove()


def test_a_trade_that_nobody_sees_in_the_depth_is_no_update() -> None:
    market = Market()
    market.one(ANN, sell(1, 100, 9, display=3))
    before = market.book()
    market.one(BEN, buy(1, 100, 3))
    after = market.book()
    assert (after.asks, after.update) == (before.asks, before.update)
    assert (market.news[-1].first, market.news[-1].last) == (before.update + 1, before.update)
    assert market.news[-1].trades == [(1, 100, 3, 1, False)]
    market.one(BEN, buy(2, 100, 6))
    assert market.news[-1].trades == [(2, 100, 3, 1, False), (3, 100, 3, 1, True)]
    market.prove()


# -- time, halts, auctions -----------------------------------------------------------------------


def test_orders_expire_when_their_time_is_over() -> None:
    market = Market()
    market.one(ANN, buy(1, 100, 5, LIMIT, GTD, expires_at=START + 1_000_000))
    market.one(ANN, buy(2, 99, 5, LIMIT, GTD, expires_at=START + 2_000_000))
    assert market.machine.due(market.state) == START + 1_000_000
    assert market.decide(cmd.WakeBook(SYMBOL)) == Decision(), "woken once too often"
    market.wait(1_500_000)
    (settled,) = market.settlements(ANN)
    assert (settled.ref, settled.status) == (1, EXPIRED)
    assert market.machine.due(market.state) == START + 2_000_000
    market.now += 1_000_000
    assert market.one(BEN, sell(1, 99, 5)).status == NEW, "nobody trades with one that is over"
    (settled,) = market.settlements(ANN)
    assert (settled.ref, settled.status) == (2, EXPIRED)
    assert market.machine.due(market.state) == 0
    market.prove()
    market.prove_replay()


def test_a_halt_stops_trading_and_not_leaving() -> None:
    market = Market()
    market.work(ANN, buy(1, 100, 5), buy(2, 99, 5))
    reply = market.carry_out(cmd.Halt(market.id(), b"f", SYMBOL, "news pending"))
    assert reply.status is BookStatus.HALTED
    view = market.book()
    assert (view.status, view.reason) == (BookStatus.HALTED, "news pending")
    assert market.one(BEN, sell(1, 100, 5)).code == "market_halted"
    assert market.one(ANN, Cancel(1)).status == CANCELED
    assert market.one(ANN, Amend(2, 3)).quantity == 3
    assert market.refused(cmd.Halt(market.id(), b"f", SYMBOL, "again")).code == "status_invalid"
    market.carry_out(cmd.Resume(market.id(), b"f", SYMBOL))
    assert market.one(BEN, sell(2, 99, 3)).status == FILLED
    told = [item.status for item in market.news if not item.levels]
    assert told == [BookStatus.HALTED, BookStatus.TRADING]
    market.prove()
    market.prove_replay()


@pytest.mark.parametrize("ended", ["by its time", "by hand"])
def test_an_auction_trades_at_one_price(ended: str) -> None:
    market = Market()
    until = START + 1_000_000
    market.carry_out(cmd.StartAuction(market.id(), b"f", SYMBOL, until))
    market.one(ANN, buy(1, 105, 10))
    market.one(BEN, sell(1, 95, 6))
    market.one(CAT, sell(1, 99, 3))
    assert market.one(CAT, buy(2, 0, 1, MARKET, IOC)).code == "auction_limit_only"
    view = market.book()
    assert (view.status, view.until, view.matched) == (BookStatus.AUCTION, until, 9)
    assert not market.trades
    if ended == "by its time":
        market.wait(2_000_000)
    else:
        market.carry_out(cmd.Resume(market.id(), b"f", SYMBOL))
    assert {trade.price for trade in market.trades.values()} == {view.indicative}
    assert sum(trade.quantity for trade in market.trades.values()) == 9
    view = market.book()
    assert (view.status, view.until) == (BookStatus.TRADING, 0)
    assert market.machine.due(market.state) == 0
    assert {u.status for u in market.settlements(BEN)} == {FILLED}
    market.prove()
    market.prove_fees()
    market.prove_replay()


def test_an_auction_that_was_halted_ends_before_trading_goes_on() -> None:
    market = Market()
    market.carry_out(cmd.StartAuction(market.id(), b"f", SYMBOL, START + 1_000_000))
    market.one(ANN, buy(1, 105, 10))
    market.one(BEN, sell(1, 95, 6))
    market.carry_out(cmd.Halt(market.id(), b"f", SYMBOL, "wait"))
    assert market.machine.due(market.state) == 0
    market.carry_out(cmd.Resume(market.id(), b"f", SYMBOL))
    view = market.book()
    assert view.status is BookStatus.TRADING
    assert sum(trade.quantity for trade in market.trades.values()) == 6
    market.prove()
    market.prove_replay()


def test_auctions_end_in_the_future() -> None:
    market = Market()
    found = market.refused(cmd.StartAuction(market.id(), b"f", SYMBOL, START))
    assert found.code == "time_invalid"


def test_delisting_cancels_all_orders() -> None:
    market = Market()
    market.work(ANN, buy(1, 100, 5), sell(2, 0, 5, STOP, trigger=90))
    market.one(BEN, sell(1, 101, 5))
    market.carry_out(cmd.Delist(market.id(), b"f", SYMBOL, "by request"))
    assert {u.status for u in market.settlements(ANN)} == {CANCELED}
    assert {u.status for u in market.settlements(BEN)} == {CANCELED}
    view = market.book()
    assert (view.bids, view.asks) == ((), ())
    assert market.one(ANN, Cancel(1)).code == "unknown_order"
    assert market.refused(cmd.Resume(market.id(), b"f", SYMBOL)).code == "status_invalid"
    market.prove()
    market.prove_replay()


def test_reasons_are_lines_of_text() -> None:
    market = Market()
    for make in (cmd.Halt, cmd.Delist):
        for text in ("", " ", "a" * 201, "a\x00b"):
            found = market.refused(make(market.id(), b"f", SYMBOL, text))
            assert (found.code, found.fields["field"]) == ("text_invalid", "reason")


# -- replay and reading --------------------------------------------------------------------------


def _more(event: ev.OrdersWorked) -> Any:
    return changed(event, trades=(*event.trades, event.trades[0]))


def _fee(event: ev.OrdersWorked) -> Any:
    trade = changed(event.trades[0], maker_fee=event.trades[0].maker_fee + 1)
    return changed(event, trades=(trade, *event.trades[1:]))


def _status(event: ev.OrdersWorked) -> Any:
    update = changed(event.touched[0].update, status=CANCELED)
    return changed(event, touched=(changed(event.touched[0], update=update),))


def _update(event: ev.OrdersWorked) -> Any:
    return changed(event, update=event.update + 1)


def _answer(event: ev.OrdersWorked) -> Any:
    return changed(event, updates=(changed(event.updates[0], filled=1),))


def _action(event: ev.OrdersWorked) -> Any:
    return changed(event, actions=(changed(event.actions[0], quantity=1),))


@pytest.mark.parametrize("falsify", [_more, _fee, _status, _update, _answer, _action])
def test_a_replay_that_comes_out_otherwise_stops(falsify: Callable[[Any], Any]) -> None:
    market = Market()
    market.one(ANN, sell(1, 100, 10))
    market.one(BEN, buy(1, 100, 4))
    event = decode_event(market.journal[-1])
    market.replayed()
    market.journal[-1] = encode(falsify(event))
    with pytest.raises(Diverged, match=SYMBOL):
        market.replayed()


def test_every_order_can_be_read_in_the_order_in_which_it_would_trade() -> None:
    market = Market()
    market.one(ANN, buy(1, 100, 5))
    market.one(BEN, buy(1, 101, 7))
    market.one(ANN, buy(2, 100, 300, display=3))
    market.one(CAT, sell(1, 110, 2))
    market.one(CAT, buy(2, 0, 9, STOP, trigger=120))
    view = market.carry_out(cmd.ReadOrders(SYMBOL))
    rows = [(o.customer, o.ref, o.price, o.remaining, o.display, o.trigger) for o in view.orders]
    assert rows == [
        (BEN, 1, 101, 7, 7, 0), (ANN, 1, 100, 5, 5, 0), (ANN, 2, 100, 300, 3, 0),
        (CAT, 1, 110, 2, 2, 0), (CAT, 2, 0, 9, 0, 120),
    ]  # fmt: skip
    assert market.book(1).bids == ((101, 7),)
    assert market.book().bids == ((101, 7), (100, 8))


def test_ids_are_those_of_commands_that_change_something() -> None:
    machine = BooksMachine()
    assert machine.identities(cmd.ReadBook(SYMBOL, 5)) == ()
    assert machine.identities(cmd.ReadOrders(SYMBOL)) == ()
    assert machine.identities(machine.wake(SYMBOL)) == ()
    halt = cmd.Halt(b"i" * 16, b"f", SYMBOL, "why")
    assert machine.identities(halt) == ((b"i" * 16, b"f"),)
    assert machine.key(halt) == SYMBOL
