"""Sending to many websockets what is the same for all of them, without waiting for any.

A websocket frame from a server is not masked, so the same bytes can go to everybody. Where the
server's own protocol object can be reached (Serve's and our tests' uvicorn), frames go straight
to its transport, and what the transport has not sent yet is the buffer whose bound drops a slow
consumer. Anywhere else each connection has a bounded queue and a task that sends as ASGI has it.
Frames are complete and uncompressed, which any client takes, compression agreed upon or not.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from starlette.types import Scope, Send

from persistence.tasks import end_tasks

BUFFER_MAX: Final = 1024 * 1024
"""Bytes that a consumer may be behind."""
PONG_WITHIN_S: Final = 40.0
"""After the ping that is sent each 20 s: who is silent for a minute is dropped."""

EXTENSION: Final = "kontor.protocol"
"""Where ``cluster.ingress`` puts the server's protocol object into a scope."""


class Wire(Protocol):
    """One websocket, as those see it who have something to tell."""

    def send(self, frames: bytes, payloads: Sequence[bytes], *, binary: bool = False) -> None:
        """Send ``payloads``, each as a message; ``frames`` is them as bytes on the wire.

        Never waits. Who is too far behind is cut off.
        """

    def flush(self) -> None:
        """Let what was sent go before anything that does not go through here, as a close."""

    @property
    def gone(self) -> bool:
        """Whether nothing can be sent any more."""

    async def close(self) -> None:
        """End what runs in the background."""


def frame(payload: bytes, *, binary: bool = False) -> bytes:
    """A text or binary message as a server sends it: RFC 6455, section 5.2."""
    size = len(payload)
    head = b"\x82" if binary else b"\x81"
    if size < 126:
        return head + bytes((size,)) + payload
    if size < 65_536:
        return head + b"\x7e" + struct.pack("!H", size) + payload
    return head + b"\x7f" + struct.pack("!Q", size) + payload


def frames(payloads: Iterable[bytes]) -> bytes:
    """Several text messages, one after the other."""
    return b"".join([frame(payload) for payload in payloads])


def wire_of(
    scope: Scope, send: Send, cut: Callable[[], object], *, behind_max: int = BUFFER_MAX
) -> Wire:
    """The wire of a websocket that has been accepted; ``cut`` ends its handler.

    ``behind_max`` is how many bytes the client may be behind.
    """
    protocol: Any = scope.get("extensions", {}).get(EXTENSION) or getattr(send, "__self__", None)
    transport: Any = getattr(protocol, "transport", None)
    ours = getattr(protocol, "loop", None) is asyncio.get_running_loop()
    if ours and hasattr(protocol, "conn") and hasattr(transport, "get_write_buffer_size"):
        protocol.ping_timeout = PONG_WITHIN_S
        return SharedWire(transport, behind_max)
    return QueuedWire(send, cut, behind_max)


class SharedWire:
    """Straight to the transport: what is told in one turn of the event loop is one write."""

    __slots__ = ("_behind_max", "_loop", "_pending", "_transport")

    def __init__(self, transport: asyncio.WriteTransport, behind_max: int = BUFFER_MAX) -> None:
        self._transport = transport
        self._behind_max = behind_max
        self._pending: list[bytes] = []
        self._loop = asyncio.get_running_loop()

    def send(self, frames: bytes, payloads: Sequence[bytes], *, binary: bool = False) -> None:
        """Keep the frames for the end of this turn."""
        if not self._pending:
            self._loop.call_soon(self.flush)
        self._pending.append(frames)

    def flush(self) -> None:
        """Hand the frames to the transport; cut the connection when it holds too much."""
        pending, transport = self._pending, self._transport
        if not pending:
            return
        self._pending = []
        if transport.is_closing():
            return
        transport.write(pending[0] if len(pending) == 1 else b"".join(pending))
        if transport.get_write_buffer_size() > self._behind_max:
            transport.abort()

    @property
    def gone(self) -> bool:
        """Whether the transport is closed."""
        return self._transport.is_closing()

    async def close(self) -> None:
        """Nothing runs in the background."""
        self.flush()


class QueuedWire:
    """Through ASGI, by a task of its own."""

    def __init__(self, send: Send, cut: Callable[[], object], behind_max: int = BUFFER_MAX) -> None:
        self._behind_max = behind_max
        self._send = send
        self._cut = cut
        self._queue: deque[tuple[bytes, bool]] = deque()
        self._size = 0
        self._wake = asyncio.Event()
        self._gone = False
        self._task: asyncio.Task[Any] = asyncio.create_task(self._pump())

    def send(self, frames: bytes, payloads: Sequence[bytes], *, binary: bool = False) -> None:
        """Queue the messages; cut the connection when too much waits."""
        if self._gone:
            return
        self._queue.extend((payload, binary) for payload in payloads)
        self._size += len(frames)
        if self._size > self._behind_max:
            self._gone = True
            self._queue.clear()
            self._cut()
        self._wake.set()

    def flush(self) -> None:
        """The queue goes as fast as it can."""

    @property
    def gone(self) -> bool:
        """Whether the connection was cut, or has ended."""
        return self._gone

    async def close(self) -> None:
        """Let the task end."""
        await end_tasks([self._task])

    async def _pump(self) -> None:
        try:
            while not self._gone:
                await self._wake.wait()
                self._wake.clear()
                while self._queue:
                    payload, binary = self._queue.popleft()
                    if binary:
                        await self._send({"type": "websocket.send", "bytes": payload})
                    else:
                        await self._send({"type": "websocket.send", "text": payload.decode()})
                    self._size -= len(payload)
                self._size = 0
        except (OSError, RuntimeError):
            self._gone = True
