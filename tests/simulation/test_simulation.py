"""Two hundred worlds full of faults, in which every promise must be kept.

The seeds are spread over two processes; ``kontor simulate`` runs more of them, and longer ones.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

from cluster.simulation.plan import make
from cluster.simulation.platform import Platform
from cluster.simulation.run import run
from cluster.simulation.runner import simulate
from cluster.simulation.shrink import described, shrink
from domain.accounts.state import Account
from tests.mutation import Mutation

SEEDS = 200
OPS = 400
TRADING_SEEDS = 60

_HASHES = """
from cluster.simulation.plan import make
from cluster.simulation.run import run
print(*(run(make(seed, 300)).journal for seed in (3, 4, 5)))
print(*(run(make(seed, 300, trading=True)).journal for seed in (3, 4, 5)))
"""


def test_two_hundred_worlds_keep_every_promise() -> None:
    summary = simulate(SEEDS, OPS, workers=2, shrink_s=20)
    told = "\n".join(line for failure in summary.failures for line in failure.trace)
    assert not summary.failures, told
    assert summary.ops == SEEDS * OPS
    # Worlds in which nothing happens would prove nothing.
    assert summary.answered > 0.99 * summary.ops
    assert summary.faults > 5 * SEEDS
    assert summary.recoveries > 10 * SEEDS


def test_worlds_in_which_customers_trade_keep_every_promise() -> None:
    summary = simulate(TRADING_SEEDS, OPS, workers=2, shrink_s=20, trading=True)
    told = "\n".join(line for failure in summary.failures for line in failure.trace)
    assert not summary.failures, told
    assert summary.answered > 0.99 * summary.ops
    assert summary.faults > 5 * TRADING_SEEDS
    assert summary.recoveries > 10 * TRADING_SEEDS


def test_the_same_seed_is_the_same_run_in_every_process() -> None:
    """Also where strings have other hashes, so that no order of a set can matter."""
    here = [
        run(make(seed, 300, trading=trading)).journal
        for trading in (False, True)
        for seed in (3, 4, 5)
    ]
    for value in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": value}
        command = [sys.executable, "-c", _HASHES]
        there = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert there.stdout.split() == here


def test_seeds_differ() -> None:
    assert len({run(make(seed, 50)).journal for seed in range(4)}) == 4


def test_a_failing_plan_is_made_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Holds that count for nothing: what is left is about a hold and a payment."""
    broken = Mutation(
        "holds do not count",
        Account,
        "available",
        "return self.posted - self.held",
        "return self.posted",
    )
    broken.apply(monkeypatch)
    plan, outcome = next(
        (plan, outcome)
        for plan in (make(seed, 300) for seed in range(40))
        if not (outcome := run(plan)).ok
    )
    shrinker = shrink(plan, outcome, seconds=10)
    assert shrinker.outcome.check == outcome.check
    assert shrinker.plan.ops <= plan.ops // 5
    assert len(shrinker.plan.faults) <= 1
    lines = "\n".join(described(shrinker.plan))
    assert "reserve" in lines or "linked" in lines
    assert run(shrinker.plan).violation == shrinker.outcome.violation


def test_a_world_that_has_ended_is_free() -> None:
    """Otherwise each is slower than the one before."""

    def worlds() -> dict[int, Platform]:
        gc.collect()
        return {id(world): world for world in gc.get_objects() if type(world) is Platform}

    before = worlds()
    for seed in range(3, 7):
        run(make(seed, 1_000))
    assert worlds().keys() <= before.keys()
