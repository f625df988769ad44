"""The projector against a real Postgres: each row of the journal counts once, whatever happens."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

import persistence.trading.projector as store
from actors.durable.records import Adopted, Parcel, Released, TurnRecord
from actors.following import Turn
from actors.projector import Projector
from domain.orders import OrderStatus, Side, Update
from persistence.database import Pool
from persistence.following import Overtaken
from persistence.journal import Corrupt, to_microseconds
from persistence.trading.projector import CURSOR, LEVELS
from tests.persistence.trading.tape import Tape


async def tape_of(pool: Pool, seed: int = 1, orders: int = 150) -> Tape:
    """A market that has traded for a while, all of it journalled."""
    tape = Tape(pool, seed)
    await tape.open()
    tape.trade_on(orders)
    await tape.flush()
    return tape


async def read_all(projector: Projector) -> None:
    """Project until nothing is left."""
    while await projector.step():
        pass


async def until(true: Callable[[], bool]) -> None:
    """Wait for something, for ten seconds at most."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def assert_equal(pool: Pool, tape: Tape) -> None:
    """What is stored is what happened."""
    stored: dict[str, list[tuple[Any, ...]]] = {symbol: [] for symbol in tape.trades}
    for row in await pool.fetch("SELECT * FROM trades ORDER BY symbol, id"):
        at = to_microseconds(row["at"])
        stored[row["symbol"]].append(
            (row["id"], at, row["price"], row["quantity"], Side(row["side"]))
        )
    assert stored == dict(tape.trades)
    orders = {
        (row["customer"], row["ref"]): row for row in await pool.fetch("SELECT * FROM orders")
    }
    assert orders.keys() == tape.orders.keys()
    for key, order in tape.orders.items():
        row = orders[key]
        assert (row["status"], row["filled"], row["quote"], row["fee"]) == (
            order.status, order.filled, order.quote, order.fee
        ), key  # fmt: skip
        assert (row["client"], row["symbol"], row["price"]) == (
            order.client, order.symbol, order.place.price
        )  # fmt: skip
        assert row["life"][0] == OrderStatus.PENDING
        assert row["life"][-2] == order.status
    fills: dict[tuple[int, int], list[tuple[int, int, int]]] = {key: [] for key in tape.orders}
    for row in await pool.fetch("SELECT * FROM fills ORDER BY trade"):
        fills[row["customer"], row["ref"]].append((row["trade"], row["quantity"], row["fee"]))
    assert fills == {key: order.fills for key, order in tape.orders.items()}
    assert await stored_candles(pool) == naive_candles(tape)
    assert all(place.behind == 0 for place in await CURSOR.positions(pool))


async def stored_candles(pool: Pool) -> dict[tuple[str, int, int], tuple[int, ...]]:
    """All candles by symbol, length and second."""
    names = ("open", "high", "low", "close", "volume", "quote", "bought", "bought_quote", "first",
             "last")  # fmt: skip
    return {
        (row["symbol"], row["seconds"], int(row["at"].timestamp())): tuple(
            int(row[name]) for name in names
        )
        for row in await pool.fetch("SELECT * FROM candles")
    }


def naive_candles(tape: Tape) -> dict[tuple[str, int, int], tuple[int, ...]]:
    """The same from the trades, in the plainest way."""
    found: dict[tuple[str, int, int], tuple[int, ...]] = {}
    for symbol, trades in tape.trades.items():
        for level in LEVELS:
            for start in {at // 1_000_000 // level * level for _, at, *_ in trades}:
                inside = [t for t in trades if t[1] // 1_000_000 // level * level == start]
                bought = [t for t in inside if t[4] == Side.BUY]
                prices = [t[2] for t in inside]
                found[symbol, level, start] = (
                    prices[0], max(prices), min(prices), prices[-1],
                    sum(t[3] for t in inside), sum(t[2] * t[3] for t in inside),
                    sum(t[3] for t in bought), sum(t[2] * t[3] for t in bought),
                    inside[0][0], inside[-1][0],
                )  # fmt: skip
    return found


@pytest.mark.parametrize("chunk_bytes", [1, 2_000, 4_000_000])
async def test_all_of_a_market_is_projected(pool: Pool, chunk_bytes: int) -> None:
    tape = await tape_of(pool, orders=200)
    projector = Projector(pool, chunk_bytes=chunk_bytes)
    await read_all(projector)
    assert sum(map(len, tape.trades.values())) > 50
    await assert_equal(pool, tape)
    tape.halt("BTCUSD")
    tape.prompt = 0.05
    tape.trade_on(150)
    await tape.flush()
    await read_all(projector)
    await assert_equal(pool, tape)


async def test_a_projector_killed_anywhere_repeats_nothing_and_leaves_nothing_out(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies after each step of its work in turn, the last before the commit included."""

    class Killed(Exception):
        pass

    tape = Tape(pool, 7)
    await tape.open()
    steps = (
        (CURSOR, "advance"),
        (store, "_write_trades"),
        (store, "_write_orders"),
        (store, "_write_changed"),
    )
    killed = 0
    for owner, name in steps * 3:
        tape.trade_on(30)
        await tape.flush()

        step = getattr(owner, name)

        async def dies(*arguments: Any, step: Any = step) -> None:
            await step(*arguments)
            raise Killed

        monkeypatch.setattr(owner, name, dies)
        try:
            await read_all(Projector(pool, chunk_bytes=3_000))
        except Killed:
            killed += 1
        monkeypatch.setattr(owner, name, step)
    assert killed == len(steps) * 3
    await read_all(Projector(pool))
    await assert_equal(pool, tape)


async def test_cancelled_at_any_moment_and_started_again(pool: Pool) -> None:
    tape = await tape_of(pool, 3, 200)
    chance = random.Random(5)
    for _ in range(40):
        task = asyncio.create_task(Projector(pool, chunk_bytes=500, rest=0).run())
        await asyncio.sleep(chance.random() * 0.03)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await read_all(Projector(pool))
    await assert_equal(pool, tape)


async def test_two_projectors_at_once_count_nothing_twice(pool: Pool) -> None:
    tape = await tape_of(pool, 11, 300)
    overtaken = 0

    async def read() -> None:
        nonlocal overtaken
        projector = Projector(pool, chunk_bytes=300)
        while True:
            try:
                if not await projector.step():
                    return
            except Overtaken:
                overtaken += 1

    await asyncio.gather(read(), read())
    assert overtaken > 0
    await assert_equal(pool, tape)


async def test_a_position_set_back_is_refused_by_what_is_there(pool: Pool) -> None:
    """What would count twice is not counted: the rows themselves say no."""
    tape = await tape_of(pool)
    await read_all(Projector(pool))
    await pool.execute("UPDATE projected SET seq = 0 WHERE stream = 'books/0'")
    with pytest.raises(Corrupt, match="Trade 1 of"):
        await read_all(Projector(pool))
    await pool.execute("UPDATE projected SET seq = 1 WHERE stream = 'accounts/0'")
    assert (await pool.fetchval("SELECT count(*) FROM trades")) == sum(
        map(len, tape.trades.values())
    )


async def test_history_can_be_made_anew(pool: Pool) -> None:
    """From the journal alone, while a projector runs and more is traded."""
    tape = await tape_of(pool, 5)
    task = asyncio.create_task(Projector(pool, chunk_bytes=2_000, poll_s=0.01, rest=0).run())
    await asyncio.sleep(0.1)
    await pool.execute("UPDATE candles SET volume = 0")
    await store.start_over(pool)
    tape.trade_on(50)
    await tape.flush()
    await store.start_over(pool)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await read_all(Projector(pool))
    await assert_equal(pool, tape)


async def test_an_entity_that_moved_is_not_read_before_it_left(pool: Pool) -> None:
    """Its orders were placed in the stream of before, whose rows come first whatever their size."""
    tape = Tape(pool, 2)
    await tape.open()
    customer = 1_000_000_000
    order = tape.place(customer, "BTCUSD", Side.BUY, 90, 5)
    tape.deliver()
    left = tape.turn("accounts/0", [], [Released("accounts/1", [1])])
    parcel = Parcel({}, {}, {}, {})
    tape.turn("accounts/1", [], [Adopted("accounts/0", left, [1], parcel)])
    tape.stream_of = lambda customer: "accounts/1"  # type: ignore[method-assign]
    tape.cancel(order)
    tape.deliver()
    # As if the new owner's rows were read first.
    tape.rows.sort(key=lambda row: row[0] == "accounts/0")
    await tape.flush()
    projector = Projector(pool, chunk_bytes=1)
    await pool.execute("INSERT INTO projected VALUES ('accounts/1', 0), ('books/0', 0)")
    projector._enrolled_at = float("inf")
    with pytest.raises(Corrupt, match="wait for each other"):
        await read_all(projector)
    assert await pool.fetchval("SELECT count(*) FROM orders") == 0
    await read_all(Projector(pool, chunk_bytes=1))
    await assert_equal(pool, tape)


async def test_a_missing_row_stops_it(pool: Pool) -> None:
    await tape_of(pool)
    await pool.execute("DELETE FROM journal WHERE stream = 'books/0' AND seq = 3")
    projector = Projector(pool)
    with pytest.raises(Corrupt, match="books/0 3 is missing"):
        await read_all(projector)


async def test_a_refused_action_changes_no_order_and_a_refused_order_ends(pool: Pool) -> None:
    tape = Tape(pool, 2)
    await tape.open()
    order = tape.place(1_000_000_000, "BTCUSD", Side.BUY, 90, 5)
    tape.deliver()
    refused = Update(order.place.ref, OrderStatus.REJECTED, 5, 0, 0, (), "unknown_order")
    tape._tell(order, refused, answer=True)
    tape.deliver()
    await tape.flush()
    await read_all(Projector(pool))
    await assert_equal(pool, tape)


async def test_lag_is_told(pool: Pool) -> None:
    tape = await tape_of(pool, orders=50)
    projector = Projector(pool, poll_s=0.01, rest=0)
    task = asyncio.create_task(projector.run())
    await until(lambda: projector.describe()["position"] == sum(tape._seqs.values()))
    about = projector.describe()
    assert (about["state"], about["lag"], about["behind_s"]) == ("running", 0, 0.0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    tape.trade_on(20)
    await tape.flush()
    waiting = await CURSOR.positions(pool)
    assert sum(place.behind for place in waiting) > 20
    assert max(place.behind_s for place in waiting) > 0


async def test_what_cannot_be_stored_is_said_and_tried_again(pool: Pool) -> None:
    await tape_of(pool, orders=50)
    taken = (datetime(2026, 1, 1, tzinfo=UTC), 1, 1, 1, 1, 1, 1, 1)
    await pool.execute(
        "INSERT INTO trades VALUES ('BTCUSD', 1, $1, $2, $3, $4, $5, $6, $7, $8)", *taken
    )
    projector = Projector(pool, poll_s=0.01)
    task = asyncio.create_task(projector.run())
    await until(lambda: projector.state == "stuck")
    assert "Trade 1 of BTCUSD follows 1" in projector.reason
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_the_turns_read_are_the_turns_written() -> None:
    """The partial reading has the fields of the whole, in their places."""
    assert Turn.__struct_fields__ == TurnRecord.__struct_fields__
    record: TurnRecord[Any, Any] = TurnRecord([("k", (1, 2))], [], [], [], [Released("x", [1])])
    turn = msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=Turn)
    assert [key for key, _ in turn.events] == ["k"]
    assert turn.moved == [Released("x", [1])]
