"""One run of chaos: a platform, load, fault after fault, rest, and the verdict."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from cluster.chaos.faults import FAULTS, Subject
from cluster.chaos.load import Load, sign_up
from cluster.chaos.pace import Pace
from cluster.chaos.running import Running, a_platform
from cluster.chaos.trading import TradingLoad, judge_trading, open_traders
from cluster.chaos.verdict import REST_S, Verdict, judge
from persistence.database import open_pool

FAULT_MAX_S: Final = 120.0
SERVED_MAX_S: Final = 60.0
"""After a fault everybody must be served again within this time."""
TOGETHER: Final = "two at once"
_ALONE: Final = frozenset({"nothing", "platform killed"})
_SETTINGS: Final = {
    "KONTOR_LOG_LEVEL": "warning",
    "KONTOR_BONUS_AMOUNT": "10000000.00",
    "KONTOR_DAILY_LIMITS": "{}",
}

Progress = Callable[[float, str], None]
"""Told the seconds since the faults began, and what happens."""


class Options(msgspec.Struct, frozen=True):
    """``seconds`` of faults, one ``every`` so many, or later when somebody still waits.

    With ``rounds``, each of ``faults`` comes that often, however long it takes. ``pairs`` more in
    each round strike two at once.
    """

    seconds: float = 600.0
    every: float = 5.0
    seed: int = 1
    rounds: int | None = None
    pairs: int = 3
    faults: tuple[str, ...] = tuple(FAULTS)
    customers: int = 24
    singles: int = 12
    batches: int = 2
    traders: int = 4


class Struck(msgspec.Struct, frozen=True):
    """One fault: when, how long it lasted itself, and how long a client waited from then on."""

    kinds: tuple[str, ...]
    at_s: float
    lasted_s: float
    pause_s: float


class Kind(msgspec.Struct, frozen=True):
    """What one kind of fault did in all."""

    fault: str
    count: int
    pause_s_median: float
    pause_s_max: float


class Report(msgspec.Struct):
    """The result of a run; ``repeated`` counts requests that had no answer and were sent again.

    ``orders`` and ``cancels`` were acknowledged, in batches of which ``orders_repeated`` had to be
    sent again.
    """

    ok: bool
    seed: int
    seconds: float
    faults: int
    kinds: list[Kind]
    acknowledged: int
    refused: int
    per_second: float
    repeated: int
    answers: dict[str, int]
    verdict: Verdict
    struck: list[Struck]
    orders: int = 0
    cancels: int = 0
    trades: int = 0
    orders_repeated: int = 0
    kept: str | None = None


def schedule(options: Options, chance: random.Random) -> Iterator[tuple[str, ...]]:
    """The faults in their order: each kind once in a round, and pairs between them."""
    unknown = set(options.faults) - FAULTS.keys()
    if unknown:
        raise ValueError(f"unknown faults: {', '.join(sorted(unknown))}")
    together = [kind for kind in options.faults if kind not in _ALONE]
    rounds = 0
    while options.rounds is None or rounds < options.rounds:
        bag: list[tuple[str, ...]] = [(kind,) for kind in options.faults]
        if len(together) > 1:
            bag += [tuple(chance.sample(together, 2)) for _ in range(options.pairs)]
        chance.shuffle(bag)
        yield from bag
        rounds += 1


class _Run:
    def __init__(
        self, options: Options, paces: Sequence[Pace], subject: Subject, progress: Progress
    ) -> None:
        self.options = options
        self.paces = paces
        self.subject = subject
        self.progress = progress
        self.struck: list[Struck] = []
        self.findings: list[str] = []
        self.started = time.monotonic()

    async def faults(self) -> None:
        """Strike until the time or the rounds are over, or somebody is not served any more."""
        if not await self._served():
            self.findings.append(
                f"not everybody was served within {SERVED_MAX_S:.0f} s of the start"
            )
            return
        self.started = time.monotonic()
        for kinds in schedule(self.options, self.subject.chance):
            left = self.options.seconds - (time.monotonic() - self.started)
            if self.options.rounds is None and left <= 0:
                return
            await self._strike(kinds)
            if self.findings:
                return

    async def _served(self) -> bool:
        """Whether all who pay and all who trade are served again in time."""
        return all(await asyncio.gather(*(pace.served(SERVED_MAX_S) for pace in self.paces)))

    def _forget_pauses(self) -> None:
        self.subject.found = lambda: None
        for pace in self.paces:
            pace.forget_pauses()

    async def _strike(self, kinds: tuple[str, ...]) -> None:
        began = time.monotonic()
        name = " + ".join(kinds)
        self.progress(began - self.started, name)
        self._forget_pauses()
        self.subject.found = self._forget_pauses
        try:
            async with asyncio.timeout(FAULT_MAX_S):
                await asyncio.gather(*(FAULTS[kind](self.subject) for kind in kinds))
        except (TimeoutError, LookupError, AssertionError) as error:
            self.findings.append(f"{name}: {type(error).__name__}: {error}")
        lasted = time.monotonic() - began
        if not await self._served():
            self.findings.append(f"not served again within {SERVED_MAX_S:.0f} s of: {name}")
        await asyncio.sleep(max(0.0, self.options.every - (time.monotonic() - began)))
        pause = max(pace.longest_pause_s() for pace in self.paces)
        self.struck.append(
            Struck(kinds, round(began - self.started, 1), round(lasted, 2), round(pause, 3))
        )


def _kinds(struck: Sequence[Struck]) -> list[Kind]:
    pauses: dict[str, list[float]] = {}
    for fault in struck:
        name = fault.kinds[0] if len(fault.kinds) == 1 else TOGETHER
        pauses.setdefault(name, []).append(fault.pause_s)
    order = [*FAULTS, TOGETHER]
    return [
        Kind(name, len(found), round(statistics.median(found), 3), max(found))
        for name, found in sorted(pauses.items(), key=lambda item: order.index(item[0]))
    ]


async def _chaos(running: Running, options: Options, progress: Progress) -> Report:
    progress(0.0, "customers sign up")
    customers = await sign_up(running.url, options.customers)
    traders = await open_traders(running, options.traders, first=options.customers)
    load = Load(running.url, customers, singles=options.singles, batches=options.batches)
    trading = TradingLoad(running.url, traders, options.seed)
    chance = random.Random(options.seed)
    subject = Subject(running, [customer.user for customer in customers], chance)
    run = _Run(options, (load.pace, trading.pace), subject, progress)
    working = asyncio.gather(load.run(), trading.run())
    try:
        await run.faults()
        seconds = time.monotonic() - run.started
        progress(seconds, "faults have stopped")
        load.stop()
        trading.stop()
        async with asyncio.timeout(SERVED_MAX_S):
            await working
    except TimeoutError:
        run.findings.append(f"not everybody was answered within {SERVED_MAX_S:.0f} s of the end")
    finally:
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working
    progress(seconds, "the books are proved")
    pool = await open_pool(running.database_url(), name="chaos", size_max=2)
    try:
        verdict = await judge(load, customers, running.url, pool)
        wrong, trades = await judge_trading(trading, pool, REST_S)
    finally:
        await pool.close()
    verdict.findings[:0] = [*run.findings, *wrong]
    report = _report(options, load, run.struck, verdict, seconds)
    report.orders, report.cancels = len(trading.placed), len(trading.cancelled)
    report.trades, report.orders_repeated = trades, trading.repeated
    return report


def _report(
    options: Options, load: Load, struck: list[Struck], verdict: Verdict, seconds: float
) -> Report:
    return Report(
        ok=not verdict.findings,
        seed=options.seed,
        seconds=round(seconds, 1),
        faults=sum(len(fault.kinds) for fault in struck),
        kinds=_kinds(struck),
        acknowledged=len(load.acknowledged),
        refused=len(load.refused),
        per_second=round(len(load.acknowledged) / max(load.seconds, 1e-9), 1),
        repeated=load.repeated,
        answers=dict(sorted(load.answers.items())),
        verdict=verdict,
        struck=struck,
    )


def run(options: Options, progress: Progress) -> Report:
    """Start a platform in a temporary folder, break it, judge it, take it away.

    When something was found its folder is kept for a look, and the report says where.
    """
    folder = Path(tempfile.mkdtemp(prefix="kontor-chaos-"))
    progress(0.0, "a platform starts")
    with a_platform(folder, **_SETTINGS) as running:
        report = asyncio.run(_chaos(running, options, progress))
    if report.ok:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        report.kept = str(folder)
    return report


def plain(report: Report) -> dict[str, Any]:
    """A report for JSON."""
    built: dict[str, Any] = msgspec.to_builtins(report)
    return built
