"""Background tasks end, even those that do not listen at first."""

from __future__ import annotations

import asyncio

from persistence.tasks import end_tasks


async def test_a_task_that_swallows_a_cancellation_is_cancelled_again() -> None:
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed == 2:
                    raise

    async def failing() -> None:
        raise ValueError

    tasks = [asyncio.create_task(stubborn()), asyncio.create_task(failing())]
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await end_tasks(tasks)
        await end_tasks([])
    assert swallowed == 2
    assert all(task.done() for task in tasks)
    assert isinstance(tasks[1].exception(), ValueError)
