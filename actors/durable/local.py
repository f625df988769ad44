"""Partitions inside one process, without Ray and without a network between them.

For benchmarks and tests of what partitions do to a real database.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from actors.durable.channel import NoAnswer
from actors.durable.intake import Interrupted
from actors.durable.options import Options, Projection
from actors.durable.partition import Partition
from actors.durable.records import Codec
from actors.durable.routing import SlotMap, SlotMaps
from domain.durable import Machine
from persistence.database import Pool
from persistence.journal import Journal
from persistence.tasks import end_tasks

_TICK_S = 0.5


def wall_clock() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1_000


class LocalPartitions:
    """Partitions of one kind by stream; the streams must be there.

    Those of several kinds, once ``joined``, send each other messages.
    """

    def __init__(
        self,
        pool: Pool,
        kind: str,
        *,
        machine: Machine[Any],
        codec: Codec[Any, Any],
        projection: Projection,
        clock: Callable[[], int] = wall_clock,
        options: Options | None = None,
    ) -> None:
        self.slots = SlotMap(pool, kind)
        self._router = SlotMaps(pool, kind)
        self._kinds: dict[str, LocalPartitions] = {kind: self}
        self.partitions: dict[str, Partition] = {}
        self._pool = pool
        self._kind = kind
        self._machine = machine
        self._codec = codec
        self._projection = projection
        self._clock = clock
        self._options = options or Options()
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}

    async def start(self, stream: str) -> Partition:
        """A new incarnation of a partition, once it takes commands."""
        if not self.slots.owners:
            await self.slots.load()
        await self._router.load()
        partition = Partition(
            journal=Journal(self._pool, self._kind, stream),
            machine=self._machine,
            codec=self._codec,
            projection=self._projection,
            deliver=self._deliver,
            router=self._router,
            nudge=self._nudge,
            clock=self._clock,
            published=lambda at, events, news: None,
            options=self._options,
        )
        self.partitions[stream] = partition
        run = asyncio.create_task(partition.run())
        self._tasks[stream] = [run, asyncio.create_task(_ticks(partition))]
        await partition.ready()
        return partition

    async def kill(self, stream: str) -> None:
        """End a partition without notice: what is in memory is lost."""
        del self.partitions[stream]
        await end_tasks(self._tasks.pop(stream))

    async def stop(self) -> None:
        """End all in order, with a last checkpoint."""
        for stream, partition in list(self.partitions.items()):
            await partition.stop()
            await self.kill(stream)

    def owner(self, command: Any) -> Partition:
        """The partition that a command is for."""
        return self.partitions[self.slots.owner(self._machine.key(command))]

    def joined(self, *others: LocalPartitions) -> None:
        """Bring these kinds together."""
        together = {partitions._kind: partitions for partitions in (self, *others)}
        for partitions in together.values():
            partitions._kinds = together

    async def _deliver(self, stream: str, payload: bytes) -> bytes:
        there = self._kinds.get(stream.partition("/")[0])
        if there is None:
            raise NoAnswer(f"{stream} is not there")
        return await there._take(stream, payload)

    async def _take(self, stream: str, payload: bytes) -> bytes:
        partition = self.partitions.get(stream)
        if partition is None:
            raise NoAnswer(f"{stream} is not there")
        try:
            outcomes = await partition.receive(self._codec.decode_shipment(payload))
        except Interrupted as error:
            raise NoAnswer(str(error)) from error
        return self._codec.encode(outcomes)

    async def _nudge(self, stream: str) -> bool:
        if stream not in self.partitions:
            return False
        self.partitions[stream].nudge()
        return True


async def _ticks(partition: Partition) -> None:
    while True:
        await asyncio.sleep(_TICK_S)
        partition.tick()
