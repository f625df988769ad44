"""The rules of docs/concepts/order-book.md, one example each; then refusals as a table."""

from __future__ import annotations

import pytest

from domain.orders import OrderStatus, OrderType, SelfTrade, Side, TimeInForce
from domain.trading import values
from domain.trading.book import Book
from domain.trading.codes import Refusal
from domain.trading.levels import WIDTH
from domain.trading.state import BookPhase

NEW, PARTIAL, FILLED = OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED, OrderStatus.FILLED
CANCELED, EXPIRED, PREVENTED = 4, OrderStatus.EXPIRED, OrderStatus.EXPIRED_IN_MATCH
LIMIT, MARKET = OrderType.LIMIT, OrderType.MARKET
GTC, IOC, FOK, GTD = TimeInForce


class Scene:
    """A book and short ways to place orders in it; orders are called by serial number."""

    def __init__(self) -> None:
        self.book = Book()
        self.serial = 0

    def place(
        self,
        side: int,
        price: int,
        quantity: int,
        *,
        owner: int = 0,
        kind: int = LIMIT,
        force: int = GTC,
        **more: int,
    ) -> tuple[int, int, int, int, str]:
        """Place an order of its own owner, unless one is named."""
        self.serial += 1
        number = ((owner or 100 + self.serial) << 29) + self.serial
        self.last = number
        rest = [
            more.pop(name, 0)
            for name in ("trigger", "display", "self_trade", "expires_at", "budget")
        ]
        assert not more
        return self.book.place(number, side, kind, force, price, quantity, *rest)

    def buy(self, price: int, quantity: int, **more: int) -> tuple[int, int, int, int, str]:
        return self.place(Side.BUY, price, quantity, **more)

    def sell(self, price: int, quantity: int, **more: int) -> tuple[int, int, int, int, str]:
        return self.place(Side.SELL, price, quantity, **more)

    def traded(self) -> list[tuple[int, int]]:
        """Price and quantity of the trades since the last look."""
        return [(trade[3], trade[4]) for trade in self.book.drain()[0]]

    def makers(self) -> list[int]:
        """Serials of the makers of the trades since the last look."""
        return [trade[1] % 2**29 for trade in self.book.drain()[0]]

    def ended(self) -> dict[int, int]:
        """By serial, the last status of orders that something happened to."""
        return {change[0] % 2**29: change[1] for change in self.book.drain()[1]}


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_the_values_are_those_of_the_enumerations() -> None:
    groups = (Side, OrderType, TimeInForce, SelfTrade, OrderStatus, BookPhase)
    pairs = [(name, member) for group in groups for name, member in group.__members__.items()]
    assert pairs
    for name, member in pairs:
        if hasattr(values, name):
            assert getattr(values, name) == member, name
    assert int(SelfTrade.NONE) == values.NOBODY


def test_a_better_price_goes_first(scene: Scene) -> None:
    scene.sell(102, 1)
    scene.sell(101, 1)
    assert scene.buy(102, 2) == (FILLED, 2, 2, 203, "")
    assert scene.makers() == [2, 1]


def test_at_one_price_who_came_first_goes_first(scene: Scene) -> None:
    for _ in range(3):
        scene.sell(101, 1)
    scene.buy(101, 3)
    assert scene.makers() == [1, 2, 3]


def test_a_trade_is_at_the_price_of_the_order_that_rests(scene: Scene) -> None:
    scene.sell(101, 5)
    scene.buy(105, 2)
    assert scene.traded() == [(101, 2)]
    assert scene.book.last == 101


def test_what_is_left_of_a_limit_order_rests(scene: Scene) -> None:
    scene.sell(101, 2)
    assert scene.buy(101, 5) == (PARTIAL, 5, 2, 202, "")
    assert scene.book.depth(9) == ([(101, 3)], [])


def test_what_is_left_of_an_immediate_order_expires(scene: Scene) -> None:
    scene.sell(101, 2)
    assert scene.buy(101, 5, force=IOC) == (EXPIRED, 5, 2, 202, "")
    assert scene.book.open_orders == 0


def test_a_fill_or_kill_that_cannot_be_filled_leaves_no_trace(scene: Scene) -> None:
    scene.sell(101, 2)
    scene.buy(1, 1, kind=OrderType.STOP_LOSS, trigger=101)
    scene.book.drain()
    before = scene.book.digest()
    assert scene.buy(101, 3, force=FOK) == (EXPIRED, 3, 0, 0, "")
    assert scene.book.drain() == ([], [], [])
    assert scene.book.digest() == before
    assert scene.book.last == 0


def test_a_fill_or_kill_counts_what_icebergs_hide(scene: Scene) -> None:
    scene.sell(101, 10, display=1)
    assert scene.buy(101, 10, force=FOK)[0] == FILLED


def test_a_fill_or_kill_does_not_count_orders_of_its_owner(scene: Scene) -> None:
    scene.sell(101, 3, owner=7)
    scene.sell(101, 3)
    maker = int(SelfTrade.EXPIRE_MAKER)
    assert scene.buy(101, 4, owner=7, force=FOK, self_trade=maker)[0] == EXPIRED
    assert scene.book.open_orders == 2
    assert scene.buy(101, 3, owner=7, force=FOK, self_trade=maker)[0] == FILLED


def test_a_fill_or_kill_ends_where_it_would_meet_its_owner(scene: Scene) -> None:
    scene.sell(101, 6, display=2)
    scene.sell(101, 3, owner=7)
    taker = int(SelfTrade.EXPIRE_TAKER)
    assert scene.buy(101, 3, owner=7, force=FOK, self_trade=taker) == (EXPIRED, 3, 0, 0, "")
    assert scene.buy(101, 2, owner=7, force=FOK, self_trade=taker) == (FILLED, 2, 2, 202, "")


def test_a_market_order_takes_what_is_there(scene: Scene) -> None:
    scene.sell(101, 2)
    scene.sell(150, 2)
    assert scene.buy(0, 5, kind=MARKET) == (EXPIRED, 5, 4, 502, "")


def test_a_market_order_stops_at_its_worst_price(scene: Scene) -> None:
    scene.sell(101, 2)
    scene.sell(150, 2)
    assert scene.buy(149, 5, kind=MARKET) == (EXPIRED, 5, 2, 202, "")


def test_a_budget_buys_whole_lots(scene: Scene) -> None:
    scene.sell(100, 2)
    scene.sell(110, 9)
    assert scene.buy(0, 0, kind=MARKET, budget=425) == (FILLED, 4, 4, 420, "")
    assert scene.buy(0, 0, kind=MARKET, budget=99) == (EXPIRED, 0, 0, 0, "")
    assert scene.buy(0, 0, kind=MARKET, budget=9_999) == (EXPIRED, 7, 7, 770, "")


def test_a_limit_maker_is_refused_when_it_would_take(scene: Scene) -> None:
    scene.sell(101, 2)
    assert scene.buy(101, 1, kind=OrderType.LIMIT_MAKER)[4] == Refusal.WOULD_MATCH
    assert scene.buy(100, 1, kind=OrderType.LIMIT_MAKER)[0] == NEW


def test_an_iceberg_shows_a_part_and_queues_up_again(scene: Scene) -> None:
    scene.sell(101, 6, display=2)
    scene.sell(101, 2)
    assert scene.book.depth(1)[1] == [(101, 4)]
    scene.buy(101, 5)
    assert scene.makers() == [1, 2, 1]
    assert scene.book.orders(1)[1][0][2] == 1


def test_a_reduced_order_keeps_its_place(scene: Scene) -> None:
    scene.sell(101, 5)
    first = scene.last
    scene.sell(101, 5)
    assert scene.book.amend(first, 2) == (NEW, 2, 0, 0, "")
    scene.buy(101, 3)
    assert scene.makers() == [1, 2]


def test_an_order_cannot_grow_nor_shrink_below_what_is_filled(scene: Scene) -> None:
    scene.sell(101, 5)
    first = scene.last
    scene.buy(101, 2)
    for quantity in (0, 2, 5, 6):
        assert scene.book.amend(first, quantity)[4] == Refusal.AMEND_QUANTITY
    assert scene.book.amend(first, 3) == (PARTIAL, 3, 2, 202, "")
    assert scene.book.depth(1)[1] == [(101, 1)]


def test_an_iceberg_is_reduced_from_what_it_hides(scene: Scene) -> None:
    scene.sell(101, 10, display=3)
    assert scene.book.amend(scene.last, 4)[0] == NEW
    assert scene.book.depth(1)[1] == [(101, 3)]
    scene.book.amend(scene.last, 2)
    assert scene.book.depth(1)[1] == [(101, 2)]


def test_a_stop_waits_unseen_and_fires_by_the_last_price(scene: Scene) -> None:
    scene.buy(100, 1)
    scene.buy(98, 5)
    scene.sell(97, 2, kind=OrderType.STOP_LOSS_LIMIT, trigger=100)
    assert scene.book.depth(9) == ([(100, 1), (98, 5)], [])
    scene.sell(100, 1)
    assert scene.traded() == [(100, 1), (98, 2)]


def test_a_stop_that_was_reached_already_is_refused(scene: Scene) -> None:
    scene.buy(100, 1)
    scene.sell(100, 1)
    stop, profit = OrderType.STOP_LOSS, OrderType.TAKE_PROFIT
    assert scene.sell(0, 1, kind=stop, trigger=100)[4] == Refusal.WOULD_TRIGGER
    assert scene.buy(0, 1, kind=stop, trigger=100)[4] == Refusal.WOULD_TRIGGER
    assert scene.sell(0, 1, kind=profit, trigger=100)[4] == Refusal.WOULD_TRIGGER
    assert scene.sell(0, 1, kind=stop, trigger=99)[0] == NEW
    assert scene.sell(0, 1, kind=profit, trigger=101)[0] == NEW


def test_a_stop_can_be_cancelled_before_it_fires(scene: Scene) -> None:
    scene.sell(0, 1, kind=OrderType.STOP_LOSS, trigger=99)
    assert scene.book.cancel(scene.last)[0] == CANCELED
    assert scene.book.open_orders == 0


def test_stops_fire_nearest_first_and_set_off_others(scene: Scene) -> None:
    for price in (100, 99, 98, 97):
        scene.buy(price, 1)
    scene.sell(0, 1, kind=OrderType.STOP_LOSS, trigger=98)
    scene.sell(0, 1, kind=OrderType.STOP_LOSS, trigger=99)
    scene.sell(0, 1, kind=OrderType.STOP_LOSS, trigger=99)
    scene.sell(99, 2)
    trades, changes, _ = scene.book.drain()
    assert [(trade[2] % 2**29, trade[3]) for trade in trades] == [
        (8, 100),
        (8, 99),
        (6, 98),
        (7, 97),
    ]
    assert changes[-1][:2] == ((105 << 29) + 5, EXPIRED)


def test_nobody_trades_with_themselves_unless_they_allow_it(scene: Scene) -> None:
    for mode, mine, theirs in (
        (SelfTrade.NONE, (FILLED, 3, 3, 303, ""), {1: FILLED}),
        (SelfTrade.EXPIRE_TAKER, (PREVENTED, 3, 0, 0, ""), {}),
        (SelfTrade.EXPIRE_MAKER, (NEW, 3, 0, 0, ""), {1: PREVENTED}),
        (SelfTrade.EXPIRE_BOTH, (PREVENTED, 3, 0, 0, ""), {1: PREVENTED}),
        (SelfTrade.DECREMENT, (PREVENTED, 3, 0, 0, ""), {1: PREVENTED}),
    ):
        scene = Scene()
        scene.sell(101, 3, owner=7)
        assert scene.buy(101, 3, owner=7, self_trade=int(mode)) == mine
        assert scene.ended() == theirs


def test_a_decrement_takes_the_smaller_quantity_off_both(scene: Scene) -> None:
    scene.sell(101, 3, owner=7)
    mode = int(SelfTrade.DECREMENT)
    assert scene.buy(101, 5, owner=7, self_trade=mode) == (NEW, 2, 0, 0, "")
    assert scene.ended() == {1: PREVENTED}
    assert scene.sell(101, 1, owner=7, self_trade=mode) == (PREVENTED, 1, 0, 0, "")
    assert scene.book.depth(1)[0] == [(101, 1)]


def test_a_good_till_date_order_ends_at_its_date(scene: Scene) -> None:
    scene.sell(101, 3, force=GTD, expires_at=50)
    scene.sell(0, 3, force=GTD, expires_at=40, kind=OrderType.STOP_LOSS, trigger=9)
    assert scene.book.next_expiry() == 40
    scene.book.advance(49)
    assert scene.ended() == {2: EXPIRED}
    assert scene.book.next_expiry() == 50
    scene.book.advance(50)
    assert scene.ended() == {1: EXPIRED}
    assert scene.book.next_expiry() == 0


def test_an_end_that_was_is_not_the_end_of_a_later_order(scene: Scene) -> None:
    scene.sell(101, 3, force=GTD, expires_at=40)
    scene.book.cancel(scene.last)
    scene.book.place(scene.last, Side.SELL, LIMIT, GTC, 101, 2)
    assert scene.book.next_expiry() == 0
    scene.sell(102, 3, force=GTD, expires_at=30)
    scene.book.cancel(scene.last)
    scene.book.place(scene.last, Side.SELL, LIMIT, GTD, 102, 2, 0, 0, 0, 90)
    scene.book.advance(50)
    assert scene.book.open_orders == 2
    assert scene.book.next_expiry() == 90


def test_the_band_lies_round_the_reference_price(scene: Scene) -> None:
    scene.book.set_bands(100_000, 50_000)
    assert scene.buy(1_000_000, 1)[0] == NEW
    scene.book.set_reference(100)
    assert scene.sell(111, 1)[4] == Refusal.FILTER_BAND
    assert scene.sell(94, 1)[4] == Refusal.FILTER_BAND
    assert scene.sell(110, 1)[0] == FILLED
    assert scene.buy(95, 1)[0] == NEW


def test_market_orders_do_not_leave_the_band(scene: Scene) -> None:
    scene.sell(101, 1)
    scene.sell(120, 1)
    scene.book.set_bands(100_000, 100_000)
    scene.book.set_reference(100)
    assert scene.buy(0, 2, kind=MARKET) == (EXPIRED, 2, 1, 101, "")


def test_a_halted_book_takes_no_orders_but_lets_them_go(scene: Scene) -> None:
    scene.sell(101, 3)
    scene.book.halt()
    assert scene.buy(101, 3)[4] == Refusal.MARKET_HALTED
    assert scene.book.amend((101 << 29) + 1, 2)[0] == NEW
    assert scene.book.cancel((101 << 29) + 1)[0] == CANCELED
    scene.book.resume()
    assert scene.buy(101, 3)[0] == NEW


def test_an_auction_trades_at_one_price(scene: Scene) -> None:
    scene.book.start_auction()
    for price, quantity in ((105, 10), (103, 10), (100, 10)):
        scene.buy(price, quantity)
    for price, quantity in ((99, 5), (102, 12), (104, 20)):
        scene.sell(price, quantity)
    assert scene.traded() == []
    assert scene.book.indicative() == (102, 17, 3)
    assert scene.book.uncross() == (102, 17)
    assert {price for price, _ in scene.traded()} == {102}
    assert (scene.book.reference, scene.book.last) == (102, 102)
    assert scene.book.depth(9) == ([(103, 3), (100, 10)], [(104, 20)])


def test_nobody_trades_with_themselves_in_an_auction(scene: Scene) -> None:
    scene.book.start_auction()
    scene.buy(100, 5, owner=7)
    scene.sell(100, 2, owner=7, self_trade=int(SelfTrade.EXPIRE_TAKER))
    scene.sell(100, 3, owner=7, self_trade=int(SelfTrade.DECREMENT))
    scene.sell(100, 1)
    assert scene.book.uncross() == (100, 1)
    assert scene.ended() == {1: PARTIAL, 2: PREVENTED, 3: PREVENTED, 4: FILLED}
    assert scene.book.depth(9) == ([(100, 1)], [])


def test_an_auction_prefers_the_reference_among_equal_prices(scene: Scene) -> None:
    for reference, price in ((0, 102), (90, 100), (103, 103), (120, 105)):
        scene = Scene()
        scene.book.set_reference(reference)
        scene.book.start_auction()
        scene.buy(105, 5)
        scene.sell(100, 5)
        assert scene.book.uncross() == (price, 5)


def test_an_auction_leaves_as_little_over_as_it_can(scene: Scene) -> None:
    scene.book.set_reference(90)
    scene.book.start_auction()
    scene.buy(105, 10)
    scene.sell(100, 10)
    scene.buy(102, 5)
    assert scene.book.indicative() == (103, 10, 0)


def test_a_delisted_book_has_no_orders(scene: Scene) -> None:
    scene.buy(100, 1)
    scene.sell(101, 1)
    scene.sell(0, 1, kind=OrderType.STOP_LOSS, trigger=9)
    scene.book.delist()
    assert scene.ended() == {1: CANCELED, 2: CANCELED, 3: CANCELED}
    assert scene.buy(100, 1)[4] == Refusal.MARKET_CLOSED
    for verb in (scene.book.resume, scene.book.start_auction, scene.book.halt):
        verb()
        assert scene.book.phase == BookPhase.CLOSED


def test_levels_are_told_once_and_only_when_they_changed(scene: Scene) -> None:
    scene.buy(100, 1)
    scene.book.cancel(scene.last)
    assert scene.book.drain()[2] == []
    scene.buy(100, 1)
    scene.sell(101, 1)
    assert scene.book.drain()[2] == [(1, 100, 1), (2, 101, 1)]
    assert scene.book.update_id == 2
    scene.sell(100, 1)
    assert scene.book.drain()[2] == [(1, 100, 0)]


FLAWS: list[tuple[str, dict[str, int]]] = [
    ("no quantity", {"quantity": 0}),
    ("a negative quantity", {"quantity": -1}),
    ("no price", {"price": 0}),
    ("a price past all bounds", {"price": 2**48 + 1}),
    ("worth more than 64 bits hold", {"price": 2**40, "quantity": 2**40}),
    ("no such side", {"side": 3}),
    ("no such type", {"kind": 8}),
    ("no such time in force", {"force": 5}),
    ("no such self-trade mode", {"self_trade": 5}),
    ("a trigger without a stop", {"trigger": 5}),
    ("a stop without a trigger", {"kind": 5}),
    ("a market order for nothing", {"kind": 2, "quantity": 0}),
    ("a market order until a date", {"kind": 2, "force": 4, "expires_at": 9}),
    ("good till date without a date", {"force": 4}),
    ("a date without good till date", {"expires_at": 9}),
    ("more visible than there is", {"display": 6}),
    ("an iceberg that does not rest", {"display": 2, "force": 2}),
    ("a limit maker that does not rest", {"kind": 3, "force": 2}),
    ("a negative budget", {"budget": -1}),
]


@pytest.mark.parametrize(("title", "fields"), FLAWS, ids=[title for title, _ in FLAWS])
def test_orders_that_make_no_sense_are_refused(title: str, fields: dict[str, int]) -> None:
    scene = Scene()
    before = scene.book.digest()
    order = {"side": 1, "price": 100, "quantity": 5, **fields}
    assert scene.place(**order) == (OrderStatus.REJECTED, 0, 0, 0, Refusal.INVALID_ORDER)
    assert scene.book.digest() == before


def test_an_iceberg_has_at_most_a_hundred_parts(scene: Scene) -> None:
    assert scene.sell(101, 201, display=2)[4] == Refusal.ICEBERG_SLICES
    assert scene.sell(101, 200, display=2)[0] == NEW


def test_a_number_is_used_by_one_open_order(scene: Scene) -> None:
    scene.sell(101, 1)
    assert scene.book.place(scene.last, 1, 1, 1, 90, 1)[4] == Refusal.DUPLICATE_ORDER


def test_orders_can_come_and_go_without_end(scene: Scene) -> None:
    """Empty levels and past expiries are swept: what is kept is bounded by what is open."""
    scene.buy(1, 9)
    for price in range(2, 5_000):
        scene.buy(price, 1, force=GTD, expires_at=10**9)
        scene.book.cancel(scene.last)
        scene.book.drain()
    scene.sell(2, 1)
    assert scene.book.depth(9) == ([(1, 9)], [(2, 1)])
    assert len(scene.book._expiries) < 200
    assert len(scene.book._bids._keys) < 200
    assert len(scene.book._bids._levels) < 200
    assert len(scene.book._rows.cells) < 200 * WIDTH
    assert len(scene.book._rows.levels) < 200
    assert not scene.book._rows._conditions
