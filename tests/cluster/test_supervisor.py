"""The supervisor against a real database and actors that are only pretended.

What it decides is shown here, step by step and crash by crash; that Ray does what it is told is
shown in ``test_nodes`` and by the platform's own tests.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from actors.durable import placement as wishes
from actors.durable.supervisor import Supervisor
from actors.durable.watched import Answer, Limits, Node, name_of, parse_name
from persistence import placement, supervision
from persistence.database import Pool
from persistence.journal import prepare_streams
from persistence.placement import StreamRow

KIND = "accounts"
A, B = Node("a" * 8, "10.0.0.1", "a", True), Node("b" * 8, "10.0.0.2", "b", False)
C = Node("c" * 8, "10.0.0.3", "c", False)


class Crash(Exception):
    """The supervisor's process ends here."""


class Pretended(msgspec.Struct):
    """An actor that takes the epoch when it starts, as a partition does."""

    stream: str
    node: str
    made: str
    pid: int
    state: str = "starting"
    epoch: int = 0
    slots: int | None = None
    reason: str = ""
    stopped: bool = False
    waited: bool = False


class Town:
    """Hosts whose actors start when they are first asked; counts each call, may crash at one."""

    def __init__(self, pool: Pool, *nodes: Node) -> None:
        self.pool = pool
        self.made = "now"
        self.alive = list(nodes) or [A]
        self.actors: dict[str, Pretended] = {}
        self.ended: list[tuple[str, bool]] = []
        self.crash_at = -1
        self.calls = 0
        self.broken = False
        self.slow = False
        self.spares: list[str] = []
        self.pids = 0

    def _call(self) -> None:
        self.calls += 1
        if self.calls == self.crash_at:
            raise Crash

    async def names(self) -> list[str]:
        self._call()
        return list(self.actors)

    async def nodes(self) -> list[Node]:
        self._call()
        return list(self.alive)

    async def start(self, name: str, row: StreamRow, node: str | None) -> None:
        self._call()
        assert name not in self.actors
        self.pids += 1
        where = node or self.alive[0].node
        self.actors[name] = Pretended(row.stream, where, self.made, self.pids)
        self._call()

    async def ask(self, name: str, timeout_s: float) -> Answer:
        actor = self.actors.get(name)
        if actor is None or self.broken:
            self.actors.pop(name, None)
            return Answer("gone")
        if actor.state == "starting" and self.slow:
            return Answer("silent")
        if actor.state == "starting":
            actor.epoch = await self.take_epoch(actor.stream)
            actor.state = "running"
        if actor.state in {"silent", "away"}:
            return Answer(actor.state)
        slots = await self.slots(actor.stream) if actor.slots is None else actor.slots
        return Answer(
            actor.state,
            actor.epoch,
            slots,
            actor.pid,
            actor.node,
            actor.reason,
            actor.made,
            actor.waited,
        )

    async def stop(self, name: str, timeout_s: float) -> None:
        self._call()
        self.actors[name].stopped = True
        self.actors[name].state = "stopped"

    async def keep_spare(self, node: str) -> None:
        self.spares.append(node)

    async def kill(self, name: str, pid: int, node: str) -> None:
        self._call()
        actor = self.actors.pop(name, None)
        if actor is not None:
            self.ended.append((name, actor.stopped))

    async def take_epoch(self, stream: str) -> int:
        epoch: int = await self.pool.fetchval(
            "UPDATE streams SET epoch = epoch + 1 WHERE stream = $1 RETURNING epoch", stream
        )
        return epoch

    async def slots(self, stream: str) -> int:
        count: int = await self.pool.fetchval(
            "SELECT count(*) FROM slots WHERE stream = $1", stream
        )
        return count

    def of(self, stream: str) -> Pretended:
        """The one actor of a stream."""
        (actor,) = [actor for actor in self.actors.values() if actor.stream == stream]
        return actor


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Scene:
    """A supervisor, its town and its clock."""

    def __init__(self, pool: Pool, *nodes: Node) -> None:
        self.pool = pool
        self.town = Town(pool, *nodes)
        self.clock = Clock()
        self.supervisor = self.another()

    def another(self) -> Supervisor:
        return Supervisor(self.pool, KIND, self.town, Limits(look_every_s=2.0), self.clock)

    async def look(self, times: int = 1, *, every_s: float = 1.0) -> None:
        for _ in range(times):
            await self.supervisor.look()
            await self.supervisor.settle()
            self.clock.now += every_s

    def told(self, event: str) -> list[str]:
        """What was said of such events, oldest first."""
        return [e.what for e in self.supervisor.events if e.event == event]

    async def release(self, slots: str, stream: str) -> None:
        """As if the owner had handed slots over."""
        await self.pool.execute(
            f"UPDATE slots SET stream = $1, target = NULL WHERE {slots}", stream
        )


@pytest.fixture
async def scene(pool: Pool) -> Scene:
    """Two streams that share the slots, on one node."""
    await prepare_streams(pool, KIND, 2)
    return Scene(pool)


async def spread_over(scene: Scene, *nodes: Node) -> None:
    scene.town.alive = list(nodes)
    await scene.look(2)


async def test_each_stream_with_slots_gets_one_actor(scene: Scene) -> None:
    await scene.look(4)
    assert sorted(actor.stream for actor in scene.town.actors.values()) == [
        "accounts/0",
        "accounts/1",
    ]
    assert len(scene.told("started")) == 2
    assert scene.town.ended == []


async def test_names_are_unique_for_ever() -> None:
    assert parse_name(name_of("accounts/pin-1", 12)) == ("accounts/pin-1", 12)
    assert parse_name("SERVE_CONTROLLER_ACTOR") is None


async def test_a_wish_to_scale_is_followed_at_the_next_look(scene: Scene) -> None:
    await scene.look(2)
    await wishes.scale(scene.pool, KIND, 4)
    await scene.look()
    assert {a.stream for a in scene.town.actors.values()} == {f"accounts/{i}" for i in range(4)}


async def test_a_pinned_key_gets_its_actor_before_it_has_a_slot(scene: Scene) -> None:
    await scene.look(2)
    stream = await placement.pin(scene.pool, KIND, "4711")
    await scene.look(2)
    assert scene.town.of(stream).state == "running"


async def test_a_stream_without_slots_is_stopped_in_order(scene: Scene) -> None:
    await scene.look(2)
    (name,) = [n for n, actor in scene.town.actors.items() if actor.stream == "accounts/1"]
    await wishes.scale(scene.pool, KIND, 1)
    await scene.look(2)
    assert name in scene.town.actors  # its slots are still on their way
    await scene.release("true", "accounts/0")
    await scene.look(2)
    assert scene.town.ended == [(name, True)]
    assert [a.stream for a in scene.town.actors.values()] == ["accounts/0"]
    assert scene.told("retired")


async def test_a_hung_actor_is_killed_and_replaced(scene: Scene) -> None:
    await scene.look(2)
    scene.town.of("accounts/1").state = "silent"
    await scene.look(2)
    assert scene.town.ended == []  # two missed answers prove nothing
    await scene.look(3)
    assert len(scene.town.ended) == 1
    assert not scene.town.ended[0][1]  # there is nobody to stop in order
    assert scene.town.of("accounts/1").state == "running"
    assert scene.told("hung")


async def test_a_slow_start_is_not_a_hang(scene: Scene) -> None:
    await scene.look()
    scene.town.of("accounts/1").state = "silent"
    scene.supervisor = scene.another()
    await scene.look(10)
    assert scene.town.ended == []
    await scene.look(60)
    assert len(scene.town.ended) == 1
    assert scene.told("did not start")


async def test_an_actor_that_ray_restarts_is_left_to_ray(scene: Scene) -> None:
    await scene.look(2)
    actor = scene.town.of("accounts/0")
    actor.state = "away"
    await scene.look(2)
    actor.state = "silent"  # its new process is there, and does not speak yet
    await scene.look(5)
    actor.state, actor.pid = "starting", 99
    await scene.look(2)
    assert scene.town.ended == []
    assert len(scene.told("died")) == len(scene.told("restarted")) == 1


async def test_a_halted_partition_is_reported_once_and_left_alone(scene: Scene) -> None:
    await scene.look(2)
    actor = scene.town.of("accounts/0")
    actor.state, actor.reason = "halted", "The books do not sum to zero"
    await scene.look(10)
    assert scene.town.ended == []
    assert scene.told("halted") == ["The books do not sum to zero"]
    kept = [i for i in await supervision.incidents(scene.pool) if i.event == "halted"]
    assert [(i.stream, i.what) for i in kept] == [("accounts/0", "The books do not sum to zero")]


async def test_an_actor_of_an_old_epoch_is_replaced(scene: Scene) -> None:
    await scene.look(2)
    await scene.town.take_epoch("accounts/0")  # somebody whom nobody can find
    await scene.look(3)
    assert scene.town.ended == []
    await scene.look(5)
    (row, _) = await placement.placement(scene.pool, KIND)
    assert scene.town.of("accounts/0").epoch == row.epoch
    assert scene.told("stale epoch")


async def test_a_partition_with_other_slots_than_the_map_is_replaced_once(scene: Scene) -> None:
    await scene.look(2)
    scene.town.of("accounts/0").slots = 0
    await scene.look(8)
    assert len(scene.told("other slots")) == 1
    scene.town.of("accounts/0").slots = 7  # it does not help
    await scene.look(20)
    assert len(scene.town.ended) == 1
    assert len(scene.told("not replaced")) == 1


async def test_slots_on_their_way_are_no_reason_to_doubt(scene: Scene) -> None:
    await scene.look(2)
    await wishes.scale(scene.pool, KIND, 1)
    scene.town.of("accounts/1").slots = 5
    await scene.look(10)
    assert scene.town.ended == []


async def test_slots_that_nobody_owns_are_reported(scene: Scene) -> None:
    await scene.pool.execute("DELETE FROM slots WHERE slot IN (7, 8)")
    await scene.look(3)
    assert scene.told("slots unowned") == ["2 slots have no owner: 7, 8"]


async def test_one_that_cannot_start_is_tried_less_and_less_often(scene: Scene) -> None:
    scene.town.broken = True
    await scene.look(40)
    assert 2 * 4 <= len(scene.told("started")) <= 2 * 7
    scene.town.broken = False
    await scene.look(40)
    assert scene.town.of("accounts/0").state == "running"


async def test_what_another_supervisor_started_is_found(scene: Scene) -> None:
    await scene.look(2)
    scene.supervisor = scene.another()
    await scene.look(5)
    assert len(scene.town.actors) == 2
    assert scene.told("started") == []


async def test_other_settings_replace_the_actors(scene: Scene) -> None:
    await scene.look(2)
    before = set(scene.town.actors)
    scene.town.made = "later"
    scene.supervisor = scene.another()
    await scene.look(10)
    assert not before & set(scene.town.actors)
    assert {actor.made for actor in scene.town.actors.values()} == {"later"}


async def test_partitions_are_spread_over_the_nodes(scene: Scene) -> None:
    await spread_over(scene, A, B)
    assert {actor.node for actor in scene.town.actors.values()} == {A.node, B.node}
    rows = await supervision.nodes(scene.pool)
    assert {row.name: row.partitions for row in rows} == {"a": 1, "b": 1}


async def test_processes_are_kept_in_reserve_and_one_that_was_used_is_replaced(
    scene: Scene,
) -> None:
    await scene.look(10)
    assert scene.town.spares == [A.node] * 2
    actor = scene.town.of("accounts/0")
    actor.pid, actor.waited = 99, True
    await scene.look(10)
    assert scene.town.spares == [A.node] * 3
    scene.town.of("accounts/1").pid = 98  # it found none that had waited
    await scene.look(10)
    assert scene.town.spares == [A.node] * 5


async def test_a_node_that_is_emptied_gets_no_process_in_reserve(scene: Scene) -> None:
    await spread_over(scene, A, B)
    await supervision.wish_drained(scene.pool, B.node, True)
    await scene.look(10)
    assert set(scene.town.spares) == {A.node}


async def test_a_drained_node_is_emptied_and_the_new_one_runs_first(scene: Scene) -> None:
    await spread_over(scene, A, B)
    (old,) = [n for n, actor in scene.town.actors.items() if actor.node == B.node]
    await supervision.wish_drained(scene.pool, B.node, True)
    scene.town.slow = True
    await scene.look(5)
    assert len(scene.town.actors) == 3  # the old one takes commands until the new one can
    assert not scene.town.actors[old].stopped
    scene.town.slow = False
    await scene.look(4)
    assert {actor.node for actor in scene.town.actors.values()} == {A.node}
    assert [name for name, _ in scene.town.ended] == [old]
    await scene.look(40)
    assert len(scene.town.ended) == 1  # nor does it go back, however uneven that is
    await supervision.wish_drained(scene.pool, B.node, False)
    await scene.look(40)
    assert {actor.node for actor in scene.town.actors.values()} == {A.node, B.node}


async def test_the_only_node_is_not_emptied(scene: Scene) -> None:
    await scene.look(2)
    await supervision.wish_drained(scene.pool, A.node, True)
    await scene.look(10)
    assert scene.town.ended == []


async def test_a_node_that_is_lost_is_told_of_and_its_partitions_come_back(scene: Scene) -> None:
    await spread_over(scene, A, B)
    scene.town.alive = [A]
    (old,) = [actor for actor in scene.town.actors.values() if actor.node == B.node]
    old.state = "away"  # it may be restarted on its own node only, and that is gone
    await scene.look(3)
    assert {actor.node for actor in scene.town.actors.values()} == {A.node}
    assert scene.told("node lost")
    assert [row.alive for row in await supervision.nodes(scene.pool)] == [True, False]


async def test_a_new_node_gets_its_share_after_a_while(scene: Scene) -> None:
    await scene.look(5)
    await spread_over(scene, A, C)
    assert {actor.node for actor in scene.town.actors.values()} == {A.node}
    await scene.look(40)
    assert {actor.node for actor in scene.town.actors.values()} == {A.node, C.node}
    assert len(scene.town.ended) == 1


def _hang(scene: Scene) -> None:
    scene.town.of("accounts/0").state = "silent"


def _outdate(scene: Scene) -> None:
    scene.town.made = "later"


def _leave(scene: Scene) -> None:
    scene.town.alive = [B]
    for name in [n for n, actor in scene.town.actors.items() if actor.node == A.node]:
        del scene.town.actors[name]


@pytest.mark.parametrize("trouble", [_hang, _outdate, _leave])
async def test_a_supervisor_that_ends_at_any_step_is_followed_by_one_that_goes_on(
    scene: Scene, trouble: Callable[[Scene], None]
) -> None:
    await spread_over(scene, A, B)
    await wishes.scale(scene.pool, KIND, 3)
    trouble(scene)
    crashes = 0
    for step in range(1, 40):
        scene.town.crash_at = scene.town.calls + step
        try:
            await scene.look(6)
        except Crash:
            crashes += 1
        scene.town.crash_at = -1
        scene.supervisor = scene.another()
    assert crashes > 5
    await scene.look(80)
    rows = await placement.placement(scene.pool, KIND)
    assert len(scene.town.actors) == 3
    for row in rows:
        actor = scene.town.of(row.stream)
        assert actor.state == "running"
        assert actor.epoch == row.epoch
        assert actor.made == scene.town.made
