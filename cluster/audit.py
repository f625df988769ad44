"""Replaying the journals of a kind, and holding what is stored against what comes out.

What every kind has in common; ``audit_accounts`` and ``audit_trading`` know what a kind's states
mean. Reads only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import msgspec

from actors.durable.items import Entity
from actors.durable.memory import MOVED, Imbalance
from actors.durable.records import Codec, Sent
from actors.durable.replay import Replay
from actors.durable.turn import Workspace
from domain.durable import Diverged, Machine
from persistence.database import Connection
from persistence.journal import (
    GENESIS,
    SLOTS,
    Corrupt,
    JournalRow,
    check_link,
    read_journal,
    streams,
    to_microseconds,
)
from persistence.placement import owners

FINDINGS_MAX: Final = 100
_CHUNK: Final = 500
_COMPARED: Final = 5_000
_NAMED: Final = 5


class Findings:
    """What does not fit, and how much was looked at."""

    def __init__(self) -> None:
        self.list: list[str] = []
        self.counts: Counter[str] = Counter()

    def found(self, finding: str) -> None:
        """Note what is wrong; the list is bounded, the count is not."""
        self.counts["findings"] += 1
        if len(self.list) < FINDINGS_MAX:
            self.list.append(finding)


async def rows_of(connection: Connection, stream: str) -> AsyncIterator[JournalRow]:
    """All rows of a stream."""
    seq = 0
    while rows := await read_journal(connection, stream, seq, _CHUNK):
        for row in rows:
            yield row
        seq = rows[-1].seq


class KindAudit:
    """Replays all streams of a kind and collects what does not fit."""

    kind: str
    noun: str
    """What one entity is called, in findings and, with an s, among the counts."""

    def __init__(
        self,
        connection: Connection,
        findings: Findings,
        machine: Machine[Any],
        codec: Codec[Any, Any],
    ) -> None:
        self.connection = connection
        self.machine = machine
        self.codec = codec
        self.findings = findings
        self.counts = findings.counts
        self.found = findings.found
        self.replay = Replay(codec, lambda: Workspace(machine, codec, lambda reply: True))

    def track(self, stream: str, record: Any) -> None:
        """Told of each turn after it has happened; for a kind that follows its messages."""

    async def run(self) -> None:
        """Make all streams happen again from nothing, and hold them against what is stored."""
        names = [name for kind, name, _ in await streams(self.connection) if kind == self.kind]
        checkpoints = {
            row["stream"]: row["seq"]
            for row in await self.connection.fetch("SELECT stream, seq FROM checkpoints")
        }
        due: dict[str, dict[str, bytes]] = {}
        encode = self.codec.encode

        def seen(stream: str, row: JournalRow, record: Any, came: dict[str, bytes]) -> None:
            self.counts["turns"] += 1
            self.counts["events"] += len(record.events)
            self.track(stream, record)
            states = due.setdefault(stream, {})
            if row.seq == checkpoints.get(stream, 0):
                entities = self.replay.works[stream].entities
                states.update({key: encode(entity.state) for key, entity in entities.items()})
            elif row.seq > checkpoints.get(stream, 0):
                # What came after the checkpoint is stored as its former owner stored it.
                states.update(came)

        rows = {stream: self._chained(stream) for stream in names}
        try:
            await self.replay.run(rows, seen)
        except (
            Corrupt,
            Imbalance,
            Diverged,
            msgspec.DecodeError,
            LookupError,
            ValueError,
        ) as error:
            self.found(f"{type(error).__name__}: {error}")
        for parcel in self.replay.parcels.values():
            due.setdefault("", {}).update({key: encode(e.state) for key, e in parcel.items()})
        for states in due.values():
            await self._compare_snapshots(states)
        works = self.replay.works.values()
        self.counts[f"{self.noun}s"] += sum(len(work.entities) for work in works)
        await self._compare_timers()
        self._compare_moves()
        if names:
            await self._compare_slots()

    async def _chained(self, stream: str) -> AsyncIterator[JournalRow]:
        seq, previous = 0, GENESIS
        async for row in rows_of(self.connection, stream):
            check_link(row, seq + 1, previous)
            seq, previous = row.seq, row.hash
            yield row

    async def _compare_snapshots(self, states: dict[str, bytes]) -> None:
        """At a checkpoint the stored states are what replay gives."""
        keys = list(states)
        for start in range(0, len(keys), _COMPARED):
            part = keys[start : start + _COMPARED]
            rows = await self.connection.fetch(
                "SELECT key, state FROM snapshots WHERE kind = $1 AND key = ANY($2::text[])",
                self.kind,
                part,
            )
            stored = {row["key"]: row["state"] for row in rows}
            for key in part:
                if not self._same(stored.get(key), states[key]):
                    self.found(f"The snapshot of {self.noun} {key} is not what replay gives.")

    def _same(self, stored: bytes | None, state: bytes) -> bool:
        """Whether a stored state is ``state``, also where an older release has written it."""
        if stored is None or stored == state:
            return stored is not None
        try:
            return bool(self.codec.encode(self.codec.decode_entity(stored)) == state)
        except (msgspec.DecodeError, ValueError, LookupError):
            return False

    def entities(self) -> Iterator[tuple[str, Entity]]:
        """All entities, those between two partitions included."""
        for work in self.replay.works.values():
            yield from work.entities.items()
        for parcel in self.replay.parcels.values():
            yield from parcel.items()

    async def _compare_timers(self) -> None:
        """Whoever waits for a time has a timer, and nobody else."""
        rows = await self.connection.fetch("SELECT key, due FROM timers WHERE kind = $1", self.kind)
        stored = {row["key"]: to_microseconds(row["due"]) for row in rows}
        for key, entity in self.entities():
            if stored.pop(key, 0) != self.machine.due(entity.state):
                self.found(f"The timer of {self.noun} {key} is not the time it waits for.")
        for key in stored:
            self.found(f"There is a timer for {key}, which is in no journal.")

    def _compare_moves(self) -> None:
        """What slots that have left took along is what came elsewhere, or is between."""
        moved: Counter[str] = Counter()
        for work in self.replay.works.values():
            moved.update(work.partition.house.get(MOVED, {}))
        for parcel in self.replay.parcels.values():
            for entity in parcel.values():
                moved.subtract(self.machine.balances(entity.state))
        if any(moved.values()):
            self.found("What slots took along and what they brought is not the same.")

    async def _compare_slots(self) -> None:
        """Each slot has a row, of the stream that has it by the journals."""
        known = await owners(self.connection, self.kind)
        told = self.replay.owners()
        lost = sorted({*range(SLOTS), *told} - known.keys())
        if lost:
            first = ", ".join(str(slot) for slot in lost[:_NAMED])
            self.found(f"{len(lost)} slots of {self.kind} have no owner: {first}.")
        for slot, stream in told.items():
            if known.get(slot, stream) != stream:
                self.found(f"Slot {slot} is {stream}'s by the journals, and not {known[slot]}'s.")

    def house(self) -> dict[str, Counter[str]]:
        """Ledger accounts outside the entities, by name and asset, of all partitions together."""
        house: dict[str, Counter[str]] = {}
        for work in self.replay.works.values():
            for account, balances in work.partition.house.items():
                house.setdefault(account, Counter()).update(balances)
        return house

    def sums(self) -> Counter[str]:
        """All ledger accounts of all partitions, by asset; each partition's must be zero."""
        total: Counter[str] = Counter()
        for stream, work in self.replay.works.items():
            part: Counter[str] = Counter()
            for entity in work.entities.values():
                part.update(self.machine.balances(entity.state))
            for balances in work.partition.house.values():
                part.update(balances)
            total.update(part)
            for asset, amount in part.items():
                if amount:
                    self.found(f"{stream}: {asset} sums to {amount}, not to zero.")
        return total

    def waiting(self) -> Iterator[tuple[str, Sent[Any]]]:
        """Messages whose outcome is not known to their sender, with its stream."""
        for stream, work in self.replay.works.items():
            for sent in work.partition.outbox.values():
                yield stream, sent

    def verdict(self, origin: str, seq: int) -> tuple[bool, Any]:
        """Whether a message was taken here that its sender waits for, and what was answered."""
        for work in self.replay.works.values():
            inbox = work.partition.inbox.get(origin, {})
            if seq in inbox:
                return True, inbox[seq]
        return False, None
