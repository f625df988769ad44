"""The partition's promises, one by one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors.durable.intake import Interrupted
from actors.durable.quarantine import FAILURES_MAX, REFUSED_S
from actors.durable.records import Shipment
from cluster.simulation.store import Faults
from domain.accounts import commands as cmd
from domain.accounts import events as ev
from domain.accounts.commands import AccountStatus, TransferStatus
from domain.accounts.machine import AccountsMachine
from domain.accounts.numbers import account_number
from domain.durable import Moved, Unavailable
from tests.actors.durable.audit import replay, same_memory
from tests.actors.durable.scenario import (
    MANY,
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


# -- replies ------------------------------------------------------------------------------


@scenario
async def nothing_is_told_before_it_is_durable(world: World) -> None:
    alice, bob = world.customers(2, "accounts/0")
    await world.open(alice, bob)
    await settle()
    world.published.clear()
    gate = closed(world)
    asking = asyncio.create_task(ask(world, world.transfer(usd(alice), usd(bob), 1_000)))
    await settle()
    assert posted(world, alice) == 100_000 - 1_010
    assert not asking.done()
    assert not world.published
    gate.set()
    (receipt,) = await asking
    assert receipt.status == TransferStatus.COMPLETED
    assert len(world.published) == 1


@scenario
async def a_turn_that_waits_behind_another_is_told_after_it(world: World) -> None:
    alice, bob = world.customers(2, "accounts/0")
    await world.open(alice, bob)
    await settle()
    gate = closed(world)
    first = asyncio.create_task(ask(world, world.transfer(usd(alice), usd(bob), 1_000)))
    await settle()
    reading = asyncio.create_task(ask(world, cmd.ReadCustomer(alice)))
    await settle()
    assert not reading.done()
    gate.set()
    (view,) = await reading
    assert first.done()
    assert view.accounts[0].posted == 98_990


@scenario
async def when_a_commit_fails_nothing_of_it_was_ever_true(world: World) -> None:
    alice, bob = world.customers(2, "accounts/0")
    await world.open(alice, bob)
    await settle()
    gate = closed(world)
    command = world.transfer(usd(alice), usd(bob), 1_000)
    asking = [asyncio.create_task(ask(world, command))]
    await settle()
    asking.append(asyncio.create_task(ask(world, *[command, cmd.ReadCustomer(alice)] * MANY)))
    await settle()
    world.store.faults = Faults(commit_fails=1.0)
    gate.set()
    for replies in await asyncio.gather(*asking):
        assert set(replies) == {Unavailable("interrupted")}
    world.store.faults = Faults()
    (view,) = await ask(world, cmd.ReadCustomer(alice))
    assert view.accounts[0].posted == 100_000
    (receipt,) = await ask(world, command)
    assert receipt.status == TransferStatus.COMPLETED


@scenario
async def a_lost_answer_is_found_again(world: World) -> None:
    alice, bob = world.customers(2, "accounts/0")
    await world.open(alice, bob)
    command = world.transfer(usd(alice), usd(bob), 1_000)
    too_much = world.transfer(usd(alice), usd(bob), 10_000_000)
    world.store.faults = Faults(answer_lost=1.0)
    assert await ask(world, command, too_much) == [Unavailable("interrupted")] * 2
    world.store.faults = Faults()
    receipt, rejection = await ask(world, command, too_much)
    assert receipt.status == TransferStatus.COMPLETED
    assert rejection.code == "insufficient_funds"
    assert posted(world, bob) == 101_000


@scenario
async def a_refusal_stays_a_refusal(world: World) -> None:
    alice, bob = world.customers(2, "accounts/0")
    await world.open(alice, bob)
    command = world.transfer(usd(alice), usd(bob), 150_000)
    (rejection,) = await ask(world, command)
    await world.call(world.transfer(usd(bob), usd(alice), 90_000))
    assert await ask(world, command) == [rejection]
    world.crash("accounts/0")
    world.start("accounts/0")
    assert await ask(world, command) == [rejection]


# -- bounds, places -----------------------------------------------------------------------


@scenario
async def who_asks_at_the_wrong_place_is_told_so(world: World) -> None:
    alice, bob = world.pair()
    await world.open(alice, bob)
    partition = world.partitions[world.owner(str(alice))]
    mine, other = await partition.request([cmd.ReadCustomer(alice), cmd.ReadCustomer(bob)])
    assert mine.customer == alice
    assert type(other) is Moved


@scenario
async def a_full_queue_takes_no_more(world: World) -> None:
    (alice,) = world.customers(1, "accounts/0")
    await world.open(alice)
    partition = world.partitions["accounts/0"]
    size = world.options.inbox_items_max + 1
    replies = await partition.request([cmd.ReadCustomer(alice)] * size)
    assert replies == [Unavailable("overloaded")] * size
    assert (await partition.request([]), partition.describe()["queue"]) == ([], 0)


@scenario
async def entities_are_dropped_when_idle_and_read_again(world: World) -> None:
    customers = world.customers(12, "accounts/0")
    await world.open(*customers)
    partition = world.partitions["accounts/0"]
    for _ in range(5):
        await world.call(world.transfer(usd(customers[0]), usd(customers[1]), 1))
        await settle()
        partition.tick()
    await settle()
    assert partition.describe()["entities"] <= 6
    view = await world.call(cmd.ReadCustomer(customers[-1]))
    assert view.accounts[0].posted == 100_000


# -- one turn -----------------------------------------------------------------------------


@scenario
async def a_return_within_a_partition_is_told_as_one(world: World) -> None:
    alice, bob = world.customers(2, "accounts/0")
    await world.open(alice, bob)
    command = world.transfer(usd(alice), account_number(bob, 7), 1_000)
    (receipt,) = await ask(world, command)
    assert (receipt.status, receipt.reason) == (
        TransferStatus.RETURNED,
        "unknown_destination_account",
    )
    assert posted(world, alice) == 100_000


@scenario
async def a_promise_to_two_customers_of_one_partition_is_one_turn(world: World) -> None:
    alice, bob, carol = world.customers(3, "accounts/0")
    await world.open(alice, bob, carol)
    before = world.store.writes
    legs = tuple(world.transfer(usd(alice), usd(to), 1_000) for to in (bob, carol))
    (reply,) = await ask(world, cmd.LinkedTransfers(world.id(), b"g", legs))
    assert [result.status for result in reply.results] == [TransferStatus.COMPLETED] * 2
    assert world.store.writes == before + 1


@scenario
async def closing_and_paying_in_one_batch_keep_their_order(world: World) -> None:
    alice, bob = world.customers(2, "accounts/0")
    await world.open(alice, bob)
    number = account_number(bob, 1)
    close = cmd.SetAccountStatus(world.id(), b"c", number, AccountStatus.CLOSED)
    late = world.transfer(account_number(alice, 1), number, 1, "CNY")
    closed_reply, refused = await ask(world, close, late)
    assert closed_reply.account.status == AccountStatus.CLOSED
    assert refused.code == "insufficient_funds"


# -- incarnations -------------------------------------------------------------------------


@scenario
async def a_stale_incarnation_ends_at_its_first_write(world: World) -> None:
    alice, bob = world.customers(2, "accounts/0")
    await world.open(alice, bob)
    world.ticking = False
    stale = world.partitions["accounts/0"]
    world.start("accounts/0")
    await settle()
    assert stale.describe()["state"] == "running"
    command = world.transfer(usd(alice), usd(bob), 1_000)
    assert await stale.request([command]) == [Unavailable("interrupted")]
    assert stale.describe()["state"] == "fenced"
    assert await stale.request([command]) == [Unavailable("fenced")]
    with pytest.raises(Interrupted):
        await stale.receive(Shipment("accounts/1", 1, []))
    (view,) = await ask(world, cmd.ReadCustomer(alice))
    assert view.accounts[0].posted == 100_000


@scenario
async def a_stale_incarnation_answers_no_question(world: World) -> None:
    (alice,) = world.customers(1, "accounts/0")
    await world.open(alice)
    world.ticking = False
    stale = world.partitions["accounts/0"]
    world.start("accounts/0")
    await settle()
    assert await stale.request([cmd.ReadCustomer(alice)]) == [Unavailable("interrupted")]
    assert stale.describe()["state"] == "fenced"


@scenario
async def a_stale_incarnation_ends_even_if_nobody_asks_it(world: World) -> None:
    stale = world.partitions["accounts/0"]
    world.start("accounts/0")
    await settle()
    assert stale.describe()["state"] == "fenced"


@scenario
async def a_stale_incarnation_saves_no_checkpoint(world: World) -> None:
    alice, bob = world.customers(2, "accounts/0")
    await world.open(alice, bob)
    stale = world.partitions["accounts/0"]
    assert stale.describe()["since_checkpoint"]
    world.ticking = False
    world.start("accounts/0")
    await world.partitions["accounts/0"].ready()
    before = world.store.checkpoints.get("accounts/0")
    await asyncio.sleep(0.6)
    stale.tick()
    await settle()
    assert stale.describe()["state"] == "fenced"
    assert world.store.checkpoints.get("accounts/0") == before


@scenario
async def a_checkpoint_waits_until_nothing_is_open(world: World) -> None:
    alice, bob = world.customers(2, "accounts/0")
    await world.open(alice, bob)
    await world.quiet()
    await world.call(world.transfer(usd(alice), usd(bob), 1))
    gate = closed(world)
    many = [world.transfer(usd(alice), usd(bob), 1) for _ in range(MANY)]
    asking = [asyncio.create_task(ask(world, *many[:1]))]
    await asyncio.sleep(0.1)
    asking.append(asyncio.create_task(ask(world, *many[1:])))
    before = world.store.checkpoints["accounts/0"]
    await settle()
    world.partitions["accounts/0"].tick()
    await settle()
    assert world.store.checkpoints["accounts/0"] == before
    gate.set()
    await asyncio.gather(*asking)
    await world.quiet()
    assert world.store.checkpoints["accounts/0"].seq > before.seq


@scenario
async def a_stop_writes_what_is_open(world: World) -> None:
    alice, bob = world.customers(2, "accounts/0")
    await world.open(alice, bob)
    await world.quiet()
    partition = world.partitions["accounts/0"]
    gate = closed(world)
    many = [world.transfer(usd(alice), usd(bob), 1) for _ in range(MANY)]
    asking = [asyncio.create_task(partition.request(many[:1]))]
    await settle()
    asking.append(asyncio.create_task(partition.request(many[1:])))
    await settle()
    assert partition.describe()["queue"] == 0
    stopping = asyncio.create_task(partition.stop())
    await settle()
    assert await partition.request(many[:1]) == [Unavailable("running")]
    gate.set()
    await stopping
    for replies in await asyncio.gather(*asking):
        assert {reply.status for reply in replies} == {TransferStatus.COMPLETED}
    assert partition.describe()["state"] == "stopped"
    assert partition.describe()["since_checkpoint"] == 0
    world.start("accounts/0")
    await world.partitions["accounts/0"].ready()
    same_memory(world, "accounts/0", replay(world).works["accounts/0"])
    assert world.partitions["accounts/0"].statistics.recoveries == 1


@scenario
async def a_stop_without_a_database_ends_too(world: World) -> None:
    alice, bob = world.customers(2, "accounts/0")
    await world.open(alice, bob)
    world.store.faults = Faults(commit_fails=1.0, read_fails=1.0)
    partition = world.partitions["accounts/0"]
    asking = asyncio.create_task(ask(world, world.transfer(usd(alice), usd(bob), 1)))
    await asyncio.sleep(0)
    await partition.stop()
    assert await asking == [Unavailable("interrupted")]
    assert partition.describe()["state"] == "stopped"
    world.store.faults = Faults()
    world.start("accounts/0")


@scenario
async def books_that_do_not_balance_stop_the_partition(world: World) -> None:
    class Generous(AccountsMachine):
        def house_postings(self, event: Any) -> tuple[tuple[str, str, int], ...]:
            return () if type(event) is ev.TransferSent else super().house_postings(event)

    alice, bob = world.customers(2, "accounts/0")
    await world.open(alice, bob)
    await settle()
    partition = world.partitions["accounts/0"]
    partition._work.machine = Generous(partition._machine.policy)  # type: ignore[attr-defined]
    written = world.store.writes
    command = world.transfer(usd(alice), usd(bob), 1_000)
    assert await partition.request([command]) == [Unavailable("interrupted")]
    assert partition.describe()["state"] == "halted"
    assert "do not sum to zero" in partition.describe()["reason"]
    assert world.store.writes == written
    world.start("accounts/0")


# -- bugs ---------------------------------------------------------------------------------


@scenario
async def whoever_the_rules_fail_for_is_refused_and_others_go_on(world: World) -> None:
    alice, bob = world.customers(2, "accounts/0")
    await world.open(alice, bob)
    partition = world.partitions["accounts/0"]
    failed, right = 0, False

    class Broken(AccountsMachine):
        def decide(self, state: Any, command: Any, now: int) -> Any:
            nonlocal failed
            if type(command) is cmd.ReadCustomer and command.customer == alice and not right:
                failed += 1
                raise KeyError("a bug")
            return super().decide(state, command, now)

    partition._machine = partition._work.machine = Broken(world.machine.policy)
    for _ in range(5):
        (answer,) = await ask(world, cmd.ReadCustomer(alice))
        assert type(answer) is Unavailable
        await settle()
    assert failed == FAILURES_MAX
    assert answer == Unavailable("quarantined")
    (receipt,) = await ask(world, world.transfer(usd(bob), usd(alice), 1_000))
    assert type(receipt) is cmd.Receipt
    assert partition.describe()["reason"] == f"refuses commands of {alice}: decisions failed"
    await asyncio.sleep(REFUSED_S)
    await ask(world, cmd.ReadCustomer(alice))
    assert failed == FAILURES_MAX + 1
    right = True
    await asyncio.sleep(REFUSED_S + 10)
    assert await ask(world, cmd.ReadCustomer(alice)) == [Unavailable("quarantined")]
    await asyncio.sleep(REFUSED_S)
    (view,) = await ask(world, cmd.ReadCustomer(alice))
    assert view.accounts[0].posted == 101_000
    assert not partition.describe()["reason"]


@pytest.mark.parametrize("told", scenario, ids=lambda told: told.__name__)
def test_partition(told: Scenario) -> None:
    play(told)
