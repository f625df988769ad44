"""Market data on its way from the books to the gateways: best effort, over Redis, never waited for.

A book's actor publishes after the commit: at once or, when it has just done so, what has gathered
in a few milliseconds since. Whether anybody has a stream open does not matter: each gateway keeps a
copy of every book, from which it answers REST too, and asking Redis who listens would cost as much
as telling it. Batches are numbered by their
source and a heartbeat repeats the last number each second. So whoever misses one knows within a
second, and reads the book again. May use Redis and the domain's news.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
import redis.asyncio
import structlog
from redis.exceptions import RedisError

from domain.trading.news import BookNews, Level
from persistence.tasks import end_tasks

log = structlog.get_logger(__name__)

CHANNEL: Final = "kontor:market"
GATHER_S: Final = 0.01
HEARTBEAT_S: Final = 1.0
_TURNS_MAX: Final = 20_000

TimedTrade = tuple[int, int, int, int, bool, int]
"""Id, price, quantity, taker's side, same taker as the trade before, time in microseconds."""


class BookChanges(msgspec.Struct, array_like=True, gc=False):
    """What has changed in one book: updates ``first`` to ``last`` and what they come to."""

    symbol: str
    at: int
    first: int
    last: int
    levels: list[Level]
    trades: list[TimedTrade]
    status: int
    reason: str
    reference: int


class MarketBatch(msgspec.Struct, array_like=True, gc=False):
    """What one source published. Without ``books`` it is a heartbeat, which has no own number."""

    source: int
    sequence: int
    books: list[BookChanges]


_encode: Final = msgspec.msgpack.Encoder().encode
decode_batch: Final = msgspec.msgpack.Decoder(MarketBatch).decode


class MarketPublisher:
    """Publishes what committed turns changed in the books of one actor."""

    def __init__(self, redis_url: str, *, gather_s: float = GATHER_S) -> None:
        self._redis = redis.asyncio.Redis.from_url(
            redis_url, socket_timeout=1.0, socket_connect_timeout=1.0
        )
        self._gather_s = gather_s
        self._source = secrets.randbits(62)
        self._sequence = 0
        self._turns: list[tuple[int, Sequence[Any]]] = []
        self._wake = asyncio.Event()
        self._task = asyncio.create_task(self._pump())

    def publish(self, at: int, events: object, news: Sequence[Any]) -> None:
        """Queue what a turn changed. What does not fit is lost, and known to be."""
        if not news:
            return
        if len(self._turns) >= _TURNS_MAX:
            self._turns.clear()
            self._sequence += 1
        self._turns.append((at, news))
        self._wake.set()

    async def close(self) -> None:
        """Publish nothing more."""
        await end_tasks([self._task])
        await self._redis.aclose()

    async def _pump(self) -> None:
        loop = asyncio.get_running_loop()
        ready_at = 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._wake.wait()
                    await asyncio.sleep(max(0.0, ready_at - loop.time()))
            self._wake.clear()
            ready_at = loop.time() + self._gather_s
            turns, self._turns = self._turns, []
            books = merged(turns)
            self._sequence += bool(books)
            batch = MarketBatch(self._source, self._sequence, books)
            try:
                await self._redis.publish(CHANNEL, _encode(batch))
            except (RedisError, OSError) as error:
                log.info("market data lost", error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(0.2)


def merged(turns: Iterable[tuple[int, Sequence[Any]]]) -> list[BookChanges]:
    """The news of turns, one entry for each book; of each level only what it is in the end."""
    books: dict[str, BookChanges] = {}
    levels: dict[str, dict[tuple[int, int], int]] = {}
    for at, news in turns:
        for item in news:
            if type(item) is not BookNews:
                continue
            book = books.get(item.symbol)
            if book is None:
                book = BookChanges(
                    item.symbol, at, item.first, item.last, [], [], item.status, item.reason, 0
                )
                books[item.symbol] = book
                levels[item.symbol] = {}
            book.at, book.last = at, item.last
            book.status, book.reason = item.status, item.reason
            book.reference = item.reference
            changed = levels[item.symbol]
            for side, price, quantity in item.levels:
                changed[side, price] = quantity
            for trade in item.trades:
                book.trades.append((*trade, at))
    for symbol, book in books.items():
        book.levels = [(*place, quantity) for place, quantity in levels[symbol].items()]
    return list(books.values())
