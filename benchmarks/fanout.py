"""Market data to many: how long from a book's turn until all subscribers have heard of it.

Subscribers follow trades and the depth of one book, in a process of their own, while orders come
at a steady pace. A trade is timed from the time of its turn, which is before its commit, so what
is measured is commit, publication and fan-out together; the clock is that of one machine and the
stream's times are whole milliseconds, cut off. Depth is told at most each 100 ms, so its newest
change is up to that much older when it is told.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Final

import uvloop

from benchmarks import over_websocket
from benchmarks.frames import Session
from benchmarks.load import plain
from benchmarks.traders import Market

SETTLE_S: Final = 1.0
WARM_S: Final = 1.0
QUIET_MAX: Final = 20
_CONNECTING: Final = 25
_TENTHS: Final = 10


class Tally:
    """What subscribers heard of one kind of event: by the second in which it happened, how often
    it was how many tenths of a millisecond old."""

    def __init__(self) -> None:
        self.gaps = 0
        self.heard = 0
        self._ages: defaultdict[int, Counter[int]] = defaultdict(Counter)

    def take(self, happened_ms: int, now: float) -> None:
        """An event of this time, heard ``now``."""
        self.heard += 1
        age = round(now * 1_000 * _TENTHS) - happened_ms * _TENTHS
        self._ages[happened_ms // 1_000][age] += 1

    def summary(self, begin: int, end: int) -> dict[str, Any]:
        """Rates and quantiles, in milliseconds, of what happened in these seconds."""
        ages: Counter[int] = Counter()
        for second in range(begin, end):
            ages.update(self._ages[second])
        return {
            "events": ages.total(),
            "per_second": round(ages.total() / (end - begin), 1),
            "p50_ms": _quantile(ages, 0.5),
            "p99_ms": _quantile(ages, 0.99),
            "max_ms": _quantile(ages, 1.0),
            "gaps": self.gaps,
        }


def _quantile(ages: Counter[int], share: float) -> float:
    left = share * ages.total()
    for tenths, count in sorted(ages.items()):
        left -= count
        if left <= 0:
            return tenths / _TENTHS
    return 0.0


class _Follower:
    """One subscriber: sees that nothing is missing, and how old it is."""

    def __init__(self, trades: Tally, depth: Tally) -> None:
        self._trades = trades
        self._depth = depth
        self._trade = 0
        self._update = 0

    def received(self, message: bytes) -> None:
        """An event."""
        now = time.time()
        if message.startswith(b'{"e":"trade"'):
            number = _number(message, b'"t":')
            self._trades.gaps += bool(self._trade) and number != self._trade + 1
            self._trade = number
            self._trades.take(_number(message, b'"T":'), now)
        elif message.startswith(b'{"e":"depthUpdate"'):
            first = _number(message, b'"U":')
            self._depth.gaps += bool(self._update) and first != self._update + 1
            self._update = _number(message, b'"u":')
            self._depth.take(_number(message, b'"E":'), now)


def _number(message: bytes, name: bytes) -> int:
    start = message.index(name) + len(name)
    return int(message[start : message.index(b",", start)])


async def _follow(host: tuple[str, int], symbol: str, subscribers: int, parent: Connection) -> None:
    trades, depth = Tally(), Tally()
    name = symbol.lower()
    path = f"/ws/{name}@trade/{name}@depth@100ms"
    sessions: list[Session] = []

    async def connect(count: int) -> None:
        for _ in range(count):
            follower = _Follower(trades, depth)
            sessions.append(await Session.connect(*host, path, follower.received))

    shares = [subscribers // _CONNECTING] * _CONNECTING
    shares[0] += subscribers % _CONNECTING
    await asyncio.gather(*map(connect, shares))
    parent.send(len(sessions))
    begin, end = await asyncio.to_thread(parent.recv)
    heard = -1
    for _ in range(QUIET_MAX):
        # What is still on its way counts too, however late it comes.
        if heard == trades.heard + depth.heard:
            break
        heard = trades.heard + depth.heard
        await asyncio.sleep(SETTLE_S)
    dropped = sum(session.closed.done() for session in sessions)
    for session in sessions:
        session.close()
    parent.send(
        {
            "subscribers": len(sessions),
            "dropped": dropped,
            "trades": trades.summary(begin, end),
            "depth": depth.summary(begin, end),
        }
    )


def _subscribers(host: tuple[str, int], symbol: str, subscribers: int, parent: Connection) -> None:
    uvloop.run(_follow(host, symbol, subscribers, parent))


async def measure(
    place: over_websocket.Place,
    market: Market,
    *,
    seconds: float,
    subscribers: int = 500,
    per_second: int = 100,
    progress: Callable[[str], None] = lambda step: None,
) -> dict[str, Any]:
    """Orders at a steady pace on the first book, and what subscribers heard of them."""
    spawn = get_context("spawn")
    ours, theirs = spawn.Pipe()
    arguments = (place.host, market.symbols[0], subscribers, theirs)
    process = spawn.Process(target=_subscribers, args=arguments, daemon=True)
    process.start()
    try:
        connected = await asyncio.to_thread(ours.recv)
        progress(f"  {connected} subscribers are connected")
        await over_websocket.paced(place, market, seconds=WARM_S, per_second=per_second)
        begin = math.ceil(time.time())
        orders = await over_websocket.paced(
            place, market, seconds=seconds + 1, per_second=per_second
        )
        ours.send((begin, begin + round(seconds)))
        heard: dict[str, Any] = await asyncio.to_thread(ours.recv)
    finally:
        process.terminate()
        await asyncio.to_thread(process.join)
    return {**heard, "orders": plain(orders)}
