"""A lean websocket client: it shares the processors with what it measures.

Frames are made before the clock starts, with a mask of zeros, so that sending one is a write. Of
what comes, text and binary messages are handed on as bytes; pings are answered (RFC 6455).
"""

from __future__ import annotations

import asyncio
import base64
import os
import struct
from collections.abc import Callable, Iterable
from typing import Final, cast

_TEXT: Final = 0x1
_BINARY: Final = 0x2
_CLOSE: Final = 0x8
_PING: Final = 0x9
_PONG: Final = 0xA
_LAST: Final = 0x80
_NO_MASK: Final = bytes(4)


class Closed(Exception):
    """The server has ended the connection, or has not begun to speak."""


def frame(payload: bytes, *, binary: bool = False) -> bytes:
    """A ready-made message."""
    return _frame(_BINARY if binary else _TEXT, payload)


def _frame(kind: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", _LAST | kind, 0x80 | size)
    elif size < 65_536:
        head = struct.pack("!BBH", _LAST | kind, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", _LAST | kind, 0x80 | 127, size)
    return head + _NO_MASK + payload


class Session(asyncio.Protocol):
    """One connection; ``received`` is called with each message."""

    def __init__(self, received: Callable[[bytes], None]) -> None:
        self.received = received
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._buffer = bytearray()
        self._parts: list[bytes] = []
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def connect(
        cls, host: str, port: int, path: str, received: Callable[[bytes], None]
    ) -> Session:
        """Open a connection; raises ``Closed`` where the server does not want one."""
        loop = asyncio.get_running_loop()
        transport, session = await loop.create_connection(lambda: cls(received), host, port)
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        await asyncio.wait_for(session._opened, 10)
        return session

    def send(self, frames: bytes | Iterable[bytes]) -> None:
        """Send one or several ready-made messages."""
        transport = self._transport
        if transport is None or transport.is_closing():
            raise Closed("the connection is closed")
        transport.write(frames if isinstance(frames, bytes) else b"".join(frames))

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._opened.done():
            self._opened.set_exception(Closed("the connection was ended"))
        if not self.closed.done():
            self.closed.set_result(str(exc or ""))

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        if not self._opened.done() and not self._answered():
            return
        start = 0
        while (end := self._message(start)) is not None:
            start = end
        if start:
            del buffer[:start]

    def _answered(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        status = bytes(self._buffer[9:12])
        del self._buffer[: end + 4]
        if status == b"101":
            self._opened.set_result(None)
        else:
            self._opened.set_exception(Closed(f"the server answers {status.decode()}"))
            self.close()
        return status == b"101"

    def _message(self, start: int) -> int | None:
        """Hand on the frame that begins at ``start``; where the next one does."""
        buffer = self._buffer
        if len(buffer) < start + 2:
            return None
        first, size = buffer[start], buffer[start + 1] & 0x7F
        body = start + 2
        if size == 126:
            body += 2
            size = int.from_bytes(buffer[start + 2 : body], "big")
        elif size == 127:
            body += 8
            size = int.from_bytes(buffer[start + 2 : body], "big")
        end = body + size
        if len(buffer) < end:
            return None
        self._take(first & 0x0F, bool(first & _LAST), bytes(buffer[body:end]))
        return end

    def _take(self, kind: int, last: bool, payload: bytes) -> None:
        if kind == _PING:
            self.send(_frame(_PONG, payload))
        elif kind == _CLOSE:
            self.close()
        elif kind != _PONG:
            if last and not self._parts:
                self.received(payload)
                return
            self._parts.append(payload)
            if last:
                whole, self._parts = b"".join(self._parts), []
                self.received(whole)
