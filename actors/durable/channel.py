"""A connection to the process that hosts a partition: frames over TCP, in order.

Ray decides where an actor runs and restarts it; calls between processes go past Ray, because an
actor call costs 15 times as much processor time and keeps no order (see ``docs/decisions``).

A frame is ``length, id, kind`` (little-endian, 4 + 8 + 1 bytes) and a body of ``length`` bytes.
An answer has the id of its request and kind 0, or 255 and a reason when there is none. Before any
frame the server sends 32 random bytes, and the caller answers with their HMAC-SHA256 under the
token of the partition's present incarnation.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import os
import struct
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, cast

CALL: Final = 1
DELIVER: Final = 2
NUDGE: Final = 3
DESCRIBE: Final = 4
_ANSWER: Final = 0
_FAILED: Final = 255

FRAME_MAX: Final = 64 * 1024 * 1024
_HEAD: Final = struct.Struct("<IQB")
_NONCE: Final = 32
_CONNECT_TIMEOUT_S: Final = 2.0
_WATCH_S: Final = 1.0


class NoAnswer(Exception):
    """The outcome of a request is unknown, or the other side could not take it."""


class Endpoint(NamedTuple):
    """Where an incarnation of a partition listens, and what proves the right to speak to it."""

    host: str
    port: int
    token: bytes


Handle = Callable[[int, bytes], Awaitable[Any]]
"""Take a request, at once, and answer later. Called in the order of arrival."""

Encode = Callable[[Any], bytes]
"""Turn what a request was answered with into what goes over the wire."""


def _proof(token: bytes, nonce: bytes) -> bytes:
    return hmac.digest(token, nonce, hashlib.sha256)


class _Frames(asyncio.Protocol):
    """Cuts a stream into frames, after a first part of fixed length."""

    def __init__(self, prologue: int) -> None:
        self._buffer = bytearray()
        self._prologue = prologue
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface without the base class.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        if self._prologue:
            if len(buffer) < self._prologue:
                return
            first = bytes(buffer[: self._prologue])
            del buffer[: self._prologue]
            self._prologue = 0
            self.opened(first)
        start, head, size = 0, _HEAD.size, len(buffer)
        while size - start >= head:
            length, request, kind = _HEAD.unpack_from(buffer, start)
            if length > FRAME_MAX:
                self.close()
                return
            end = start + head + length
            if size < end:
                break
            self.frame(request, kind, bytes(memoryview(buffer)[start + head : end]))
            start = end
        if start:
            del buffer[:start]

    def write(self, request: int, kind: int, body: bytes) -> None:
        """Send one frame."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(_HEAD.pack(len(body), request, kind) + body)

    def close(self) -> None:
        """End the connection."""
        if self.transport is not None:
            self.transport.close()

    def opened(self, first: bytes) -> None:
        """The first part is here."""

    def frame(self, request: int, kind: int, body: bytes) -> None:
        """A frame is here."""


class _Served(_Frames):
    def __init__(self, server: ChannelServer) -> None:
        super().__init__(_NONCE)
        self._server = server
        self._nonce = os.urandom(_NONCE)
        self._admitted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._server.connections.add(self)
        assert self.transport is not None
        self.transport.write(self._nonce)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)

    def opened(self, first: bytes) -> None:
        self._admitted = hmac.compare_digest(first, _proof(self._server.token, self._nonce))
        if not self._admitted:
            self.close()

    def frame(self, request: int, kind: int, body: bytes) -> None:
        if not self._admitted:
            return
        task = asyncio.ensure_future(self._server.handle(kind, body))
        self._server.tasks.add(task)
        task.add_done_callback(lambda done: self._answer(request, done))

    def _answer(self, request: int, done: asyncio.Future[Any]) -> None:
        self._server.tasks.discard(done)
        try:
            body = self._server.encode(done.result())
        except asyncio.CancelledError:
            self.write(request, _FAILED, b"stopped")
        except Exception as error:
            self.write(request, _FAILED, f"{type(error).__name__}: {error}".encode()[:500])
        else:
            self.write(request, _ANSWER, body)


class ChannelServer:
    """Listens for the callers of one partition."""

    def __init__(self, handle: Handle, encode: Encode = bytes) -> None:
        self.handle = handle
        self.encode = encode
        self.token = os.urandom(32)
        self.connections: set[_Served] = set()
        self.tasks: set[asyncio.Future[Any]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str) -> Endpoint:
        """Listen on a free port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Served(self), host, 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return Endpoint(host, port, self.token)

    def close(self) -> None:
        """Stop listening and end all connections."""
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.close()


class _Dialled(_Frames):
    def __init__(self, token: bytes) -> None:
        super().__init__(_NONCE)
        self._token = token
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._since: dict[int, float] = {}
        self._next = 0
        self.admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost = False

    def opened(self, first: bytes) -> None:
        assert self.transport is not None
        self.transport.write(_proof(self._token, first))
        if not self.admitted.done():
            self.admitted.set_result(None)

    def frame(self, request: int, kind: int, body: bytes) -> None:
        self._since.pop(request, None)
        future = self._waiting.pop(request, None)
        if future is None or future.done():
            return
        if kind == _ANSWER:
            future.set_result(body)
        else:
            future.set_exception(NoAnswer(body.decode(errors="replace")))

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        error = NoAnswer("connection lost")
        if not self.admitted.done():
            self.admitted.set_exception(error)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)
        self._waiting.clear()
        self._since.clear()

    def abort(self) -> None:
        """End the connection, whatever is still to be sent; who waits has no answer."""
        if self.transport is not None:
            self.transport.abort()

    def longest_s(self) -> float:
        """How long the oldest request has waited."""
        first = next(iter(self._since.values()), None)
        return 0.0 if first is None else asyncio.get_running_loop().time() - first

    def request(self, kind: int, body: bytes) -> asyncio.Future[bytes]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bytes] = loop.create_future()
        self._next += 1
        self._waiting[self._next] = future
        self._since[self._next] = loop.time()
        self.write(self._next, kind, body)
        return future


def _give_up(answer: asyncio.Future[bytes]) -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())


class Channel:
    """Requests to one partition, wherever it lives now; connects anew when it has moved."""

    def __init__(self, lookup: Callable[[], Awaitable[Endpoint]]) -> None:
        self._lookup = lookup
        self._connection: _Dialled | None = None
        self._connecting: asyncio.Task[_Dialled] | None = None
        self._watching: asyncio.Task[None] | None = None

    async def request(self, kind: int, body: bytes, timeout_s: float) -> bytes:
        """Send a request, after all that were sent before it, and wait for its answer.

        Raises ``NoAnswer`` when there is none, for whatever reason.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        try:
            connection = self._connection
            if connection is None or connection.lost:
                async with asyncio.timeout_at(deadline):
                    connection = await self._connect()
            answer = connection.request(kind, body)
            # By itself: a context manager for it costs as much as the rest of this.
            timer = loop.call_at(deadline, _give_up, answer)
            try:
                return await answer
            finally:
                timer.cancel()
        except TimeoutError as error:
            self.close()
            raise NoAnswer("timed out") from error

    async def _connect(self) -> _Dialled:
        """One attempt for all who wait; ``Task`` keeps those who came first in front."""
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._dial())
            self._connecting.add_done_callback(self._dialled)
        return await asyncio.shield(self._connecting)

    def _dialled(self, task: asyncio.Task[_Dialled]) -> None:
        self._connecting = None
        if not task.cancelled() and task.exception() is None:
            self._connection = task.result()

    async def _dial(self) -> _Dialled:
        loop = asyncio.get_running_loop()
        try:
            endpoint = await self._lookup()
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                _, connection = await loop.create_connection(
                    lambda: _Dialled(endpoint.token), endpoint.host, endpoint.port
                )
                await connection.admitted
            self._watch(connection, endpoint)
        except OSError as error:
            raise NoAnswer(f"{type(error).__name__}: {error}") from error
        return connection

    def _watch(self, connection: _Dialled, endpoint: Endpoint) -> None:
        if self._watching is not None:
            self._watching.cancel()
        self._watching = asyncio.create_task(self._leave(connection, endpoint))

    async def _leave(self, connection: _Dialled, endpoint: Endpoint) -> None:
        """Give a connection up when its requests wait and somebody else owns the stream by now.

        A process that hangs, or a node that is frozen, does not close it.
        """
        while not connection.lost:
            await asyncio.sleep(_WATCH_S)
            if connection.longest_s() >= _WATCH_S:
                with contextlib.suppress(NoAnswer):
                    if await self._lookup() != endpoint:
                        connection.abort()

    def close(self) -> None:
        """Drop the connection; what was under way has no answer."""
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
