"""Messages between partitions take effect once, however often and late they come."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from actors.durable.records import Sent, Shipment
from cluster.simulation.store import Outage
from domain.accounts import commands as cmd
from domain.accounts.commands import AccountStatus, TransferStatus
from domain.accounts.numbers import account_number
from domain.durable import Unavailable
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


def credit(world: World, source: int, destination: int, amount: int = 1_000) -> cmd.Credit:
    return cmd.Credit(
        world.id(), usd(source), usd(destination), amount, "USD", amount, 0, "USD", world.clock()
    )


@scenario
async def a_message_takes_effect_once(world: World) -> None:
    alice, bob = world.pair()
    await world.open(alice, bob)
    partition = world.partitions[world.owner(str(bob))]
    origin = world.owner(str(alice))
    message = Sent(1_001, str(alice), str(bob), credit(world, alice, bob))
    refused = Sent(
        1_002, str(alice), "1", msgspec.structs.replace(message.body, destination=10_000)
    )
    shipment = Shipment(origin, 1_001, [message, refused])
    first = await asyncio.gather(partition.receive(shipment), partition.receive(shipment))
    assert first[0] == first[1]
    assert first[0][0] is None
    assert first[0][1].code == "unknown_destination_account"
    world.crash(partition.journal.stream)
    partition = world.start(partition.journal.stream)
    assert await partition.receive(shipment) == first[0]
    assert posted(world, bob) == 101_000
    world.store.rows.clear()
    world.store.checkpoints.clear()
    world.store.transfers.clear()
    for stream in world.store.streams:
        world.crash(stream)
        world.start(stream)


@scenario
async def a_repeat_that_comes_late_has_no_effect(world: World) -> None:
    alice, bob = world.pair()
    await world.open(alice, bob)
    shipments: list[tuple[str, bytes]] = []
    deliver = world._deliver

    async def recording(stream: str, payload: bytes) -> bytes:
        shipments.append((stream, payload))
        return await deliver(stream, payload)

    world._deliver = recording  # type: ignore[method-assign]
    for amount in range(1, 6):
        await world.call(world.transfer(usd(alice), usd(bob), amount))
        await settle()
    world._deliver = deliver  # type: ignore[method-assign]
    assert len(shipments) == 5
    inbox = world.partitions[world.owner(str(bob))]._work.partition.inbox
    assert [len(seen) for seen in inbox.values()] == [1]
    for stream, payload in shipments[:4]:
        with pytest.raises(Outage, match="stale"):
            await deliver(stream, payload)
    await deliver(*shipments[4])
    world.crash(world.owner(str(bob)))
    world.start(world.owner(str(bob)))
    for stream, payload in shipments[:4]:
        with pytest.raises(Outage, match="stale"):
            await deliver(stream, payload)
    await deliver(*shipments[4])
    assert posted(world, bob) == 100_015


@scenario
async def the_receiver_remembers_what_the_sender_has_not_durably_noted(world: World) -> None:
    alice, bob = world.pair()
    await world.open(alice, bob)
    await world.quiet()
    sender, receiver = world.owner(str(alice)), world.owner(str(bob))
    deliver, arrive = world._deliver, asyncio.Event()

    async def waiting(stream: str, payload: bytes) -> bytes:
        await arrive.wait()
        return await deliver(stream, payload)

    world._deliver = waiting  # type: ignore[method-assign]
    refused = world.transfer(usd(alice), account_number(bob, 9), 1)
    asking = [asyncio.create_task(ask(world, refused))]
    await settle()
    asking.append(asyncio.create_task(ask(world, world.transfer(usd(alice), usd(bob), 2))))
    await settle()
    # Both are taken, in two shipments; of neither is the confirmation ever written.
    gate = closed(world, sender)
    arrive.set()
    await settle()
    assert len(world.partitions[receiver]._work.partition.inbox[sender]) == 2
    world.crash(sender)
    gate.set()
    world.start(sender)
    await asyncio.gather(*asking)
    (receipt,) = await ask(world, refused)
    assert receipt.reason in ("", "unknown_destination_account")
    await world.quiet()
    assert world.store.transfers[refused.id][1].status == TransferStatus.RETURNED


@scenario
async def an_answer_that_is_durable_does_not_wait_for_what_is_being_written(world: World) -> None:
    alice, bob = world.pair()
    await world.open(alice, bob)
    await world.quiet()
    sender = world.owner(str(alice))
    deliver, arrive = world._deliver, asyncio.Event()

    async def waiting(stream: str, payload: bytes) -> bytes:
        await arrive.wait()
        return await deliver(stream, payload)

    world._deliver = waiting  # type: ignore[method-assign]
    first = asyncio.create_task(ask(world, world.transfer(usd(alice), usd(bob), 1)))
    await settle()
    gate = closed(world, sender)
    second = asyncio.create_task(ask(world, world.transfer(usd(alice), usd(bob), 2)))
    await settle()
    arrive.set()
    await settle()
    assert world.partitions[sender].describe()["lag"] == 1
    assert first.done()
    assert not second.done()
    gate.set()
    await asyncio.gather(first, second)


@scenario
async def books_are_told_right_while_a_turn_is_open(world: World) -> None:
    alice, bob = world.pair()
    await world.open(alice, bob)
    await world.quiet()
    receiver = world.partitions[world.owner(str(bob))]
    gate = closed(world, world.owner(str(bob)))
    own = asyncio.create_task(ask(world, world.transfer(usd(bob), usd(alice), 1)))
    await settle()
    arrived = asyncio.create_task(ask(world, world.transfer(usd(alice), usd(bob), 2)))
    await settle()
    told = receiver.describe()
    assert told["open"] == 1, "decided beside a commit"
    assert told["books"]["USD"] == 0
    house = sum(sums.get("USD", 0) for sums in told["house"].values())
    assert told["entity_sums"]["USD"] == -house
    gate.set()
    await asyncio.gather(own, arrived)


@scenario
async def what_waits_for_an_outcome_is_bounded(world: World) -> None:
    alice, bob = world.pair()
    await world.open(alice, bob)
    sender = world.partitions["accounts/0"]
    sender.options = msgspec.structs.replace(sender.options, unsettled_max=5)
    world.crash("accounts/1")
    asking = []
    for _ in range(7):
        asking.append(asyncio.create_task(ask(world, world.transfer(usd(alice), usd(bob), 1))))
        await settle()
    assert [task.done() for task in asking] == [False] * 7
    late = world.transfer(usd(alice), usd(bob), 1)
    assert await ask(world, late) == [Unavailable("overloaded")]
    world.start("accounts/1")
    await settle()
    assert all(task.done() for task in asking)
    (receipt,) = await ask(world, late)
    assert receipt.status == TransferStatus.COMPLETED


@scenario
async def a_refused_group_releases_what_others_have_promised(world: World) -> None:
    alice, bob = world.pair()
    await world.open(alice, bob)
    to = (usd(bob), usd(bob), account_number(bob, 9), usd(bob))
    legs = tuple(world.transfer(usd(alice), account, 1_000) for account in to)
    (reply,) = await ask(world, cmd.LinkedTransfers(world.id(), b"g", legs))
    assert [result.code for result in reply.results] == [
        "linked_failed",
        "linked_failed",
        "unknown_destination_account",
        "linked_failed",
    ]
    close = cmd.SetAccountStatus(world.id(), b"c", account_number(bob, 1), AccountStatus.CLOSED)
    await world.call(close)
    assert (posted(world, alice), posted(world, bob)) == (100_000, 100_000)


@pytest.mark.parametrize("told", scenario, ids=lambda told: told.__name__)
def test_messages(told: Scenario) -> None:
    play(told)
