"""An event loop whose clock jumps to the next timer: hours pass in no time, always the same way.

Only for code without I/O and threads. A loop that waits for nothing is a deadlock, and says so.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from actors.durable import partition

Result = TypeVar("Result")


class Deadlock(Exception):
    """Every task waits, and nothing will ever wake one."""


class _Clock(selectors.DefaultSelector):
    """Never waits: moves the time on instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise Deadlock
        self.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on a clock of its own."""

    def __init__(self) -> None:
        self.clock = _Clock()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now


class _Time:
    """Stands in for the ``time`` module of the partition."""

    @staticmethod
    def monotonic() -> float:
        return asyncio.get_running_loop().time()

    perf_counter = monotonic


def run_virtual(main: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run a coroutine on a virtual clock, and whatever it leaves behind to its end."""
    loop = VirtualLoop()
    real = vars(partition)["time"]
    vars(partition)["time"] = _Time
    try:
        return loop.run_until_complete(main())
    finally:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.close()
        vars(partition)["time"] = real
