"""A lean HTTP/1.1 load generator: it shares the processors with what it measures.

Each connection has one request under way. Requests are ready-made bytes; of an answer only the
status, the length and, where asked for, the body are read.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import msgspec

Source = Callable[[], bytes | None]
"""The next request, or ``None`` when the connection is done."""


class Result(msgspec.Struct):
    """What a scenario measured; latencies in milliseconds, ``statuses`` by HTTP status.

    ``warm_requests`` counts those of the warm-up too, which is in nothing else.
    """

    requests: int
    seconds: float
    per_second: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    statuses: dict[str, int]
    warm_requests: int = 0


def summary(latencies: Iterable[float], seconds: float, statuses: dict[str, int]) -> Result:
    """Rates and quantiles of latencies given in seconds."""
    ordered = sorted(latencies) or [0.0]

    def quantile(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e3, 2)

    count = sum(statuses.values())
    return Result(
        count,
        round(seconds, 2),
        round(count / seconds, 1),
        quantile(0.5),
        quantile(0.99),
        round(ordered[-1] * 1e3, 2),
        statuses,
    )


class _Connection(asyncio.Protocol):
    def __init__(self, source: Source, keep: Callable[[int, bytes], None] | None) -> None:
        self._source = source
        self._keep = keep
        self._buffer = b""
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None
        self.latencies: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.statuses["lost"] += 1
            self.done.set_result(None)

    def _send(self) -> None:
        assert self._transport is not None
        request = self._source()
        if request is None:
            if not self.done.done():
                self.done.set_result(None)
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer = data if not self._buffer else self._buffer + data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        at = head.find(b"content-length:")
        size = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._buffer) < end + 4 + size:
            return
        self.latencies.append(time.perf_counter() - self._sent_at)
        status = head[9:12].decode()
        self.statuses[status] += 1
        if self._keep is not None:
            self._keep(int(status), self._buffer[end + 4 : end + 4 + size])
        self._buffer = b""
        self._send()


async def drive(
    host: str,
    port: int,
    sources: Sequence[Source],
    *,
    keep: Callable[[int, bytes], None] | None = None,
) -> Result:
    """Run one connection for each source until all have ended."""
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    connections = []
    for source in sources:
        _, connection = await loop.create_connection(
            lambda source=source: _Connection(source, keep),  # type: ignore[misc]
            host,
            port,
        )
        connections.append(connection)
    await asyncio.gather(*(connection.done for connection in connections))
    seconds = time.perf_counter() - started
    statuses: Counter[str] = Counter()
    for connection in connections:
        statuses.update(connection.statuses)
    latencies = [value for connection in connections for value in connection.latencies]
    return summary(latencies, seconds, dict(statuses))


def post(
    host: str, path: str, token: str, body: bytes, *, key: str = "", content_type: str = ""
) -> bytes:
    """A ready-made POST request."""
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {host}",
        f"Authorization: Bearer {token}",
        f"Content-Type: {content_type or 'application/json'}",
        f"Content-Length: {len(body)}",
    ]
    if key:
        lines.append(f"Idempotency-Key: {key}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def until(deadline: float, make: Callable[[], bytes]) -> Source:
    """Requests until a moment of ``time.perf_counter``."""
    return lambda: make() if time.perf_counter() < deadline else None


def plain(value: Any) -> Any:
    """A result for JSON."""
    return msgspec.to_builtins(value)
