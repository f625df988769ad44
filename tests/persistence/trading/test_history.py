"""A customer's orders and fills: filters, sorting, pages, and what programs ask."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from actors.projector import Projector
from domain.orders import OrderStatus, Side
from persistence.cursors import CursorInvalid
from persistence.database import Pool
from persistence.journal import to_datetime
from persistence.trading import history
from persistence.trading.history import FILL_SORTS, ORDER_SORTS, FillFilter, OrderFilter
from tests.persistence.trading.tape import Known, Tape

ANN = 1_000_000_000


@pytest.fixture
async def tape(pool: Pool) -> Tape:
    """A market of two instruments and three customers, projected."""
    tape = Tape(pool, 9)
    await tape.open()
    tape.trade_on(160, customers=3)
    await tape.flush()
    projector = Projector(pool)
    while await projector.step():
        pass
    return tape


def orders_of(tape: Tape, customer: int = ANN) -> list[Known]:
    return [order for (owner, _), order in sorted(tape.orders.items()) if owner == customer]


async def test_all_orders_of_an_instrument(pool: Pool, tape: Tape) -> None:
    mine = [order for order in orders_of(tape) if order.symbol == "BTCUSD"]
    refs = [order.place.ref for order in mine]
    found = await history.all_orders(pool, ANN, "BTCUSD")
    assert [report.ref for report in found] == refs
    for report, order in zip(found, mine, strict=True):
        assert (report.client, report.side, report.type, report.time_in_force) == (
            order.client, order.place.side, order.place.type, order.place.time_in_force
        )  # fmt: skip
        assert (report.price, report.quantity) == (order.place.price, order.place.quantity)
        assert (report.status, report.filled, report.quote) == (
            order.status, order.filled, order.quote
        )  # fmt: skip
    placed = {report.ref: report.placed_at for report in found}

    async def asked(**options: int) -> list[int]:
        return [row.ref for row in await history.all_orders(pool, ANN, "BTCUSD", **options)]

    third = refs[3]
    assert await asked(limit=4) == refs[-4:]
    assert await asked(from_ref=third, limit=4) == refs[3:7]
    assert await asked(start=placed[third], limit=2) == refs[3:5]
    assert await asked(end=placed[third], limit=2) == refs[2:4]
    assert await asked(start=placed[third], end=placed[refs[6]]) == refs[3:7]
    assert await history.all_orders(pool, 42, "BTCUSD") == []


async def test_one_order_by_number_or_client(pool: Pool, tape: Tape) -> None:
    order = max(orders_of(tape), key=lambda order: len(order.fills))
    assert len(order.fills) > 1
    row = await history.order(pool, ANN, ref=order.place.ref)
    assert row is not None
    assert row.report.client == order.client
    assert row.fee == order.fee
    assert row.life[0][0] == OrderStatus.PENDING
    assert row.life[-1][0] == order.status
    assert row.report.updated_at >= row.report.placed_at
    assert await history.order(pool, ANN, client=order.client, symbol=order.symbol) == row
    other = {"BTCUSD": "ETHUSD", "ETHUSD": "BTCUSD"}[order.symbol]
    assert await history.order(pool, ANN, client=order.client, symbol=other) is None
    assert await history.order(pool, 42, ref=order.place.ref) is None
    fills = await history.fills_of(pool, ANN, order.place.ref)
    assert [(fill.trade, fill.quantity, fill.fee) for fill in fills] == order.fills


async def test_own_trades(pool: Pool, tape: Tape) -> None:
    expected = sorted(
        (trade, order.place.ref, quantity, fee)
        for order in orders_of(tape)
        if order.symbol == "ETHUSD"
        for trade, quantity, fee in order.fills
    )

    async def asked(**options: int) -> list[tuple[int, int, int, int]]:
        rows = await history.own_trades(pool, ANN, "ETHUSD", **options)
        return [(row.trade, row.ref, row.quantity, row.fee) for row in rows]

    assert len(expected) > 12
    assert await asked() == expected
    assert await asked(limit=3) == expected[-3:]
    assert await asked(from_id=expected[4][0]) == [
        row for row in expected if row[0] >= expected[4][0]
    ]
    ref = expected[0][1]
    assert await asked(order=ref) == [row for row in expected if row[1] == ref]
    rows = await history.own_trades(pool, ANN, "ETHUSD")
    middle = rows[10].at
    assert await asked(start=middle) == expected[[row.at for row in rows].index(middle) :]
    assert len(await asked(start=middle, end=middle)) == sum(row.at == middle for row in rows)


async def walk(page_of: Any, *arguments: Any, **options: Any) -> list[Any]:
    """All pages, three rows each."""
    rows: list[Any] = []
    cursor = None
    while True:
        page = await page_of(*arguments, cursor=cursor, limit=3, **options)
        rows += page.rows
        cursor = page.next_cursor
        if cursor is None:
            return rows


async def test_order_pages_neither_repeat_nor_skip(pool: Pool, tape: Tape) -> None:
    everything = OrderFilter()
    names = {"date": "ref", "updated": "updated_at"}
    for sort, descending in product(ORDER_SORTS, (True, False)):
        whole = await history.orders_page(
            pool, ANN, everything, limit=1_000, sort=sort, descending=descending
        )
        assert whole.next_cursor is None
        assert len(whole.rows) == len(orders_of(tape))
        options = {"sort": sort, "descending": descending}
        assert await walk(history.orders_page, pool, ANN, everything, **options) == whole.rows
        keys = [getattr(row.report, names.get(sort, sort)) for row in whole.rows]
        assert keys == sorted(keys, reverse=descending)


async def test_fill_pages_neither_repeat_nor_skip(pool: Pool, tape: Tape) -> None:
    for sort, descending in product(FILL_SORTS, (True, False)):
        whole = await history.fills_page(
            pool, ANN, FillFilter(), limit=1_000, sort=sort, descending=descending
        )
        assert len(whole.rows) == sum(len(order.fills) for order in orders_of(tape))
        options = {"sort": sort, "descending": descending}
        assert await walk(history.fills_page, pool, ANN, FillFilter(), **options) == whole.rows
        keys = [getattr(row, "at" if sort == "date" else sort) for row in whole.rows]
        assert keys == sorted(keys, reverse=descending)


async def test_filters_keep_what_they_say(pool: Pool, tape: Tape) -> None:
    mine = orders_of(tape)
    times = {
        row.report.ref: row.report.placed_at
        for row in (await history.orders_page(pool, ANN, OrderFilter(), limit=1_000)).rows
    }
    middle = to_datetime(sorted(times.values())[len(times) // 2])
    client = mine[11].client
    cases: list[tuple[OrderFilter, Callable[[Known], bool]]] = [
        (OrderFilter(symbol="BTCUSD"), lambda o: o.symbol == "BTCUSD"),
        (OrderFilter(side=Side.BUY), lambda o: o.place.side == Side.BUY),
        (OrderFilter(statuses=history.OPEN), lambda o: o.status < OrderStatus.FILLED),
        (OrderFilter(statuses=[OrderStatus.FILLED]), lambda o: o.status == OrderStatus.FILLED),
        (OrderFilter(date_from=middle), lambda o: to_datetime(times[o.place.ref]) >= middle),
        (OrderFilter(date_to=middle), lambda o: to_datetime(times[o.place.ref]) < middle),
        (OrderFilter(search="7"), lambda o: o.place.ref == 7),
        (OrderFilter(search=client), lambda o: o.client.startswith(client)),
        (OrderFilter(search="%"), lambda o: False),
    ]
    for flt, keeps in cases:
        page = await history.orders_page(pool, ANN, flt, limit=1_000)
        kept = {order.place.ref for order in mine if keeps(order)}
        assert {row.report.ref for row in page.rows} == kept, flt
    makers = await history.fills_page(pool, ANN, FillFilter(maker=True), limit=1_000)
    takers = await history.fills_page(pool, ANN, FillFilter(maker=False), limit=1_000)
    assert makers.rows
    assert takers.rows
    assert all(row.maker for row in makers.rows)
    of_one = await history.fills_page(pool, ANN, FillFilter(order=makers.rows[0].ref))
    assert {row.ref for row in of_one.rows} == {makers.rows[0].ref}


async def test_cursors_that_cannot_be(pool: Pool, tape: Tape) -> None:
    page = await history.orders_page(pool, ANN, OrderFilter(), limit=2)
    cursor = page.next_cursor
    assert cursor is not None
    with pytest.raises(CursorInvalid):
        await history.orders_page(pool, ANN, OrderFilter(), sort="price", cursor=cursor)
    with pytest.raises(CursorInvalid):
        await history.fills_page(pool, ANN, FillFilter(), cursor=cursor)
    chance = random.Random(3)
    for _ in range(200):
        changed = list(cursor)
        changed[chance.randrange(len(changed))] = chance.choice("aZ09-_%")
        try:
            await history.orders_page(pool, ANN, OrderFilter(), cursor="".join(changed))
        except CursorInvalid:
            continue
