"""The version of an entity: another one after everything that can change what is read of it."""

from __future__ import annotations

import asyncio

import pytest

from domain.accounts import commands as cmd
from domain.durable import Version
from tests.actors.durable.scenario import MANY, Scenario, Scenarios, ask, closed, play, settle
from tests.actors.durable.world import World, usd

scenario = Scenarios()


async def version(world: World, customer: int) -> str:
    (reply,) = await ask(world, cmd.ReadVersion(customer))
    assert type(reply) is Version
    assert reply.value
    return reply.value


@scenario
async def it_stays_while_nothing_happens(world: World) -> None:
    alice, bob, carol = world.customers(3, "accounts/0")
    await world.open(alice, bob, carol)
    before = await version(world, alice)
    await ask(world, cmd.ReadCustomer(alice))
    await ask(world, world.transfer(usd(bob), usd(carol), 1_000))
    await ask(world, world.transfer(usd(alice), usd(bob), 10**12))  # refused
    assert await version(world, alice) == before


@scenario
async def both_sides_of_a_transfer_have_another_when_it_is_answered(world: World) -> None:
    (alice,), (bob,) = world.customers(1, "accounts/0"), world.customers(1, "accounts/1")
    await world.open(alice, bob)
    seen = {alice: {await version(world, alice)}, bob: {await version(world, bob)}}
    for _ in range(3):
        await ask(world, world.transfer(usd(alice), usd(bob), 1_000))
        for customer, versions in seen.items():
            now = await version(world, customer)
            assert now not in versions
            versions.add(now)


@scenario
async def it_is_not_told_before_what_it_stands_for_is_committed(world: World) -> None:
    alice, bob = world.customers(2, "accounts/0")
    await world.open(alice, bob)
    await settle()
    before = await version(world, alice)
    gate = closed(world)
    sending = asyncio.create_task(ask(world, world.transfer(usd(alice), usd(bob), 1_000)))
    await settle()
    asking = asyncio.create_task(ask(world, *[cmd.ReadVersion(alice)] * MANY))
    await settle()
    assert not asking.done()
    gate.set()
    await sending
    assert Version(before) not in await asking


@scenario
async def the_senders_changes_when_the_other_side_is_confirmed(world: World) -> None:
    """The row of the transfer has changed by then, in a turn of the receiver's partition."""
    (alice,), (bob,) = world.customers(1, "accounts/0"), world.customers(1, "accounts/1")
    await world.open(alice, bob)
    await settle()
    gate = closed(world, "accounts/1")
    sending = asyncio.create_task(ask(world, world.transfer(usd(alice), usd(bob), 1_000)))
    await settle()
    pending = await version(world, alice)
    gate.set()
    await sending
    assert await version(world, alice) != pending


@scenario
async def a_memory_that_was_read_back_has_others(world: World) -> None:
    (alice,) = world.customers(1, "accounts/0")
    await world.open(alice)
    seen = {await version(world, alice)}
    for _ in range(3):
        world.crash("accounts/0")
        world.start("accounts/0")
        now = await version(world, alice)
        assert now not in seen
        seen.add(now)


@pytest.mark.parametrize("told", scenario, ids=lambda each: each.__name__)
def test_the_version(told: Scenario) -> None:
    play(told)
