"""What the scenarios of the durable runtime are told with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from cluster.simulation.virtual import run_virtual
from tests.actors.durable.audit import audit
from tests.actors.durable.world import World, usd

Scenario = Callable[[World], Coroutine[Any, Any, None]]

MANY = 300
"""So many that they are decided while a commit is under way."""


class Scenarios(list[Scenario]):
    """The scenarios of a module: a decorator that collects them."""

    def __call__(self, scenario: Scenario) -> Scenario:
        self.append(scenario)
        return scenario


def play(scenario: Scenario) -> None:
    """Play on two partitions, then see that nothing is left on its way and the books are right."""

    async def main() -> None:
        world = World(1, 2, memory_bytes_max=12_000, inbox_items_max=1_000)
        world.start_all()
        async with asyncio.timeout(3_600):
            await scenario(world)
        await world.quiet()
        audit(world)

    run_virtual(main)


def closed(world: World, stream: str = "accounts/0") -> asyncio.Event:
    """Hold up the commits of a stream until the event is set."""
    gate = world.store.gates[stream] = asyncio.Event()
    return gate


async def settle() -> None:
    """Let everything happen that can."""
    await asyncio.sleep(3)


async def ask(world: World, *commands: Any) -> list[Any]:
    """One attempt, all in one batch, at the partition of the first command."""
    return await world.partitions[world.owner(world.machine.key(commands[0]))].request(commands)


def posted(world: World, customer: int) -> int:
    """What the customer's partition has in memory."""
    partition = world.partitions[world.owner(str(customer))]
    amount: int = partition._work.entities[str(customer)].state.accounts[usd(customer)].posted
    return amount
