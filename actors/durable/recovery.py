"""How memory comes back from the database: snapshots, and the tail of the journal."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import structlog

from actors.durable.items import Turn
from actors.durable.memory import Memory
from actors.durable.routing import slot_of
from persistence.journal import Journal

log = structlog.get_logger(__name__)


class Position(NamedTuple):
    """Where a stream stands: its last row and hash, and the row of its checkpoint."""

    seq: int
    hash: bytes
    checkpoint_seq: int


async def recover(journal: Journal, work: Memory) -> Position:
    """Fill an empty memory; the stream must be ours.

    Raises ``Corrupt`` for damage, ``Imbalance`` for books that do not sum to zero, ``Fenced`` when
    somebody has taken over meanwhile: then what was read in several steps is not of one piece.
    """
    try:
        with _without_collector():
            return await _read(journal, work)
    except Exception:
        await journal.check_epoch()
        raise


@contextmanager
def _without_collector() -> Iterator[None]:
    """Memory fills with what stays and has no cycles: to look through it again and again while
    it grows would be an eighth of the work."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


async def _read(journal: Journal, work: Memory) -> Position:
    checkpoint = await journal.checkpoint()
    if checkpoint.state:
        work.resume(work.codec.decode_partition(checkpoint.state))
        await _upgrade(journal, work)
    seq, last_hash = checkpoint.seq, checkpoint.hash
    async for rows in journal.tail(checkpoint):
        records = [work.codec.decode_turn(row.entries) for row in rows]
        touched: dict[str, Any] = {}
        for record in records:
            touched.update(record.events)
        await load(journal, work, [key for key in touched if key not in work.entities])
        for row, record in zip(rows, records, strict=True):
            work.replay(record, row.at)
            seq, last_hash = row.seq, row.hash
    for slot in await journal.slots():
        work.slots[slot] = 1
    work.balance(Turn(work.partition.at))
    await journal.check_epoch()
    return Position(seq, last_hash, checkpoint.seq)


async def load(journal: Journal, work: Memory, keys: Sequence[str]) -> None:
    """Bring entities into memory: from where they are packed, or else from their snapshots."""
    missing = [key for key in keys if not work.take(key)] if work.packed else keys
    if missing:
        stored = await journal.snapshots(missing)
        decode, new = work.codec.decode_entity, work.machine.new
        for key in missing:
            work.admit(key, decode(stored[key]) if key in stored else new(key))


async def _upgrade(journal: Journal, work: Memory) -> None:
    """Bring a checkpoint of version 0.1 up to date, which had no totals by slot."""
    partition = work.partition
    if partition.slots or not any(partition.entities.values()):
        return
    owned = set(await journal.slots())
    async for states in journal.states():
        for key, state in states:
            slot = slot_of(key)
            if slot in owned:
                balances = work.machine.balances(work.codec.decode_entity(state))
                work.take_totals(slot, balances)
    log.info("checkpoint brought up to date", stream=journal.stream)
