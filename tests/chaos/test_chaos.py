"""Each kind of fault once against a real platform under load, and nothing acknowledged is lost.

The short form of ``kontor chaos``. The long one is run by hand: see docs/operations/chaos.md.
"""

from __future__ import annotations

import random

import pytest

from cluster.chaos.faults import FAULTS
from cluster.chaos.pace import Pace
from cluster.chaos.run import Options, run, schedule

SHORT = Options(rounds=1, every=0.3, pairs=1, seed=7)


@pytest.mark.cluster
def test_everything_is_broken_and_nothing_is_lost() -> None:
    report = run(SHORT, lambda seconds, what: None)
    assert report.verdict.findings == [], report.kept
    assert report.ok
    assert {kind.fault for kind in report.kinds} >= set(SHORT.faults)
    assert report.verdict.stored == report.acknowledged
    assert report.acknowledged > 100 * len(report.kinds)
    assert report.orders > 20 * len(report.kinds)
    assert report.cancels
    assert report.trades
    assert report.refused
    assert report.repeated
    assert set(report.verdict.sums.values()) == {0}


def test_a_seed_gives_the_same_faults() -> None:
    options = Options(rounds=3)
    first, second = (list(schedule(options, random.Random(5))) for _ in range(2))
    assert first == second
    assert first != list(schedule(options, random.Random(6)))
    assert {kind for kinds in first for kind in kinds} == FAULTS.keys()


def test_a_pause_is_counted_from_its_fault_on() -> None:
    now = 100.0
    pace = Pace(2, clock=lambda: now)
    with pace.asking(0), pace.asking(1):
        now = 107.0
        pace.forget_pauses()
        now = 109.0
        assert pace.longest_pause_s() == 2.0
    now = 110.0
    with pace.asking(0):
        now = 110.5
    assert pace.longest_pause_s() == 2.0


def test_the_whole_platform_is_killed_by_itself() -> None:
    options = Options(rounds=50, pairs=20)
    together = [kinds for kinds in schedule(options, random.Random(1)) if len(kinds) > 1]
    assert together
    assert not any("platform killed" in kinds for kinds in together)
