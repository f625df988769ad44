"""How a turn becomes a row of the journal, chained to the one before, with the rows beside it."""

from __future__ import annotations

from typing import Any

from actors.durable.items import Turn
from actors.durable.moving import arrivals
from actors.durable.options import Projection
from actors.durable.records import Codec
from actors.durable.recovery import Position
from actors.durable.routing import slot_of
from persistence.journal import Journal, JournalRow, Statement, row_hash
from persistence.turns import timers


class Scribe:
    """Knows where a stream stands. At most one row is between ``row`` and ``written``."""

    def __init__(self, journal: Journal, codec: Codec[Any, Any], projection: Projection) -> None:
        self.seq = 0
        """The last row that was begun."""
        self.committed_seq = 0
        self.checkpoint_seq = 0
        self.hash = b""
        self._journal = journal
        self._codec = codec
        self._projection = projection

    def resume(self, position: Position) -> None:
        """Go on where a recovery has ended."""
        self.seq = self.committed_seq = position.seq
        self.hash, self.checkpoint_seq = position.hash, position.checkpoint_seq

    @property
    def saved(self) -> bool:
        """Whether a checkpoint has everything."""
        return self.committed_seq == self.checkpoint_seq

    def row(self, turn: Turn) -> JournalRow:
        """The next row of the stream."""
        self.seq += 1
        entries = self._codec.encode(turn.record)
        at, epoch, stream = turn.at, self._journal.epoch, self._journal.stream
        new_hash = row_hash(self.hash, stream, self.seq, epoch, at, entries)
        return JournalRow(stream, self.seq, epoch, at, entries, self.hash, new_hash)

    def statements(self, turn: Turn, seq: int) -> list[Statement]:
        """What is written beside the row."""
        encode, kind, record = self._codec.encode, self._journal.kind, turn.record
        remembered = [(i, fingerprint, encode(reply)) for i, fingerprint, reply in turn.remembered]
        statements = self._projection.statements(
            turn.at, self._journal.stream, seq, record.events, remembered
        )
        if turn.timers:
            statements += timers(kind, [(key, slot_of(key), due) for key, due in turn.timers])
        if record.moved:
            statements += arrivals(self._journal, record.moved)
        return statements

    def written(self, row: JournalRow) -> None:
        """The row is durable."""
        self.hash = row.hash
        self.committed_seq = row.seq
