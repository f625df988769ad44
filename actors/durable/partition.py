"""A partition: one stream's turn loop.

Whatever has arrived is decided in memory while the turn before it is being written; what gathers
meanwhile joins the open turn, so that the busier it is, the larger the turns. Replies, messages
and publications leave after the commit and never before. When a commit fails, all memory is
dropped and read back from the database; when the stream has a newer owner, this one ends.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, Protocol

import asyncpg
import msgspec
import structlog

from actors.durable.loads import Loads
from actors.durable.moving import Mover
from actors.durable.post import Deliver, Post
from actors.durable.records import Codec, Shipment
from actors.durable.routing import Router, slot_of
from actors.durable.turn import (
    STALE,
    Batch,
    Confirmed,
    Imbalance,
    Incoming,
    Item,
    Request,
    Turn,
    Workspace,
)
from domain.durable import Machine, Moved, Rejection, Unavailable
from persistence.database import Pool
from persistence.journal import (
    Checkpoint,
    Corrupt,
    Fenced,
    Journal,
    JournalRow,
    Release,
    Statement,
    WishChanged,
    row_hash,
    timers,
)

log = structlog.get_logger(__name__)

_WORTH_ITEMS: Final = 128
_DUE_MAX: Final = 500
_FRESH_S: Final = 1.0
_REST: Final = 20
_OUTAGES: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError)
"""What a database that cannot be reached looks like."""


class Projection(Protocol):
    """A context's own tables, written in the turn."""

    async def known(self, pool: Pool, ids: Sequence[bytes]) -> dict[bytes, tuple[bytes, Any]]:
        """Fingerprint and first answer of those ids that were seen before."""

    def remembers(self, reply: Any) -> bool:
        """Whether the context's own rows tell this answer again."""

    def statements(
        self,
        at_us: int,
        stream: str,
        seq: int,
        events: Sequence[tuple[str, Any]],
        commands: Sequence[tuple[bytes, bytes, bytes]],
    ) -> list[Statement]:
        """The rows of one turn."""


class Options(msgspec.Struct, frozen=True):
    """Bounds of a partition: in seconds, items, entities.

    A checkpoint is due after ``checkpoint_interval_s``, but not before 20 times as long as the
    last one took, unless ``checkpoint_interval_max_s`` or ``checkpoint_events_max`` are over.
    ``leave_timeout_s`` is how long customers of slots that are to move may have to wait for what
    is on its way before the move is given up for now; ``unsettled_max`` how many messages may
    have been sent since the oldest that has no outcome.
    """

    checkpoint_interval_s: float = 5.0
    checkpoint_interval_max_s: float = 20.0
    checkpoint_events_max: int = 500_000
    leave_timeout_s: float = 1.0
    leave_again_s: float = 2.0
    unsettled_max: int = 250_000
    turn_items_max: int = 10_000
    inbox_items_max: int = 100_000
    entities_max: int = 200_000


class Statistics(msgspec.Struct):
    """Counters since this incarnation started."""

    turns: int = 0
    commands: int = 0
    commit_seconds: float = 0.0
    checkpoints: int = 0
    recoveries: int = 0
    recovery_seconds: float = 0.0
    released: int = 0
    adopted: int = 0
    timers: int = 0


class Interrupted(Exception):
    """The partition dropped its memory: the outcome of what was under way is unknown."""


async def _or_unavailable(future: asyncio.Future[list[Any]], size: int) -> list[Any]:
    try:
        return await future
    except Interrupted:
        return [Unavailable("interrupted")] * size


def _resolver(future: asyncio.Future[list[Any]]) -> Callable[[list[Any]], None]:
    def resolve(replies: list[Any]) -> None:
        if not future.done():
            future.set_result(replies)

    return resolve


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
        published: Callable[[int, list[tuple[str, Any]]], None],
        options: Options,
        endpoint: tuple[str, int, bytes] | None = None,
    ) -> None:
        self.journal = journal
        self.options = options
        self.statistics = Statistics()
        self.state = "starting"
        self.reason = ""
        self.seq = 0
        self.committed_seq = 0
        self.checkpoint_seq = 0
        self._machine = machine
        self._codec = codec
        self._projection = projection
        self._deliver = deliver
        self._router = router
        self._nudge = nudge
        self._clock = clock
        self._published = published
        self._endpoint = endpoint
        self._hash = b""
        self._inbox: deque[Item] = deque()
        self._loads = Loads()
        self._mover = Mover(journal, codec, options, nudge)
        self._hurry = False
        self._firing = False
        self._wake = asyncio.Event()
        self._ready = asyncio.Event()
        self._commit: asyncio.Task[None] | None = None
        self._saving: asyncio.Task[None] | None = None
        self._waiting: dict[asyncio.Future[list[Any]], None] = {}
        self._checkpointed_at = 0.0
        self._saving_s = 0.0
        self._events = 0
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
        future = self._waiter()
        if refused := self._refuses(len(commands)):
            future.set_result([refused] * len(commands))
            return future
        if not commands:
            future.set_result([])
            return future
        batch = Batch(len(commands), _resolver(future))
        machine, work = self._machine, self._work
        for index, command in enumerate(commands):
            key = machine.key(command)
            slot = work.slot(key)
            if not work.slots[slot] and slot not in self._mover.departing:
                batch.gone.add(slot)
                batch.answer(index, Moved(slot))
                continue
            identities = machine.identities(command)
            self._inbox.append(Request(batch, index, key, slot, command, identities))
        self._wake.set()
        return _or_unavailable(future, len(commands))

    async def receive(self, shipment: Shipment[Any]) -> list[Any]:
        """Take messages of another partition; their outcomes, in order, once durable.

        Raises ``Interrupted`` when the outcome is unknown; send the same again.
        """
        await self._ready.wait()
        if self._refuses(0):
            raise Interrupted(self.state)
        messages = shipment.messages
        future = self._waiter()
        batch = Batch(len(messages), _resolver(future))
        for index, message in enumerate(messages):
            self._inbox.append(Incoming(batch, index, shipment.origin, shipment.low, message))
        self._wake.set()
        outcomes = await future
        if STALE in outcomes:
            raise Interrupted("stale")
        return outcomes

    def nudge(self) -> None:
        """Somebody wished that slots move, or has handed some over: look what there is to do."""
        self._mover.nudge()
        self._wake.set()

    def loads(self) -> list[tuple[int, float]]:
        """Commands per second by slot, of the last seconds; slots without any are left out."""
        return self._loads.rates()

    def describe(self) -> dict[str, Any]:
        """The partition's condition, for operators."""
        return {
            "stream": self.journal.stream,
            "state": self.state,
            "reason": self.reason,
            "slots": sum(self._work.slots),
            "leaving": len(self._mover.leaving),
            "parked": len(self._mover.parked),
            "private": self._work.private_keys(),
            "load": round(self._loads.total, 1),
            "entities": len(self._work.entities),
            "epoch": self.journal.epoch,
            "position": self.committed_seq,
            "lag": self.seq - self.committed_seq,
            "since_checkpoint": self.committed_seq - self.checkpoint_seq,
            "queue": len(self._inbox),
            "in_transit": len(self._work.partition.outbox),
            "checkpoint_age_s": round(time.monotonic() - self._checkpointed_at, 1),
            "books": self._work.books(),
            "entity_sums": dict(self._work.partition.entities),
            "house": {name: dict(sums) for name, sums in self._work.partition.house.items()},
            **msgspec.to_builtins(self.statistics),
        }

    def _waiter(self) -> asyncio.Future[list[Any]]:
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._waiting[future] = None
        future.add_done_callback(lambda done: self._waiting.pop(done, None))
        return future

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
            except (Fenced, Imbalance, Corrupt) as error:
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
                expected = isinstance(error, (*_OUTAGES, WishChanged))
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
        turn = Turn(self._now())
        room_max = self.options.turn_items_max
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._collect()
            self._move_on()
            # A checkpoint, or a release, needs a moment in which all in memory is written.
            hold = self._stopping or self._checkpoint_due() or self._mover.ready(self._work)
            room = 0 if hold else room_max - turn.size
            # Deciding costs a question to the database: beside a commit it must be worth it.
            worth = self._commit is None or len(self._inbox) >= _WORTH_ITEMS
            if room > 0 and not turn.size and self._mover.has_come():
                turn = Turn(self._now())
                await self._take_in(turn)
            if self._inbox and worth and room > 0:
                if not turn.size:
                    turn = Turn(self._now())
                await self._fill(turn, room)
            if self._commit is None and turn.size:
                self._work.balance(turn)
                self._commit = self._background(self._write(turn))
                turn = Turn(self._now())
            elif self._commit is None and self._checkpoint_due():
                self._saving = self._background(self._save(*self._copy()))
                self._wake.set()
            elif self._commit is None and self._saving is None and self._mover.ready(self._work):
                self._commit = self._background(self._let_go(*self._depart(Turn(self._now()))))
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
            self._hurry = now - self._checkpointed_at > _FRESH_S and not self._saved()
            if not self._hurry:
                mover.set_out(self._work, now)

    def _collect(self) -> None:
        """Take note of writes that have ended; one that failed raises here."""
        if self._commit is not None and self._commit.done():
            finished, self._commit = self._commit, None
            finished.result()
        if self._saving is not None and self._saving.done():
            finished, self._saving = self._saving, None
            finished.result()

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
        for item in items:
            decide(turn, item, known)
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
            await self._load_entities(list(missing))
        if not unknown:
            return {}
        return await self._projection.known(self.journal.pool, unknown)

    async def _load_entities(self, keys: list[str]) -> None:
        stored = await self.journal.snapshots(keys)
        decode, new = self._codec.decode_entity, self._machine.new
        for key in keys:
            self._work.admit(key, decode(stored[key]) if key in stored else new(key))

    async def _write(self, turn: Turn) -> None:
        started = time.perf_counter()
        if not turn.empty:
            row = self._row(turn)
            await self.journal.commit(row, self._statements(turn, row.seq))
            self._events += len(turn.record.events)
            self._written(row)
            self.statistics.commit_seconds += time.perf_counter() - started
        elif turn.answers:
            # Answers to mere questions too are those of the owner, as of now.
            await self.journal.check_epoch()
        self._tell(turn)

    def _row(self, turn: Turn) -> JournalRow:
        self.seq += 1
        entries = self._codec.encode(turn.record)
        at, epoch, stream = turn.at, self.journal.epoch, self.journal.stream
        new_hash = row_hash(self._hash, stream, self.seq, epoch, at, entries)
        return JournalRow(stream, self.seq, epoch, at, entries, self._hash, new_hash)

    def _statements(self, turn: Turn, seq: int) -> list[Statement]:
        encode, kind, record = self._codec.encode, self.journal.kind, turn.record
        remembered = [(i, fingerprint, encode(reply)) for i, fingerprint, reply in turn.remembered]
        statements = self._projection.statements(
            turn.at, self.journal.stream, seq, record.events, remembered
        )
        if turn.timers:
            statements += timers(kind, [(key, slot_of(key), due) for key, due in turn.timers])
        if record.moved:
            statements += self._mover.statements(record.moved)
        return statements

    def _written(self, row: JournalRow) -> None:
        self._hash = row.hash
        self._work.partition.at = row.at
        self.committed_seq = row.seq
        self.statistics.turns += 1

    async def _take_in(self, turn: Turn) -> None:
        """What has come to this stream is the first thing of a turn."""
        splits, arrivals = self._mover.take(self._work)
        await self._load_entities([k for k, _ in splits if k not in self._work.entities])
        for key, slot in splits:
            self._work.split(turn, key, slot)
        for adopted in arrivals:
            self._work.adopt(turn, adopted)
            self.statistics.adopted += len(adopted.slots)
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
        self._checkpointed_at = time.monotonic()
        return turn, self._row(turn), Release(to, slots, parcel, encode(work.partition), changed)

    async def _let_go(self, turn: Turn, row: JournalRow, release: Release) -> None:
        await self.journal.release(row, release)
        self._written(row)
        self.checkpoint_seq = row.seq
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
        if turn.record.events:
            self._published(turn.at, turn.record.events)

    def _confirm(self, outcomes: Sequence[tuple[int, Rejection | None]]) -> None:
        self._inbox.extend(Confirmed(seq, outcome) for seq, outcome in outcomes)
        self._wake.set()

    def _now(self) -> int:
        """Microseconds since the epoch, never going back within the stream."""
        self._at = max(self._clock(), self._at, self._work.partition.at)
        return self._at

    # -- checkpoints and recovery ---------------------------------------------------------

    def tick(self) -> None:
        """Called every now and then: an idle partition writes its checkpoint, and looks around."""
        self._loads.turn_over(time.monotonic())
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
        if self._saving is not None or self._mover.leaving or self._saved():
            return False
        if self._stopping or self._hurry:
            return True
        options, waited_s = self.options, time.monotonic() - self._checkpointed_at
        if waited_s < options.checkpoint_interval_s:
            return False
        # Under load a checkpoint takes a while itself: it must not become most of the work.
        rest_s = min(options.checkpoint_interval_max_s, self._saving_s * _REST)
        return waited_s >= rest_s or self._events >= options.checkpoint_events_max

    def _saved(self) -> bool:
        return self.committed_seq == self.checkpoint_seq

    def _copy(self) -> tuple[Checkpoint, list[tuple[str, int, bytes]]]:
        """What a checkpoint stores, at a moment when all that was decided is committed."""
        self._checkpointed_at = time.monotonic()
        self._hurry = False
        self._events = 0
        state = self._codec.encode(self._work.partition)
        return Checkpoint(self.committed_seq, self._hash, state), self._work.dirty()

    async def _save(self, checkpoint: Checkpoint, changed: list[tuple[str, int, bytes]]) -> None:
        """Store a checkpoint; turns go on meanwhile."""
        await self.journal.save(checkpoint, changed)
        self._saving_s = time.monotonic() - self._checkpointed_at
        self.checkpoint_seq = checkpoint.seq
        self.statistics.checkpoints += 1
        self._work.forget(self.options.entities_max)

    async def _recover(self) -> None:
        """Become the owner; then snapshots and the tail of the journal make the memory."""
        started = time.perf_counter()
        self.state = "recovering"
        self._ready.clear()
        await self.journal.take_over(self._endpoint)
        checkpoint = await self.journal.checkpoint()
        work = self._work
        if checkpoint.state:
            work.resume(self._codec.decode_partition(checkpoint.state))
            await self._upgrade(work)
        self.seq, self._hash = checkpoint.seq, checkpoint.hash
        async for rows in self.journal.tail(checkpoint):
            records = [self._codec.decode_turn(row.entries) for row in rows]
            touched = {key: None for record in records for key, _ in record.events}
            await self._load_entities([key for key in touched if key not in work.entities])
            for row, record in zip(rows, records, strict=True):
                work.replay(record, row.at)
                self.seq, self._hash = row.seq, row.hash
        for slot in await self.journal.slots():
            work.slots[slot] = 1
        work.balance(Turn(work.partition.at))
        # What was read in several steps is of one piece if nobody took over meanwhile.
        await self.journal.check_epoch()
        self.committed_seq, self.checkpoint_seq = self.seq, checkpoint.seq
        self._checkpointed_at = time.monotonic()
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
            position=self.seq,
            replayed=self.seq - checkpoint.seq,
            seconds=round(self.statistics.recovery_seconds, 3),
        )

    async def _upgrade(self, work: Workspace) -> None:
        """Bring a checkpoint of version 0.1 up to date, which had no totals by slot."""
        partition = work.partition
        if partition.slots or not any(partition.entities.values()):
            return
        owned = set(await self.journal.slots())
        async for states in self.journal.states():
            for key, state in states:
                if slot_of(key) in owned:
                    balances = self._machine.balances(self._codec.decode_entity(state))
                    work.take_totals(slot_of(key), balances)
        log.info("checkpoint brought up to date", stream=self.journal.stream)

    def _new_workspace(self) -> Workspace:
        return Workspace(self._machine, self._codec, self._projection.remembers)

    def _new_post(self) -> Post:
        stream = self.journal.stream
        return Post(stream, self._deliver, self._codec, self._router, self._confirm)

    def _drop_everything(self) -> None:
        """Forget all memory; whoever waits learns that the outcome is unknown."""
        for task in (self._commit, self._saving):
            if task is not None:
                task.cancel()
        self._commit = self._saving = None
        self._post.stop()
        self._post = self._new_post()
        self._hurry = False
        self._mover = Mover(self.journal, self._codec, self.options, self._nudge)
        self._inbox.clear()
        self._work = self._new_workspace()
        waiting, self._waiting = self._waiting, {}
        for future in waiting:
            if not future.done():
                future.set_exception(Interrupted())
