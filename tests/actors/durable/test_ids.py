"""An id is answered once and for ever, whatever happens in between."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from domain.accounts import commands as cmd
from domain.accounts.commands import TransferStatus
from domain.durable import Rejection, Unavailable
from tests.actors.durable.scenario import (
    Scenario,
    Scenarios,
    ask,
    closed,
    play,
    posted,
    settle,
)
from tests.actors.durable.world import World, usd

scenario = Scenarios()


@scenario
async def the_same_id_has_the_same_answer_and_one_effect(world: World) -> None:
    alice, bob = world.pair()
    await world.open(alice, bob)
    command = world.transfer(usd(alice), usd(bob), 1_000)
    other = msgspec.structs.replace(command, fingerprint=b"x", amount=7)
    together = await ask(world, command, command, other)
    assert together[0] == together[1]
    assert together[2] == Rejection("id_reused")
    assert await ask(world, command, other) == [together[0], Rejection("id_reused")]
    for stream in world.store.streams:
        world.crash(stream)
        world.start(stream)
    assert await ask(world, command, other) == [together[0], Rejection("id_reused")]
    assert posted(world, alice) == 98_990


@scenario
async def who_asks_while_a_transfer_is_on_its_way_is_answered_with_the_first(world: World) -> None:
    alice, bob = world.pair()
    await world.open(alice, bob)
    world.crash(world.owner(str(bob)))
    command = world.transfer(usd(alice), usd(bob), 1_000)
    asking = [asyncio.create_task(ask(world, command)) for _ in range(3)]
    await settle()
    assert not any(task.done() for task in asking)
    world.start(world.owner(str(bob)))
    replies = await asyncio.gather(*asking)
    assert replies[0] == replies[1] == replies[2]
    assert replies[0][0].status == TransferStatus.COMPLETED


@scenario
async def a_group_that_takes_anothers_id_does_not_take_its_answer(world: World) -> None:
    alice, bob = world.pair()
    await world.open(alice, bob)
    world.crash(world.owner(str(bob)))
    command = world.transfer(usd(alice), usd(bob), 1_000)
    asking = asyncio.create_task(ask(world, command))
    await settle()
    group = cmd.LinkedTransfers(world.id(), b"g", (command,))
    assert await ask(world, group, group) == [Rejection("id_reused")] * 2
    world.start(world.owner(str(bob)))
    (receipt,) = await asking
    assert receipt.status == TransferStatus.COMPLETED
    assert await ask(world, command) == [receipt]
    assert await ask(world, group) == [Rejection("id_reused")]


@scenario
async def a_leg_asked_for_alone_has_its_own_answer(world: World) -> None:
    alice, bob = world.customers(2, "accounts/0")
    await world.open(alice, bob)
    legs = tuple(world.transfer(usd(alice), usd(bob), amount) for amount in (1_000, 2_000))
    (reply,) = await ask(world, cmd.LinkedTransfers(world.id(), b"g", legs))
    assert await ask(world, *legs) == list(reply.results)
    world.crash("accounts/0")
    world.start("accounts/0")
    assert await ask(world, *legs) == list(reply.results)
    assert posted(world, bob) == 103_000


@scenario
async def the_legs_of_a_refused_group_left_no_trace(world: World) -> None:
    alice, bob = world.customers(2, "accounts/0")
    await world.open(alice, bob)
    good, bad = (world.transfer(usd(alice), usd(bob), amount) for amount in (1_000, 500_000))
    group = cmd.LinkedTransfers(world.id(), b"g", (good, bad))
    (refused,) = await ask(world, group)
    assert [result.code for result in refused.results] == ["linked_failed", "insufficient_funds"]
    (receipt,) = await ask(world, good)
    assert receipt.status == TransferStatus.COMPLETED
    assert await ask(world, group) == [refused]


@scenario
async def an_id_of_a_waiting_group_is_refused_without_being_remembered(world: World) -> None:
    alice, bob = world.pair()
    await world.open(alice, bob)
    world.crash(world.owner(str(bob)))
    leg = world.transfer(usd(alice), usd(bob), 1_000)
    group = cmd.LinkedTransfers(world.id(), b"g", (leg,))
    asking = asyncio.create_task(ask(world, group))
    await settle()
    assert await ask(world, leg) == [Rejection("id_reused")]
    world.start(world.owner(str(bob)))
    (reply,) = await asking
    assert reply.results[0].status == TransferStatus.COMPLETED
    await settle()
    (again,) = await ask(world, leg)
    assert again == reply.results[0]


@scenario
async def a_group_asked_for_after_a_crash_is_answered_when_it_ends(world: World) -> None:
    alice, bob = world.pair()
    await world.open(alice, bob)
    world.crash(world.owner(str(bob)))
    legs = (world.transfer(usd(alice), usd(bob), 1_000),)
    group = cmd.LinkedTransfers(world.id(), b"g", legs)
    lost = asyncio.create_task(ask(world, group))
    await settle()
    world.crash(world.owner(str(alice)))
    world.start(world.owner(str(alice)))
    assert await lost == [Unavailable("interrupted")]
    other = cmd.LinkedTransfers(group.id, b"other", legs)
    asking = asyncio.create_task(ask(world, group))
    assert await ask(world, other) == [Rejection("id_reused")]
    world.start(world.owner(str(bob)))
    (reply,) = await asking
    assert reply.results[0].status == TransferStatus.COMPLETED
    assert await ask(world, group, other) == [reply, Rejection("id_reused")]


@scenario
async def a_group_that_ends_in_the_turn_of_its_repeat_is_not_done_again(world: World) -> None:
    alice, bob = world.pair()
    (carol,) = world.customers(4, "accounts/0")[3:]
    await world.open(alice, bob, carol)
    sender, receiver = world.owner(str(alice)), world.owner(str(bob))
    world.crash(receiver)
    legs = (world.transfer(usd(alice), usd(bob), 1_000),)
    group = cmd.LinkedTransfers(world.id(), b"g", legs)
    lost = asyncio.create_task(ask(world, group))
    await settle()
    world.crash(sender)
    world.start(sender)
    await lost
    await world.partitions[sender].ready()
    # The promise and the repeat gather while another turn is being written.
    gate = closed(world, sender)
    other = asyncio.create_task(ask(world, world.transfer(usd(carol), usd(alice), 1)))
    await settle()
    world.start(receiver)
    await settle()
    asking = asyncio.create_task(ask(world, group))
    await settle()
    gate.set()
    await other
    (reply,) = await asking
    assert reply.results[0].status == TransferStatus.COMPLETED
    await world.quiet()
    assert posted(world, bob) == 101_000


@pytest.mark.parametrize("told", scenario, ids=lambda told: told.__name__)
def test_ids(told: Scenario) -> None:
    play(told)
