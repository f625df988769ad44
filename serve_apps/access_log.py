"""A line for each request, as JSON.

Every request pays for it, so it goes past the machinery of the platform's other logs: straight
into a list, which is written twice a second.
"""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from typing import Final

import msgspec
import structlog
from starlette.types import Scope

from persistence.tasks import end_tasks

log = structlog.get_logger("kontor.access")

WRITE_S: Final = 0.5
FILE_SIZE_MAX: Final = 256 * 1024 * 1024


class Line(msgspec.Struct):
    """What is written of a request: ``user`` is 0 for nobody, ``bytes`` those of the body sent."""

    at: datetime
    method: str
    path: str
    route: str
    user: int
    status: int
    bytes: int
    ms: float
    request: str


_encode: Final = msgspec.json.Encoder().encode


def route_of(scope: Scope) -> str:
    """The path with names in place of what it names: ``/api/user/{user}/``."""
    path: str = scope["path"]
    given = scope.get("path_params")
    if given:
        for name, value in given.items():
            path = path.replace(f"/{value}", f"/{{{name}}}", 1)
    return path


class AccessLog:
    """The file and its logger. ``open`` starts the writing, ``close`` ends it.

    Replicas share the file: each write appends whole lines.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._waiting: list[Line] = []
        self._file = -1
        self._task: asyncio.Task[None] | None = None

    def note(self, scope: Scope, status: int, size: int, seconds: float, request: str) -> None:
        """Take down a request that has been answered."""
        self._waiting.append(
            Line(
                datetime.now(UTC), scope["method"], scope["path"], route_of(scope),
                scope.get("kontor.user", 0), status, size, round(seconds * 1_000, 2), request,
            )
        )  # fmt: skip

    def open(self) -> None:
        """Append to the file; a very long one is put aside first."""
        if os.path.exists(self._path) and os.path.getsize(self._path) > FILE_SIZE_MAX:
            os.replace(self._path, self._path + ".1")
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        self._task = asyncio.create_task(self._write_regularly())

    async def close(self) -> None:
        """Write what is left."""
        if self._task is not None:
            await end_tasks([self._task])
            self._write()
            os.close(self._file)

    async def _write_regularly(self) -> None:
        while True:
            await asyncio.sleep(WRITE_S)
            try:
                self._write()
            except OSError as error:
                log.warning("access_log_not_written", error=str(error))

    def _write(self) -> None:
        lines, self._waiting = self._waiting, []
        if lines:
            os.write(self._file, b"".join([_encode(line) + b"\n" for line in lines]))
