"""How long those who ask have to wait, and whether all of them are served again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Pace:
    """The questions of some workers, each of whom asks one at a time until it is answered."""

    def __init__(self, workers: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked_at: list[float | None] = [None] * workers
        self._answered_at = [0.0] * workers
        self._since = 0.0
        self._slowest_s = 0.0
        self._answered = asyncio.Event()

    @contextmanager
    def asking(self, worker: int) -> Iterator[None]:
        """From the first time that something is asked to its answer."""
        asked = self._asked_at[worker] = self._clock()
        yield
        self._asked_at[worker] = None
        self._slowest_s = max(self._slowest_s, self._clock() - max(asked, self._since))
        # Asked before a fault was over, an answer may have left before it: only the time of
        # asking tells that it is served again.
        self._answered_at[worker] = asked
        self._answered.set()

    def forget_pauses(self) -> None:
        """Look at pauses from now on: what somebody has waited already does not count."""
        self._since = self._clock()
        self._slowest_s = 0.0

    def longest_pause_s(self) -> float:
        """The longest that anyone has waited for an answer since pauses were forgotten."""
        now = self._clock()
        waiting = [now - max(asked, self._since) for asked in self._asked_at if asked is not None]
        return max([self._slowest_s, *waiting])

    async def served(self, timeout_s: float) -> bool:
        """Wait until every worker has been answered something that it asks from now on."""
        now = self._clock()
        try:
            async with asyncio.timeout(timeout_s):
                while min(self._answered_at, default=now) < now:
                    self._answered.clear()
                    await self._answered.wait()
        except TimeoutError:
            return False
        return True
