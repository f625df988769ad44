"""An event loop whose clock jumps to the next timer: hours pass in no time, always the same way.

Only for code without I/O and threads; connections are those of a simulated network. A loop that
waits for nothing is a deadlock, and says so.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

Result = TypeVar("Result")


class Deadlock(Exception):
    """Every task waits, and nothing will ever wake one."""


class Net(Protocol):
    """Where the loop's connections go."""

    async def dial(
        self, factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
    ) -> tuple[asyncio.BaseTransport, Any]:
        """Connect to a listener."""

    def listen(self, factory: Callable[[], asyncio.BaseProtocol], host: str) -> Any:
        """Take connections."""


class _Clock:
    """In place of a selector: never waits, moves the time on instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> tuple[()]:
        if timeout is None:
            raise Deadlock
        if timeout > 0:
            self.now += timeout
        return ()


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop on a clock of its own, without a single system call."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = _Clock()
        self.net: Net | None = None

    def time(self) -> float:
        return self._selector.now

    def _process_events(self, event_list: object) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """There is nobody to wake."""

    async def create_connection(self, protocol_factory: Any, host: Any, port: Any) -> Any:  # type: ignore[override]
        assert self.net is not None
        return await self.net.dial(protocol_factory, host, port)

    async def create_server(self, protocol_factory: Any, host: Any, port: Any) -> Any:  # type: ignore[override]
        assert self.net is not None
        return self.net.listen(protocol_factory, host)


class _Time:
    """Stands in for the ``time`` module of the runtime."""

    @staticmethod
    def monotonic() -> float:
        return asyncio.get_running_loop().time()

    perf_counter = monotonic


@contextmanager
def _virtual_time() -> Iterator[None]:
    modules = [
        vars(module)
        for name, module in sorted(sys.modules.items())
        if name.startswith("actors.durable.") and vars(module).get("time") is time
    ]
    for names in modules:
        names["time"] = _Time
    try:
        yield
    finally:
        for names in modules:
            names["time"] = time


def run_virtual(main: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run a coroutine on a virtual clock, and whatever it leaves behind to its end."""
    loop = VirtualLoop()
    with _virtual_time():
        try:
            return loop.run_until_complete(main())
        finally:
            while tasks := asyncio.all_tasks(loop):
                # What is cancelled may begin something else.
                for task in tasks:
                    task.cancel()
                loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            loop.close()
