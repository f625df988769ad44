"""Orders over the websocket API: in batches, pipelined, at a steady pace, and over REST.

Frames are made before the clock starts. A connection logs on once; an answer counts when the
orders in it are durable, which is when the platform sends it.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import msgspec

from benchmarks.frames import Session, frame
from benchmarks.load import Result, drive, summary, until
from benchmarks.traders import LOT, Market, order, rows
from serve_apps.exchange.keys import MadeKey

_PATH: Final = "/ws-api/v3?returnRateLimits=false"
_WINDOW_MS: Final = 60_000
_LOT_TEXT: Final = LOT // 10**8
_READY: Final = 64
_decode: Final = msgspec.msgpack.Decoder().decode
_encode: Final = msgspec.msgpack.Encoder().encode


class Place(msgspec.Struct, frozen=True):
    """Where the API is, and the keys of the traders."""

    url: str
    keys: Sequence[MadeKey]

    @property
    def host(self) -> tuple[str, int]:
        """Name and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "127.0.0.1", parts.port or 80


def _signed(key: MadeKey, text: str) -> str:
    return hmac.digest(key.secret.encode(), text.encode(), "sha256").hex()


async def _log_on(place: Place, key: MadeKey, received: Callable[[bytes], None]) -> Session:
    """A connection that speaks for a trader from here on."""
    known: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def first(message: bytes) -> None:
        if not known.done():
            known.set_result(message)

    session = await Session.connect(*place.host, _PATH, first)
    now = int(time.time() * 1_000)
    signature = _signed(key, f"apiKey={key.key}&timestamp={now}")
    params = {"apiKey": key.key, "timestamp": now, "signature": signature}
    request = {"id": 0, "method": "session.logon", "params": params}
    session.send(frame(msgspec.json.encode(request)))
    answer = msgspec.json.decode(await asyncio.wait_for(known, 10))
    if answer.get("status") != 200:
        raise RuntimeError(f"no log-on: {answer}")
    session.received = received
    return session


class _Pipeline:
    """One connection with so many requests under way; each answer lets the next one go."""

    def __init__(self, make: Callable[[int], bytes], depth: int) -> None:
        self._make = make
        self._depth = depth
        self._sent: dict[int, float] = {}
        self._next = 1
        self._until = 0.0
        self._over: asyncio.Future[None]
        self.session: Session
        self.latencies: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.read: Callable[[bytes], tuple[int, Counter[str]]]

    async def run(self, seconds: float) -> None:
        """Send until the time is over, and wait for what is under way."""
        self.latencies.clear()
        self.statuses.clear()
        self._over = asyncio.get_running_loop().create_future()
        self._until = time.perf_counter() + seconds
        self.session.send([self._one() for _ in range(self._depth)])
        await asyncio.wait_for(self._over, seconds + 60)

    def _one(self) -> bytes:
        number = self._next
        self._next += 1
        self._sent[number] = time.perf_counter()
        return self._make(number)

    def received(self, message: bytes) -> None:
        """An answer: note it, and send the next request."""
        number, statuses = self.read(message)
        now = time.perf_counter()
        self.latencies.append(now - self._sent.pop(number))
        self.statuses.update(statuses)
        if now < self._until:
            self.session.send(self._one())
        elif not self._sent and not self._over.done():
            self._over.set_result(None)


async def batches(
    place: Place, market: Market, *, seconds: float, connections: int, size: int, books: int = 1
) -> Result:
    """Batches in MessagePack, two of each connection under way, on the first ``books``."""
    lines = []
    for number in range(connections):
        body = [
            (market.symbols[number % books], [rows() for _ in range(size)]) for _ in range(_READY)
        ]
        encoded = [(_encode(symbol), _encode(orders)) for symbol, orders in body]

        def make(request: int, encoded: list[tuple[bytes, bytes]] = encoded) -> bytes:
            symbol, orders = encoded[request % _READY]
            return frame(b"\x93" + _encode(request) + symbol + orders, binary=True)

        line = _Pipeline(make, 2)
        line.read = _read_batch
        line.session = await _log_on(place, place.keys[number % len(place.keys)], line.received)
        lines.append(line)
    return await _together(lines, seconds)


def _read_batch(message: bytes) -> tuple[int, Counter[str]]:
    answer = _decode(message)
    if answer[1] != 200:
        return answer[0], Counter({str(answer[2]): 1})
    refused = Counter(row[5] for row in answer[3] if row[5])
    return answer[0], refused + Counter(ok=len(answer[3]) - refused.total())


async def single(
    place: Place, market: Market, *, seconds: float, connections: int, depth: int
) -> Result:
    """One order a frame, ``depth`` of each connection under way, all on one book."""
    lines = []
    for number in range(connections):
        line = _Pipeline(_single(market.symbols[0]), depth)
        line.read = _read_single
        line.session = await _log_on(place, place.keys[number % len(place.keys)], line.received)
        lines.append(line)
    return await _together(lines, seconds)


def _single(symbol: str) -> Callable[[int], bytes]:
    """Makes requests to place an order, out of ready parts."""
    tails = [_parameters(symbol) for _ in range(_READY)]

    def make(number: int) -> bytes:
        return frame(b'{"id":%d,"method":"order.place","params":%s}' % (number, tails[number % 64]))

    return make


def _parameters(symbol: str) -> bytes:
    made = order()
    return msgspec.json.encode(
        {
            "symbol": symbol,
            "side": made.side.name,
            "type": "LIMIT",
            "timeInForce": made.time_in_force.name,
            "price": f"{made.price / 100:.2f}",
            "quantity": str(made.quantity * _LOT_TEXT),
            "newOrderRespType": "ACK",
        }
    )


def _read_single(message: bytes) -> tuple[int, Counter[str]]:
    # {"id":17,"status":200,...
    head = message[: message.index(b",", 18)]
    number, status = head[6:].split(b',"status":')
    return int(number), Counter({"ok" if status == b"200" else _reason(message): 1})


def _reason(message: bytes) -> str:
    return str(msgspec.json.decode(message).get("error", {}).get("msg"))


async def paced(place: Place, market: Market, *, seconds: float, per_second: int) -> Result:
    """Single orders at a steady rate over four connections: how long until each is answered."""
    connections = 4
    lines = []
    for number in range(connections):
        line = _Paced(_single(market.symbols[0]))
        line.session = await _log_on(place, place.keys[number], line.received)
        lines.append(line)
    pause = connections / per_second
    started = time.perf_counter()
    await asyncio.gather(
        *(
            line.run(started + pause * number / connections, pause, seconds)
            for number, line in enumerate(lines)
        )
    )
    for line in lines:
        line.session.close()
    latencies = [value for line in lines for value in line.latencies]
    statuses: Counter[str] = Counter()
    for line in lines:
        statuses.update(line.statuses)
    result = summary(latencies, seconds, dict(statuses))
    return msgspec.structs.replace(result, warm_requests=result.requests)


class _Paced:
    """A connection that sends at its time, whether or not what came before is answered."""

    def __init__(self, make: Callable[[int], bytes]) -> None:
        self._make = make
        self._due: dict[int, float] = {}
        self.session: Session
        self.latencies: list[float] = []
        self.statuses: Counter[str] = Counter()

    async def run(self, first: float, pause: float, seconds: float) -> None:
        """Send for so long; latencies count from the moment at which a request was due."""
        number, due = 0, first
        while due < first + seconds:
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            number += 1
            self._due[number] = due
            self.session.send(self._make(number))
            due += pause
        for _ in range(100):
            if not self._due:
                break
            await asyncio.sleep(0.1)

    def received(self, message: bytes) -> None:
        """An answer: note how long it took."""
        number, status = _read_single(message)
        self.latencies.append(time.perf_counter() - self._due.pop(number))
        self.statuses.update(status)


async def _together(lines: Sequence[_Pipeline], seconds: float) -> Result:
    warm = 0
    started = 0.0
    for length in (min(2.0, seconds), seconds):
        started = time.perf_counter()
        running: list[Awaitable[None]] = [line.run(length) for line in lines]
        await asyncio.gather(*running)
        warm += sum(line.statuses.total() for line in lines)
    took = time.perf_counter() - started
    for line in lines:
        line.session.close()
    statuses: Counter[str] = Counter()
    for line in lines:
        statuses.update(line.statuses)
    latencies = [value for line in lines for value in line.latencies]
    return msgspec.structs.replace(summary(latencies, took, dict(statuses)), warm_requests=warm)


async def rest(place: Place, market: Market, *, seconds: float, connections: int) -> Result:
    """Single orders over REST, each signed, one of each connection under way."""
    host, port = place.host
    deadline = time.perf_counter() + seconds

    def source(number: int) -> Callable[[], bytes | None]:
        key = place.keys[number % len(place.keys)]
        return until(deadline, lambda: _request(host, key, market.symbols[0]))

    result = await drive(host, port, [source(number) for number in range(connections)])
    return msgspec.structs.replace(result, warm_requests=result.requests)


def _request(host: str, key: MadeKey, symbol: str) -> bytes:
    fields: dict[str, Any] = msgspec.json.decode(_parameters(symbol))
    fields["recvWindow"] = _WINDOW_MS
    fields["timestamp"] = int(time.time() * 1_000)
    body = urlencode(fields)
    body += f"&signature={_signed(key, body)}"
    return (
        f"POST /api/v3/order HTTP/1.1\r\nHost: {host}\r\nX-MBX-APIKEY: {key.key}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
