"""Ends requests that take too long: bodies that do not arrive, and handlers that do not answer.

One task looks at all requests of a replica once a second, so that a request pays for an entry in
a set and for no timer. What has begun to answer is left alone: a long download is no fault.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from starlette.types import Message, Receive

from persistence.tasks import end_tasks

LOOK_S: Final = 1.0
BODY_LATE: Final = 408
ANSWER_LATE: Final = 503


class UnderWay:
    """One request under way. ``over`` is the status with which it was ended, or 0."""

    reading_since = 0.0
    answering = False
    over = 0

    def __init__(self, task: asyncio.Task[object] | None, now: float) -> None:
        self.task = task
        self.started = now

    def watched(self, receive: Receive) -> Receive:
        """``receive`` that tells how long the body takes."""

        async def receive_watched() -> Message:
            if not self.reading_since:
                self.reading_since = time.perf_counter()
            message = await receive()
            if not message.get("more_body"):
                self.reading_since = 0.0
                self.started = time.perf_counter()
            return message

        return receive_watched


class Watch:
    """The requests of a replica. Times in seconds."""

    def __init__(self, body_s: float, answer_s: float, look_s: float = LOOK_S) -> None:
        self._body_s = body_s
        self._answer_s = answer_s
        self._look_s = look_s
        self._requests: set[UnderWay] = set()
        self._looking: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Start looking."""
        self._looking = asyncio.create_task(self._look())

    async def close(self) -> None:
        """Stop looking."""
        if self._looking is not None:
            await end_tasks([self._looking])

    def begin(self, now: float) -> UnderWay:
        """A request has begun, by the performance counter, in the task that runs this."""
        request = UnderWay(asyncio.current_task(), now)
        self._requests.add(request)
        return request

    def end(self, request: UnderWay) -> None:
        """It has been answered, or never will be."""
        self._requests.discard(request)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(self._look_s)
            now = time.perf_counter()
            for request in list(self._requests):
                if request.answering or request.over:
                    continue
                if request.reading_since:
                    if now - request.reading_since > self._body_s:
                        _end(request, BODY_LATE)
                elif now - request.started > self._answer_s:
                    _end(request, ANSWER_LATE)


def _end(request: UnderWay, status: int) -> None:
    request.over = status
    if request.task is not None:
        request.task.cancel()
