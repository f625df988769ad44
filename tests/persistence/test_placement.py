"""Slots move between partitions over a real Postgres; wishes are rows."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from actors.accounts import KIND
from actors.durable.placement import balanced, scale, suggest
from actors.durable.routing import slot_of
from cluster import books
from domain.accounts import commands as cmd
from domain.accounts.numbers import account_number
from domain.durable import Moved, Unavailable
from persistence import placement
from persistence.database import Pool
from persistence.journal import (
    SLOTS,
    Fenced,
    Journal,
    JournalRow,
    Release,
    WishChanged,
    prepare_streams,
    row_hash,
)
from tests.persistence.site import Site, running_site


@pytest.fixture
async def site(pool: Pool) -> AsyncIterator[Site]:
    async with running_site(pool) as site:
        yield site


async def arrived(site: Site) -> None:
    """Wait until every slot is where it should be."""
    async with asyncio.timeout(30):
        while await placement.under_way(site.pool, KIND):
            for partition in site.partitions.values():
                partition.nudge()
            await asyncio.sleep(0.02)
    await site.local.slots.load()


async def slots_of(site: Site) -> dict[str, int]:
    rows = await placement.placement(site.pool, KIND)
    return {row.stream: row.slots for row in rows}


class Payer:
    """Pays one cent after the other, each until it is acknowledged."""

    def __init__(self, site: Site, source: int, destination: int) -> None:
        self.site = site
        self.source, self.destination = source, destination
        self.paid = 0

    async def run(self) -> None:
        while True:
            command = self.site.transfer(
                account_number(self.source, 0), account_number(self.destination, 0), 1
            )
            reply: object = Moved(0)
            while isinstance(reply, Moved | Unavailable):
                if isinstance(reply, Moved):
                    await self.site.local.slots.load()
                owner = self.site.partitions.get(self.site.owner(str(self.source)))
                if owner is not None:
                    (reply,) = await owner.request([command])
                await asyncio.sleep(0.001)
            assert isinstance(reply, cmd.Receipt), reply
            self.paid += 1


async def test_partitions_come_and_go_under_load(site: Site) -> None:
    people = [*site.customers("accounts/0", 8), *site.customers("accounts/1", 8)]
    await site.open(*people)
    pairs = zip(people, people[5:] + people[:5], strict=True)
    payers = [Payer(site, source, destination) for source, destination in pairs]
    tasks = [asyncio.create_task(payer.run()) for payer in payers]
    plan = await scale(site.pool, KIND, 4)
    assert plan.moves == SLOTS // 2
    for stream in plan.streams[2:]:
        await site.local.start(stream)
    await arrived(site)
    assert await slots_of(site) == dict.fromkeys(plan.streams, SLOTS // 4)
    await site.restart()
    assert (await scale(site.pool, KIND, 2)).moves == SLOTS // 2
    await arrived(site)
    assert sorted((await slots_of(site)).values()) == [0, 0, SLOTS // 2, SLOTS // 2]
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert sum(payer.paid for payer in payers) > 20
    await asyncio.sleep(1)
    report = await books.check(site.pool)
    assert report.findings == []
    rows = await site.pool.fetchval("SELECT count(*) FROM transfers WHERE kind = 1")
    assert rows - len(payers) <= sum(payer.paid for payer in payers) <= rows


async def test_a_customer_is_pinned_and_comes_back(site: Site) -> None:
    alice, bob = site.customers("accounts/0", 2)
    await site.open(alice, bob)
    stream = await placement.pin(site.pool, KIND, str(alice))
    assert (stream, await placement.pin(site.pool, KIND, str(alice))) == ("accounts/pin-1",) * 2
    await site.local.start(stream)
    await arrived(site)
    assert (site.owner(str(alice)), site.owner(str(bob))) == ("accounts/pin-1", "accounts/0")
    row = (await placement.placement(site.pool, KIND))[-1]
    assert (row.stream, row.slots, row.pinned) == ("accounts/pin-1", 1, [str(alice)])
    command = site.transfer(account_number(alice, 0), account_number(bob, 0), 1_000)
    assert (await site.call(command, cmd.Receipt)).status == 2
    # Its hash slot may go elsewhere: whoever has it knows that the customer is not in it.
    await placement.retarget(site.pool, KIND, {slot_of(str(alice)): "accounts/1"})
    await arrived(site)
    other = site.partitions["accounts/1"]
    assert await other.request([cmd.ReadCustomer(alice)]) == [Moved(SLOTS)]
    assert await placement.unpin(site.pool, KIND, str(alice)) == "accounts/1"
    with pytest.raises(placement.Unknown):
        await placement.unpin(site.pool, KIND, str(alice))
    await arrived(site)
    assert site.owner(str(alice)) == "accounts/1"
    assert (await site.call(command, cmd.Receipt)).status == 2
    await site.restart()
    view = await site.call(cmd.ReadCustomer(alice), cmd.CustomerView)
    assert view.accounts[0].posted == 98_990
    again = await placement.pin(site.pool, KIND, str(bob))
    assert again == "accounts/pin-1"
    assert (await books.check(site.pool)).findings == []


async def test_wishes_can_be_changed_until_they_are_fulfilled(pool: Pool) -> None:
    await prepare_streams(pool, KIND, 2)
    assert (await scale(pool, KIND, 4)).moves == SLOTS // 2
    assert (await scale(pool, KIND, 4)).moves == SLOTS // 2
    assert (await scale(pool, KIND, 2)).moves == 0
    assert await placement.under_way(pool, KIND) == 0
    await scale(pool, KIND, 3)
    assert await placement.cancel(pool, KIND) == 1_365
    assert await placement.wishes(pool, KIND) == {}
    assert await placement.retarget(pool, KIND, {7: "accounts/2", 8: "accounts/0"}) == 1
    assert await placement.wishes(pool, KIND) == {7: ("accounts/0", "accounts/2")}
    with pytest.raises(placement.Unknown):
        await placement.retarget(pool, KIND, {7: "accounts/9"})
    for count in (0, 257):
        with pytest.raises(ValueError, match="partitions"):
            await scale(pool, KIND, count)
    with pytest.raises(placement.Unknown):
        await scale(pool, "books", 2)
    with pytest.raises(placement.Unknown):
        await placement.pin(pool, "books", "1")


def released(journal: Journal, epoch: int) -> tuple[JournalRow, Release]:
    digest = row_hash(bytes(32), journal.stream, 1, epoch, 1_000, b"row")
    row = JournalRow(journal.stream, 1, epoch, 1_000, b"row", bytes(32), digest)
    return row, Release("accounts/1", [7, 8], b"parcel", b"state", [("1", 7, b"snapshot")])


async def test_a_release_is_all_or_nothing(pool: Pool) -> None:
    await prepare_streams(pool, KIND, 2)
    journal = Journal(pool, KIND, "accounts/0")
    await journal.take_over()
    await placement.retarget(pool, KIND, {7: "accounts/1", 8: "accounts/1"})
    await placement.retarget(pool, KIND, {8: "accounts/0"})
    with pytest.raises(WishChanged):
        await journal.release(*released(journal, journal.epoch))
    await placement.retarget(pool, KIND, {8: "accounts/1"})
    row = released(journal, journal.epoch)
    await Journal(pool, KIND, "accounts/0").take_over()
    with pytest.raises(Fenced):
        await journal.release(*row)
    for table in ("journal", "checkpoints", "snapshots", "handovers"):
        assert await pool.fetchval(f"SELECT count(*) FROM {table}") == 0
    await journal.take_over()
    await journal.release(*released(journal, journal.epoch))
    assert len(await journal.slots()) == SLOTS // 2 - 2
    other = Journal(pool, KIND, "accounts/1")
    (arrival,) = (await other.look()).arrivals
    assert (arrival.origin, arrival.seq, arrival.slots) == ("accounts/0", 1, [7, 8])
    assert len(await other.slots()) == SLOTS // 2
    assert (await journal.checkpoint()).seq == 1
    assert await journal.snapshots(["1"]) == {"1": b"snapshot"}


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 4), (4, 2), (3, 7), (7, 3), (5, 5)])
def test_as_few_slots_move_as_can_be(before: int, after: int) -> None:
    owners = {slot: f"s/{slot * before // SLOTS}" for slot in range(SLOTS)}
    streams = [f"s/{index}" for index in range(after)]
    targets = balanced(owners, streams)
    placed = {**owners, **targets}
    counts = [list(placed.values()).count(stream) for stream in streams]
    assert sum(counts) == SLOTS
    assert max(counts) - min(counts) <= 1
    kept = [min(list(owners.values()).count(stream), max(counts)) for stream in streams]
    assert len(targets) <= SLOTS - sum(kept) + after
    assert all(owners[slot] != stream for slot, stream in targets.items())
    assert balanced(placed, streams) == {}


def test_a_suggestion_evens_out_what_was_measured() -> None:
    owners = {slot: "s/0" if slot < 8 else "s/1" for slot in range(16)}
    loads = dict.fromkeys(range(8), 100.0)
    suggestion = suggest(owners, loads, ["s/0", "s/1"])
    assert len(suggestion.targets) == 4
    assert (suggestion.before, suggestion.after) == (2.0, 1.0)
    hot = suggest(owners, {3: 1_000.0}, ["s/0", "s/1"])
    assert (hot.targets, hot.after) == ({}, 2.0)
    assert suggest(owners, {}, ["s/0", "s/1"]).targets == {}
