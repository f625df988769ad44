"""Candles and 24-hour figures, held against a plain count over all trades."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.marketdata import TimedTrade
from persistence.trading.queries import (
    DAY,
    INTERVALS,
    MINUTE,
    SECOND,
    start_of,
    start_of_next,
)
from serve_apps.exchange.streams.bars import Bar, Tape, bar_of, flat

HOUR = 60 * MINUTE


def at(*moment: int) -> int:
    """Microseconds of a UTC time."""
    year, month, day, *clock = moment
    hour, minute, second = (*clock, 0, 0, 0)[:3]
    return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()) * SECOND


@pytest.mark.parametrize(
    ("interval", "moment", "start", "end"),
    [
        ("1s", (2024, 2, 29, 23, 59, 59), (2024, 2, 29, 23, 59, 59), (2024, 3, 1)),
        ("15m", (2024, 2, 29, 23, 59, 59), (2024, 2, 29, 23, 45), (2024, 3, 1)),
        ("12h", (2024, 2, 29, 11, 59, 59), (2024, 2, 29), (2024, 2, 29, 12)),
        ("1d", (2024, 2, 29, 11, 59, 59), (2024, 2, 29), (2024, 3, 1)),
        ("3d", (1970, 1, 6, 5), (1970, 1, 4), (1970, 1, 7)),
        ("1w", (2024, 3, 3, 23, 59), (2024, 2, 26), (2024, 3, 4)),
        ("1w", (2024, 3, 4), (2024, 3, 4), (2024, 3, 11)),
        ("1M", (2024, 2, 29, 1), (2024, 2, 1), (2024, 3, 1)),
        ("1M", (2023, 12, 31, 23, 59), (2023, 12, 1), (2024, 1, 1)),
    ],
)
def test_where_bars_begin_and_end(interval: str, moment: Any, start: Any, end: Any) -> None:
    assert start_of(interval, at(*moment)) == at(*start)
    assert start_of_next(interval, at(*start)) == at(*end)


def made(seed: int, count: int, start: int, step_max: int) -> list[TimedTrade]:
    """Trades in the order of time."""
    chance, moment, trades = random.Random(seed), start, []
    for number in range(1, count + 1):
        moment += chance.choice((0, chance.randint(0, step_max)))
        trades.append(
            (number, chance.randint(90, 110), chance.randint(1, 9), chance.randint(1, 2), False,
             moment)
        )  # fmt: skip
    return trades


def plain(trades: list[TimedTrade], interval: str) -> dict[int, Bar]:
    """All bars of an interval, by their beginning."""
    bars: dict[int, Bar] = {}
    for trade in trades:
        start = start_of(interval, trade[5])
        if start in bars:
            bars[start].take(trade)
        else:
            bars[start] = bar_of(trade, start)
    return bars


def seeded(trades: list[TimedTrade], now: int) -> Tape:
    """A tape that begins with a history of these trades."""
    tape = Tape()
    midnight = (now - DAY) // DAY * DAY
    minutes = [bar for start, bar in plain(trades, "1m").items() if start >= midnight]
    days = [bar for start, bar in plain(trades, "1d").items() if start < midnight]
    tape.seed(minutes, days, 100)
    return tape


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    before=st.integers(0, 60),
    after=st.integers(0, 60),
    step=st.sampled_from((9, 2 * SECOND, 10 * MINUTE, 5 * HOUR)),
    overlap=st.integers(0, 5),
    chunk=st.integers(1, 12),
)
def test_candles_are_those_of_all_trades(
    seed: int, before: int, after: int, step: int, overlap: int, chunk: int
) -> None:
    trades = made(seed, before + after, at(2024, 2, 27, 22, 10), step)
    now = trades[before - 1][5] if before else at(2024, 2, 27, 22, 10)
    tape = seeded(trades[:before], now)
    for interval in INTERVALS:
        tape.follow(interval, now, trades[:before])
    closed: dict[tuple[str, int], Bar] = {}
    # The last trades of the history come over the wire too.
    live = trades[max(0, before - overlap) :]
    while live:
        together, live = live[:chunk], live[chunk:]
        if chunk > 1:
            tape.take_all(together)
        else:
            tape.take(together[0])
        for interval, bar in tape.closed:
            closed[interval, bar.at] = bar
        tape.closed.clear()
        if seed % 3 == 0:
            tape.totals(together[-1][5])
    for interval in INTERVALS:
        truth = plain(trades, interval)
        current = tape.current(interval)
        assert current is not None
        if current.first:
            assert current == truth[current.at], interval
        else:
            assert current.at not in truth
        ended = [s for s in truth if start_of(interval, now) <= s < current.at]
        assert [s for s in ended if (interval, s) not in closed] == []
        for (name, start), bar in closed.items():
            if name == interval and bar.first:
                assert bar == truth[start], interval
    totals = tape.totals(trades[-1][5] if trades else now)
    window = [t for t in trades if t[5] // MINUTE * MINUTE + MINUTE > totals.open_at]
    assert totals.count == len(window)
    assert totals.volume == sum(t[2] for t in window)
    assert totals.quote == sum(t[1] * t[2] for t in window)
    if window:
        assert (totals.open, totals.last) == (window[0][1], window[-1][1])
        assert totals.high == max(t[1] for t in window)
        assert totals.low == min(t[1] for t in window)
        assert (totals.first_id, totals.last_id) == (window[0][0], window[-1][0])


def test_a_day_passes_out_of_the_window() -> None:
    start = at(2024, 2, 27, 22)
    tape = Tape()
    tape.seed((), (), 100)
    tape.take((1, 120, 5, 1, False, start))
    tape.take((2, 80, 5, 1, False, start + HOUR))
    tape.take((3, 100, 1, 1, False, start + 2 * HOUR))
    assert (tape.totals(start + DAY).high, tape.totals(start + DAY).low) == (120, 80)
    later = tape.totals(start + DAY + MINUTE)
    assert (later.open, later.high, later.low, later.volume, later.previous) == (
        80, 100, 80, 6, 120,
    )  # fmt: skip
    assert tape.totals(start + DAY + 90 * MINUTE).low == 100
    empty = tape.totals(start + 3 * DAY)
    assert (empty.count, empty.volume, empty.quote, empty.last) == (0, 0, 0, 100)
    # The week still has what left the window.
    week = tape.follow("1w", start + 2 * DAY)
    assert (week.high, week.low, week.volume) == (120, 80, 11)


def test_a_bar_without_trades_is_flat_and_a_late_trade_comes_into_its_own() -> None:
    start = at(2024, 2, 27, 22)
    tape = Tape()
    tape.seed((), (), 100)
    tape.follow("1m", start)
    tape.take((1, 105, 2, 1, False, start + SECOND))
    tape.roll(start + MINUTE)
    (interval, bar), *none = tape.closed
    assert (interval, bar.at, bar.close, none) == ("1m", start, 105, [])
    assert tape.current("1m") == flat(105, start + MINUTE)
    tape.closed.clear()
    tape.take((2, 106, 3, 2, False, start + 59 * SECOND))
    assert [(bar.at, bar.close, bar.volume) for _, bar in tape.closed] == [(start, 106, 5)]
    assert tape.current("1m") == flat(106, start + MINUTE)
    tape.closed.clear()
    tape.roll(start + 2 * MINUTE)
    assert tape.closed == [("1m", flat(106, start + MINUTE))]
