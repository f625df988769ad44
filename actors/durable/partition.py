"""A partition: one stream's turn loop.

Whatever has arrived is decided in memory while the turn before it is being written; what gathers
meanwhile joins the open turn, so that the busier it is, the larger the turns. Replies, messages
and publications leave after the commit and never before. When a commit fails, all memory is
dropped and read back from the database; when the stream has a newer owner, this one ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final

import msgspec
import structlog

from actors.durable.intake import Intake, at_once, interrupted
from actors.durable.items import Item, Request, Turn
from actors.durable.loads import Loads
from actors.durable.memory import Imbalance
from actors.durable.moving import Mover
from actors.durable.options import Options, Projection, Publisher, Statistics
from actors.durable.post import Deliver, Post
from actors.durable.quarantine import Quarantine
from actors.durable.records import Codec, Shipment
from actors.durable.recovery import load, recover
from actors.durable.rhythm import Rhythm
from actors.durable.routing import Router
from actors.durable.scribe import Scribe
from actors.durable.turn import Workspace
from domain.durable import Diverged, Machine, Unavailable
from persistence.database import OUTAGES
from persistence.journal import (
    Checkpoint,
    Corrupt,
    Fenced,
    Journal,
    JournalRow,
    Release,
    WishChanged,
)

log = structlog.get_logger(__name__)

_WORTH_ITEMS: Final = 128
_DUE_MAX: Final = 500


class Partition:
    """The turn loop of one stream. ``run`` it as a task; then ``request`` and ``receive``."""

    def __init__(
        self,
        *,
        journal: Journal,
        machine: Machine[Any],
        codec: Codec[Any, Any],
        projection: Projection,
        deliver: Deliver,
        router: Router,
        nudge: Callable[[str], Awaitable[bool]],
        clock: Callable[[], int],
        published: Publisher,
        options: Options,
        endpoint: tuple[str, int, bytes] | None = None,
    ) -> None:
        self.journal = journal
        self.options = options
        self.statistics = Statistics()
        self.state = "starting"
        self.reason = ""
        self._machine = machine
        self._codec = codec
        self._projection = projection
        self._deliver = deliver
        self._router = router
        self._nudge = nudge
        self._clock = clock
        self._published = published
        self._endpoint = endpoint
        self._loads = Loads()
        self._mover = Mover(journal, codec, options, nudge)
        self._rhythm = Rhythm(options)
        self.scribe = Scribe(journal, codec, projection)
        self._firing = False
        self._wake = asyncio.Event()
        self._quarantine = Quarantine()
        self._intake = Intake(self._wake, self._quarantine)
        self._inbox = self._intake.items
        self._ready = asyncio.Event()
        self._commit: asyncio.Task[None] | None = None
        self._saving: asyncio.Task[None] | None = None
        self._rested_at = 0.0
        self._resting = False
        self._turn = Turn(0)
        """How much has been decided and is not being written yet."""
        self._at = 0
        self._stopping = False
        self._ended: asyncio.Event | None = None
        self._work = self._new_workspace()
        self._post = self._new_post()

    # -- what others call -----------------------------------------------------------------

    async def request(self, commands: Sequence[Any]) -> list[Any]:
        """Carry out commands; their replies, in order, once they are durable."""
        await self.ready()
        return await self.submit(commands)

    async def ready(self) -> None:
        """Wait until the partition takes commands, or refuses them for good."""
        await self._ready.wait()

    def submit(self, commands: Sequence[Any]) -> Awaitable[list[Any]]:
        """Put commands in the queue at once; await the result for their replies."""
        if refused := self._refuses(len(commands)):
            return at_once([refused] * len(commands))
        if not commands:
            return at_once([])
        return self._intake.commands(commands, self._work, self._mover.departing)

    async def receive(self, shipment: Shipment[Any]) -> list[Any]:
        """Take messages of another partition once it is ready; see ``take``."""
        await self._ready.wait()
        return await self.take(shipment)

    def take(self, shipment: Shipment[Any]) -> Awaitable[list[Any]]:
        """Put messages in the queue at once; await the result for their outcomes, in order.
        ``Interrupted`` when they are unknown: send the same again."""
        if self._refuses(0):
            return interrupted(self.state)
        return self._intake.shipment(shipment)

    def nudge(self) -> None:
        """Somebody wished that slots move, or has handed some over: look what there is to do."""
        self._mover.nudge()
        self._wake.set()

    def loads(self) -> list[tuple[int, float]]:
        """Commands per second by slot, of the last seconds; slots without any are left out."""
        return self._loads.rates()

    def hosted(self) -> list[str]:
        """Keys of the entities that are in memory, packed or not."""
        packed = (key for states in self._work.packed.values() for key in states)
        return sorted([*self._work.entities, *packed])

    def describe(self) -> dict[str, Any]:
        """The partition's condition, for operators."""
        return {
            "stream": self.journal.stream,
            "state": self.state,
            "reason": self.reason or self._quarantine.describe(time.monotonic()),
            "leaving": len(self._mover.leaving),
            "parked": len(self._mover.parked),
            "load": round(self._loads.total, 1),
            "epoch": self.journal.epoch,
            "position": self.scribe.committed_seq,
            "lag": self.scribe.seq - self.scribe.committed_seq,
            "since_checkpoint": self.scribe.committed_seq - self.scribe.checkpoint_seq,
            "queue": len(self._inbox),
            "open": self._turn.size,
            "checkpoint_age_s": round(time.monotonic() - self._rhythm.begun_at, 1),
            **self._work.describe(self._turn),
            **msgspec.to_builtins(self.statistics),
        }

    def _refuses(self, size: int) -> Unavailable | None:
        if self.state in {"halted", "fenced", "stopped"} or self._stopping:
            return Unavailable(self.state)
        if len(self._inbox) + size > self.options.inbox_items_max:
            return Unavailable("overloaded")
        # Receivers remember everything since the oldest message that has no outcome yet.
        low = self._post.low
        if size and low and self._work.partition.sent_seq - low > self.options.unsettled_max:
            return Unavailable("overloaded")
        return None

    # -- the loop -------------------------------------------------------------------------

    async def run(self) -> None:
        """Recover, then take turns until stopped, fenced or halted."""
        self._ended = asyncio.Event()
        try:
            await self._run()
        finally:
            self._ended.set()

    async def _run(self) -> None:
        while not self._stopping:
            try:
                await self._recover()
                await self._turns()
            except (Fenced, Imbalance, Corrupt, Diverged) as error:
                self.state = "fenced" if isinstance(error, Fenced) else "halted"
                self.reason = str(error)
                log.error("partition ended", stream=self.journal.stream, reason=self.reason)
                self._ready.set()
                self._drop_everything()
                return
            except asyncio.CancelledError:
                self.state = "stopped"
                self._drop_everything()
                raise
            except Exception as error:
                # Whatever went wrong, memory may be ahead of the journal: read it back.
                self.state = "recovering"
                self._ready.clear()
                expected = isinstance(error, (*OUTAGES, WishChanged))
                log.warning(
                    "partition recovers",
                    stream=self.journal.stream,
                    error=f"{type(error).__name__}: {error}",
                    exc_info=not expected,
                )
                self._drop_everything()
                await asyncio.sleep(0.05)
        self.state = "stopped"
        self._ready.set()
        self._drop_everything()

    async def stop(self) -> None:
        """Take nothing more; write what is open and a last checkpoint, if the database allows."""
        self._stopping = True
        self._wake.set()
        if self._ended is not None:
            await self._ended.wait()

    async def _turns(self) -> None:
        turn = self._turn = Turn(self._now())
        room_max = self.options.turn_items_max
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._collect()
            self._move_on()
            if self._resting and self._commit is None and self._saving is None:
                # Whatever has not changed is stored: it may be packed, or dropped.
                self._resting = False
                self._work.rest(self.options.memory_bytes_max)
            # A checkpoint, or a release, needs a moment in which all in memory is written.
            hold = self._stopping or self._checkpoint_due() or self._mover.ready(self._work)
            room = 0 if hold else room_max - turn.size
            # Deciding may cost a question to the database: beside a commit it must be worth it.
            inbox, work = self._inbox, self._work
            worth = self._commit is None or len(inbox) >= _WORTH_ITEMS or work.at_hand(inbox)
            if room > 0 and not turn.size and self._mover.has_come():
                turn = self._turn = Turn(self._now())
                await self._take_in(turn)
            if self._inbox and worth and room > 0:
                if not turn.size:
                    turn = self._turn = Turn(self._now())
                await self._fill(turn, room)
            if self._commit is None and turn.size:
                self._work.balance(turn)
                self._commit = self._background(self._write(turn))
                turn = self._turn = Turn(self._now())
            elif self._commit is None and self._checkpoint_due():
                self._saving = self._background(self._save(*self._copy()))
                self._wake.set()
            elif self._commit is None and self._saving is None and self._mover.ready(self._work):
                if await self._mover.still_wished():
                    self._commit = self._background(self._let_go(*self._depart(Turn(self._now()))))
                else:
                    stay = self._mover.give_up(time.monotonic(), at_once=True)
                    self._inbox.extendleft(reversed(stay))
            elif self._stopping:
                if self._commit is None and self._saving is None:
                    return
            elif self._inbox and worth and not hold and turn.size < room_max:
                self._wake.set()

    def _move_on(self) -> None:
        """Begin, or give up, to let slots go, and look again what there is to do."""
        mover, now = self._mover, time.monotonic()
        if mover.fenced:
            raise Fenced(self.journal.stream)
        if mover.looks() and not self._stopping:
            self._background(mover.look())
        self._inbox.extendleft(reversed(mover.give_up(now, at_once=self._stopping)))
        if mover.wishes(now) and self._saving is None and not self._stopping:
            # A release writes all that has changed since the last checkpoint, while others wait.
            self._rhythm.hurry = not (self._rhythm.fresh(now) or self.scribe.saved)
            if not self._rhythm.hurry:
                mover.set_out(self._work, now)

    def _collect(self) -> None:
        """Take note of writes that have ended; one that failed raises here."""
        if self._commit is not None and self._commit.done():
            finished, self._commit = self._commit, None
            finished.result()
        if self._saving is not None and self._saving.done():
            finished, self._saving = self._saving, None
            finished.result()
            # Not in the task itself: that may end while ids are being looked up.
            self._work.forget()

    def _background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        task.add_done_callback(lambda _: self._wake.set())
        return task

    async def _fill(self, turn: Turn, room: int) -> None:
        """Decide what has arrived into the turn, entities and known ids loaded before."""
        items = [self._inbox.popleft() for _ in range(min(room, len(self._inbox)))]
        if self._mover.leaving:
            items = self._mover.park(items)
        known = await self._load(items)
        decide = self._work.decide
        try:
            for item in items:
                decide(turn, item, known)
        except Exception:
            if type(item) is Request:
                self._quarantine.failed(item.key, time.monotonic())
            raise
        for batch, index, reply in turn.early:
            batch.answer(index, reply)
        turn.early.clear()

    async def _load(self, items: Sequence[Item]) -> dict[bytes, tuple[bytes, Any]]:
        work = self._work
        entities, recent = work.entities, work.recent
        missing: dict[str, None] = {}
        unknown: list[bytes] = []
        for item in items:
            for key in work.keys(item):
                entity = entities.get(key)
                if entity is None:
                    missing[key] = None
                else:
                    entity.used = work.round
            if type(item) is Request:
                self._loads.count(item.slot)
                for command_id, _ in item.identities:
                    if command_id not in recent:
                        unknown.append(command_id)
        if missing:
            await load(self.journal, work, list(missing))
        if not unknown:
            return {}
        return await self._projection.known(self.journal.asking, unknown)

    async def _write(self, turn: Turn) -> None:
        started = time.perf_counter()
        if not turn.empty:
            row = self.scribe.row(turn)
            await self.journal.commit(row, self.scribe.statements(turn, row.seq))
            self._rhythm.wrote(len(turn.record.events))
            self._written(row)
            self.statistics.commit_seconds += time.perf_counter() - started
        elif turn.answers:
            # Answers to mere questions too are those of the owner, as of now.
            await self.journal.check_epoch()
        self._tell(turn)

    def _written(self, row: JournalRow) -> None:
        self.scribe.written(row)
        self._work.partition.at = row.at
        self.statistics.turns += 1

    async def _take_in(self, turn: Turn) -> None:
        """What has come to this stream is the first thing of a turn."""
        splits, arrivals = self._mover.take(self._work)
        missing = [key for key, _ in splits if key not in self._work.entities]
        await load(self.journal, self._work, missing)
        for key, slot in splits:
            self._work.split(turn, key, slot)
        for adopted in arrivals:
            self._work.adopt(turn, adopted)
            self.statistics.adopted += len(adopted.slots)
        self._intake.look_again(self._work)
        self._at = turn.at

    def _depart(self, turn: Turn) -> tuple[Turn, JournalRow, Release]:
        """Let go of the slots that are leaving, at a moment when all is written.

        With a checkpoint, so that no tail ever speaks of entities that have left.
        """
        to, slots, parked = self._mover.depart()
        work, encode = self._work, self._codec.encode
        changed = work.dirty()
        parcel = encode(work.release(turn, to, slots))
        work.partition.at = turn.at
        for request in parked:
            work.turn_away(turn, request)
        work.balance(turn)
        self._rhythm.begin(time.monotonic())
        return (
            turn,
            self.scribe.row(turn),
            Release(to, slots, parcel, encode(work.partition), changed),
        )

    async def _let_go(self, turn: Turn, row: JournalRow, release: Release) -> None:
        await self.journal.release(row, release)
        self._written(row)
        self.scribe.checkpoint_seq = row.seq
        self._mover.departing = frozenset()
        self.statistics.released += len(release.slots)
        log.info("slots released", stream=row.stream, to=release.to, slots=len(release.slots))
        self._tell(turn)
        self._background(self._nudged(release.to))
        self._mover.nudge()

    async def _nudged(self, stream: str) -> None:
        # Whoever does not hear it looks by itself every now and then.
        await self._nudge(stream)

    def _tell(self, turn: Turn) -> None:
        """Let the world know of a committed turn."""
        self.statistics.commands += turn.size
        for batch, index, reply in turn.answers:
            batch.answer(index, reply)
        post = self._post
        for sent in turn.settled:
            post.settle(sent.seq)
        for sent in turn.record.sent:
            post.send(sent)
        if turn.record.events or turn.news:
            self._published(turn.at, turn.record.events, turn.news)

    def _now(self) -> int:
        """Microseconds since the epoch, never going back within the stream."""
        self._at = max(self._clock(), self._at, self._work.partition.at)
        return self._at

    # -- checkpoints and recovery ---------------------------------------------------------

    def tick(self) -> None:
        """Called every now and then: an idle partition writes its checkpoint, and looks around."""
        now = time.monotonic()
        self._loads.turn_over(now)
        options = self.options
        if now - self._rested_at >= (options.rest_interval_s or options.checkpoint_interval_s):
            self._resting, self._rested_at = True, now
        self._mover.nudge()
        self._wake.set()

    async def fire(self) -> None:
        """Wake the entities whose time has come; call it every now and then."""
        if self.state != "running" or self._stopping or self._firing:
            return
        self._firing = True
        try:
            keys = await self.journal.due(self._clock(), _DUE_MAX)
            if keys:
                await self.request([self._machine.wake(key) for key in keys])
                self.statistics.timers += len(keys)
        finally:
            self._firing = False

    def _checkpoint_due(self) -> bool:
        if self._saving is not None or self._mover.leaving or self.scribe.saved:
            return False
        return self._stopping or self._rhythm.due(time.monotonic())

    def _copy(self) -> tuple[Checkpoint, list[tuple[str, int, bytes]]]:
        """What a checkpoint stores, at a moment when all that was decided is committed."""
        self._rhythm.begin(time.monotonic())
        state = self._codec.encode(self._work.partition)
        return Checkpoint(self.scribe.committed_seq, self.scribe.hash, state), self._work.dirty()

    async def _save(self, checkpoint: Checkpoint, changed: list[tuple[str, int, bytes]]) -> None:
        """Store a checkpoint; turns go on meanwhile."""
        await self.journal.save(checkpoint, changed)
        self._rhythm.end(time.monotonic())
        self.scribe.checkpoint_seq = checkpoint.seq
        self.statistics.checkpoints += 1

    async def _recover(self) -> None:
        """Become the owner; then snapshots and the tail of the journal make the memory."""
        started = time.perf_counter()
        self.state = "recovering"
        self._ready.clear()
        await self.journal.take_over(self._endpoint)
        work = self._work
        scribe = self.scribe
        scribe.resume(await recover(self.journal, work))
        self._rhythm.begin(time.monotonic())
        for sent in work.partition.outbox.values():
            self._post.send(sent)
        self._mover.nudge()
        self.state, self.reason = "running", ""
        self.statistics.recoveries += 1
        self.statistics.recovery_seconds = time.perf_counter() - started
        self._ready.set()
        self._wake.set()
        log.info(
            "partition recovered",
            stream=self.journal.stream,
            epoch=self.journal.epoch,
            position=self.scribe.seq,
            replayed=self.scribe.seq - self.scribe.checkpoint_seq,
            seconds=round(self.statistics.recovery_seconds, 3),
        )

    def _new_workspace(self) -> Workspace:
        return Workspace(self._machine, self._codec, self._projection.remembers)

    def _new_post(self) -> Post:
        stream = self.journal.stream
        return Post(stream, self._deliver, self._codec, self._router, self._intake.confirm)

    def _drop_everything(self) -> None:
        """Forget all memory; whoever waits learns that the outcome is unknown."""
        for task in (self._commit, self._saving):
            if task is not None:
                task.cancel()
        self._commit = self._saving = None
        self._post.stop()
        self._post = self._new_post()
        self._mover = Mover(self.journal, self._codec, self.options, self._nudge)
        self._rhythm = Rhythm(self.options)
        self._work = self._new_workspace()
        self._turn = Turn(0)
        self._intake.interrupt()
