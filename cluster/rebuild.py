"""Snapshots, checkpoints and lost rows of the slot map made anew from the journals.

For a database in which some of them are damaged or gone: the journals have everything. One that
does not verify is a reason to stop: nothing of its kind is written then. Whoever runs is fenced
first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from actors.accounts import accounts_codec
from actors.books import BooksCodec
from actors.durable.placement import completed
from actors.durable.records import Codec, TurnRecord
from actors.durable.replay import Replay
from actors.durable.routing import slot_of
from actors.durable.turn import Workspace
from domain.accounts.machine import AccountsMachine
from domain.accounts.policy import Policy
from domain.durable import Machine
from domain.orders import ACCOUNTS, BOOKS
from domain.trading.machine import BooksMachine
from persistence import placement
from persistence.database import Pool
from persistence.journal import GENESIS, Checkpoint, Journal, JournalRow, streams
from persistence.placement import order_of


class Rebuilt(msgspec.Struct, frozen=True):
    """A stream whose checkpoint is that of its last row now, and how many entities it stored.

    ``slots`` of its own were in no row any more, and are again.
    """

    stream: str
    rows: int
    entities: int
    slots: int = 0


async def rebuild(pool: Pool) -> list[Rebuilt]:
    """Replay everything and store what comes of it.

    Raises ``Corrupt``, ``Imbalance`` or ``Diverged`` for a journal that cannot be replayed, and
    ``Fenced`` when a partition begins to run meanwhile.
    """
    done = await _kind(pool, ACCOUNTS, AccountsMachine(Policy({}, {})), accounts_codec())
    return done + await _kind(pool, BOOKS, BooksMachine(), BooksCodec())


async def _kind(
    pool: Pool, kind: str, machine: Machine[Any], codec: Codec[Any, Any]
) -> list[Rebuilt]:
    journals = {
        name: Journal(pool, kind, name) for of, name, _ in await streams(pool) if of == kind
    }
    for journal in journals.values():
        await journal.take_over()
    replay = Replay(codec, lambda: Workspace(machine, codec, lambda reply: True))
    last: dict[str, JournalRow] = {}

    def seen(
        stream: str, row: JournalRow, record: TurnRecord[Any, Any], came: dict[str, bytes]
    ) -> None:
        last[stream] = row

    await replay.run({name: _rows(journal) for name, journal in journals.items()}, seen)
    slots = await _give_back(pool, kind, journals, replay) if journals else Counter[str]()
    done = []
    for stream, row in last.items():
        work = replay.works[stream]
        states = {key: codec.encode(entity.state) for key, entity in work.entities.items()}
        for (origin, _), parcel in replay.parcels.items():
            if origin == stream:
                # Nobody has taken them in yet: they are as they were when they left.
                states.update({key: codec.encode(entity.state) for key, entity in parcel.items()})
        await journals[stream].save(
            Checkpoint(row.seq, row.hash, codec.encode(work.partition)),
            [(key, slot_of(key), state) for key, state in states.items()],
        )
        done.append(Rebuilt(stream, row.seq, len(states), slots.pop(stream, 0)))
    return done + [Rebuilt(stream, 0, 0, count) for stream, count in slots.items()]


async def _give_back(
    pool: Pool, kind: str, journals: Mapping[str, Journal], replay: Replay
) -> Counter[str]:
    """Slots without a row go to whoever the journals say has them; how many to each stream.

    All streams are in our hands, so nobody serves such a slot from memory.
    """
    streams = sorted((name for name in journals if not placement.is_pin(name)), key=order_of)
    known = await placement.owners(pool, kind)
    owners = completed(known, replay.owners(), streams)
    epochs = {name: journal.epoch for name, journal in journals.items()}
    given = await placement.give_back(pool, kind, epochs, owners, replay.private())
    return Counter(given.values())


async def _rows(journal: Journal) -> AsyncIterator[JournalRow]:
    """All rows, held against their chain."""
    async for rows in journal.tail(Checkpoint(0, GENESIS, b"")):
        for row in rows:
            yield row
