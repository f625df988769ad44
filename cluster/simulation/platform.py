"""The simulated platform: processes that host partitions, gateways, a database, a network.

Everything in ``actors.durable`` and ``domain`` that a real platform runs is run here, over
connections in memory; what stands in for Ray, Postgres and TCP is in this package.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Protocol

from actors.durable.channel import CALL, DELIVER, NUDGE, Channel, ChannelServer, Endpoint, NoAnswer
from actors.durable.client import DurableClient
from actors.durable.link import RequestLink
from actors.durable.memory import ENTITY_BYTES
from actors.durable.options import Options
from actors.durable.partition import Partition
from actors.durable.records import Shipment
from actors.durable.routing import REQUEST_TIMEOUT_S
from cluster.simulation.database import Database, Map, SimulatedJournal, SimulatedProjection
from cluster.simulation.kinds import ACCOUNTS, POLICY, Kind
from cluster.simulation.network import Network, Place
from cluster.simulation.plan import Setup
from cluster.simulation.store import Faults, Outage
from cluster.simulation.witness import Witness

START = 1_800_055_800_000_000
"""Half an hour before midnight UTC, so that a clock that jumps comes into another day."""
_TICK_S = 0.5
_NUDGE_TIMEOUT_S = 2.0


class Watcher(Protocol):
    """Who knows what is damaged."""

    def recovered(self, process: Process) -> None:
        """A process has read its memory back."""


class WatchedPartition(Partition):
    """A partition whose memory is looked at whenever it has been read back."""

    process: Process

    async def _recover(self) -> None:
        await super()._recover()
        platform = self.process.platform
        platform.witness.recovered(self)
        if platform.trouble is not None:
            platform.trouble.recovered(self.process)


class Process(Place):
    """One incarnation of a stream's actor; see ``actors.durable.actor``."""

    def __init__(self, platform: Platform, stream: str, number: int) -> None:
        super().__init__(f"{stream}#{number}", stream)
        self.platform = platform
        self.codec = platform.codec
        self.server = ChannelServer(self.handle)
        self.partition: WatchedPartition | None = None
        self._channels: dict[str, Channel] = {}
        self.journal = SimulatedJournal(platform.database, stream, self)
        self.task = asyncio.create_task(self._main())
        self.ticks = asyncio.create_task(self._ticks())

    async def _main(self) -> None:
        platform = self.platform
        router = Map(self.journal, platform.stores)
        await _insist(router)
        endpoint = await self.server.start(self.name)
        journal: Any = self.journal
        self.partition = WatchedPartition(
            journal=journal,
            machine=platform.kind.machine(),
            codec=self.codec,
            projection=SimulatedProjection(self.journal),
            deliver=self._deliver,
            router=router,
            nudge=self._nudge,
            clock=platform.clock,
            published=self._published,
            options=platform.options,
            endpoint=endpoint,
        )
        self.partition.process = self
        await self.partition.run()
        if self.partition.state == "fenced":
            self.die()
        else:
            # Whoever is connected must look up who has the stream now.
            self.platform.network.hang_up(self)

    async def _ticks(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            await self.gate()
            partition = self.partition
            if partition is not None:
                partition.tick()
                if partition.state == "running":
                    with contextlib.suppress(Outage):
                        await partition.fire()

    def handle(self, kind: int, body: bytes) -> Awaitable[bytes]:
        """A batch of a gateway's commands, or a shipment of another partition."""
        partition = self.partition
        if partition is None or partition.state != "running":
            refused: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            refused.set_exception(NoAnswer("not ready"))
            return refused
        if kind == NUDGE:
            partition.nudge()
            return _nothing()
        if kind == DELIVER:
            return self._received(partition, self.codec.decode_shipment(body))
        return self._answered(partition, self.codec.decode_commands(body))

    async def _received(self, partition: Partition, shipment: Shipment[Any]) -> bytes:
        outcomes = await partition.receive(shipment)
        seqs = [message.seq for message in shipment.messages]
        self.platform.witness.confirmed(shipment.origin, seqs, outcomes)
        return self.codec.encode(outcomes)

    def _answered(self, partition: Partition, commands: list[Any]) -> Awaitable[bytes]:
        # As in the actor: taken at once, in the order of arrival.
        since = self.platform.witness.rows
        return self._told(since, commands, partition.submit(commands))

    async def _told(self, since: int, commands: list[Any], answers: Awaitable[list[Any]]) -> bytes:
        replies = await answers
        if self.owner:
            self.platform.witness.sent_away(self.stream, since, commands, replies)
        return self.codec.encode(replies)

    @property
    def owner(self) -> bool:
        """Whether no younger incarnation has the stream."""
        return self.platform.database.epochs.get(self.stream) == self.journal.epoch

    def _published(self, at: int, events: list[tuple[str, Any]], news: list[Any]) -> None:
        self.platform.witness.published(self.stream, at, events)

    def _channel(self, stream: str) -> Channel:
        channel = self._channels.get(stream)
        if channel is None:
            channel = self.platform.channel(self.name, stream, self.journal._read)
            self._channels[stream] = channel
        return channel

    def _deliver(self, stream: str, payload: bytes) -> Awaitable[bytes]:
        return self._channel(stream).request(DELIVER, payload, REQUEST_TIMEOUT_S)

    async def _nudge(self, stream: str) -> bool:
        try:
            await self._channel(stream).request(NUDGE, b"", _NUDGE_TIMEOUT_S)
        except (NoAnswer, OSError):
            return False
        return True

    def die(self) -> None:
        """End without notice."""
        if not self.dead:
            self.ticks.cancel()
            self.task.cancel()
            self.platform.network.remove(self)
            self.platform.gone(self)


async def _nothing() -> bytes:
    return b""


async def _insist(router: Map) -> None:
    while True:
        try:
            await router.load()
        except Outage:
            await asyncio.sleep(0.2)
        else:
            return


class Gateway(DurableClient, Place):
    """A process of the web server: the platform's own client over the simulated network."""

    def __init__(self, platform: Platform, index: int) -> None:
        Place.__init__(self, f"{platform.kind.gateway}-{index}")
        nowhere: Any = None
        kind = platform.kind
        DurableClient.__init__(self, nowhere, kind.name, kind.machine(), platform.codec)
        self._journal = SimulatedJournal(platform.database, self.name, self)
        self._platform = platform
        self._slots = Map(self._journal, {})  # type: ignore[assignment]

    def _link(self, stream: str) -> RequestLink:
        link = self._links.get(stream)
        if link is None:
            channel = self._platform.channel(self.name, stream, self._journal._read)
            self._channels[stream] = channel

            def deliver(payload: bytes) -> Awaitable[bytes]:
                return channel.request(CALL, payload, REQUEST_TIMEOUT_S)

            link = self._links[stream] = RequestLink(deliver, self._codec)
        return link


class Platform:
    """All that one kind needs, from a setup and a seed; of several kinds, once ``joined``."""

    def __init__(self, setup: Setup, seed: int, kind: Kind = ACCOUNTS) -> None:
        self.setup = setup
        self.kind = kind
        self.codec = kind.codec()
        count = setup.partitions if kind is ACCOUNTS else setup.books
        streams = [f"{kind.name}/{i}" for i in range(count)]
        self.database = Database(streams, Random(f"{seed}/database"), kind=kind, seed=seed)
        self.witness = Witness(self.database, self.codec, POLICY)
        self.database.witness = self.witness
        self.network = Network(Random(f"{seed}/network"))
        self.together: dict[str, Platform] = {}
        self.stores: dict[str, Database] = {}
        self.options = Options(
            checkpoint_interval_s=setup.checkpoint_interval_s,
            turn_items_max=setup.turn_items_max,
            memory_bytes_max=setup.entities_max * ENTITY_BYTES,
            leave_timeout_s=setup.leave_timeout_s,
            leave_again_s=0.5,
            unsettled_max=setup.unsettled_max,
        )
        self.first_key = "1000000001"
        self.clock_shift_s = 0.0
        self.processes: dict[str, list[Process]] = {}
        self.gateways = [Gateway(self, index) for index in range(setup.gateways)]
        self._started = 0
        self.trouble: Watcher | None = None
        self.joined()

    def joined(self, *others: Platform) -> None:
        """Bring these together over the network of this one."""
        network = self.network
        together = {platform.kind.name: platform for platform in (self, *others)}
        for platform in together.values():
            platform.network, platform.together = network, together
            platform.stores = {name: each.database for name, each in together.items()}
            for gateway in platform.gateways:
                network.places[gateway.name] = gateway
        network.current = lambda stream: self.home(stream).serving(stream)
        network.readdress = lambda stream, kind, body: self.home(stream)._readdressed(
            stream, kind, body
        )
        asyncio.get_running_loop().net = network  # type: ignore[attr-defined]

    def home(self, stream: str) -> Platform:
        """Where a stream of any kind runs."""
        return self.together[stream.partition("/")[0]]

    @property
    def places(self) -> list[str]:
        """Everybody on the network: streams and gateways of all kinds."""
        platforms = self.together.values()
        streams = [stream for platform in platforms for stream in platform.streams]
        return streams + [g.name for platform in platforms for g in platform.gateways]

    # -- processes ------------------------------------------------------------------------

    @property
    def streams(self) -> list[str]:
        """All streams, in their order."""
        return self.database.streams

    def start(self, stream: str) -> Process:
        """A new incarnation; whoever ran before goes on until it is fenced."""
        self._started += 1
        self.database.add(stream)
        process = Process(self, stream, self._started)
        self.network.places[process.name] = process
        self.processes.setdefault(stream, []).append(process)
        return process

    def gone(self, process: Process) -> None:
        """A process has ended."""
        self.processes[process.stream].remove(process)

    def serving(self, stream: str) -> Process | None:
        """The process that holds the stream, or else its youngest."""
        processes = self.processes.get(stream)
        if not processes:
            return None
        epoch = self.database.epochs.get(stream)
        return next((p for p in processes if p.journal.epoch == epoch), processes[-1])

    def crash(self, stream: str) -> None:
        """End all processes of a stream without notice."""
        for process in list(self.processes[stream]):
            process.die()

    def _readdressed(self, stream: str, kind: int, body: bytes) -> str:
        """Messages that come once more come to where their entity is now: a sender that has been
        replaced, and does not know it, reads the slot map like any other."""
        if kind == DELIVER:
            shipment = self.codec.decode_shipment(body)
            if shipment.messages:
                return self.owner(shipment.messages[0].destination)
        return stream

    # -- what processes are given ---------------------------------------------------------

    def clock(self) -> int:
        """The wall clock, which somebody may move."""
        now = asyncio.get_running_loop().time() + self.clock_shift_s
        return START + int(now * 1_000_000)

    def owner(self, key: str) -> str:
        """Who owns an entity, by the tables."""
        return self.database.owner(key)

    def channel(self, caller: str, stream: str, read: Callable[[], Awaitable[None]]) -> Channel:
        """A channel from a place to whoever has the stream."""

        async def lookup() -> Endpoint:
            try:
                await read()
            except Outage as error:
                raise NoAnswer(str(error)) from error
            found = self.home(stream).database.endpoints.get(stream)
            if found is None:
                raise NoAnswer(f"{stream} has no owner")
            host, port, token = found
            return Endpoint(f"{caller}>{host}", port, token)

        return Channel(lookup)

    # -- condition ------------------------------------------------------------------------

    def calm(self) -> None:
        """No faults any more: everything that was held up goes on."""
        self.database.faults = Faults()
        self.database.trouble.clear()
        self.database.away.clear()

    def restless(self) -> list[str]:
        """What is still on its way, open or unsaved."""
        found = []
        if self.database.moving:
            wishes, handovers = len(self.database.targets), len(self.database.handovers)
            found.append(f"{wishes} slots and {handovers} handovers are on their way")
        for stream in self.streams:
            process = self.serving(stream)
            if process is None or process.partition is None:
                found.append(f"{stream} has no process")
                continue
            partition = process.partition
            if partition.state != "running":
                found.append(f"{stream} is {partition.state} {partition.reason}")
            counts = {
                "queued": len(partition._inbox),
                "in transit": len(partition._work.partition.outbox),
                "not written": partition.scribe.seq - partition.scribe.committed_seq,
                "not saved": partition.scribe.committed_seq - partition.scribe.checkpoint_seq,
                "leaving": len(partition._mover.leaving),
                "parked": len(partition._mover.parked),
            }
            open_now = {name: count for name, count in counts.items() if count}
            if open_now:
                found.append(f"{stream} has {open_now}")
        return found
