"""How a gateway reaches durable entities of one kind: links, routing, repeats."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Sequence
from typing import Any, Generic, TypeVar

from actors.durable.channel import CALL, Channel
from actors.durable.link import RequestLink
from actors.durable.records import Codec
from actors.durable.routing import REQUEST_TIMEOUT_S, SlotMap, channel_to
from domain.durable import Machine, Moved, Unavailable
from persistence.database import OUTAGES, Pool, open_pool

C = TypeVar("C")
R = TypeVar("R")
Self = TypeVar("Self", bound="Caller[Any, Any]")

_AGAIN = frozenset({Unavailable, Moved})
_RETRY_FIRST_S = 0.02
_RETRY_MAX_S = 0.15
_MOVED_S = 0.02


class DurableClient:
    """Sends commands to the partitions that own their entities.

    A reply is durable. Where the outcome is unknown the same command is sent again, with its id,
    until the time is over; then the reply is ``Unavailable`` and the id answers it later.
    """

    def __init__(
        self, pool: Pool, kind: str, machine: Machine[Any], codec: Codec[Any, Any]
    ) -> None:
        self._pool = pool
        self._slots = SlotMap(pool, kind)
        self._machine = machine
        self._codec = codec
        self._links: dict[str, RequestLink] = {}
        self._channels: dict[str, Channel] = {}
        self._loading: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Read the slot map."""
        await self._slots.load()

    async def close(self) -> None:
        """End the links."""
        for link in self._links.values():
            await link.close()
        for channel in self._channels.values():
            channel.close()

    async def call(self, command: Any, *, timeout_s: float = 10.0) -> Any:
        """Carry out one command; its durable reply."""
        key = self._machine.key(command)
        (reply,) = await self._link(self._slots.owner(key)).request((command,))
        if type(reply) in _AGAIN:
            (reply,) = await self._repeat([command], [reply], timeout_s)
        return reply

    async def call_many(self, commands: Sequence[Any], *, timeout_s: float = 30.0) -> list[Any]:
        """Carry out commands, those of one entity in their order; replies in the same order."""
        replies = await self._scatter(commands)
        if any(type(reply) in _AGAIN for reply in replies):
            replies = await self._repeat(commands, replies, timeout_s)
        return replies

    async def _repeat(
        self, commands: Sequence[Any], replies: list[Any], timeout_s: float
    ) -> list[Any]:
        deadline = time.monotonic() + timeout_s
        delay, moved_delay = _RETRY_FIRST_S, 0.0
        while True:
            again = [i for i, r in enumerate(replies) if type(r) in _AGAIN]
            if not again or time.monotonic() + delay > deadline:
                return [Unavailable("moved") if type(r) is Moved else r for r in replies]
            if all(type(replies[i]) is Moved for i in again):
                # The map tells at once where to; there it takes a moment until it is taken in.
                await asyncio.sleep(moved_delay)
                moved_delay = _MOVED_S
            else:
                await asyncio.sleep(delay)
                delay = min(_RETRY_MAX_S, delay * 2)
            # Who does not answer may have been given up, with nobody left there to say so.
            await self._reload()
            repeated = await self._scatter([commands[i] for i in again])
            for i, reply in zip(again, repeated, strict=True):
                replies[i] = reply

    async def _reload(self) -> None:
        """Read the slot map again; one reading for all who want it at the same time."""
        if self._loading is None or self._loading.done():
            self._loading = asyncio.create_task(self._slots.load())
        with contextlib.suppress(*OUTAGES):
            await asyncio.shield(self._loading)

    async def _scatter(self, commands: Sequence[Any]) -> list[Any]:
        """Each partition gets its commands; their replies come back in the given order."""
        key, owner = self._machine.key, self._slots.owner
        places: dict[str, list[int]] = {}
        for index, command in enumerate(commands):
            places.setdefault(owner(key(command)), []).append(index)
        if len(places) == 1:
            return await self._link(next(iter(places))).request(commands)
        answers = await asyncio.gather(
            *(
                self._link(stream).request([commands[i] for i in indices])
                for stream, indices in places.items()
            )
        )
        replies: list[Any] = [None] * len(commands)
        for indices, answer in zip(places.values(), answers, strict=True):
            for index, reply in zip(indices, answer, strict=True):
                replies[index] = reply
        return replies

    def _link(self, stream: str) -> RequestLink:
        link = self._links.get(stream)
        if link is None:
            channel = self._channels[stream] = channel_to(self._pool, stream)

            def deliver(payload: bytes) -> Awaitable[bytes]:
                return channel.request(CALL, payload, REQUEST_TIMEOUT_S)

            link = self._links[stream] = RequestLink(deliver, self._codec)
        return link


class Caller(Generic[C, R]):
    """A client of one kind of entities with connections of its own; a reply is durable."""

    def __init__(self, pool: Pool, client: DurableClient) -> None:
        self._pool = pool
        self._client = client

    @classmethod
    async def connected(
        cls: type[Self],
        database_url: str,
        name: str,
        kind: str,
        machine: Machine[Any],
        codec: Codec[Any, Any],
    ) -> Self:
        """A client inside any process that can reach the partitions; ``name`` shows in Postgres."""
        pool = await open_pool(database_url, name=name, size_max=2)
        client = DurableClient(pool, kind, machine, codec)
        await client.open()
        return cls(pool, client)

    async def call(self, command: C, *, timeout_s: float = 10.0) -> R:
        """Carry out one command. ``Unavailable`` when the outcome stays unknown that long."""
        reply: R = await self._client.call(command, timeout_s=timeout_s)
        return reply

    async def call_many(self, commands: Sequence[C], *, timeout_s: float = 30.0) -> list[R]:
        """Carry out many; replies in the same order, those of one entity done in order."""
        return await self._client.call_many(commands, timeout_s=timeout_s)

    async def close(self) -> None:
        """Give links and connections back."""
        await self._client.close()
        await self._pool.close()
