"""Telling open pages what has just happened: best effort, over Redis, never waited for.

A partition publishes what has gathered in 20 ms as one message, if there is a gateway that
listens, which is one with open pages; each gateway keeps what concerns its own connections.
Whoever misses one sees the truth at the next reading of the page.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import redis.asyncio
import structlog
from redis.exceptions import RedisError

from domain.accounts import events as ev
from domain.accounts.numbers import customer_of
from domain.money import format_amount
from persistence.tasks import end_tasks

log = structlog.get_logger(__name__)

CHANNEL: Final = "kontor:live"
_BACKLOG_MAX: Final = 100_000
_GATHER_S: Final = 0.02

_TOLD: Final = frozenset({ev.TransferReceived, ev.TransferSent, ev.TransferReturned})

LiveTransfer = tuple[int, bytes, bool, int, int, int, str, str]
"""User, transfer id, incoming?, account, counterparty, amount, currency, status."""

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[LiveTransfer]).decode


def live_transfers(events: list[tuple[str, Any]]) -> list[LiveTransfer]:
    """What customers should see at once of a turn's events."""
    result: list[LiveTransfer] = []
    for _, event in events:
        kind = type(event)
        if kind is ev.TransferReceived:
            result.append(
                (
                    customer_of(event.destination),
                    event.transfer,
                    True,
                    event.destination,
                    event.source,
                    event.amount,
                    event.currency,
                    "completed",
                )
            )
        elif kind is ev.TransferSent or kind is ev.TransferReturned:
            result.append(
                (
                    customer_of(event.source),
                    event.transfer,
                    False,
                    event.source,
                    event.destination,
                    event.amount,
                    event.currency,
                    "returned" if kind is ev.TransferReturned else "sent",
                )
            )
    return result


def decode_live(
    message: bytes, wanted: Callable[[int], bool]
) -> list[tuple[int, str, dict[str, str]]]:
    """User, kind and payload of those events of a published message whose user is ``wanted``."""
    return [
        (
            user,
            "transfer",
            {
                "id": transfer.hex(),
                "direction": "in" if incoming else "out",
                "account": str(account),
                "counterparty": str(counterparty),
                "amount": format_amount(amount, currency),
                "currency": currency,
                "status": status,
            },
        )
        for user, transfer, incoming, account, counterparty, amount, currency, status in _decode(
            message
        )
        if wanted(user)
    ]


class LivePublisher:
    """Publishes committed events of one partition; drops what Redis cannot take."""

    def __init__(self, redis_url: str) -> None:
        self._redis = redis.asyncio.Redis.from_url(
            redis_url, socket_timeout=1.0, socket_connect_timeout=1.0
        )
        self._backlog: list[list[tuple[str, Any]]] = []
        self._size = 0
        self._wake = asyncio.Event()
        self._task = asyncio.create_task(self._pump())

    def publish(self, at: int, events: list[tuple[str, Any]], news: Sequence[Any] = ()) -> None:
        """Queue what a turn made happen, if there is anything that a page shows at once."""
        if self._size < _BACKLOG_MAX and any(type(event) in _TOLD for _, event in events):
            self._backlog.append(events)
            self._size += len(events)
            self._wake.set()

    async def close(self) -> None:
        """Publish nothing more."""
        await end_tasks([self._task])
        await self._redis.aclose()

    async def _pump(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(_GATHER_S)
            self._wake.clear()
            gathered, self._backlog, self._size = self._backlog, [], 0
            try:
                if await self._heard():
                    transfers = [item for events in gathered for item in live_transfers(events)]
                    await self._redis.publish(CHANNEL, _encode(transfers))
            except (RedisError, OSError) as error:
                log.info("live message lost", error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(0.5)

    async def _heard(self) -> bool:
        """Whether anybody listens: with no page open, this is all that a turn costs here."""
        return any(count for _, count in await self._redis.pubsub_numsub(CHANNEL))
