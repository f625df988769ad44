"""What rolls a canary back by itself, and what does not: each bound on both sides of it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from cluster.canary_rule import (
    ENOUGH_FOR_LATENCY,
    ENOUGH_REQUESTS,
    FELT_S,
    SLOW_FOR_S,
    UNWELL_FOR_S,
    WINDOW_S,
    LastMinute,
    Rule,
    too_slow,
)
from persistence.releases import Comparison, Side
from serve_apps.canary import CANARY, Measured, Meter


def counts(requests: int, errors: int = 0, seconds: float = 0.01) -> Mapping[str, int]:
    """What so many requests of one duration leave behind."""
    meter = Meter(CANARY)
    for number in range(requests):
        meter.count(500 if number < errors else 200, seconds)
    return meter._counts


def more(before: Mapping[str, int], after: Mapping[str, int]) -> Mapping[str, int]:
    """Both counts, added up."""
    return {name: before.get(name, 0) + after.get(name, 0) for name in {**before, **after}}


class Clock:
    """Says what it is set to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


# -- errors --------------------------------------------------------------------------------


def test_the_rate_of_errors_is_that_of_the_last_minute() -> None:
    clock = Clock()
    rule = Rule(9.9, None, clock)

    def said(requests: int, errors: int) -> str:
        return rule.verdict(Measured({}, counts(requests, errors)), "RUNNING")

    assert not said(0, 0)
    clock.now = 10.0
    assert not said(ENOUGH_REQUESTS - 1, 10), "too few to say anything"
    clock.now = 20.0
    assert said(100, 10) == ("10.0 % of its answers in the last minute were errors, beyond 9.9 %.")
    clock.now = 20.0 + WINDOW_S
    assert not said(300, 10), "those errors were longer ago"
    clock.now += 1
    assert said(400, 60).startswith("50.0 %")


@pytest.mark.parametrize(("bound", "rolled_back"), [(10.0, False), (9.99, True), (None, False)])
def test_as_many_errors_as_allowed_are_allowed(bound: float | None, rolled_back: bool) -> None:
    rule = Rule(bound, None, Clock())
    rule.verdict(Measured({}, {}), "RUNNING")
    assert bool(rule.verdict(Measured({}, counts(100, 10)), "RUNNING")) is rolled_back


# -- latency -------------------------------------------------------------------------------


def sides(
    stable_s: float, canary_s: float, *, stable: int = 1_000, canary: int = 1_000
) -> Comparison:
    """Both versions with so many requests and such a p95."""
    return Comparison(Side(stable, p95_s=stable_s), Side(canary, p95_s=canary_s))


@pytest.mark.parametrize(
    ("lately", "slow"),
    [
        (sides(0.1, 0.151), True),
        (sides(0.5, 0.75), False),  # as many times as allowed
        (sides(0.1, 0.09), False),
        (sides(0.1, 9.0, canary=ENOUGH_FOR_LATENCY - 1), False),
        (sides(0.1, 9.0, stable=ENOUGH_FOR_LATENCY - 1), False),
        (sides(0.1, 9.0, stable=ENOUGH_FOR_LATENCY, canary=ENOUGH_FOR_LATENCY), True),
        (sides(0.001, 0.001 + FELT_S * 0.99), False),  # six times as long, and nobody feels it
        (sides(0.0, FELT_S), True),
        (sides(0.0, 0.0), False),
    ],
)
def test_slower_is_what_is_slower_by_more_than_noise(lately: Comparison, slow: bool) -> None:
    assert too_slow(lately, 1.5) is slow


def test_it_must_have_been_slower_for_a_while() -> None:
    clock = Clock()
    rule = Rule(None, 2.0, clock)
    usual, slow = counts(500, seconds=0.02), counts(500, seconds=0.05)
    assert not rule.verdict(Measured({}, {}), "RUNNING")
    for second in range(1, int(SLOW_FOR_S) + 1):
        clock.now = second
        assert not rule.verdict(Measured(usual, slow), "RUNNING"), second
    clock.now = 1 + SLOW_FOR_S
    assert rule.verdict(Measured(usual, slow), "RUNNING").startswith(
        "Its p95 of the last minute was"
    )


def test_what_was_slow_for_a_moment_counts_anew() -> None:
    clock = Clock()
    rule = Rule(None, 2.0, clock)
    usual, slow = counts(500, seconds=0.02), counts(500, seconds=0.05)
    rule.verdict(Measured({}, {}), "RUNNING")
    clock.now = 10
    assert not rule.verdict(Measured(usual, slow), "RUNNING")
    clock.now = 10 + SLOW_FOR_S - 1  # many quick ones: 5 % of all are slower than 20 ms no more
    totals = Measured(usual, more(slow, counts(20_000, seconds=0.02)))
    assert not rule.verdict(totals, "RUNNING")
    clock.now = 10 + SLOW_FOR_S
    totals = Measured(usual, more(totals.canary, counts(20_000, seconds=0.05)))
    assert not rule.verdict(totals, "RUNNING"), "slow again, but not for long"
    clock.now += SLOW_FOR_S
    said = rule.verdict(totals, "RUNNING")
    assert "2.5 times the stable version's" in said or "2.6 times" in said
    assert said.endswith("beyond 2 times.")


def test_without_a_bound_slowness_is_only_shown() -> None:
    clock = Clock()
    rule = Rule(None, None, clock)
    totals = Measured(counts(500), counts(500, 500, seconds=9.0))
    for second in range(200):
        clock.now = second
        assert not rule.verdict(totals, "UNHEALTHY")


def test_what_was_slow_before_the_last_minute_is_forgotten() -> None:
    clock = Clock()
    minute = LastMinute(clock)
    minute.take(Measured({}, {}))
    clock.now = 1.0
    slow = counts(300, seconds=1.0)
    assert minute.take(Measured({}, slow)).canary.p95_s > 0.9
    clock.now = 1.0 + WINDOW_S
    assert minute.take(Measured({}, slow)).canary == Side()
    clock.now += 1
    lately = minute.take(Measured({}, more(slow, counts(300, seconds=0.01)))).canary
    assert (lately.requests, lately.p95_s < 0.012) == (300, True)


def test_counts_that_were_lost_begin_anew() -> None:
    clock = Clock()
    minute = LastMinute(clock)
    minute.take(Measured(counts(10), counts(10)))
    assert minute.take(Measured(counts(40), counts(60, 5))).canary.requests == 50
    assert minute.take(Measured(counts(5), counts(2))).canary.requests == 0, "Redis was emptied"
    lately = minute.take(Measured(counts(9), counts(6, 3))).canary
    assert (lately.requests, lately.errors) == (4, 3)


# -- health --------------------------------------------------------------------------------


@pytest.mark.parametrize("bounds", [(1.0, None), (None, 2.0)])
def test_one_that_is_unwell_for_long_goes(bounds: tuple[float | None, float | None]) -> None:
    clock = Clock()
    rule = Rule(*bounds, clock)
    nothing = Measured({}, {})
    assert not rule.verdict(nothing, "UNHEALTHY")
    clock.now = UNWELL_FOR_S
    assert not rule.verdict(nothing, "UNHEALTHY")
    assert not rule.verdict(nothing, "RUNNING")
    clock.now += 1
    assert not rule.verdict(nothing, "UNHEALTHY"), "it was well in between"
    clock.now += UNWELL_FOR_S + 1
    assert rule.verdict(nothing, "UNHEALTHY") == "Its replicas have been unhealthy for 30 s."
