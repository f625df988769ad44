"""Looking things up together: one query at a time, for everything that was asked for meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Gathering(Generic[Key, Value]):
    """Turns many lookups of one thing into few lookups of many things.

    While a query runs, what is asked for gathers and goes into the next one. An idle lookup waits
    for nothing. What ``fetch`` raises is raised to everybody who waits for it.
    """

    def __init__(self, fetch: Callable[[list[Key]], Awaitable[Mapping[Key, Value]]]) -> None:
        self._fetch = fetch
        self._waiting: dict[Key, asyncio.Future[Value | None]] = {}
        self._task: asyncio.Task[None] | None = None

    async def get(self, key: Key) -> Value | None:
        """What is found for ``key``, or ``None``."""
        return await asyncio.shield(self._ask(key))

    async def get_many(self, keys: Iterable[Key]) -> None:
        """Look up several things; ``fetch`` is expected to remember them."""
        await asyncio.gather(*(asyncio.shield(self._ask(key)) for key in keys))

    def _ask(self, key: Key) -> asyncio.Future[Value | None]:
        future = self._waiting.get(key)
        if future is None:
            future = self._waiting[key] = asyncio.get_running_loop().create_future()
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._run())
        return future

    async def _run(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, {}
            try:
                found = await self._fetch(list(waiting))
            except Exception as error:
                for future in waiting.values():
                    future.set_exception(error)
                    future.exception()  # whoever waited may be gone; that is no error of its own
                continue
            for key, future in waiting.items():
                future.set_result(found.get(key))
