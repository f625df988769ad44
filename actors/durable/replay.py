"""All journals of a kind made to happen again from nothing, together.

One stream's journal does not tell where entities came from that it adopted: they were released by
another. So all are replayed side by side, and what one lets go of is handed to the next.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from actors.durable.items import Entity
from actors.durable.records import Adopted, Codec, Released, Split, TurnRecord
from actors.durable.routing import slot_of
from actors.durable.turn import Workspace
from persistence.journal import Corrupt, JournalRow

Seen = Callable[[str, JournalRow, TurnRecord[Any, Any], dict[str, bytes]], None]
"""Told of each turn, once it has happened: stream, row, record, and the entities that came with
it, encoded as they came."""


class Replay:
    """The memories of all streams as they grow. ``parcels`` are entities between two of them."""

    def __init__(self, codec: Codec[Any, Any], new: Callable[[], Workspace]) -> None:
        self.works: dict[str, Workspace] = {}
        self.parcels: dict[tuple[str, int], dict[str, Entity]] = {}
        self._turns = 0
        self._moved: dict[int, str] = {}
        self._codec = codec
        self._new = new

    async def run(self, streams: Mapping[str, AsyncIterator[JournalRow]], seen: Seen) -> None:
        """Replay each stream's rows. Raises ``Corrupt`` when a handover has no origin."""
        self.works = {stream: self._new() for stream in streams}
        waiting = dict.fromkeys(streams)
        held: dict[str, tuple[JournalRow, TurnRecord[Any, Any]]] = {}
        while waiting:
            before = len(waiting), self._turns
            for stream in list(waiting):
                if await self._advance(stream, streams[stream], held, seen):
                    del waiting[stream]
            if waiting and (len(waiting), self._turns) == before:
                stream, (row, _) = next(iter(held.items()))
                raise Corrupt(f"Journal row {stream} {row.seq} adopts what nobody has released.")

    async def _advance(
        self,
        stream: str,
        rows: AsyncIterator[JournalRow],
        held: dict[str, tuple[JournalRow, TurnRecord[Any, Any]]],
        seen: Seen,
    ) -> bool:
        """Go on until the end (true), or until something is adopted that is not released yet."""
        if stream in held:
            row, record = held[stream]
            if not self._released(record):
                return False
            del held[stream]
            self._happen(stream, row, record, seen)
        async for row in rows:
            record = self._codec.decode_turn(row.entries)
            if not self._released(record):
                held[stream] = (row, record)
                return False
            self._happen(stream, row, record, seen)
        return True

    def _released(self, record: TurnRecord[Any, Any]) -> bool:
        return all(
            (moving.origin, moving.seq) in self.parcels
            for moving in record.moved
            if type(moving) is Adopted
        )

    def _happen(
        self, stream: str, row: JournalRow, record: TurnRecord[Any, Any], seen: Seen
    ) -> None:
        self._turns += 1
        work = self.works[stream]
        came: dict[str, Entity] = {}
        for moving in record.moved:
            if type(moving) is Adopted:
                came.update(self.parcels.pop((moving.origin, moving.seq)))
        work.entities.update(came)
        states = {key: self._codec.encode(entity.state) for key, entity in came.items()}
        for key, _ in record.events:
            if key not in work.entities:
                work.admit(key, work.machine.new(key))
        left = work.replay(record, row.at)
        self._note(stream, record)
        if any(type(moving) is Released for moving in record.moved):
            self.parcels[stream, row.seq] = left
        seen(stream, row, record, states)

    def _note(self, stream: str, record: TurnRecord[Any, Any]) -> None:
        """Remember where slots went. A slot's moves happen in their order, whoever wrote them."""
        for moving in record.moved:
            if type(moving) is Split:
                self._moved[moving.slot] = stream
            elif type(moving) is Released:
                self._moved.update(dict.fromkeys(moving.slots, moving.to))
            elif type(moving) is Adopted:
                self._moved.update(dict.fromkeys(moving.slots, stream))

    def owners(self) -> dict[int, str]:
        """Who has each slot, as far as the journals tell: nothing of one that was never used."""
        found = {
            work.partition.private.get(key, slot_of(key)): stream
            for stream, work in self.works.items()
            for key in work.entities
        }
        return found | self._moved

    def private(self) -> dict[str, int]:
        """The slot of each key that has one to itself."""
        return {
            key: slot
            for work in self.works.values()
            for key, slot in work.partition.private.items()
        }
