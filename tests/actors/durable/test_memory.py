"""Idle entities cost little, and not more than the limit: packed, dropped, and found again."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from actors.durable.routing import slot_of
from cluster.simulation.virtual import run_virtual
from domain.accounts import commands as cmd
from tests.actors.durable.audit import audit
from tests.actors.durable.scenario import ask, posted, settle
from tests.actors.durable.world import World, usd

CUSTOMERS = 12
PLENTY = 1_000_000


async def _world(memory_bytes: int) -> tuple[World, list[int]]:
    """A partition with idle customers."""
    world = World(1, 2, memory_bytes_max=memory_bytes)
    world.start_all()
    customers = world.customers(CUSTOMERS, "accounts/0")
    await world.open(*customers)
    for _ in range(5):
        await settle()
    return world, customers


def _held(world: World) -> tuple[int, int]:
    about = world.partitions["accounts/0"].describe()
    return about["entities"], about["packed"]


def test_idle_entities_are_packed_and_come_back_as_they_were() -> None:
    async def main() -> None:
        world, _ = await _world(PLENTY)
        assert _held(world) == (0, CUSTOMERS)
        work = world.partitions["accounts/0"]._work
        packed = [key for keys in work.packed.values() for key in keys]
        alice = int(packed[0])
        stored = world.store.snapshots.pop(packed[0])
        (view,) = await ask(world, cmd.ReadCustomer(alice))
        assert view.accounts[0].posted == 100_000  # not read from the database
        world.store.snapshots[packed[0]] = stored
        assert _held(world) == (1, CUSTOMERS - 1)
        await world.call(world.transfer(usd(alice), usd(int(packed[1])), 1_000))
        assert posted(world, int(packed[1])) == 101_000
        for _ in range(5):
            await settle()
        assert _held(world) == (0, CUSTOMERS)
        await world.quiet()
        audit(world)

    run_virtual(main)


def test_above_the_limit_they_are_dropped_and_read_again() -> None:
    async def main() -> None:
        world, customers = await _world(0)
        assert _held(world)[1] == 0
        assert world.partitions["accounts/0"]._work.packed_bytes == 0
        for customer in customers:
            (view,) = await ask(world, cmd.ReadCustomer(customer))
            assert view.accounts[0].posted == 100_000
        await world.quiet()
        audit(world)

    run_virtual(main)


def test_what_is_only_read_leaves_the_memory_too() -> None:
    async def main() -> None:
        world, customers = await _world(0)
        for customer in customers:
            await ask(world, cmd.ReadCustomer(customer))
        assert _held(world)[0] == CUSTOMERS
        for _ in range(5):
            await settle()
        assert _held(world)[0] == 0

    run_virtual(main)


@pytest.mark.parametrize("memory_bytes", [0, PLENTY])
def test_nothing_stays_behind_of_slots_that_leave(memory_bytes: int) -> None:
    async def main() -> None:
        world, customers = await _world(memory_bytes)
        before = world.partitions["accounts/0"]._work.packed_bytes
        for customer in customers:
            world.store.wish(slot_of(str(customer)), "accounts/1")
        world.partitions["accounts/0"].nudge()
        await settle()
        work = world.partitions["accounts/0"]._work
        assert not any(work.packed.values())
        assert (before > 0) == (memory_bytes > 0)
        assert work.packed_bytes == 0
        await asyncio.gather(
            *(
                world.call(world.transfer(usd(source), usd(target), 100))
                for source, target in itertools.pairwise(customers)
            )
        )
        for customer in customers[1:-1]:
            assert posted(world, customer) == 100_000 - 10
        await world.quiet()
        audit(world)

    run_virtual(main)
