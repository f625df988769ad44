"""A real HTTP server of a customer, in the test's own process, which misbehaves on demand."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass


@dataclass
class Received:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes


def verified(secret: str, received: Received, now: float) -> bool:
    """What a customer's own code does, from the words of the standard and nothing of ours."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    message, stamp = received.headers["webhook-id"], received.headers["webhook-timestamp"]
    if abs(now - int(stamp)) > 300:
        return False
    text = message.encode() + b"." + stamp.encode() + b"." + received.body
    right = base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
    for signature in received.headers["webhook-signature"].split(" "):
        version, _, value = signature.partition(",")
        if version == "v1" and hmac.compare_digest(value, right):
            return True
    return False


class Receiver:
    """Keeps what comes. ``answers`` (status line and headers) are given first, in turn."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.answers: list[str] = []
        self.slow = False
        self.url = ""
        self.arrived = asyncio.Event()
        self._writers: list[asyncio.StreamWriter] = []

    @asynccontextmanager
    async def open(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
        """Listen; gives the port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        try:
            port: int = server.sockets[0].getsockname()[1]
            self.url = f"http://127.0.0.1:{port}/hooks"
            yield port
        finally:
            server.close()
            for writer in self._writers:
                writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            pairs = (line.split(": ", 1) for line in head[1:] if line)
            headers = {name.lower(): value for name, value in pairs}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.requests.append(Received(head[0].split(" ")[1], headers, body))
            self.arrived.set()
            if self.slow:
                return  # and never a word
            answer = self.answers.pop(0) if self.answers else "204 No Content"
            writer.write(f"HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
            writer.close()
