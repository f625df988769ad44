"""Many seeds in several processes; what failed comes back with a plan made smaller."""

from __future__ import annotations

import gc
import multiprocessing
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice
from pathlib import Path

import msgspec

from cluster.simulation.plan import make
from cluster.simulation.run import Outcome, run
from cluster.simulation.shrink import described, shrink

SHRINK_S = 45.0
_FAILURES_MAX = 3


class Failure(msgspec.Struct):
    """A seed that broke a promise, and the smallest plan found that breaks it, too."""

    outcome: Outcome
    trace: list[str]
    runs: int


class Summary(msgspec.Struct):
    """What came of all seeds."""

    first: int
    seeds: int
    ops_each: int
    commit: str
    ops: int = 0
    answered: int = 0
    turns: int = 0
    faults: int = 0
    recoveries: int = 0
    virtual_seconds: float = 0.0
    failures: list[Failure] = []

    def add(self, outcome: Outcome) -> None:
        """Count a run."""
        self.ops += outcome.ops
        self.answered += outcome.answered
        self.turns += outcome.turns
        self.faults += outcome.faults
        self.recoveries += outcome.recoveries
        self.virtual_seconds += outcome.seconds


def simulate(
    seeds: int,
    ops: int,
    *,
    first: int = 0,
    workers: int = 2,
    progress: Callable[[Summary], None] = lambda summary: None,
    shrink_s: float = SHRINK_S,
    trading: bool = False,
) -> Summary:
    """Run seeds ``first`` to ``first + seeds``; stops early when several have failed.

    Customers pay each other, or are ``trading``.
    """
    summary = Summary(first, seeds, ops, commit_of_source())
    failed: list[Outcome] = []
    for outcome in _outcomes(range(first, first + seeds), ops, workers, trading):
        summary.add(outcome)
        progress(summary)
        if not outcome.ok:
            failed.append(outcome)
            if len(failed) >= _FAILURES_MAX:
                break
    for outcome in failed:
        summary.failures.append(reduced(outcome, ops, shrink_s / len(failed), trading=trading))
    return summary


def reduced(outcome: Outcome, ops: int, seconds: float, *, trading: bool = False) -> Failure:
    """The failure of a seed, made as small as the time allows."""
    shrinker = shrink(make(outcome.seed, ops, trading=trading), outcome, seconds=seconds)
    trace = [*described(shrinker.plan), "log:", *shrinker.outcome.log]
    trace.append(f"check {shrinker.outcome.check}: {shrinker.outcome.violation}")
    return Failure(outcome, trace, shrinker.runs)


def _outcomes(seeds: range, ops: int, workers: int, trading: bool) -> Iterator[Outcome]:
    if workers <= 1 or len(seeds) <= 1:
        for seed in seeds:
            yield _one(seed, ops, trading)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare) as pool:
        waiting = iter(seeds)
        open_now: set[Future[Outcome]] = set()
        try:
            while True:
                for seed in islice(waiting, 2 * workers - len(open_now)):
                    open_now.add(pool.submit(_one, seed, ops, trading))
                if not open_now:
                    return
                done, open_now = wait(open_now, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _prepare() -> None:
    """What was imported is not looked through again by each collection."""
    gc.collect()
    gc.freeze()


def _one(seed: int, ops: int, trading: bool) -> Outcome:
    return run(make(seed, ops, trading=trading))


def commit_of_source() -> str:
    """The commit of the source that runs, or "" outside of a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=5)
    except OSError:
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
