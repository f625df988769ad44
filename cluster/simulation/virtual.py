"""An event loop whose clock jumps to the next timer: hours pass in no time, always the same way.

Only for code without I/O and threads; connections are those of a simulated network. A loop that
waits for nothing is a deadlock, and says so.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from heapq import heappop, heappush
from itertools import count
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


class _Call:
    """Something to be called: at once, or when its time has come and nobody has cancelled it."""

    __slots__ = ("arguments", "callback", "context", "time")

    def __init__(
        self,
        time: float,
        callback: Callable[..., object],
        arguments: tuple[Any, ...],
        context: Context | None,
    ) -> None:
        self.time = time
        self.callback: Callable[..., object] | None = callback
        self.arguments = arguments
        self.context = context or copy_context()

    def cancel(self) -> None:
        self.callback = None
        self.arguments = ()

    def cancelled(self) -> bool:
        return self.callback is None

    def when(self) -> float:
        return self.time


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop on a clock of its own, without a single system call.

    Half of a simulated world is its loop, so what asyncio's own does for real clocks, selectors
    and debugging is left out; the order is the same: what is due joins the end of what is ready.
    """

    def __init__(self) -> None:
        super().__init__()
        self.net: Net | None = None
        self._stopping: bool
        self._now = 0.0
        self._calls: deque[_Call] = deque()
        self._timers: list[tuple[float, int, _Call]] = []
        self._numbers = count()

    def time(self) -> float:
        return self._now

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> Any:
        call = _Call(0.0, callback, args, context)
        self._calls.append(call)
        return call

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> Any:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> Any:
        call = _Call(when, callback, args, context)
        heappush(self._timers, (when, next(self._numbers), call))
        return call

    def create_task(  # type: ignore[override]
        self, coro: Any, *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def _run_once(self) -> None:
        """Run until somebody stops the loop; asyncio's own does one round."""
        calls, timers = self._calls, self._timers
        while True:
            if not calls:
                while timers and timers[0][2].callback is None:
                    heappop(timers)
                if not timers:
                    raise Deadlock
                self._now = max(self._now, timers[0][0])
            while timers and timers[0][0] <= self._now:
                calls.append(heappop(timers)[2])
            for _ in range(len(calls)):
                call = calls.popleft()
                if call.callback is not None:
                    self._run(call, call.callback)
            if self._stopping:
                return

    def _run(self, call: _Call, callback: Callable[..., object]) -> None:
        try:
            call.context.run(callback, *call.arguments)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.call_exception_handler({"message": f"failed: {callback!r}", "exception": error})

    def _write_to_self(self) -> None:
        """There is nobody to wake."""

    def close(self) -> None:
        super().close()
        self._calls.clear()
        self._timers.clear()

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
