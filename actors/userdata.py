"""What happened to customers' orders and funds, told to the gateways where they have a stream open.

After the commit, best effort, over a Redis channel for each customer: at once or, when that has
just been done, what has gathered in a few milliseconds since. It is published only where somebody
listens, which one question to Redis answers for all customers concerned: a customer who trades
without a stream costs nothing more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable, Sequence
from typing import Any, Final

import msgspec
import redis.asyncio
import structlog
from redis.exceptions import RedisError

from domain.accounts.events import AssetIssued, BrokerageFunded, BrokerageWithdrawn
from domain.accounts.numbers import customer_of
from domain.accounts.reports import SettledNews
from domain.accounts.trading import OrderReport, OrdersNews
from domain.orders import Amend, Cancel
from persistence.tasks import end_tasks

log = structlog.get_logger(__name__)

GATHER_S: Final = 0.02
_TURNS_MAX: Final = 20_000
_ASKED_MAX: Final = 1_000

PLACED: Final = 1
CANCELLED: Final = 2
AMENDED: Final = 3
BY_OTHERS: Final = 0


class Reported(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An order after something happened to it; ``action`` says by which action of its owner."""

    at: int
    action: int
    report: OrderReport


class Moved(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Funds that came to the brokerage, or left it: ``quantity`` is negative then."""

    at: int
    asset: str
    quantity: int


class CustomerNews(msgspec.Struct, array_like=True, gc=False):
    """News of one customer, orders in the order of what happened."""

    orders: list[Reported]
    funds: list[Moved]


_NEWS: Final = frozenset({OrdersNews, SettledNews})
_encode: Final = msgspec.msgpack.Encoder().encode
decode_news: Final = msgspec.msgpack.Decoder(CustomerNews).decode

Turn = tuple[int, list[tuple[str, Any]], Sequence[Any]]


def channel_of(customer: int) -> str:
    """Where a customer's news are published."""
    return f"kontor:customer:{customer}"


def concerned(turns: Iterable[Turn]) -> set[int]:
    """The customers to whom turns mean something."""
    found = {item.customer for _, _, news in turns for item in news if type(item) in _NEWS}
    for _, events, _ in turns:
        for _, event in events:
            kind = type(event)
            if kind is BrokerageFunded or kind is BrokerageWithdrawn:
                found.add(customer_of(event.account))
            elif kind is AssetIssued:
                found.add(event.customer)
    return found


def by_customer(
    turns: Iterable[Turn], wanted: Container[int] | None = None
) -> dict[int, CustomerNews]:
    """What turns mean to each customer, or to each who is ``wanted``: it costs a lot to write."""
    result: dict[int, CustomerNews] = {}
    for at, events, news in turns:
        for item in news:
            if type(item) in _NEWS and (wanted is None or item.customer in wanted):
                mine = result.setdefault(item.customer, CustomerNews([], []))
                reports = item.reports
                actions = [_word(action) for action in item.actions]
                actions += [BY_OTHERS] * (len(reports) - len(actions))
                mine.orders += map(Reported, [at] * len(actions), actions, reports)
        for _, event in events:
            kind = type(event)
            if kind is BrokerageFunded or kind is BrokerageWithdrawn:
                sign = 1 if kind is BrokerageFunded else -1
                mine = result.setdefault(customer_of(event.account), CustomerNews([], []))
                mine.funds.append(Moved(at, event.currency, sign * event.quantity))
            elif kind is AssetIssued:
                mine = result.setdefault(event.customer, CustomerNews([], []))
                mine.funds.append(Moved(at, event.asset, event.quantity))
    return result


def _word(action: object) -> int:
    kind = type(action)
    return CANCELLED if kind is Cancel else AMENDED if kind is Amend else PLACED


class CustomerPublisher:
    """Publishes what committed turns of one partition mean to its customers."""

    def __init__(self, redis_url: str, *, gather_s: float = GATHER_S) -> None:
        self._redis = redis.asyncio.Redis.from_url(
            redis_url, socket_timeout=1.0, socket_connect_timeout=1.0
        )
        self._gather_s = gather_s
        self._turns: list[Turn] = []
        self._wake = asyncio.Event()
        self._task = asyncio.create_task(self._pump())

    def publish(self, at: int, events: list[tuple[str, Any]], news: Sequence[Any] = ()) -> None:
        """Queue what a turn made happen; what does not fit is lost."""
        if len(self._turns) < _TURNS_MAX:
            self._turns.append((at, events, news))
            self._wake.set()

    async def close(self) -> None:
        """Publish nothing more."""
        await end_tasks([self._task])
        await self._redis.aclose()

    async def _pump(self) -> None:
        loop = asyncio.get_running_loop()
        ready_at = 0.0
        while True:
            await self._wake.wait()
            await asyncio.sleep(max(0.0, ready_at - loop.time()))
            self._wake.clear()
            ready_at = loop.time() + self._gather_s
            turns, self._turns = self._turns, []
            try:
                await self._tell(turns)
            except (RedisError, OSError) as error:
                log.info("customer news lost", error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(0.2)

    async def _tell(self, turns: list[Turn]) -> None:
        customers = sorted(concerned(turns))
        heard: set[int] = set()
        for start in range(0, len(customers), _ASKED_MAX):
            asked = customers[start : start + _ASKED_MAX]
            counts = await self._redis.pubsub_numsub(*map(channel_of, asked))
            heard.update(who for who, (_, count) in zip(asked, counts, strict=True) if count)
        if heard:
            pipeline = self._redis.pipeline(transaction=False)
            for who, news in by_customer(turns, heard).items():
                if who in heard:
                    pipeline.publish(channel_of(who), _encode(news))
            await pipeline.execute()
