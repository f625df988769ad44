"""One run of one plan: work amid faults, then calm, then everything must have ended well."""

from __future__ import annotations

import asyncio
import gc
import hashlib
from collections import deque
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from itertools import count
from typing import Any

import msgspec
import structlog

from actors.durable import memory, moving, post
from actors.durable import partition as partition_module
from cluster.simulation import clerk
from cluster.simulation.clerk import Clerk
from cluster.simulation.final import as_stored, at_rest, holds_over, tampering
from cluster.simulation.kinds import BOOKS
from cluster.simulation.model import Violation
from cluster.simulation.plan import Fault, Plan, Setup
from cluster.simulation.platform import Platform
from cluster.simulation.traders import Traders
from cluster.simulation.trouble import Trouble
from cluster.simulation.virtual import Deadlock, run_virtual
from cluster.simulation.workload import Callers

END_S = 120.0
"""Within this much virtual time after the last fault everything must have ended."""
_LOG_LINES = 40
_COLLECTED_EVERY = 4
_runs = count()


class Outcome(msgspec.Struct):
    """What came of a run. ``journal`` is a hash over all journals: the same for the same seed."""

    seed: int
    ops: int
    answered: int
    turns: int
    faults: int
    recoveries: int
    seconds: float
    journal: str
    check: int = 0
    violation: str = ""
    log: list[str] = []

    @property
    def ok(self) -> bool:
        """Whether all promises were kept."""
        return not self.violation


class _Log:
    """The runtime's log: its last lines, and what in them is a finding."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=_LOG_LINES)
        self.troubles: dict[str, Trouble] = {}

    def __call__(
        self, logger: Any, method: str, line: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        event = line.pop("event")
        loop = asyncio.get_running_loop()
        details = " ".join(f"{name}={value}" for name, value in line.items() if name != "exc_info")
        self.lines.append(f"{loop.time():9.4f} {event} {details}")
        trouble = self.troubles.get(str(line.get("stream")).partition("/")[0])
        if trouble is not None:
            error = str(line.get("error"))
            if line.get("exc_info") and not error.startswith("WishChanged"):
                check = 4 if error.startswith("DuplicateId") else 12
                trouble.platform.witness.fail(Violation(check, f"unexpected: {event}: {error}"))
            elif event == "partition ended" and line["reason"] != line["stream"]:
                # A stream's name alone is the reason of who was replaced.
                process = trouble.platform.serving(line["stream"])
                state = process.partition.state if process and process.partition else ""
                if state == "halted":
                    trouble.halted(line["stream"], line["reason"])
        raise structlog.DropEvent


@contextmanager
def _set_up(setup: Setup, log: _Log) -> Iterator[None]:
    """The bounds that are constants of the runtime, made small; the log comes here."""
    constants: list[tuple[dict[str, Any], str, int]] = [
        (vars(partition_module), "_WORTH_ITEMS", setup.worth_items),
        (vars(post), "_SHIPMENT_MAX", setup.shipment_max),
        (vars(memory), "RECENT_MAX", setup.recent_max),
        (vars(moving), "BATCH_MAX", setup.move_max),
    ]
    before = [(names, name, names[name]) for names, name, _ in constants]
    configured = structlog.get_config()
    for names, name, value in constants:
        names[name] = value
    structlog.configure(
        processors=[log], wrapper_class=structlog.BoundLogger, cache_logger_on_first_use=False
    )
    # A collection at another moment would end generators at another moment.
    gc.disable()
    if next(_runs) % _COLLECTED_EVERY == 0:
        gc.collect()
    try:
        yield
    finally:
        gc.enable()
        structlog.configure(**configured)
        for names, name, value in before:
            names[name] = value


def run(plan: Plan) -> Outcome:
    """Carry a plan out, in virtual time."""
    log = _Log()
    with _set_up(plan.setup, log):
        try:
            outcome = run_virtual(lambda: _Run(plan, log).main())
        except Deadlock:
            outcome = Outcome(plan.seed, plan.ops, 0, 0, len(plan.faults), 0, 0.0, "")
            outcome.check, outcome.violation = 12, "every task waits, and nothing will wake one"
    outcome.log = list(log.lines)
    return outcome


class _Run:
    def __init__(self, plan: Plan, log: _Log) -> None:
        self.plan = plan
        self.log = log

    async def main(self) -> Outcome:
        plan = self.plan
        self.platform = platform = Platform(plan.setup, plan.seed)
        self.platforms = [platform]
        self.callers = Callers(platform, plan)
        if plan.setup.books:
            desk = Platform(plan.setup, plan.seed, BOOKS)
            platform.joined(desk)
            Clerk(desk, Clerk(platform))
            self.platforms.append(desk)
            self.callers = Traders(platform, desk, plan)
        self.troubles = [Trouble(each) for each in self.platforms]
        for each, trouble in zip(self.platforms, self.troubles, strict=True):
            self.log.troubles[each.kind.name] = each.trouble = trouble
        failed = platform.witness.failed
        story = asyncio.create_task(self._story())
        ends: set[asyncio.Future[Any]] = {story, failed}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        violation: Violation | None = None
        if failed.done():
            violation = failed.result()
        else:
            try:
                story.result()
            except Violation as error:
                violation = error
        self.log.troubles = {}
        return self._outcome(violation)

    def _outcome(self, violation: Violation | None) -> Outcome:
        plan = self.plan
        digest = hashlib.sha256()
        for platform in self.platforms:
            for stream in platform.streams:
                for row in platform.database.rows.get(stream, []):
                    digest.update(row.hash)
        return Outcome(
            plan.seed,
            plan.ops,
            self.callers.answered,
            sum(platform.witness.rows for platform in self.platforms),
            len(plan.faults),
            sum(sum(platform.database.epochs.values()) for platform in self.platforms),
            asyncio.get_running_loop().time(),
            digest.hexdigest()[:16],
            0 if violation is None else violation.check,
            "" if violation is None else violation.text,
        )

    async def _story(self) -> None:
        plan, callers = self.plan, self.callers
        for platform in self.platforms:
            for stream in platform.streams:
                platform.start(stream)
        await callers.open()
        for trouble in self.troubles:
            trouble.begin()
        operators = [asyncio.create_task(trouble.operate()) for trouble in self.troubles]
        lanes = sorted({batch.lane for batch in plan.batches})
        tasks = [asyncio.create_task(callers.lane(lane)) for lane in lanes]
        tasks += [asyncio.create_task(self._struck(fault).strike(fault)) for fault in plan.faults]
        await asyncio.gather(*tasks)
        for trouble in self.troubles:
            trouble.end()
        await self._within(callers.resolve(), "a command has no answer")
        await self._within(self._rest(), "not at rest")
        for platform in self.platforms:
            platform.clock_shift_s += 7_200.0
        await self._ended()
        for operator in operators:
            operator.cancel()
        for platform in self.platforms:
            for stream in platform.streams:
                platform.crash(stream)
                platform.start(stream)
        await self._within(self._rest(), "not at rest")
        for platform in self.platforms:
            as_stored(platform)

    def _struck(self, fault: Fault) -> Trouble:
        """Which kind of partitions a fault is for."""
        return self.troubles[len(self.troubles) > 1 and fault.value % 5 < 2]

    async def _ended(self) -> None:
        """Time has passed: nothing may be left of what ends by itself."""
        callers = self.callers
        if not isinstance(callers, Traders):
            await self._within(self._no_holds(), "a hold stays for ever")
            await self._within(self._rest(), "not at rest")
            at_rest(self.platform)
            return
        await self._within(self._rest(), "not at rest")
        clerk.at_rest(self.platform, callers.desk)
        await self._within(callers.close(), "a command has no answer")
        await self._within(self._rest(), "not at rest")
        clerk.at_rest(self.platform, callers.desk)
        clerk.nothing_open(self.platform)
        for platform in self.platforms:
            as_stored(platform)
            clerk.answers(platform)
            tampering(platform)

    async def _within(self, work: Any, otherwise: str) -> None:
        try:
            async with asyncio.timeout(END_S):
                await work
        except TimeoutError:
            restless = [what for platform in self.platforms for what in platform.restless()]
            open_now = "; ".join(restless) or "everything else is at rest"
            raise Violation(
                12, f"{otherwise} {END_S:.0f} s after the last fault: {open_now}"
            ) from None

    async def _rest(self) -> None:
        while True:
            if not any(platform.restless() for platform in self.platforms):
                return
            await asyncio.sleep(0.25)

    async def _no_holds(self) -> None:
        for _ in range(int(END_S)):
            if not holds_over(self.platform):
                return
            await asyncio.sleep(1.0)
        raise TimeoutError
