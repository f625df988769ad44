"""The Ray actor that hosts a partition, and how the platform starts and reaches it."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Awaitable
from typing import Any, Final

import msgspec
import ray
import structlog

from actors.durable import reserve
from actors.durable.channel import (
    CALL,
    DELIVER,
    DESCRIBE,
    NUDGE,
    Channel,
    ChannelServer,
    NoAnswer,
)
from actors.durable.metrics import PartitionMetrics
from actors.durable.options import Options, Projection, Publisher
from actors.durable.partition import Partition
from actors.durable.records import Codec
from actors.durable.routing import REQUEST_TIMEOUT_S, SlotMaps, channel_to
from domain.durable import Machine
from persistence.database import OUTAGES, DatabaseUnavailable, Pool, Standing, open_pool
from persistence.journal import Journal

log = structlog.get_logger(__name__)

_TICK_S: Final = 0.5
_NUDGE_TIMEOUT_S: Final = 1.0


def now_us() -> int:
    """Wall clock in microseconds since the epoch."""
    return time.time_ns() // 1_000


class ActorConfig(msgspec.Struct, frozen=True):
    """What any durable actor must know to start by itself, again and again.

    ``made`` is a hash of all that its actors are made with; ``slots`` is how many the stream had,
    and ``pinned`` the keys that had one to themselves, when the actor was made.
    """

    kind: str
    database_url: str
    redis_url: str | None = None
    options: Options = Options()
    stream: str = ""
    slots: int = 0
    made: str = ""
    pinned: tuple[str, ...] = ()


class DurableActor:
    """Hosts one partition. A context's actor says how to build its parts.

    Ray calls ``__init__`` again after each crash; all state comes back from the database.
    """

    def __init__(self, config: ActorConfig) -> None:
        self.config = config
        self._node: str = ray.get_runtime_context().get_node_id()
        self._server = ChannelServer(self._handle, self._encoded)
        self._partition: Partition | None = None
        self._tasks: list[asyncio.Task[Any]] = []
        self._pool: Pool | None = None
        self._standing: tuple[Standing, Standing] | None = None
        self._channels: dict[str, Channel] = {}
        self._started_at = time.time()
        self._starting = asyncio.get_running_loop().create_task(self._start())

    def __repr__(self) -> str:
        name = type(self).__name__
        index = self.config.stream.rpartition("/")[2]
        number = f"p{index}" if index.isdigit() else index
        partition = self._partition
        slots = self.config.slots if partition is None else partition.describe()["slots"]
        return f"{name}({number}, {slots} slots)"

    # -- for a context to fill in ---------------------------------------------------------

    def machine(self) -> Machine[Any]:
        """The rules."""
        raise TypeError(f"{type(self).__name__} has no machine")

    def codec(self) -> Codec[Any, Any]:
        """The types on the wire and in the journal."""
        raise TypeError(f"{type(self).__name__} has no codec")

    def projection(self) -> Projection:
        """The tables written with each turn."""
        raise TypeError(f"{type(self).__name__} has no projection")

    def publisher(self) -> Publisher:
        """Who is told of what is committed; must not wait."""
        return lambda at, events, news: None

    # -- called by Ray --------------------------------------------------------------------

    async def describe(self) -> dict[str, Any]:
        """The actor's condition, for operators; never waits for the database."""
        about = {
            "actor": repr(self),
            "kind": self.config.kind,
            "pid": os.getpid(),
            "node": self._node,
            "made": self.config.made,
            "waited": reserve.waited,
        }
        if self._partition is None:
            return {**about, "stream": self.config.stream, "state": "starting"}
        return {**about, **self._partition.describe()}

    async def stop(self) -> None:
        """Write a last checkpoint and end the loops; the process is ended by Ray."""
        if self._partition is not None:
            await self._partition.stop()
        for task in self._tasks:
            task.cancel()
        self._server.close()
        for standing in self._standing or ():
            await standing.close()
        if self._pool is not None:
            await self._pool.close()

    async def end(self) -> None:
        """End the process; Ray does not start it again."""
        ray.actor.exit_actor()  # type: ignore[no-untyped-call]

    # -- inside ---------------------------------------------------------------------------

    def _handle(self, kind: int, payload: bytes) -> Awaitable[Any]:
        """A batch of a gateway's commands, or a shipment of another partition."""
        partition = self._partition
        if kind == DESCRIBE:
            return self._described()
        if partition is None or partition.state != "running":
            raise_later: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            raise_later.set_exception(NoAnswer("not ready"))
            return raise_later
        if kind == NUDGE:
            partition.nudge()
            return _nothing()
        if kind == DELIVER:
            return partition.take(self._codec.decode_shipment(payload))
        assert kind == CALL
        return partition.submit(self._codec.decode_commands(payload))

    async def _described(self) -> bytes:
        about = await self.describe()
        about["rss"] = _memory_bytes()
        about["started_at"] = self._started_at
        about["loads"] = [] if self._partition is None else self._partition.loads()
        return msgspec.msgpack.encode(about)

    def _encoded(self, answer: Any) -> bytes:
        return answer if type(answer) is bytes else self._codec.encode(answer)

    async def _start(self) -> None:
        config = self.config
        self._pool = pool = await _insist_on_pool(config.database_url, config.stream)
        self._standing = standing = Standing(pool), Standing(pool)
        slots = await _insist_on_slots(pool, config.kind)
        self._codec = self.codec()
        endpoint = await self._server.start(_node_address())
        self._partition = Partition(
            journal=Journal(pool, config.kind, config.stream, *standing),
            machine=self.machine(),
            codec=self._codec,
            projection=self.projection(),
            deliver=self._deliver,
            router=slots,
            nudge=self._nudge,
            clock=now_us,
            published=self.publisher(),
            options=config.options,
            endpoint=endpoint,
        )
        # Entities live long and have no cycles: collecting garbage among them only costs pauses.
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        self._tasks = [
            asyncio.create_task(self._run(self._partition)),
            asyncio.create_task(self._ticks(self._partition, pool)),
        ]

    async def _run(self, partition: Partition) -> None:
        await partition.run()
        # Whoever is still connected must look for the owner anew.
        self._server.close()
        if partition.state == "fenced":
            # A newer incarnation has the stream; this process must not come back. Ray ends an
            # actor for good in one of its methods only.
            ray.get_runtime_context().current_actor.end.remote()

    async def _ticks(self, partition: Partition, pool: Pool) -> None:
        metrics = PartitionMetrics(self.config.kind, self.config.stream)
        while True:
            await asyncio.sleep(_TICK_S)
            partition.tick()
            metrics.update(partition.describe())
            if partition.state == "running":
                try:
                    await partition.fire()
                except OUTAGES as error:
                    log.info("timers are put off", stream=self.config.stream, error=str(error))

    def _channel(self, stream: str) -> Channel:
        channel = self._channels.get(stream)
        if channel is None:
            assert self._pool is not None
            channel = self._channels[stream] = channel_to(self._pool, stream)
        return channel

    def _deliver(self, stream: str, payload: bytes) -> Awaitable[bytes]:
        return self._channel(stream).request(DELIVER, payload, REQUEST_TIMEOUT_S)

    async def _nudge(self, stream: str) -> bool:
        """Tell a stream that something is there for it; whether it is up and has heard."""
        try:
            await self._channel(stream).request(NUDGE, b"", _NUDGE_TIMEOUT_S)
        except (NoAnswer, OSError):
            return False
        return True


def _node_address() -> str:
    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    return address


async def _insist_on_slots(pool: Pool, kind: str) -> SlotMaps:
    slots = SlotMaps(pool, kind)
    while True:
        try:
            await slots.load()
        except OUTAGES as error:
            log.warning("no slot map yet", error=str(error))
            await asyncio.sleep(0.2)
        else:
            return slots


async def _nothing() -> bytes:
    return b""


def _memory_bytes() -> int:
    """Resident memory of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def _keep(connection: Any) -> None:
    """Actors change nothing of a session, so that there is nothing to reset between uses."""


async def _insist_on_pool(database_url: str, name: str) -> Pool:
    """A small pool; waits for a database that is just being restarted."""
    while True:
        try:
            # Connections stay: one that were replaced after so many queries, or looked after while
            # idle, would cost every turn a little and one in a minute a lot.
            return await open_pool(
                database_url,
                name=name,
                size_max=6,
                reset=_keep,
                max_queries=2**31,
                max_inactive_connection_lifetime=0,
            )
        except DatabaseUnavailable as error:
            log.warning("no database yet", error=str(error))
            await asyncio.sleep(0.2)
