"""Links: a gateway's commands to one partition, in batches and in order.

The next batch leaves when as much has gathered as is under way: nobody who asks now and then waits
for the slowest command of the batch before, and where many ask, batches stay few and large. Nothing
is repeated by itself. Batches go through a ``Channel``, which keeps order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import structlog

from actors.durable.channel import NoAnswer
from actors.durable.records import Codec
from domain.durable import Unavailable
from persistence.tasks import end_tasks

log = structlog.get_logger(__name__)

IN_FLIGHT_MAX: Final = 8
"""Batches under way."""

Deliver = Callable[[bytes], Awaitable[bytes]]
"""Bring an encoded batch to a partition and come back with its encoded answer."""


class _Call:
    """One caller's commands for one partition; what has been sent is never taken apart."""

    __slots__ = ("commands", "future")

    def __init__(self, commands: Sequence[Any], future: asyncio.Future[list[Any]]) -> None:
        self.commands = commands
        self.future = future


class RequestLink:
    """Commands of one gateway to one partition.

    A failed batch answers ``Unavailable`` for each of its commands; asking again with the same
    ids is the caller's part.
    """

    def __init__(
        self,
        deliver: Deliver,
        codec: Codec[Any, Any],
        *,
        in_flight_max: int = IN_FLIGHT_MAX,
        batch_max: int = 2_000,
    ) -> None:
        self._deliver = deliver
        self._codec = codec
        self._in_flight_max = in_flight_max
        self._batch_max = batch_max
        self._queue: deque[_Call] = deque()
        self._gathered = 0
        """Commands in the queue."""
        self._under_way = 0
        self._in_flight: set[asyncio.Task[None]] = set()
        self._scheduled = False

    async def request(self, commands: Sequence[Any]) -> list[Any]:
        """Send commands and wait for their replies, in order."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Any]] = loop.create_future()
        self._queue.append(_Call(commands, future))
        self._gathered += len(commands)
        if not self._scheduled and self._may_depart():
            self._scheduled = True
            loop.call_soon(self._depart)
        return await future

    def _may_depart(self) -> bool:
        if not self._queue:
            return False
        flights = len(self._in_flight)
        return not flights or (flights < self._in_flight_max and self._gathered >= self._under_way)

    def _depart(self) -> None:
        """Send what has gathered, if it is time."""
        self._scheduled = False
        while self._may_depart():
            calls: list[_Call] = []
            size = 0
            while self._queue and (not calls or size < self._batch_max):
                call = self._queue.popleft()
                calls.append(call)
                size += len(call.commands)
            self._gathered -= size
            self._under_way += size
            task = asyncio.create_task(self._carry(calls))
            self._in_flight.add(task)
            task.add_done_callback(self._arrived)

    def _arrived(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        self._depart()

    async def _carry(self, calls: list[_Call]) -> None:
        commands = [command for call in calls for command in call.commands]
        replies: list[Any] = [Unavailable("no answer")] * len(commands)
        try:
            answer = await self._deliver(self._codec.encode(commands))
            replies = self._codec.decode_replies(answer)
        except Exception as error:
            # Whatever went wrong, nobody may wait for ever.
            expected = isinstance(error, NoAnswer | OSError)
            log.info(
                "batch has no answer",
                error=f"{type(error).__name__}: {error}",
                exc_info=not expected,
            )
        finally:
            start = 0
            for call in calls:
                end = start + len(call.commands)
                # A caller that went away has cancelled its future.
                if not call.future.done():
                    call.future.set_result(replies[start:end])
                start = end
            self._under_way -= start

    async def close(self) -> None:
        """Wait for nothing more; whoever still does learns that the outcome is unknown."""
        for call in self._queue:
            if not call.future.done():
                call.future.set_result([Unavailable("closed")] * len(call.commands))
        self._queue.clear()
        self._gathered = 0
        await end_tasks(self._in_flight)
