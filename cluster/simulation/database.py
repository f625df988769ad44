"""The simulated database as one process of the platform sees it: slow, failing, damaged.

``store.MemoryJournal`` is what the statements do; here is what can happen to them on the way.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

from actors.durable.routing import slot_of
from cluster.simulation.kinds import ACCOUNTS, Kind
from cluster.simulation.network import Place
from cluster.simulation.store import Faults, MemoryJournal, MemoryProjection, Outage, Store
from persistence.journal import Checkpoint, Corrupt, Fenced, JournalRow, Statement, WishChanged


class Witness(Protocol):
    """Who looks at everything that becomes durable."""

    def committed(self, row: JournalRow, statements: Sequence[Statement]) -> None:
        """A turn has just become durable."""

    def went_back(self, stream: str, seq: int, last: int) -> None:
        """A checkpoint is older than the one before it."""

    def owned(self, stream: str, epoch: int) -> None:
        """A stream has a new incarnation."""


@dataclass
class Database(Store):
    """The tables, with trouble for each stream by itself."""

    kind: Kind = ACCOUNTS
    seed: int = 0
    trouble: dict[str, Faults] = field(default_factory=dict)
    away: dict[str, float] = field(default_factory=dict)
    """Until when a stream's process cannot reach the database."""
    endpoints: dict[str, tuple[str, int, bytes]] = field(default_factory=dict)
    checksums: dict[str, int] = field(default_factory=dict)
    witness: Witness | None = None
    _randoms: dict[str, Random] = field(default_factory=dict)

    def random_of(self, stream: str) -> Random:
        """Chance of one stream, whatever the others do."""
        random = self._randoms.get(stream)
        if random is None:
            random = self._randoms[stream] = Random(f"{self.seed}/{stream}")
        return random

    def faults_of(self, stream: str) -> Faults:
        """What ails the stream's statements now."""
        return self.trouble.get(stream, self.faults)

    def write(self, row: JournalRow, statements: Sequence[Statement]) -> None:
        super().write(row, statements)
        if self.witness is not None:
            self.witness.committed(row, statements)

    def save(
        self, stream: str, checkpoint: Checkpoint, snapshots: Sequence[tuple[str, int, bytes]]
    ) -> None:
        last = self.checkpoints.get(stream)
        if last is not None and last.seq > checkpoint.seq and self.witness is not None:
            self.witness.went_back(stream, checkpoint.seq, last.seq)
        super().save(stream, checkpoint, snapshots)
        self.checksums[stream] = zlib.crc32(checkpoint.state)
        for key, _, state in snapshots:
            self.checksums[key] = zlib.crc32(state)

    def coming(self, key: str) -> bool:
        """Whether an entity is between two owners."""
        slot = self.slot(key)
        return any(slot in slots for _, slots, _ in self.handovers.values())

    def add(self, stream: str) -> None:
        """A stream that owns nothing yet."""
        if stream not in self.streams:
            self.streams.append(stream)


class SimulatedJournal(MemoryJournal):
    """A journal whose statements are slow, fail, lose their answers, and find damage."""

    store: Database

    def __init__(self, store: Database, stream: str, place: Place) -> None:
        super().__init__(store, stream)
        self.kind = store.kind.name
        self.place = place
        self._random = store.random_of(stream).random

    async def trip(self) -> None:
        """The way to the database or back."""
        store, random, place = self.store, self._random, self.place
        if place.frozen:
            await place.gate()
        faults = store.trouble.get(self.stream, store.faults)
        slow = faults.slow and random() < faults.slow
        await asyncio.sleep(0.0001 + random() * (faults.slow_s if slow else 0.001))
        if store.away and store.away.get(self.stream, 0.0) > asyncio.get_running_loop().time():
            raise Outage("the database is away")
        if place.frozen:
            await place.gate()

    async def _read(self) -> None:
        await self.trip()
        faults = self.store.faults_of(self.stream)
        if faults.read_fails and self._random() < faults.read_fails:
            raise Outage("read failed")

    async def _commit(self, stream: str, epoch: int, write: Callable[[], None]) -> None:
        """One transaction: it happens or not, and its answer arrives or not."""
        random = self._random
        try:
            await self.trip()
        except asyncio.CancelledError:
            # It may be too late to call a statement back.
            if random() < 0.5:
                with contextlib.suppress(Fenced, WishChanged):
                    write()
            raise
        faults = self.store.faults_of(self.stream)
        if faults.commit_fails and random() < faults.commit_fails:
            raise Outage("commit failed")
        write()
        if faults.answer_lost and random() < faults.answer_lost:
            raise Outage("connection lost after the commit")
        await self.trip()

    async def take_over(self, endpoint: tuple[str, int, bytes] | None = None) -> int:
        taken = 0

        def write() -> None:
            nonlocal taken
            store = self.store
            taken = store.epochs[self.stream] = store.epochs.get(self.stream, 0) + 1
            if endpoint is not None:
                store.endpoints[self.stream] = endpoint
            if store.witness is not None:
                store.witness.owned(self.stream, taken)

        await self._commit(self.stream, 0, write)
        self.epoch = taken
        return taken

    async def save(
        self, checkpoint: Checkpoint, snapshots: Sequence[tuple[str, int, bytes]]
    ) -> None:
        epoch, store = self.epoch, self.store

        def write() -> None:
            if store.epochs[self.stream] != epoch:
                raise Fenced(self.stream)
            store.save(self.stream, checkpoint, snapshots)

        await self._commit(self.stream, epoch, write)

    async def checkpoint(self) -> Checkpoint:
        found = await super().checkpoint()
        if zlib.crc32(found.state) != self.store.checksums.get(self.stream, 0):
            raise Corrupt(f"The checkpoint of {self.stream} at {found.seq} is damaged.")
        return found

    async def snapshots(self, keys: Iterable[str]) -> dict[str, bytes]:
        found = await super().snapshots(keys)
        for key, state in found.items():
            if zlib.crc32(state) != self.store.checksums[key]:
                raise Corrupt(f"The snapshot of {self.kind} {key} is damaged.")
        return found


class Map:
    """A process's copy of the slot map, as old as its last ``load``."""

    def __init__(self, journal: SimulatedJournal, stores: dict[str, Database]) -> None:
        self._journal = journal
        self._stores = stores
        self._others: dict[str, Map] = {}
        self._owners: dict[int, str] = {}
        self._private: dict[str, int] = {}

    async def load(self) -> None:
        """Read the map, and those of other kinds that were asked for, as they are now."""
        await self._journal._read()
        self._copy(self._journal.store)
        for kind, other in self._others.items():
            await self._journal._read()
            other._copy(self._stores[kind])

    def _copy(self, store: Database) -> None:
        self._owners = dict(store.owners)
        self._private = {k: s for k, (s, _) in store.private.items() if s in self._owners}

    def owner(self, key: str, kind: str = "") -> str | None:
        """The stream that hosts the entity, as far as is known here."""
        if kind:
            other = self._others.get(kind)
            if other is None:
                other = self._others[kind] = Map(self._journal, {})
            return other.owner(key) if other._owners else None
        return self._owners[self._private.get(key) or slot_of(key)]


class SimulatedProjection(MemoryProjection):
    """The accounts' tables over the same troubled way."""

    def __init__(self, journal: SimulatedJournal) -> None:
        super().__init__(journal.store, journal.store.kind.decoder())
        self._journal = journal

    async def known(self, pool: Any, ids: Sequence[bytes]) -> dict[bytes, tuple[bytes, Any]]:
        await self._journal._read()
        remembered = self._journal.store.remembered
        return {i: stored for i in ids if (stored := remembered(i)) is not None}
