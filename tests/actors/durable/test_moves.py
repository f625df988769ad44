"""Slots move while everything runs: nothing is lost, doubled or overtaken, whoever dies when."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from actors.durable import partition as partition_module
from actors.durable.routing import slot_of
from cluster.simulation.store import Faults
from cluster.simulation.virtual import run_virtual
from domain.accounts import commands as cmd
from domain.accounts.commands import TransferStatus
from domain.durable import Moved
from tests.actors.durable.audit import audit
from tests.actors.durable.scenario import Scenario, Scenarios, ask, closed, play, posted, settle
from tests.actors.durable.test_chaos import Client, sweep, to_the_end, trouble
from tests.actors.durable.world import Weather, World, usd

scenario = Scenarios()


def wish(world: World, customer: int, stream: str) -> None:
    """Somebody wants the customer's slot to be in a stream."""
    world.store.wish(slot_of(str(customer)), stream)
    world.partitions[world.owner(str(customer))].nudge()


@scenario
async def a_slot_moves_and_its_customers_go_on(world: World) -> None:
    alice, bob = world.pair()
    await world.open(alice, bob)
    assert world.owner(str(alice)) == "accounts/0"
    wish(world, alice, "accounts/1")
    await settle()
    assert world.owner(str(alice)) == "accounts/1"
    assert not world.store.moving
    former = world.partitions["accounts/0"]
    assert await former.request([cmd.ReadCustomer(alice)]) == [Moved(slot_of(str(alice)))]
    (receipt,) = await ask(world, world.transfer(usd(alice), usd(bob), 1_000))
    assert receipt.status == TransferStatus.COMPLETED
    assert posted(world, bob) == 101_000
    wish(world, alice, "accounts/0")
    await settle()
    (receipt,) = await ask(world, world.transfer(usd(bob), usd(alice), 500))
    assert receipt.status == TransferStatus.COMPLETED
    assert (posted(world, alice), world.owner(str(alice))) == (98_990 + 500, "accounts/0")


@scenario
async def an_id_is_remembered_where_the_customer_has_gone(world: World) -> None:
    alice, bob = world.pair()
    await world.open(alice, bob)
    command = world.transfer(usd(alice), usd(bob), 1_000)
    too_much = world.transfer(usd(alice), usd(bob), 10_000_000)
    before = await ask(world, command, too_much)
    wish(world, alice, "accounts/1")
    await settle()
    assert await ask(world, command, too_much) == before
    assert posted(world, bob) == 101_000


@scenario
async def a_slot_waits_for_what_is_on_its_way(world: World) -> None:
    alice, bob = world.pair()
    await world.open(alice, bob)
    world.crash("accounts/1")
    asking = asyncio.create_task(ask(world, world.transfer(usd(alice), usd(bob), 1_000)))
    await settle()
    wish(world, alice, "accounts/1")
    await settle()
    # Nobody is there to take it: the slot stays, and its customer is served.
    assert world.owner(str(alice)) == "accounts/0"
    async with asyncio.timeout(5):
        (view,) = await ask(world, cmd.ReadCustomer(alice))
    assert view.accounts[0].posted == 98_990
    world.start("accounts/1")
    (receipt,) = await asking
    assert receipt.status == TransferStatus.COMPLETED
    await asyncio.sleep(10)
    assert world.owner(str(alice)) == "accounts/1"


@scenario
async def a_slot_does_not_wait_for_ever(world: World) -> None:
    alice, bob = world.pair()
    await world.open(alice, bob)
    await settle()
    # The receiver's commit hangs, so the message has no outcome; it hears nudges all the same.
    gate = closed(world, "accounts/1")
    asking = asyncio.create_task(ask(world, world.transfer(usd(alice), usd(bob), 1_000)))
    await settle()
    wish(world, alice, "accounts/1")
    await asyncio.sleep(0.5)
    reading = asyncio.create_task(ask(world, cmd.ReadCustomer(alice)))
    await asyncio.sleep(0.1)
    assert not reading.done()
    await settle()
    assert world.owner(str(alice)) == "accounts/0"
    (view,) = await reading
    assert view.accounts[0].posted == 98_990
    gate.set()
    await asking
    await asyncio.sleep(10)
    assert world.owner(str(alice)) == "accounts/1"


@scenario
async def a_key_of_its_own_is_known_where_its_hash_slot_goes(world: World) -> None:
    alice, bob = world.pair()
    await world.open(alice, bob)
    world.store.pin(str(alice), "accounts/0")
    await settle()
    assert world.store.slot(str(alice)) == 4096
    world.store.wish(slot_of(str(alice)), "accounts/1")
    await asyncio.sleep(10)
    assert world.store.owners[slot_of(str(alice))] == "accounts/1"
    other = world.partitions["accounts/1"]
    assert await other.request([cmd.ReadCustomer(alice)]) == [Moved(4096)]
    (receipt,) = await ask(world, world.transfer(usd(bob), usd(alice), 1_000))
    assert receipt.status == TransferStatus.COMPLETED
    assert (posted(world, alice), world.owner(str(alice))) == (101_000, "accounts/0")


@scenario
async def commands_are_parked_until_the_release_is_durable(world: World) -> None:
    alice, bob = world.pair()
    await world.open(alice, bob)
    await settle()
    gate = closed(world)
    wish(world, alice, "accounts/1")
    await settle()
    asking = asyncio.create_task(ask(world, cmd.ReadCustomer(alice)))
    await settle()
    assert not asking.done()
    gate.set()
    assert await asking == [Moved(slot_of(str(alice)))]


@scenario
async def a_release_that_fails_has_not_happened(world: World) -> None:
    alice, bob = world.pair()
    await world.open(alice, bob)
    await settle()
    world.store.faults = Faults(commit_fails=1.0)
    wish(world, alice, "accounts/1")
    await settle()
    world.store.wish(slot_of(str(alice)), "accounts/0")
    world.store.faults = Faults()
    await settle()
    assert world.owner(str(alice)) == "accounts/0"
    (receipt,) = await ask(world, world.transfer(usd(alice), usd(bob), 1_000))
    assert receipt.status == TransferStatus.COMPLETED


@scenario
async def a_release_whose_answer_is_lost_has_happened(world: World) -> None:
    alice, bob = world.pair()
    await world.open(alice, bob)
    await settle()
    world.store.faults = Faults(answer_lost=1.0)
    wish(world, alice, "accounts/1")
    await asyncio.sleep(0.1)
    world.store.faults = Faults()
    await settle()
    assert world.owner(str(alice)) == "accounts/1"
    (receipt,) = await ask(world, world.transfer(usd(alice), usd(bob), 1_000))
    assert receipt.status == TransferStatus.COMPLETED


@scenario
async def a_wish_that_changes_on_the_way_is_fulfilled(world: World) -> None:
    alice, _ = world.pair()
    await world.open(alice)
    await settle()
    gate = closed(world)
    wish(world, alice, "accounts/1")
    await settle()
    world.store.wish(slot_of(str(alice)), "accounts/0")
    gate.set()
    await settle()
    assert (world.owner(str(alice)), world.store.moving) == ("accounts/0", False)
    (view,) = await ask(world, cmd.ReadCustomer(alice))
    assert view.accounts[0].posted == 100_000


@scenario
async def a_wish_withdrawn_while_slots_are_leaving_costs_no_recovery(world: World) -> None:
    alice, bob = world.pair()
    await world.open(alice, bob)
    await settle()
    partition = world.partitions["accounts/0"]
    gate = closed(world, "accounts/1")
    paid = asyncio.create_task(ask(world, world.transfer(usd(alice), usd(bob), 1_000)))
    await asyncio.sleep(0.05)
    wish(world, alice, "accounts/1")
    await asyncio.sleep(0.2)
    assert partition._mover.leaving == {slot_of(str(alice))}
    asked = asyncio.create_task(ask(world, cmd.ReadCustomer(alice)))
    await asyncio.sleep(0.05)
    world.store.wish(slot_of(str(alice)), "accounts/0")
    gate.set()
    ((receipt,), (view,)) = await asyncio.gather(paid, asked)
    assert receipt.status == TransferStatus.COMPLETED
    assert view.accounts[0].posted == 98_990
    assert (world.owner(str(alice)), partition.statistics.recoveries) == ("accounts/0", 1)


@scenario
async def the_new_owner_may_be_dead_when_slots_come(world: World) -> None:
    alice, bob = world.pair()
    await world.open(alice, bob)
    await settle()
    gate = closed(world)
    wish(world, alice, "accounts/1")
    await settle()
    world.crash("accounts/1")
    gate.set()
    await settle()
    assert world.store.handovers
    world.start("accounts/1")
    await settle()
    (view,) = await ask(world, cmd.ReadCustomer(alice))
    assert view.accounts[0].posted == 100_000
    for stream in world.store.streams:
        world.crash(stream)
        world.start(stream)
    await settle()
    assert not world.store.handovers
    (receipt,) = await ask(world, world.transfer(usd(alice), usd(bob), 1_000))
    assert receipt.status == TransferStatus.COMPLETED


@scenario
async def a_message_finds_whoever_has_moved_and_takes_effect_once(world: World) -> None:
    alice, bob = world.pair()
    (carol,) = world.customers(3, "accounts/0")[2:]
    await world.open(alice, bob, carol)
    await settle()
    # The answer to the shipment is lost again and again, and its receiver moves meanwhile.
    world.weather = Weather(answer_lost=1.0)
    asking = asyncio.create_task(ask(world, world.transfer(usd(alice), usd(bob), 1_000)))
    await asyncio.sleep(0.05)
    wish(world, bob, "accounts/0")
    await settle()
    assert world.owner(str(bob)) == "accounts/0"
    assert not asking.done()
    world.weather = Weather()
    (receipt,) = await asking
    assert receipt.status == TransferStatus.COMPLETED
    assert posted(world, bob) == 101_000


@scenario
async def a_pinned_customer_leaves_the_others_of_its_slot(world: World) -> None:
    alice, bob = world.pair()
    await world.open(alice, bob)
    neighbour = next(
        number
        for number in range(alice + 1, 9_999_999_999)
        if slot_of(str(number)) == slot_of(str(alice))
    )
    await world.open(neighbour)
    world.store.pin(str(alice), "accounts/1")
    await settle()
    assert world.owner(str(alice)) == "accounts/1"
    assert world.owner(str(neighbour)) == "accounts/0"
    for source, destination in ((alice, bob), (neighbour, alice), (bob, neighbour)):
        transfer = world.transfer(usd(source), usd(destination), 1_000)
        assert (await ask(world, transfer))[0].status == TransferStatus.COMPLETED
    for stream in world.store.streams:
        world.crash(stream)
        world.start(stream)
    await settle()
    world.store.pin(str(alice), "accounts/0")
    await settle()
    assert world.owner(str(alice)) == "accounts/0"
    transfer = world.transfer(usd(alice), usd(neighbour), 1_000)
    assert (await ask(world, transfer))[0].status == TransferStatus.COMPLETED


@scenario
async def a_timer_fires_where_its_entity_has_gone(world: World) -> None:
    alice, _ = world.pair()
    await world.open(alice)
    expires = world.clock() + 60_000_000
    hold = cmd.ReserveHold(world.id(), b"h", usd(alice), 5_000, expires, "order")
    await ask(world, hold)
    assert world.store.timers == {str(alice): expires}
    wish(world, alice, "accounts/1")
    await settle()
    for partition in world.partitions.values():
        await partition.fire()
    (view,) = await ask(world, cmd.ReadCustomer(alice))
    assert view.accounts[0].available == 95_000
    await asyncio.sleep(60)
    for partition in world.partitions.values():
        await partition.fire()
        await partition.fire()
    (view,) = await ask(world, cmd.ReadCustomer(alice))
    assert view.accounts[0].available == 100_000
    assert world.store.timers == {}
    assert [p.statistics.timers for p in world.partitions.values()] == [0, 1]


def test_what_waits_for_a_key_goes_along_when_it_gets_a_slot_to_itself() -> None:
    """A long queue with short turns: some of it is still there when the key has left."""

    async def main() -> None:
        world = World(1, 2, turn_items_max=2)
        world.start_all()
        alice, bob = world.customers(2, "accounts/0")
        await world.open(alice, bob)
        await settle()
        former = world.partitions["accounts/0"]
        world.store.pin(str(alice), "accounts/1")
        former.nudge()
        commands = [world.transfer(usd(alice), usd(bob), 1) for _ in range(900)]
        replies = await asyncio.gather(*(former.request([command]) for command in commands))
        await settle()
        assert world.owner(str(alice)) == "accounts/1"
        sent = [reply for (reply,) in replies if type(reply) is not Moved]
        assert 0 < len(sent) < len(commands)
        assert all(reply.status == TransferStatus.COMPLETED for reply in sent)
        (view,) = await ask(world, cmd.ReadCustomer(alice))
        assert view.accounts[0].posted == 100_000 - sum(r.amount + r.fee for r in sent)
        (view,) = await ask(world, cmd.ReadCustomer(bob))
        assert view.accounts[0].posted == 100_000 + len(sent)
        await world.quiet()
        audit(world)

    run_virtual(main)


@pytest.mark.parametrize("told", scenario, ids=lambda told: told.__name__)
def test_moves(told: Scenario) -> None:
    play(told)


# -- chaos --------------------------------------------------------------------------------


async def wander(world: World, customers: list[int], random: Random) -> None:
    """Somebody never stops wishing that slots move, and customers get slots to themselves."""
    while True:
        await asyncio.sleep(random.expovariate(2.0))
        store, stream = world.store, random.choice(world.store.streams)
        if random.random() < 0.2:
            store.pin(str(random.choice(customers)), stream)
            continue
        for customer in random.sample(customers, random.randint(1, len(customers))):
            store.wish(store.slot(str(customer)), stream)
        if random.random() < 0.5:
            owner = world.partitions.get(world.owner(str(customers[0])))
            if owner is not None:
                owner.nudge()


async def run(seed: int) -> World:
    random = Random(seed)
    world = World(
        seed,
        random.choice([2, 3, 4]),
        checkpoint_interval_s=random.choice([0.05, 0.5, 5.0]),
        memory_bytes_max=random.choice([10_000, 2_000_000]),
        turn_items_max=random.choice([3, 10_000]),
        leave_timeout_s=random.choice([0.05, 1.0]),
    )
    world.start_all()
    customers = world.customers(12)
    await world.open(*customers)
    world.store.faults = Faults(0.01, 0.01, 0.005, 0.05, 0.5)
    world.weather = Weather(0.05, 0.05, 0.2, 0.05)
    clients = [Client(world, customers, seed * 100 + index) for index in range(8)]
    background = [
        asyncio.create_task(trouble(world, random)),
        asyncio.create_task(sweep(world, customers)),
        asyncio.create_task(wander(world, customers, random)),
    ]
    await to_the_end(world, clients, background)
    return world


@pytest.mark.parametrize("seed", range(20))
def test_whatever_moves_the_books_are_right_in_the_end(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition_module, "_WORTH_ITEMS", 1 if seed % 2 else 128, raising=False)
    world = run_virtual(lambda: run(seed))
    assert world.store.writes > 50
