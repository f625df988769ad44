"""A market's past, held against what a plain reading of its trades gives."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from actors.projector import Projector
from domain.orders import Side
from persistence.database import Pool
from persistence.journal import to_microseconds
from persistence.trading import queries
from persistence.trading.queries import DAY, INTERVALS, SECOND, Bar
from tests.persistence.trading.tape import START, Tape

Trades = list[tuple[int, int, int, int, Side]]


async def market(pool: Pool, step_s: float, orders: int = 200, seed: int = 4) -> Tape:
    """A market that has traded, projected."""
    tape = Tape(pool, seed, ("BTCUSD",))
    await tape.open()
    tape.trade_on(orders, step_s=step_s)
    await tape.flush()
    projector = Projector(pool)
    while await projector.step():
        pass
    assert len(tape.trades["BTCUSD"]) > orders // 4
    return tape


def naive(trades: Trades, interval: str) -> list[Bar]:
    """Candles in the plainest way."""
    found: dict[int, Trades] = {}
    for trade in trades:
        found.setdefault(queries.start_of(interval, trade[1]), []).append(trade)
    result = []
    for at, inside in sorted(found.items()):
        prices = [t[2] for t in inside]
        bought = [t for t in inside if t[4] == Side.BUY]
        result.append(
            Bar(
                at, prices[0], max(prices), min(prices), prices[-1], sum(t[3] for t in inside),
                sum(t[2] * t[3] for t in inside), sum(t[3] for t in bought),
                sum(t[2] * t[3] for t in bought), inside[0][0], inside[-1][0],
            )
        )  # fmt: skip
    return result


@pytest.mark.parametrize("interval", INTERVALS)
async def test_candles_are_those_of_the_trades(pool: Pool, interval: str) -> None:
    """Of each length, whole and in part, over the turn of a day, a week and a month."""
    length = INTERVALS[interval] or 31 * 86_400
    tape = await market(pool, step_s=max(1.0, length / 5), orders=120)
    trades = tape.trades["BTCUSD"]
    expected = naive(trades, interval)
    assert len(expected) > 3
    assert await queries.bars(pool, "BTCUSD", interval, 0, tape.at + DAY) == expected
    middle = expected[len(expected) // 2]
    part = await queries.bars(pool, "BTCUSD", interval, middle.at + 1, tape.at + 1)
    assert part == [bar for bar in expected if bar.at >= middle.at]
    assert await queries.bars(pool, "BTCUSD", interval, START, middle.at) == [
        bar for bar in expected if bar.at < middle.at
    ]
    assert await queries.bars(pool, "ETHUSD", interval, 0, tape.at + DAY) == []


def test_where_candles_begin() -> None:
    at = to_microseconds(datetime(2026, 11, 21, 13, 47, 59, tzinfo=UTC))
    begins: dict[str, tuple[int, ...]] = {
        "1s": (21, 13, 47, 59), "1m": (21, 13, 47), "15m": (21, 13, 45), "4h": (21, 12),
        "12h": (21, 12), "1d": (21,), "1w": (16,), "1M": (1,),
    }  # fmt: skip
    for interval, parts in begins.items():
        day, hour, minute, second = (*parts, 0, 0, 0)[:4]
        expected = datetime(2026, 11, day, hour, minute, second, tzinfo=UTC)
        assert queries.start_of(interval, at) == to_microseconds(expected), interval
    december = queries.start_of_next("1M", queries.start_of("1M", at))
    assert december == to_microseconds(datetime(2026, 12, 1, tzinfo=UTC))
    january = to_microseconds(datetime(2027, 1, 1, tzinfo=UTC))
    february = queries.start_of_next("1M", january)
    assert february == to_microseconds(datetime(2027, 2, 1, tzinfo=UTC))
    assert queries.start_of_next("1M", february) == to_microseconds(
        datetime(2027, 3, 1, tzinfo=UTC)
    )


@pytest.mark.parametrize("interval", ["1s", "1m", "5m", "1h"])
async def test_candles_without_gaps(pool: Pool, interval: str) -> None:
    """Where nothing was traded a candle stands at the close before; the limit counts them too."""
    length = INTERVALS[interval] * SECOND
    tape = await market(pool, step_s=2.5 * INTERVALS[interval], orders=60)
    bars = naive(tape.trades["BTCUSD"], interval)
    now = queries.start_of(interval, tape.at) + 3 * length
    whole: list[Bar] = []
    by_start = {bar.at: bar for bar in bars}
    for at in range(bars[0].at, now + 1, length):
        close = whole[-1].close if whole else 0
        whole.append(by_start.get(at, Bar(at, close, close, close, close, 0, 0, 0, 0, 0, 0)))
    assert len(whole) > len(bars) + 3

    async def asked(**options: int) -> list[Bar]:
        return await queries.candles(pool, "BTCUSD", interval, now=now, **options)

    assert await asked(limit=1_000) == whole
    assert await asked(limit=7) == whole[-7:]
    assert await asked(start=0, limit=5) == whole[:5]
    third = whole[3]
    assert await asked(start=third.at - 1, limit=4) == whole[3:7]
    assert await asked(start=third.at, end=third.at + 2 * length, limit=9) == whole[3:6]
    assert await asked(end=third.at, limit=2) == whole[2:4]
    assert await asked(start=now + length) == []
    assert await queries.candles(pool, "NOPE", interval, now=now) == []


async def test_trades_by_id_by_time_and_the_latest(pool: Pool) -> None:
    tape = await market(pool, step_s=20)
    expected = [(t[0], t[2], t[3], int(t[4]), t[1]) for t in tape.trades["BTCUSD"]]

    def plain(rows: list[queries.TradeRow]) -> list[tuple[int, int, int, int, int]]:
        return [(row.id, row.price, row.quantity, row.side, row.at) for row in rows]

    assert plain(await queries.trades_range(pool, "BTCUSD", 1)) == expected
    assert plain(await queries.trades_range(pool, "BTCUSD", 5, 9)) == expected[4:9]
    assert plain(await queries.trades_range(pool, "BTCUSD", 5, limit=3)) == expected[4:7]
    assert plain(await queries.recent_trades(pool, "BTCUSD", 4)) == expected[:-5:-1]
    assert plain(await queries.recent_trades(pool, "BTCUSD", 4, before=9)) == expected[4:8][::-1]
    assert plain(await queries.recent_trades(pool, "BTCUSD", 10_000)) == expected[::-1]
    chance = random.Random(1)
    for _ in range(20):
        moments = [chance.randrange(START - SECOND, tape.at + SECOND), chance.choice(expected)[4]]
        start, end = sorted(moments)
        between = [trade for trade in expected if start <= trade[4] < end]
        assert plain(await queries.trades_between(pool, "BTCUSD", start, end)) == between
        assert plain(await queries.trades_between(pool, "BTCUSD", start, end, 3)) == between[:3]


async def test_aggregated_trades(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Consecutive trades of one taker order at one price are one; ends are never cut through."""
    await market(pool, step_s=20)
    rows = await queries.trades_range(pool, "BTCUSD", 1)
    takers = [row["taker"] for row in await pool.fetch("SELECT taker FROM trades ORDER BY id")]
    expected: list[tuple[int, int, int, int]] = []
    for index, row in enumerate(rows):
        same = index > 0 and takers[index] == takers[index - 1]
        if same and row.price == rows[index - 1].price:
            first, _, price, quantity = expected[-1]
            expected[-1] = (first, row.id, price, quantity + row.quantity)
        else:
            expected.append((row.id, row.id, row.price, row.quantity))
    assert len(expected) < len(rows)
    times = {row.id: row.at for row in rows}

    async def asked(**options: int) -> list[tuple[int, int, int, int]]:
        found = await queries.aggregate_trades(pool, "BTCUSD", **options)
        assert all(row.at == times[row.first] for row in found)
        return [(row.first, row.last, row.price, row.quantity) for row in found]

    for page in (1_000, 3):
        monkeypatch.setattr(queries, "ROWS_MAX", page)
        assert await asked(first=1) == expected
        assert await asked(limit=5) == expected[-5:]
        assert await asked(first=1, limit=6) == expected[:6]
        split = next(row for row in expected if row[1] > row[0])
        assert (
            await asked(first=split[1], limit=2)
            == [row for row in expected if row[0] >= split[1]][:2]
        )
        assert await asked(first=split[0], limit=1) == [split]
        middle = expected[len(expected) // 2][0]
        assert await asked(start=times[middle]) == [
            row for row in expected if times[row[0]] >= times[middle]
        ]
        assert (
            await asked(end=times[middle], limit=4)
            == [row for row in expected if times[row[0]] < times[middle]][-4:]
        )
        assert await asked(start=times[middle], end=times[middle] + 60 * SECOND) == [
            row for row in expected if times[middle] <= times[row[0]] < times[middle] + 60 * SECOND
        ]


async def test_the_figures_of_24_hours(pool: Pool) -> None:
    tape = await market(pool, step_s=900)
    trades = tape.trades["BTCUSD"]
    for now in (tape.at, tape.at - DAY // 3, tape.at + 7 * 3_600 * SECOND):
        since = (now - DAY) // (60 * SECOND) * 60 * SECOND + 60 * SECOND
        inside = [trade for trade in trades if trade[1] >= since]
        before = [trade for trade in trades if trade[1] < since]
        found = await queries.tickers(pool, now, ["BTCUSD", "NOPE"])
        ticker = found["BTCUSD"]
        assert len(inside) > 3
        prices = [trade[2] for trade in inside]
        assert (ticker.open, ticker.high, ticker.low, ticker.last) == (
            prices[0], max(prices), min(prices), prices[-1]
        )  # fmt: skip
        assert (ticker.volume, ticker.quote, ticker.count) == (
            sum(t[3] for t in inside), sum(t[2] * t[3] for t in inside), len(inside)
        )  # fmt: skip
        assert ticker.previous == before[-1][2]
        assert (found["NOPE"].last, found["NOPE"].count) == (0, 0)
    quiet = (await queries.tickers(pool, tape.at + 2 * DAY, ["BTCUSD"]))["BTCUSD"]
    last = trades[-1][2]
    assert (quiet.open, quiet.last, quiet.previous, quiet.volume) == (last, last, last, 0)


async def test_a_busy_day_is_read_by_its_index(pool: Pool) -> None:
    """No question reads a table through, nor more of it than it tells of."""
    await pool.execute(
        "INSERT INTO trades SELECT 'BTCUSD', i, '2026-11-20Z'::timestamptz + i * interval '2 s',"
        " 100 + i % 7, 1 + i % 3, 1 + i % 2, i, i / 3, 1, 1 FROM generate_series(1, 40000) i"
    )
    for seconds in (60, 900, 3_600, 86_400):
        await pool.execute(
            "INSERT INTO candles SELECT symbol, $1::integer, date_bin(make_interval(secs => $1),"
            " at, '1970-01-01Z') AS bucket, 1, 2, 1, 2, sum(quantity), 1, 1, 1, min(id), max(id)"
            " FROM trades GROUP BY symbol, bucket",
            seconds,
        )
    await pool.execute("INSERT INTO trades SELECT 'B' || i, 1, now(), 1, 1, 1, 1, 1, 1, 1"
                       " FROM generate_series(1, 5000) i")  # fmt: skip
    await pool.execute("ANALYZE trades, candles")
    at = datetime(2026, 11, 20, 12, tzinfo=UTC)
    day = datetime(2026, 11, 22, tzinfo=UTC)
    midnight = datetime(1970, 1, 1, tzinfo=UTC)
    asked = [
        (queries._RANGE, ("BTCUSD", 30_000, 2**62, 500)),
        (queries._RECENT, ("BTCUSD", 500)),
        (queries._FIRST, ("BTCUSD", at)),
        (queries._LAST, ("BTCUSD", at)),
        (queries._PRICE_BEFORE, ("BTCUSD", at)),
        (queries._NEXT_TRADE, ("BTCUSD", at)),
        (queries._CLOSE_BEFORE, ("BTCUSD", at)),
        (queries._NEXT_MINUTE, ("BTCUSD", at)),
        (queries._SECONDS, ("BTCUSD", 100, 1_000, at, day)),
        (queries._STORED, ("BTCUSD", 60, at, day)),
        (queries._BINNED, ("BTCUSD", 60, at, day, 300.0, midnight)),
        (queries._TICKERS, (["BTCUSD"], at, day)),
    ]
    for sql, arguments in asked:
        plan = "\n".join(
            row[0]
            for row in await pool.fetch(f"EXPLAIN (ANALYZE, BUFFERS, TIMING off) {sql}", *arguments)
        )
        assert "Seq Scan" not in plan, plan
        assert "Index" in plan, plan
