"""A database in memory with the journal's interface, whose faults are switches.

It is the obvious version of ``persistence.journal`` and ``persistence.accounts``: dictionaries
that change in one step, under the same fence.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgspec

from domain.accounts import commands as cmd
from domain.accounts import events as ev
from domain.accounts.commands import TransferStatus
from domain.accounts.views import receipt
from persistence.journal import (
    GENESIS,
    SLOTS,
    Checkpoint,
    Corrupt,
    Fenced,
    JournalRow,
    Statement,
    check_link,
)

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

    def owner_of_slot(self, slot: int) -> str:
        """The stream of a slot; given out in ranges."""
        return self.streams[slot * len(self.streams) // SLOTS]

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
        operations = [operation for s in statements for operation in s.arguments]
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
        rows.append(row)
        self.writes += 1


class MemoryJournal:
    """``persistence.journal.Journal`` on a ``Store``."""

    def __init__(self, store: Store, stream: str) -> None:
        self.pool = store
        self.store = store
        self.stream = stream
        self.epoch = 0

    async def take_over(self, endpoint: tuple[str, int, bytes] | None = None) -> int:
        await self._read()
        self.epoch = self.store.epochs[self.stream] = self.store.epochs.get(self.stream, 0) + 1
        return self.epoch

    async def slots(self) -> list[int]:
        await self._read()
        return [slot for slot in range(SLOTS) if self.store.owner_of_slot(slot) == self.stream]

    async def commit(self, row: JournalRow, statements: Sequence[Statement]) -> None:
        random = self.store.random
        try:
            if self.stream in self.store.gates:
                await self.store.gates[self.stream].wait()
            await self.store.wait()
        except asyncio.CancelledError:
            # It may be too late to call a statement back.
            if random.random() < 0.5 and self.store.epochs[self.stream] == row.epoch:
                self.store.write(row, statements)
            raise
        faults = self.store.faults
        if random.random() < faults.commit_fails:
            raise Outage("commit failed")
        self.store.write(row, statements)
        if random.random() < faults.answer_lost:
            raise Outage("connection lost after the commit")
        await self.store.wait()

    async def checkpoint(self) -> Checkpoint:
        await self._read()
        return self.store.checkpoints.get(self.stream) or Checkpoint(0, GENESIS, b"")

    async def tail(self, after: Checkpoint, chunk: int = 1_000) -> AsyncIterator[JournalRow]:
        seq, previous = after.seq, after.hash
        for row in list(self.store.rows.get(self.stream, [])):
            if row.seq > after.seq:
                await self._read()
                check_link(row, seq + 1, previous)
                seq, previous = row.seq, row.hash
                yield row

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
        last = self.store.checkpoints.get(self.stream)
        if last is not None and last.seq > checkpoint.seq:
            raise Corrupt("A checkpoint went back.")
        self.store.checkpoints[self.stream] = checkpoint
        self.store.snapshots.update({key: state for key, _, state in snapshots})

    async def _read(self) -> None:
        await self.store.wait()
        if self.store.random.random() < self.store.faults.read_fails:
            raise Outage("read failed")


class MemoryProjection:
    """``persistence.accounts.AccountsProjection`` on a ``Store``."""

    def __init__(self, store: Store) -> None:
        self._store = store

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
        operations += [("command", i, (f, _REPLY.decode(reply))) for i, f, reply in commands]
        return [Statement("twin", tuple(operations))]
