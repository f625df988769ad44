"""Ending background tasks so that they really end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

_PATIENCE_S = 0.2


async def end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they are done, whatever they end with.

    Cancels again until it works: on Python 3.11 ``asyncio.wait_for``, by which redis-py connects
    and writes, forgets a cancellation that comes together with its result. The task goes on, and
    waits for its next work for ever.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_PATIENCE_S)
