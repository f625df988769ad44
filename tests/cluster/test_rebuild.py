"""Damaged and missing snapshots come back from the journals, to the byte."""

from __future__ import annotations

import asyncio

import pytest

from actors.accounts import KIND
from actors.durable.moving import Mover
from actors.durable.routing import slot_of
from cluster.books import check
from cluster.rebuild import rebuild
from domain.accounts import commands as cmd
from domain.accounts.numbers import account_number
from persistence.database import Pool
from persistence.journal import SLOTS, Corrupt, Fenced
from persistence.placement import pin, retarget, under_way
from persistence.supervision import unowned_slots
from tests.persistence.site import Site, running_site


async def usual(site: Site) -> list[int]:
    """Customers of both partitions who have paid each other."""
    people = site.customers("accounts/0", 3) + site.customers("accounts/1", 3)
    await site.open(*people)
    for source, other in zip(people, people[1:] + people[:1], strict=True):
        command = site.transfer(account_number(source, 0), account_number(other, 0), 1_000)
        await site.call(command, cmd.Receipt)
    return people


async def stored(pool: Pool) -> list[tuple[object, ...]]:
    """All snapshots and checkpoints."""
    rows = await pool.fetch("SELECT key, slot, state, crc FROM snapshots ORDER BY key")
    rows += await pool.fetch(
        "SELECT stream, seq, hash, state, crc FROM checkpoints ORDER BY stream"
    )
    return [tuple(row) for row in rows]


async def test_what_is_rebuilt_is_what_was_there(pool: Pool) -> None:
    async with running_site(pool) as site:
        people = await usual(site)
    before = await stored(pool)
    assert len(before) == len(people) + 2
    await pool.execute("UPDATE snapshots SET state = 'broken' WHERE key = $1", str(people[0]))
    await pool.execute("DELETE FROM snapshots WHERE key = $1", str(people[1]))
    await pool.execute("UPDATE checkpoints SET crc = crc + 1 WHERE stream = 'accounts/0'")
    await pool.execute("DELETE FROM checkpoints WHERE stream = 'accounts/1'")
    assert not (await check(pool)).ok
    done = {one.stream: one for one in await rebuild(pool)}
    assert [done[f"accounts/{n}"].entities for n in (0, 1)] == [3, 3]
    assert await stored(pool) == before
    async with running_site(pool) as site:
        view = await site.call(cmd.ReadCustomer(people[0]), cmd.CustomerView)
        assert view.accounts[0].posted == 100_000 - 10
    assert (await check(pool)).ok


async def test_who_is_between_two_partitions_is_rebuilt_too(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Mover, "has_come", lambda self: False)
    async with running_site(pool) as site:
        people = await usual(site)
        slot = slot_of(str(people[0]))
        await pool.execute("UPDATE slots SET target = 'accounts/1' WHERE slot = $1", slot)
        site.partitions["accounts/0"].nudge()
        async with asyncio.timeout(10):
            while not await pool.fetchval("SELECT count(*) FROM handovers"):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    before = await stored(pool)
    await pool.execute("DELETE FROM snapshots")
    done = {one.stream: one for one in await rebuild(pool)}
    assert await stored(pool) == before
    assert [done[f"accounts/{n}"].entities for n in (0, 1)] == [3, 3]


async def test_who_runs_is_fenced(pool: Pool) -> None:
    async with running_site(pool) as site:
        people = await usual(site)
        await rebuild(pool)
        reading = asyncio.create_task(site.ask(cmd.ReadCustomer(people[0])))
        async with asyncio.timeout(30):
            while "fenced" not in {each.state for each in site.partitions.values()}:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        reading.cancel()


async def test_a_partition_that_begins_meanwhile_is_not_overwritten(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_site(pool) as site:
        await usual(site)
    before = await stored(pool)
    run = rebuild.__globals__["Replay"].run

    async def overtaken(*arguments: object) -> None:
        await run(*arguments)
        await pool.execute("UPDATE streams SET epoch = epoch + 1")

    monkeypatch.setattr(rebuild.__globals__["Replay"], "run", overtaken)
    with pytest.raises(Fenced):
        await rebuild(pool)
    assert await stored(pool) == before


async def test_nothing_is_built_on_a_damaged_journal(pool: Pool) -> None:
    async with running_site(pool) as site:
        await usual(site)
    await pool.execute("UPDATE journal SET entries = entries || 'x' WHERE seq = 2")
    before = await stored(pool)
    with pytest.raises(Corrupt, match="is not what was written"):
        await rebuild(pool)
    assert await stored(pool) == before


async def moved_and_split(site: Site, people: list[int]) -> None:
    """A customer's slot, and the one before another's, go to the other partition, and somebody
    gets one alone."""
    pool = site.pool
    gone = slot_of(str(people[0])), slot_of(str(people[1])) - 1
    await retarget(pool, KIND, dict.fromkeys(gone, "accounts/1"))
    await pin(pool, KIND, str(people[4]))
    await site.local.start("accounts/pin-1")
    async with asyncio.timeout(10):
        while await under_way(pool, KIND):
            for partition in site.partitions.values():
                partition.nudge()
            await asyncio.sleep(0.02)


async def slot_map(pool: Pool) -> list[tuple[object, ...]]:
    """All owners, and all keys that have a slot alone."""
    rows = await pool.fetch("SELECT slot, stream, target FROM slots ORDER BY slot")
    rows += await pool.fetch("SELECT key, slot FROM private_slots ORDER BY slot")
    return [tuple(row) for row in rows]


async def test_lost_slots_go_back_to_whom_the_journals_say_they_belong(pool: Pool) -> None:
    async with running_site(pool) as site:
        people = await usual(site)
        await moved_and_split(site, people)
    before = await slot_map(pool)
    assert (await check(pool)).ok
    slots = [slot_of(str(person)) for person in people]
    lost = sorted({*slots, SLOTS - 1, SLOTS})
    await pool.execute("DELETE FROM slots WHERE slot = ANY($1::smallint[])", lost)
    await pool.execute("DELETE FROM private_slots")
    assert any(f"{len(lost)} slots of accounts" in found for found in (await check(pool)).findings)
    done = {one.stream: one.slots for one in await rebuild(pool)}
    assert sum(done.values()) == len(lost)
    assert done["accounts/pin-1"] == 1
    assert await slot_map(pool) == before
    assert (await check(pool)).ok
    async with running_site(pool) as site:
        await site.local.start("accounts/pin-1")
        for person in people:
            await site.call(cmd.ReadCustomer(person), cmd.CustomerView)


async def test_who_is_between_two_partitions_belongs_to_the_new_one(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Mover, "has_come", lambda self: False)
    async with running_site(pool) as site:
        people = await usual(site)
        slot = slot_of(str(people[0]))
        await retarget(pool, KIND, {slot: "accounts/1"})
        site.partitions["accounts/0"].nudge()
        async with asyncio.timeout(10):
            while not await pool.fetchval("SELECT count(*) FROM handovers"):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    before = await slot_map(pool)
    await pool.execute("DELETE FROM slots WHERE slot = $1", slot)
    await rebuild(pool)
    assert await slot_map(pool) == before


async def test_lost_slots_are_given_to_nobody_while_somebody_may_have_them(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_site(pool) as site:
        people = await usual(site)
    await pool.execute("DELETE FROM slots WHERE slot = $1", slot_of(str(people[0])))
    run = rebuild.__globals__["Replay"].run

    async def overtaken(*arguments: object) -> None:
        await run(*arguments)
        await pool.execute("UPDATE streams SET epoch = epoch + 1 WHERE stream = 'accounts/1'")

    monkeypatch.setattr(rebuild.__globals__["Replay"], "run", overtaken)
    with pytest.raises(Fenced):
        await rebuild(pool)
    assert len(await unowned_slots(pool, KIND)) == 1


async def test_a_slot_whose_row_contradicts_the_journals_is_found(pool: Pool) -> None:
    async with running_site(pool) as site:
        people = await usual(site)
    slot = slot_of(str(people[0]))
    await pool.execute("UPDATE slots SET stream = 'accounts/1' WHERE slot = $1", slot)
    assert (await check(pool)).findings == [
        f"Slot {slot} is accounts/0's by the journals, and not accounts/1's."
    ]
