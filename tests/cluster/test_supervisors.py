"""The supervisors of two kinds over the same nodes: each its own actors, one voice about nodes."""

from __future__ import annotations

import pytest

from actors.durable.supervisor import Supervisor
from actors.durable.watched import Census, Limits
from persistence import supervision
from persistence.database import Pool
from persistence.journal import prepare_streams
from tests.cluster.test_supervisor import A, B, Clock, Town

KINDS = {"accounts": 2, "books": 1}


class Pair:
    """Both supervisors, as the platform runs them."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.clock = Clock()
        census = Census()
        self.towns = {kind: Town(pool, A) for kind in KINDS}
        self.supervisors = {
            kind: Supervisor(pool, kind, town, Limits(look_every_s=2.0), self.clock, census)
            for kind, town in self.towns.items()
        }

    async def look(self, times: int) -> None:
        for _ in range(times):
            for supervisor in self.supervisors.values():
                await supervisor.look()
                await supervisor.settle()
            self.clock.now += 1.0

    async def partitions(self) -> dict[str, int]:
        """Living nodes by name, with their partitions."""
        return {row.name: row.partitions for row in await supervision.nodes(self.pool) if row.alive}

    def told(self, event: str) -> list[str]:
        """What both said of such events."""
        return [e.what for s in self.supervisors.values() for e in s.events if e.event == event]


@pytest.fixture
async def pair(pool: Pool) -> Pair:
    for kind, count in KINDS.items():
        await prepare_streams(pool, kind, count)
    return Pair(pool)


async def test_each_kind_has_its_own_actors(pair: Pair) -> None:
    await pair.look(4)
    for kind, count in KINDS.items():
        streams = sorted(actor.stream for actor in pair.towns[kind].actors.values())
        assert streams == [f"{kind}/{index}" for index in range(count)]
        assert pair.towns[kind].ended == []


async def test_a_node_counts_partitions_of_all_kinds(pair: Pair) -> None:
    await pair.look(4)
    assert await pair.partitions() == {"a": 3}


async def test_nodes_are_spoken_of_once(pair: Pair) -> None:
    await pair.look(2)
    for town in pair.towns.values():
        town.alive = [A, B]
    await pair.look(2)
    assert pair.told("node joined") == ["node b has joined"]
    for town in pair.towns.values():
        town.alive = [A]
    await pair.look(2)
    assert pair.told("node lost") == ["node b is gone"]


async def test_a_partition_goes_where_there_are_fewest_of_all_kinds(pair: Pair) -> None:
    """Two accounts' partitions are on the first node, so the books' goes to the other."""
    pair.towns["books"].alive = pair.towns["accounts"].alive = [A]
    await pair.supervisors["accounts"].look()
    await pair.supervisors["accounts"].settle()
    for town in pair.towns.values():
        town.alive = [A, B]
    await pair.look(2)
    assert pair.towns["books"].of("books/0").node == B.node


async def test_a_node_that_is_emptied_is_emptied_of_all_kinds(pair: Pair) -> None:
    await pair.look(3)
    for town in pair.towns.values():
        town.alive = [A, B]
    await pair.look(2)
    await supervision.wish_drained(pair.pool, A.node, True)
    await pair.look(12)
    assert await pair.partitions() == {"a": 0, "b": 3}
