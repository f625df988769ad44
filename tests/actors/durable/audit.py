"""What must be true of the stores and memories of all partitions when nothing is on its way."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from actors.durable.memory import MOVED
from actors.durable.replay import Replay
from actors.durable.turn import Workspace
from cluster.simulation.final import stored_memory
from domain.accounts import events as ev
from domain.accounts.commands import TransferStatus
from domain.accounts.machine import AccountsMachine
from persistence.journal import GENESIS, JournalRow, check_link
from tests.actors.durable.world import POLICY, World, idle


def replay(world: World) -> Replay:
    """All partitions' memories made anew from the first row of each journal."""
    machine = AccountsMachine(POLICY)
    replay = Replay(world.codec, lambda: Workspace(machine, world.codec, lambda _: False))

    async def rows(stream: str) -> AsyncIterator[JournalRow]:
        for row in world.store.rows.get(stream, []):
            yield row

    run = replay.run({stream: rows(stream) for stream in world.store.streams}, lambda *_: None)
    try:
        # Nothing in there waits for anything.
        run.send(None)
    except StopIteration:
        return replay
    raise AssertionError("The replay waits for something.")


def same_memory(world: World, stream: str, full: Workspace) -> None:
    """Full replay, snapshots plus tail, and what is in memory now are the same bytes."""
    encode = world.codec.encode
    short = stored_memory(world.store, stream, world.codec, world.machine)
    live = world.partitions[stream]._work
    assert encode(full.partition) == encode(short.partition)
    assert encode(full.partition) == encode(live.partition)
    states = {key: encode(entity.state) for key, entity in full.entities.items()}
    assert states == {key: encode(entity.state) for key, entity in short.entities.items()}
    empty = encode(world.machine.new(""))
    for key, entity in live.entities.items():
        assert live.owns(key), f"{key} is in the memory of {stream}"
        assert states.get(key, empty) == encode(entity.state)


def chained(world: World, stream: str) -> None:
    """The journal of a stream is one unbroken chain, and its times never go back."""
    previous, at = GENESIS, 0
    for seq, row in enumerate(world.store.rows.get(stream, []), start=1):
        check_link(row, seq, previous)
        assert row.at >= at, f"time went back at {stream} {seq}"
        previous, at = row.hash, row.at


def events_of(world: World, stream: str) -> list[Any]:
    """All events of a stream's journal."""
    return [
        event
        for row in world.store.rows.get(stream, [])
        for _, event in world.codec.decode_turn(row.entries).events
    ]


def transfers_once(world: World) -> None:
    """Each transfer left once, arrived once or came back once, and its row says which."""
    sent: Counter[bytes] = Counter()
    received: Counter[bytes] = Counter()
    returned: Counter[bytes] = Counter()
    delivered: Counter[bytes] = Counter()
    counters: dict[Any, Counter[bytes]] = {
        ev.TransferSent: sent,
        ev.TransferReceived: received,
        ev.TransferReturned: returned,
        ev.TransferDelivered: delivered,
    }
    for stream in world.store.streams:
        for event in events_of(world, stream):
            if type(event) in counters:
                counters[type(event)][event.transfer] += 1
    assert set(sent) == set(world.store.transfers)
    for transfer, (_, receipt) in world.store.transfers.items():
        assert sent[transfer] == 1
        own = receipt.source // 10_000 == receipt.destination // 10_000
        done = receipt.status == TransferStatus.COMPLETED
        assert done or receipt.status == TransferStatus.RETURNED
        assert (received[transfer], returned[transfer]) == ((1, 0) if done else (0, 1))
        assert delivered[transfer] == (1 if done and not own else 0)


def books(world: World, full: Replay) -> None:
    """Over all partitions everything sums to zero, and nothing is on its way."""
    totals: Counter[str] = Counter()
    transit: Counter[str] = Counter()
    moved: Counter[str] = Counter()
    posted: dict[int, int] = {}
    for work in full.works.values():
        assert not work.partition.outbox
        for account, sums in work.partition.house.items():
            for asset, amount in sums.items():
                totals[asset] += amount
                if account == "transit":
                    transit[asset] += amount
                if account == MOVED:
                    moved[asset] += amount
        for entity in work.entities.values():
            assert not entity.state.groups
            assert not entity.state.promised
            for number, account in entity.state.accounts.items():
                totals[account.currency] += account.posted
                posted[number] = account.posted
                assert account.available >= 0
                assert (account.pending, account.expecting) == (0, 0)
    assert not full.parcels, "entities between two partitions"
    assert not any(totals.values()), totals
    assert not any(moved.values()), moved
    assert not any(transit.values()), transit
    assert posted == expected_balances(world)


def expected_balances(world: World) -> dict[int, int]:
    """Each account's balance, from the welcome bonuses and the transfers' rows alone."""
    balances: dict[int, int] = {}
    for stream in world.store.streams:
        for event in events_of(world, stream):
            if isinstance(event, ev.AccountOpened):
                balances.setdefault(event.account, 0)
            elif isinstance(event, ev.BonusCredited):
                balances[event.account] += event.amount
    for _, receipt in world.store.transfers.values():
        if receipt.status == TransferStatus.COMPLETED:
            balances[receipt.source] -= receipt.amount + receipt.fee
            balances[receipt.destination] += receipt.credited
    return balances


def audit(world: World) -> None:
    """Everything above."""
    full = replay(world)
    for stream in world.store.streams:
        assert idle(world.partitions[stream])
        chained(world, stream)
        same_memory(world, stream, full.works[stream])
    transfers_once(world)
    books(world, full)
