"""Partitions over a store in memory, and a network between them that loses, repeats and delays."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from actors.accounts import accounts_codec
from actors.durable.intake import Interrupted
from actors.durable.options import Options
from actors.durable.partition import Partition
from actors.durable.records import Codec
from actors.durable.routing import slot_of
from cluster.simulation.store import MemoryJournal, MemoryProjection, Outage, Store
from domain.accounts import commands as cmd
from domain.accounts.machine import AccountsMachine
from domain.accounts.numbers import account_number
from domain.accounts.policy import FeeRate, Policy
from domain.durable import Moved, Unavailable

START = 1_800_000_000_000_000
POLICY = Policy(fees={"USD": FeeRate(50, 10)}, daily_limits={})
CURRENCIES = ("USD", "CNY", "EUR")


@dataclass
class Weather:
    """How likely it is that a shipment meets trouble on its way."""

    lost: float = 0.0
    answer_lost: float = 0.0
    repeated: float = 0.0
    delayed_s: float = 0.0
    late_s: float = 5.0
    """How much later a repeated shipment may come in."""


class _Map:
    """A copy of the slot map, as old as the last time that somebody had to look."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._owners = dict(store.owners)
        self._private: dict[str, int] = {}

    def owner(self, key: str, kind: str = "") -> str:
        return self._owners[self._private.get(key, slot_of(key))]

    async def load(self) -> None:
        await self._store.wait()
        self._owners = dict(self._store.owners)
        private = self._store.private
        self._private = {k: slot for k, (slot, _) in private.items() if slot in self._owners}


class World:
    """Partitions that can be started, crashed and frozen, and a client that insists."""

    def __init__(self, seed: int = 0, partitions: int = 2, **options: Any) -> None:
        self.random = Random(seed)
        self.store = Store([f"accounts/{i}" for i in range(partitions)], self.random)
        self.weather = Weather()
        self.codec: Codec[Any, Any] = accounts_codec()
        self.machine = AccountsMachine(POLICY)
        self.options = Options(**{"checkpoint_interval_s": 0.5, **options})
        self.partitions: dict[str, Partition] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.late: set[asyncio.Task[None]] = set()
        self.clock_shift_s = 0.0
        self.ticking = True
        self.published: list[tuple[int, list[tuple[str, Any]]]] = []
        self._ids = 0
        self.partition_type: Callable[..., Partition] = Partition

    # -- partitions -----------------------------------------------------------------------

    def start(self, stream: str) -> Partition:
        """A new incarnation; whoever ran before goes on until it is fenced."""
        partition = self.partition_type(
            journal=MemoryJournal(self.store, stream),
            machine=AccountsMachine(POLICY),
            codec=self.codec,
            projection=MemoryProjection(self.store),
            deliver=self._send,
            router=_Map(self.store),
            nudge=self._nudge,
            clock=self.clock,
            published=lambda at, events, news: self.published.append((at, events)),
            options=self.options,
        )
        self.partitions[stream] = partition
        self.tasks[stream] = asyncio.create_task(self._run(partition))
        return partition

    async def _run(self, partition: Partition) -> None:
        ticks = asyncio.create_task(self._ticks(partition))
        try:
            await partition.run()
        finally:
            ticks.cancel()
        stream = partition.journal.stream
        if partition.state == "fenced" and self.partitions.get(stream) is partition:
            # An older one has come later. Ray starts an actor that has ended again.
            self.start(stream)

    def start_all(self) -> None:
        """Start every stream's partition."""
        for stream in self.store.streams:
            self.start(stream)

    async def _ticks(self, partition: Partition) -> None:
        """What the actor does twice a second."""
        while True:
            await asyncio.sleep(0.5)
            if self.ticking:
                partition.tick()

    def crash(self, stream: str) -> None:
        """End a partition without notice, and all memory with it."""
        self.tasks.pop(stream).cancel()
        del self.partitions[stream]

    def clock(self) -> int:
        """The wall clock, which somebody may move."""
        now = asyncio.get_running_loop().time() + self.clock_shift_s
        return START + int(now * 1_000_000)

    def owner(self, key: str) -> str:
        """The stream of an entity."""
        return self.store.owner(key)

    # -- network --------------------------------------------------------------------------

    async def _send(self, stream: str, payload: bytes) -> bytes:
        weather, chance = self.weather, self.random.random
        await asyncio.sleep(0.0005 + chance() * weather.delayed_s)
        if chance() < weather.lost:
            raise Outage("shipment lost")
        if chance() < weather.repeated:
            task = asyncio.create_task(self._deliver_late(stream, payload))
            self.late.add(task)
            task.add_done_callback(self.late.discard)
        answer = await self._deliver(stream, payload)
        if chance() < weather.answer_lost:
            raise Outage("answer lost")
        return answer

    async def _nudge(self, stream: str) -> bool:
        await asyncio.sleep(0.0005)
        partition = self.partitions.get(stream)
        if partition is None or self.random.random() < self.weather.lost:
            return False
        partition.nudge()
        return True

    async def _deliver(self, stream: str, payload: bytes) -> bytes:
        partition = self.partitions.get(stream)
        if partition is None:
            raise Outage("nobody is there")
        shipment = self.codec.decode_shipment(payload)
        try:
            async with asyncio.timeout(10):
                outcomes = await partition.receive(shipment)
        except (Interrupted, TimeoutError) as error:
            raise Outage(str(error)) from error
        return self.codec.encode(outcomes)

    async def _deliver_late(self, stream: str, payload: bytes) -> None:
        await asyncio.sleep(self.random.random() * self.weather.late_s)
        with contextlib.suppress(Outage):
            await self._deliver(stream, payload)

    # -- clients --------------------------------------------------------------------------

    def id(self) -> bytes:
        """A new command id."""
        self._ids += 1
        return self._ids.to_bytes(16, "big")

    async def call(self, command: Any) -> Any:
        """Ask until there is an answer; it must be durable by then, and come at some time."""
        deadline = asyncio.get_running_loop().time() + 600
        while asyncio.get_running_loop().time() < deadline:
            partition = self.partitions.get(self.owner(self.machine.key(command)))
            if partition is not None:
                try:
                    async with asyncio.timeout(5):
                        (reply,) = await partition.request([command])
                except TimeoutError:
                    continue
                if not isinstance(reply, Unavailable | Moved):
                    self.check_durable(command, reply)
                    return reply
            await asyncio.sleep(0.01)
        raise AssertionError(f"no answer to {command}")

    def check_durable(self, command: Any, reply: Any) -> None:
        """What a client is told is in the store, and says the same."""
        identities = self.machine.identities(command)
        if not identities or getattr(reply, "code", "") == "id_reused":
            return
        stored = self.store.remembered(identities[0][0])
        assert stored is not None, f"told before it was durable: {reply}"
        fingerprint, answer = stored
        assert fingerprint == identities[0][1]
        if isinstance(reply, cmd.Receipt):
            assert settled(answer) == settled(reply)
        else:
            assert answer == reply

    async def open(self, *customers: int, bonus: int = 100_000) -> None:
        """Open customers, each with a bonus in US dollars."""
        for customer in customers:
            command = cmd.OpenCustomer(self.id(), b"o", customer, CURRENCIES, "USD", bonus)
            await self.call(command)

    def transfer(
        self, source: int, destination: int, amount: int, currency: str = "USD", **fields: Any
    ) -> cmd.Transfer:
        """A transfer between accounts."""
        given = {"id": self.id(), "fingerprint": b"t", **fields}
        return cmd.Transfer(
            source=source,
            destination=destination,
            amount=amount,
            destination_currency=currency,
            **given,
        )

    def customers(self, count: int, stream: str | None = None) -> list[int]:
        """Customer numbers, of one stream if it matters."""
        found: list[int] = []
        number = 1_000_000_000
        while len(found) < count:
            number += 1
            if stream is None or self.owner(str(number)) == stream:
                found.append(number)
        return found

    def pair(self) -> tuple[int, int]:
        """Two customers of the first and the last partition."""
        (first,) = self.customers(1, self.store.streams[0])
        second = self.customers(2, self.store.streams[-1])[-1]
        return first, second

    async def quiet(self, *, within_s: float = 120.0) -> None:
        """Wait until nothing is on its way any more; it must come to that."""
        async with asyncio.timeout(within_s):
            while self.late or self.store.moving or not all(map(idle, self.partitions.values())):
                for partition in self.partitions.values():
                    partition.tick()
                await asyncio.sleep(0.1)


def idle(partition: Partition) -> bool:
    """Whether a partition has nothing open, in transit or unsaved."""
    about = partition.describe()
    busy = ("queue", "open", "in_transit", "lag", "since_checkpoint")
    return about["state"] == "running" and not any(about[name] for name in busy)


def settled(receipt: cmd.Receipt) -> tuple[Any, ...]:
    """What of a receipt never changes."""
    return (
        receipt.id,
        receipt.source,
        receipt.destination,
        receipt.amount,
        receipt.fee,
        receipt.credited,
        receipt.rate,
        receipt.reference,
    )


def usd(customer: int) -> int:
    """A customer's account in US dollars."""
    return account_number(customer, 0)
