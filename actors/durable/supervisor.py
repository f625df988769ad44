"""The supervisor: makes the actors that run equal to those that Postgres wants.

Each stream that has slots, or is to get some, has one actor; no other stream has any. The
supervisor keeps nothing that it could not find out again: what is wanted is in Postgres, what runs
is known to Ray, and each step leaves a state from which a new supervisor goes on. It never moves a
slot and never writes for a partition. Two actors of one stream do no harm, because the epoch
fences the older one; that is how a partition is replaced: the new one starts beside the old one,
takes the epoch when it is ready, and only then is the old one ended.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import structlog

from actors.durable.reserve import Reserve
from actors.durable.watched import (
    Census,
    Event,
    Hosts,
    Limits,
    Node,
    Watched,
    name_of,
    parse_name,
)
from persistence import placement, supervision
from persistence.database import OUTAGES, Pool
from persistence.placement import StreamRow
from persistence.supervision import NodeRow

log = structlog.get_logger(__name__)

_EVENTS_MAX: Final = 200
_STEADY: Final = 5
"""So many looks in a row must say the same before a strange sight is believed."""
_EXPECTED: Final = {"started", "restarted", "moving", "replaced", "retired", "node joined"}
_TRIES_MAX: Final = 3
"""An actor that fails so often at the start of the platform is not waited for."""


class Supervisor:
    """Watches over the partitions of one kind. ``run`` it, or call ``look`` now and then."""

    def __init__(
        self,
        pool: Pool,
        kind: str,
        hosts: Hosts,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
        census: Census | None = None,
        reserve: Reserve | None = None,
    ) -> None:
        self.kind = kind
        self.events: deque[Event] = deque(maxlen=_EVENTS_MAX)
        self.actors: dict[str, Watched] = {}
        self.nodes: dict[str, Node] = {}
        self._pool = pool
        self._hosts = hosts
        self._limits = limits or Limits()
        self._clock = clock
        self._census = census or Census()
        self._reserve = reserve or Reserve(clock=clock)
        self._leads = self._census.join(kind)
        self._draining: frozenset[str] = frozenset()
        self._unowned: list[int] = []
        self._surveyed_at = float("-inf")
        self._uneven_since: float | None = None
        self._replaced: dict[str, float] = {}
        self._failed: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        self._noted: tuple[float, list[NodeRow]] = (float("-inf"), [])
        self._tasks: set[asyncio.Task[None]] = set()

    # -- the loop -------------------------------------------------------------------------

    async def run(self) -> None:
        """Look again and again, until cancelled; an outage of anything ends nothing."""
        while True:
            try:
                await self.look()
            except OUTAGES as error:
                log.info("supervisor waits", error=f"{type(error).__name__}: {error}")
            except Exception:
                log.exception("supervisor looks again")
            await asyncio.sleep(self._limits.look_every_s)

    async def look(self) -> None:
        """Compare what is wanted with what runs, and begin whatever brings them together."""
        if self._clock() - self._surveyed_at >= self._limits.survey_every_s:
            await self._survey()
        await self._ask_all()
        rows = await placement.placement(self._pool, self.kind)
        known = {row.stream for row in rows}
        for row in rows:
            await self._attend(row)
        for actor in self._living():
            if actor.stream not in known:
                self._end(actor, "retired", "there is no such stream")
        await self._move_off(rows)
        self._keep_spares()

    async def settle(self) -> None:
        """Wait until nothing that was begun is under way."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def bring_up(self, timeout_s: float) -> bool:
        """Look until every wanted stream has an actor that answers; whether they all do."""
        deadline = self._clock() + timeout_s
        while self._clock() < deadline and max(self._failed.values(), default=0) < _TRIES_MAX:
            await self.look()
            answering = {actor.stream for actor in self._living() if actor.answer.answered}
            rows = await placement.placement(self._pool, self.kind)
            if all(row.stream in answering for row in rows if row.wanted):
                return True
            await asyncio.sleep(0.05)
        return False

    # -- seeing ---------------------------------------------------------------------------

    async def _survey(self) -> None:
        """Learn of nodes and of actors that somebody else has started or ended."""
        now = self._clock()
        nodes = {node.node: node for node in await self._hosts.nodes()}
        if self._leads and self.nodes:
            for gone in self.nodes.keys() - nodes.keys():
                self._tell("node lost", f"node {self.nodes[gone].name} is gone", node=gone)
            for new in nodes.keys() - self.nodes.keys():
                self._tell("node joined", f"node {nodes[new].name} has joined", node=new)
        self.nodes = nodes
        names = await self._hosts.names()
        for name in names:
            self._watch(name)
        for actor in list(self.actors.values()):
            over = actor.answer.state == "gone" or actor.ending
            if over and actor.name not in names:
                del self.actors[actor.name]
            elif actor.ending and now - actor.ending_since > 2 * self._limits.stop_timeout_s:
                actor.ending = False  # it would not end: once more
        await self._note_nodes(now)
        self._surveyed_at = now

    def _watch(self, name: str) -> None:
        parsed = parse_name(name)
        if name not in self.actors and parsed is not None:
            self.actors[name] = Watched(name, *parsed, since=self._clock())

    async def _note_nodes(self, now: float) -> None:
        """Write the nodes down for commands and pages, and read which are to be emptied."""
        self._census.count(self.kind, Counter(actor.node for actor in self._living()))
        living = self._census.total()
        rows = [
            NodeRow(node.node, node.address, node.name, node.head, True, False, living[node.node])
            for node in self.nodes.values()
        ]
        noted_at, noted = self._noted
        if rows != noted or now - noted_at >= self._limits.note_every_s:
            if self._leads:
                await supervision.see_nodes(self._pool, rows)
                await supervision.prune(self._pool)
            await self._find_unowned()
            self._noted = (now, rows)
        self._draining = frozenset(await supervision.draining(self._pool))

    async def _find_unowned(self) -> None:
        """Find slots that nobody owns.

        They are not given out here: somebody who runs may have them in memory, and whose they are
        only the journals tell (``kontor journal rebuild``).
        """
        unowned = await supervision.unowned_slots(self._pool, self.kind)
        if unowned and unowned != self._unowned:
            self._tell("slots unowned", f"{len(unowned)} slots have no owner: {_few(unowned)}")
        self._unowned = unowned

    async def _ask_all(self) -> None:
        """Ask each actor for its condition; wait a moment only, since a hung one never answers."""
        now = self._clock()
        for actor in self._living():
            due = now - actor.asked_at >= (self._limits.ask_every_s if actor.answered else 0.0)
            if actor.asking is None and due:
                actor.asked_at = now
                actor.asking = asyncio.create_task(self._ask(actor))
        asking = [actor.asking for actor in self._living() if actor.asking is not None]
        if asking:
            await asyncio.wait(asking, timeout=self._limits.look_every_s / 2)

    async def _ask(self, actor: Watched) -> None:
        try:
            answer = await self._hosts.ask(actor.name, self._limits.ask_timeout_s)
        finally:
            actor.asking = None
        before, actor.answer = actor.answer, answer
        if answer.state == "away" and actor.answered:
            # It has to start first, which may take longer than an answer.
            actor.answered, actor.missed, actor.since = False, 0, self._clock()
            self._tell("died", "its process is gone; Ray starts it again", actor)
        elif answer.state == "gone" and before.state != "gone" and not actor.ending:
            self._tell("ended", answer.reason or "it has ended for good", actor)
            if not actor.pid:
                self._failed_to_start(actor.stream)
        actor.missed += answer.state == "silent"
        if not answer.answered:
            actor.strange = 0
            return
        if answer.pid != actor.pid:
            self._reserve.begun(answer.node, had_waited=answer.waited)
            if actor.pid:
                self._tell("restarted", f"process {answer.pid} replaces {actor.pid}", actor)
        actor.answered, actor.missed = True, 0
        actor.pid, actor.node = answer.pid, answer.node
        self._failed.pop(actor.stream, None)

    # -- judging --------------------------------------------------------------------------

    def _living(self) -> list[Watched]:
        """All that may still do something, in no order that means anything."""
        return [a for a in self.actors.values() if a.answer.state != "gone" and not a.ending]

    async def _attend(self, row: StreamRow) -> None:
        """One stream: has it what it should have?"""
        actors = sorted(
            (actor for actor in self._living() if actor.stream == row.stream),
            key=lambda actor: actor.generation,
        )
        if not row.wanted:
            for actor in actors:
                self._end(actor, "retired", "its stream has no slots and awaits none")
            return
        for actor in actors:
            self._judge(actor, row, alone=len(actors) == 1)
        actors = [actor for actor in actors if not actor.ending]
        if not actors:
            await self._start(row)
            return
        owner = next((a for a in reversed(actors) if a.running and a.answer.epoch == row.epoch), 0)
        if owner and owner is actors[-1]:
            for actor in actors[:-1]:
                self._end(actor, "replaced", f"{owner.name} has its place")

    def _judge(self, actor: Watched, row: StreamRow, *, alone: bool) -> None:
        """Is the actor what it should be? Ends it if not; a new one is started then."""
        answer, limits = actor.answer, self._limits
        starting = not actor.answered or answer.state == "away"
        if not answer.answered and actor.node and actor.node not in self.nodes:
            self._end(actor, "lost", "its node is gone")
        elif starting:
            if self._clock() - actor.since > limits.start_patience_s:
                self._end(actor, "did not start", f"not within {limits.start_patience_s:.0f} s")
                self._failed_to_start(actor.stream)
        elif actor.missed >= limits.missed_max:
            self._end(actor, "hung", f"no answer {actor.missed} times; it is ended and replaced")
        elif answer.state in {"stopped", "fenced"}:
            self._end(actor, answer.state, f"it is {answer.state} and does nothing any more")
        elif answer.state == "halted":
            if actor.reported != answer.reason:
                actor.reported = answer.reason
                self._tell("halted", answer.reason, actor)
        elif answer.state == "running" and alone:
            self._doubt(actor, row)

    def _doubt(self, actor: Watched, row: StreamRow) -> None:
        """A running actor must hold the stream's epoch and the slots that the map gives it."""
        answer = actor.answer
        still = not row.arriving and not row.leaving
        if answer.epoch < row.epoch:
            what = f"it runs in epoch {answer.epoch}, the stream is in {row.epoch}"
        elif still and answer.slots != row.slots:
            what = f"it owns {answer.slots} slots, the map says {row.slots}"
        else:
            actor.strange = 0
            return
        actor.strange += 1
        if actor.strange < _STEADY or actor.reported == what:
            return
        actor.reported = what
        if self._may_replace(row.stream):
            event = "stale epoch" if answer.epoch < row.epoch else "other slots"
            self._end(actor, event, f"{what}; it is replaced")
        else:
            self._tell("not replaced", f"{what}, again", actor)

    def _failed_to_start(self, stream: str) -> None:
        """Wait longer each time before the next attempt."""
        failed = self._failed[stream] = self._failed.get(stream, 0) + 1
        delay = min(self._limits.start_delay_max_s, 0.5 * 2.0**failed)
        self._not_before[stream] = self._clock() + delay

    def _may_replace(self, stream: str) -> bool:
        """Whether enough time has passed since it helped nothing."""
        now = self._clock()
        if now - self._replaced.get(stream, float("-inf")) < self._limits.again_after_s:
            return False
        self._replaced[stream] = now
        return True

    # -- nodes ----------------------------------------------------------------------------

    async def _move_off(self, rows: Sequence[StreamRow]) -> None:
        """Replace partitions on nodes that are to be emptied, on outdated code, or crowded."""
        by_stream: dict[str, list[Watched]] = {}
        for actor in self._living():
            by_stream.setdefault(actor.stream, []).append(actor)
        under_way = sum(len(actors) > 1 for actors in by_stream.values())
        crowded = self._crowded(rows, by_stream) if not under_way else None
        for row in rows:
            actors = by_stream.get(row.stream, [])
            if under_way >= self._limits.replaced_at_once_max or len(actors) != 1:
                continue
            (actor,) = actors
            if not row.wanted or not actor.running:
                continue
            why = self._why_move(actor, crowded)
            if why:
                self._tell("moving", f"{why}; another is started elsewhere", actor)
                await self._start(row)
                under_way += 1

    def _why_move(self, actor: Watched, crowded: str | None) -> str:
        if actor.node in self._draining and self._open_nodes():
            return "its node is being emptied"
        if actor.answer.made != self._hosts.made and self._may_replace(actor.stream):
            return "it was started with other settings or other code"
        if actor.name == crowded:
            return "its node has more partitions than others"
        return ""

    def _open_nodes(self) -> list[str]:
        """Nodes that may get partitions; a frozen one shows by the silence of all its actors."""
        silent = {a.node for a in self._living() if a.missed >= self._limits.missed_max}
        heard = {a.node for a in self._living() if a.answered and not a.missed}
        return [n for n in self.nodes if n not in self._draining and n not in silent - heard]

    def _crowded(self, rows: Sequence[StreamRow], by: dict[str, list[Watched]]) -> str | None:
        """The actor to move when nodes have been uneven for a while, so that a new node helps."""
        nodes = self._open_nodes()
        counts = Counter(a.node for actors in by.values() for a in actors)
        if len(nodes) < 2:
            return None
        most, least = max(nodes, key=counts.__getitem__), min(counts[node] for node in nodes)
        steady = all(len(a) == 1 and a[0].running for a in by.values())
        if not steady or counts[most] - least < 2:
            self._uneven_since = None
            return None
        if self._uneven_since is None:
            self._uneven_since = self._clock()
        if self._clock() - self._uneven_since < self._limits.spread_after_s:
            return None
        self._uneven_since = None
        return max(actor.name for actors in by.values() for actor in actors if actor.node == most)

    def _choose(self) -> str | None:
        """The open node with the fewest partitions, counting those that are only on their way."""
        nodes = self._open_nodes()
        self._census.count(self.kind, Counter(actor.node for actor in self._living()))
        counts = self._census.total()
        return min(nodes, key=lambda node: (counts[node], node)) if nodes else None

    # -- doing ----------------------------------------------------------------------------

    async def _start(self, row: StreamRow) -> None:
        if self._clock() < self._not_before.get(row.stream, float("-inf")):
            return
        generations = [a.generation for a in self.actors.values() if a.stream == row.stream]
        generation = max([row.epoch, *generations]) + 1
        node = self._choose()
        actor = Watched(
            name_of(row.stream, generation), row.stream, generation, self._clock(), node or ""
        )
        self.actors[actor.name] = actor
        try:
            await self._hosts.start(actor.name, row, node)
        except BaseException:
            del self.actors[actor.name]
            raise
        self._tell("started", f"{actor.name} is started", actor)

    def _keep_spares(self) -> None:
        """Start processes in reserve on the nodes that lack some."""
        for node in self._reserve.due(self.nodes.keys() - self._draining):
            self._background(self._hosts.keep_spare(node))

    def _end(self, actor: Watched, event: str, why: str) -> None:
        """Begin to end an actor: in order if it still answers, and for good in any case."""
        if actor.ending:
            return
        actor.ending, actor.ending_since = True, self._clock()
        self._tell(event, why, actor)
        orderly = actor.answer.answered and actor.answer.state != "stopped" and not actor.missed
        self._background(self._finish(actor, self._limits.stop_timeout_s if orderly else 0))

    async def _finish(self, actor: Watched, timeout_s: float) -> None:
        try:
            if timeout_s:
                await self._hosts.stop(actor.name, timeout_s)
        finally:
            await self._hosts.kill(actor.name, actor.pid, actor.node)

    def _tell(
        self, event: str, what: str, actor: Watched | None = None, *, node: str | None = None
    ) -> None:
        """Log an event and keep it, in memory at once and in the database when that is there."""
        stream = actor.stream if actor is not None else None
        node = (actor.node or None) if actor is not None else node
        self.events.append(Event(event, what, stream, node))
        tell = log.info if event in _EXPECTED else log.warning
        tell(event, stream=stream, node=node, what=what)
        self._background(self._keep(event, what, stream, node))

    async def _keep(self, event: str, what: str, stream: str | None, node: str | None) -> None:
        try:
            await supervision.note(self._pool, event, what, stream=stream, node=node)
        except OUTAGES as error:
            log.info("incident is in the log only", error=str(error))

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _few(numbers: Sequence[int]) -> str:
    """The first of many numbers, for a sentence."""
    shown = ", ".join(str(number) for number in numbers[:5])
    return f"{shown} ..." if len(numbers) > 5 else shown
