"""A database in memory with the journal's interface, whose faults are switches.

It is the obvious version of ``persistence.journal`` and ``persistence.accounts``: dictionaries
that change in one step, under the same fence.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgspec

from actors.durable.routing import slot_of
from domain.accounts import commands as cmd
from domain.accounts import events as ev
from domain.accounts.commands import TransferStatus
from domain.accounts.views import receipt
from persistence.journal import (
    GENESIS,
    SLOTS,
    Arrival,
    Checkpoint,
    Corrupt,
    Fenced,
    JournalRow,
    Look,
    Release,
    Statement,
    WishChanged,
    check_link,
    to_microseconds,
)
from persistence.turns import adoption, splitting, timers

_TIMERS_SET = timers("", [("", 0, 1)])[0].sql
_TIMERS_GONE = timers("", [("", 0, 0)])[0].sql
_ADOPTED = adoption([]).sql
_SPLIT = splitting("", "", []).sql
_REPLY = msgspec.msgpack.Decoder(cmd.Reply)


class Outage(OSError):
    """The database or the network is away."""


class DuplicateId(Exception):
    """A unique index was violated."""


@dataclass
class Faults:
    """How likely it is that something goes wrong, and how long things take, in seconds."""

    commit_fails: float = 0.0
    answer_lost: float = 0.0
    read_fails: float = 0.0
    slow: float = 0.0
    slow_s: float = 0.5


@dataclass
class Store:
    """What all partitions store."""

    streams: list[str]
    random: Random
    faults: Faults = field(default_factory=Faults)
    epochs: dict[str, int] = field(default_factory=dict)
    rows: dict[str, list[JournalRow]] = field(default_factory=dict)
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)
    snapshots: dict[str, bytes] = field(default_factory=dict)
    transfers: dict[bytes, tuple[bytes, cmd.Receipt]] = field(default_factory=dict)
    commands: dict[bytes, tuple[bytes, Any]] = field(default_factory=dict)
    writes: int = 0
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    """One that is not set holds up the commits of its stream."""

    owners: dict[int, str] = field(default_factory=dict)
    targets: dict[int, str] = field(default_factory=dict)
    private: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Slot and first target of each key that is to have a slot to itself."""
    handovers: dict[tuple[str, int], tuple[str, list[int], bytes]] = field(default_factory=dict)
    """By origin and row: who is to adopt, which slots, and what goes along."""
    timers: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.streams)
        self.owners.update({slot: self.streams[slot * count // SLOTS] for slot in range(SLOTS)})

    def slot(self, key: str) -> int:
        """The slot of a key: of its hash, unless it was split off."""
        private = self.private.get(key)
        return private[0] if private and private[0] in self.owners else slot_of(key)

    def owner(self, key: str) -> str:
        """The stream of an entity, as the tables have it."""
        return self.owners[self.slot(key)]

    def wish(self, slot: int, stream: str) -> None:
        """Somebody wants a slot to go to a stream, or to stay."""
        self.targets.pop(slot, None)
        if self.owners[slot] != stream:
            self.targets[slot] = stream

    def pin(self, key: str, stream: str) -> None:
        """Somebody wants a key to have a stream to itself, or to live in another."""
        number = len(self.private) + SLOTS
        slot, _ = self.private.get(key, (number, ""))
        self.private[key] = (slot, stream)
        if slot in self.owners:
            self.wish(slot, stream)

    @property
    def moving(self) -> bool:
        """Whether a wish is not fulfilled yet."""
        split = all(slot in self.owners for slot, _ in self.private.values())
        return bool(self.targets or self.handovers or not split)

    def remembered(self, command_id: bytes) -> tuple[bytes, Any] | None:
        """Fingerprint and stored answer of a command."""
        return self.commands.get(command_id) or self.transfers.get(command_id)

    async def wait(self) -> None:
        """Take the time that a round trip takes."""
        slow = self.random.random() < self.faults.slow
        await asyncio.sleep(self.random.uniform(0.0001, self.faults.slow_s if slow else 0.002))

    def write(self, row: JournalRow, statements: Sequence[Statement]) -> None:
        """One turn, in one step."""
        if self.epochs[row.stream] != row.epoch:
            raise Fenced(row.stream)
        rows = self.rows.setdefault(row.stream, [])
        if row.seq != (rows[-1].seq if rows else 0) + 1:
            raise DuplicateId(f"journal {row.stream} {row.seq}")
        operations = [o for s in statements if s.sql == "twin" for o in s.arguments]
        new: set[bytes] = set()
        for name, command_id, _ in operations:
            if name in {"transfer", "command"}:
                taken = self.transfers if name == "transfer" else self.commands
                if command_id in taken or command_id + name.encode() in new:
                    raise DuplicateId(f"{name} {command_id.hex()}")
                new.add(command_id + name.encode())
        for name, command_id, value in operations:
            if name == "transfer":
                self.transfers[command_id] = value
            elif name == "command":
                self.commands[command_id] = value
            elif command_id in self.transfers:
                fingerprint, stored = self.transfers[command_id]
                if stored.status == TransferStatus.PENDING:
                    status, reason = value
                    changed = msgspec.structs.replace(stored, status=status, reason=reason)
                    self.transfers[command_id] = (fingerprint, changed)
        for statement in statements:
            self._own_tables(row.stream, statement)
        rows.append(row)
        self.writes += 1

    def _own_tables(self, stream: str, statement: Statement) -> None:
        """The runtime's own statements."""
        arguments = statement.arguments
        if statement.sql == _TIMERS_SET:
            self.timers.update(zip(arguments[0], map(to_microseconds, arguments[2]), strict=True))
        elif statement.sql == _TIMERS_GONE:
            for key in arguments[0]:
                self.timers.pop(key, None)
        elif statement.sql == _ADOPTED:
            for taken in zip(*arguments, strict=True):
                self.handovers.pop(taken, None)
        elif statement.sql == _SPLIT:
            for key, slot in zip(arguments[0], arguments[1], strict=True):
                if slot in self.owners:
                    raise DuplicateId(f"slot {slot}")
                self.owners[slot] = stream
                self.wish(slot, self.private[key][1])

    def save(
        self, stream: str, checkpoint: Checkpoint, snapshots: Sequence[tuple[str, int, bytes]]
    ) -> None:
        """A checkpoint, in one step."""
        last = self.checkpoints.get(stream)
        if last is not None and last.seq > checkpoint.seq:
            raise Corrupt("A checkpoint went back.")
        self.checkpoints[stream] = checkpoint
        self.snapshots.update({key: state for key, _, state in snapshots})

    def release(self, row: JournalRow, release: Release) -> None:
        """A turn that lets go of slots, in one step."""
        if self.epochs[row.stream] != row.epoch:
            raise Fenced(row.stream)
        if any(self.targets.get(slot) != release.to for slot in release.slots):
            raise WishChanged(row.stream)
        self.write(row, [])
        self.save(row.stream, Checkpoint(row.seq, row.hash, release.checkpoint), release.snapshots)
        for slot in release.slots:
            assert self.owners[slot] == row.stream
            self.owners[slot] = release.to
            del self.targets[slot]
        self.handovers[row.stream, row.seq] = (release.to, release.slots, release.parcel)


class MemoryJournal:
    """``persistence.journal.Journal`` on a ``Store``."""

    def __init__(self, store: Store, stream: str) -> None:
        self.pool = self.asking = store
        self.store = store
        self.kind = "accounts"
        self.stream = stream
        self.epoch = 0

    async def take_over(self, endpoint: tuple[str, int, bytes] | None = None) -> int:
        await self._read()
        self.epoch = self.store.epochs[self.stream] = self.store.epochs.get(self.stream, 0) + 1
        return self.epoch

    async def check_epoch(self) -> None:
        await self._read()
        if self.store.epochs[self.stream] != self.epoch:
            raise Fenced(self.stream)

    async def slots(self) -> list[int]:
        await self._read()
        coming = {s for to, slots, _ in self.store.handovers.values() for s in slots}
        return [
            slot
            for slot, stream in self.store.owners.items()
            if stream == self.stream and slot not in coming
        ]

    async def look(self) -> Look:
        await self._read()
        store = self.store
        return Look(
            [(slot, to) for slot, to in store.targets.items() if store.owners[slot] == self.stream],
            [(key, slot) for key, (slot, _) in store.private.items() if slot not in store.owners],
            [
                Arrival(origin, seq, slots, parcel)
                for (origin, seq), (to, slots, parcel) in store.handovers.items()
                if to == self.stream
            ],
        )

    async def due(self, now: int, limit: int) -> list[str]:
        await self._read()
        store = self.store
        due = [
            (at, key)
            for key, at in store.timers.items()
            if at <= now and store.owner(key) == self.stream
        ]
        return [key for _, key in sorted(due)[:limit]]

    async def commit(self, row: JournalRow, statements: Sequence[Statement]) -> None:
        await self._commit(row.stream, row.epoch, lambda: self.store.write(row, statements))

    async def release(self, row: JournalRow, release: Release) -> None:
        await self._commit(row.stream, row.epoch, lambda: self.store.release(row, release))

    async def _commit(self, stream: str, epoch: int, write: Callable[[], None]) -> None:
        random = self.store.random
        try:
            if self.stream in self.store.gates:
                await self.store.gates[self.stream].wait()
            await self.store.wait()
        except asyncio.CancelledError:
            # It may be too late to call a statement back.
            if random.random() < 0.5 and self.store.epochs[stream] == epoch:
                with contextlib.suppress(WishChanged):
                    write()
            raise
        faults = self.store.faults
        if random.random() < faults.commit_fails:
            raise Outage("commit failed")
        write()
        if random.random() < faults.answer_lost:
            raise Outage("connection lost after the commit")
        await self.store.wait()

    async def checkpoint(self) -> Checkpoint:
        await self._read()
        return self.store.checkpoints.get(self.stream) or Checkpoint(0, GENESIS, b"")

    async def tail(self, after: Checkpoint, chunk: int = 50) -> AsyncIterator[list[JournalRow]]:
        seq, previous = after.seq, after.hash
        rows = [row for row in self.store.rows.get(self.stream, []) if row.seq > after.seq]
        for start in range(0, len(rows), chunk):
            await self._read()
            for row in rows[start : start + chunk]:
                check_link(row, seq + 1, previous)
                seq, previous = row.seq, row.hash
            yield rows[start : start + chunk]

    async def snapshots(self, keys: Iterable[str]) -> dict[str, bytes]:
        keys = list(keys)
        await self._read()
        return {key: self.store.snapshots[key] for key in keys if key in self.store.snapshots}

    async def save(
        self, checkpoint: Checkpoint, snapshots: Sequence[tuple[str, int, bytes]]
    ) -> None:
        epoch = self.epoch
        await self.store.wait()
        if self.store.random.random() < self.store.faults.commit_fails:
            raise Outage("checkpoint failed")
        if self.store.epochs[self.stream] != epoch:
            raise Fenced(self.stream)
        self.store.save(self.stream, checkpoint, snapshots)

    async def _read(self) -> None:
        await self.store.wait()
        if self.store.random.random() < self.store.faults.read_fails:
            raise Outage("read failed")


class MemoryProjection:
    """``persistence.accounts.AccountsProjection`` on a ``Store``."""

    def __init__(self, store: Store, decode: Callable[[bytes], Any] = _REPLY.decode) -> None:
        self._store = store
        self._decode = decode

    async def known(self, pool: Any, ids: Sequence[bytes]) -> dict[bytes, tuple[bytes, Any]]:
        await self._store.wait()
        found = {i: self._store.remembered(i) for i in ids}
        return {i: stored for i, stored in found.items() if stored is not None}

    def remembers(self, reply: Any) -> bool:
        return isinstance(reply, cmd.Receipt)

    def statements(
        self,
        at_us: int,
        stream: str,
        seq: int,
        events: Sequence[tuple[str, Any]],
        commands: Sequence[tuple[bytes, bytes, bytes]],
    ) -> list[Statement]:
        operations: list[Any] = []
        for _, event in events:
            if isinstance(event, ev.TransferSent):
                pending = receipt(event, TransferStatus.PENDING, at_us)
                operations.append(("transfer", event.transfer, (event.fingerprint, pending)))
            elif isinstance(event, ev.TransferReceived):
                operations.append(("end", event.transfer, (TransferStatus.COMPLETED, "")))
            elif isinstance(event, ev.TransferReturned):
                operations.append(("end", event.transfer, (TransferStatus.RETURNED, event.reason)))
        operations += [("command", i, (f, self._decode(reply))) for i, f, reply in commands]
        return [Statement("twin", tuple(operations))]
