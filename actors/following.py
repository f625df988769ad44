"""Following the journal: rows of all streams, in an order that can be believed, at one's own pace.

What the projector and the notifier share. A follower reads what partitions have committed and is
never in their way. It may be killed anywhere, be away for a day, or run twice by mistake; each row
of the journal counts once, because its positions move with what it writes.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, Generic, TypeVar

import msgspec
import structlog

from actors.durable.records import Adopted, Moving
from persistence.database import OUTAGES, Pool
from persistence.following import Chunk, Cursor, Overtaken, Position, Stored
from persistence.journal import Corrupt

log = structlog.get_logger(__name__)

CHUNK_BYTES: Final = 4 * 1024 * 1024
"""About so much of the journal is read at once."""

_ROWS_MAX: Final = 500
_ENROL_EVERY_S: Final = 2.0
_LOOK_EVERY_S: Final = 1.0
_STUCK_S: Final = 5.0
_FIXED_ARRAY: Final = 0x90

Decoders = Mapping[int, Callable[[bytes], Any]]
"""By the tag of an event: how its bytes become the event."""

C = TypeVar("C", bound=Chunk)


class Turn(msgspec.Struct, array_like=True, gc=False):
    """``actors.durable.records.TurnRecord`` with everything left as it is that is not read."""

    events: list[tuple[str, msgspec.Raw]]
    sent: msgspec.Raw
    received: msgspec.Raw
    acknowledged: msgspec.Raw
    moved: list[Moving] = []


_decode_turn: Final = msgspec.msgpack.Decoder(Turn).decode


def tag_of(event: type) -> int:
    """The number with which the bytes of such an event begin."""
    tag = event.__struct_config__.tag  # type: ignore[attr-defined]
    assert isinstance(tag, int)
    return tag


def decoders(*events: type) -> dict[int, Callable[[bytes], Any]]:
    """Decoders of these events."""
    return {tag_of(event): msgspec.msgpack.Decoder(event).decode for event in events}


def events_of(
    turn: Turn, wanted: Decoders, keys: Container[str] | None = None
) -> Iterable[tuple[str, Any]]:
    """Key and event, of those that are wanted, of some keys or all; others are not even decoded.

    An event is an array that begins with its tag, a small number.
    """
    for key, raw in turn.events:
        head = memoryview(raw)[:4]
        tag = head[1] if head[0] & 0xF0 == _FIXED_ARRAY else head[3]
        decode = wanted.get(tag)
        if decode is not None and (keys is None or key in keys):
            yield key, decode(raw)


class Follower(ABC, Generic[C]):
    """Reads on and on. ``run`` it as a task, or call ``step`` until it says 0.

    ``rest`` is how long it rests after a chunk, in units of the time that the chunk took: a
    backlog is worked off without taking the processor away from those who pay and trade.
    """

    name: str

    rows_min = 4
    """Rows of each stream that are read at once however large they are."""
    rest_max_s = float("inf")
    """What takes long on a busy machine mostly waits for the processor: who rests long after that
    may never keep up."""

    def __init__(
        self, pool: Pool, cursor: Cursor, *, chunk_bytes: int, poll_s: float, rest: float
    ) -> None:
        self.state = "starting"
        self.reason = ""
        self.rows = 0
        self._pool = pool
        self._cursor = cursor
        self._chunk_bytes = chunk_bytes
        self._poll_s = poll_s
        self._rest = rest
        self._limit = self.rows_min
        self._rested = 0.0
        self._more = False
        self._read: dict[str, int] = {}
        self._enrolled_at = float("-inf")
        self._looked_at = float("-inf")
        self._positions: list[Position] = []

    @abstractmethod
    def begin(self) -> C:
        """An empty chunk."""

    @abstractmethod
    def gather(self, chunk: C, row: Stored, turn: Turn) -> None:
        """What a row says, into the chunk. Called on another thread, and must not wait."""

    @abstractmethod
    async def write(self, chunk: C) -> None:
        """Store a chunk and the positions after it, or nothing."""

    async def run(self) -> None:
        """Follow until cancelled. Whatever fails is tried again; a row is never passed over."""
        while True:
            started = time.monotonic()
            try:
                await self.step()
                await self._look()
                self.state, self.reason = "running", ""
                took, self._rested = time.monotonic() - started - self._rested, 0.0
                await asyncio.sleep(max(self._pause(took), 0 if self._more else self._poll_s))
            except Overtaken as error:
                log.warning("overtaken", follower=self.name, streams=str(error))
                await asyncio.sleep(self._poll_s)
            except OUTAGES as error:
                self.state, self.reason = "waiting", f"{type(error).__name__}: {error}"
                await asyncio.sleep(self._poll_s)
            except Exception as error:
                self.state, self.reason = "stuck", f"{type(error).__name__}: {error}"
                log.exception("stuck", follower=self.name)
                self._limit = self.rows_min  # what waits meanwhile may be of another size
                await asyncio.sleep(_STUCK_S)

    async def _breathe(self, took: float) -> None:
        """Rest in the middle of a chunk, after a part that took so long."""
        pause = self._pause(took)
        self._rested += took + pause
        await asyncio.sleep(pause)

    def _pause(self, took: float) -> float:
        return min(took * self._rest, self.rest_max_s)

    async def _look(self) -> None:
        """See now and then how much is left."""
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_EVERY_S:
            self._positions = await self._cursor.positions(self._pool)
            self._looked_at = now

    async def step(self) -> int:
        """Read one chunk; how many rows it had."""
        now = time.monotonic()
        if now - self._enrolled_at >= _ENROL_EVERY_S:
            await self._cursor.enrol(self._pool)
            self._read = {
                place.stream: place.seq for place in await self._cursor.positions(self._pool)
            }
            self._enrolled_at = now
        rows = await self._cursor.next_rows(self._pool, self._limit)
        self._more = False
        if not rows:
            return 0
        self._more = max(Counter(row.stream for row in rows).values()) == self._limit
        size = sum(len(row.entries) for row in rows)
        fitting = self._chunk_bytes * len(rows) // (size + 1)
        self._limit = min(_ROWS_MAX, max(self.rows_min, fitting))
        chunk = await asyncio.to_thread(self._gather, rows)
        if not chunk.ranges:
            raise Corrupt("Streams wait for each other.")
        await self.write(chunk)
        for stream, (_, last, _) in chunk.ranges.items():
            self._read[stream] = last
        count = sum(last - before for before, last, _ in chunk.ranges.values())
        self.rows += count
        return count

    def _gather(self, rows: Sequence[Stored]) -> C:
        """Read rows in an order in which an entity that has moved is not read before it left."""
        chunk = self.begin()
        read = dict(self._read)
        waiting = {name: list(group) for name, group in groupby(rows, lambda row: row.stream)}
        progress = True
        while waiting and progress:
            progress = False
            for stream, queue in list(waiting.items()):
                taken = 0
                for row in queue:
                    turn = _decode_turn(row.entries)
                    if any(
                        type(moved) is Adopted and read.get(moved.origin, 0) < moved.seq
                        for moved in turn.moved
                    ):
                        break
                    chunk.read(row)
                    self.gather(chunk, row, turn)
                    read[stream] = row.seq
                    taken += 1
                progress = progress or taken > 0
                waiting[stream] = queue[taken:]
                if not waiting[stream]:
                    del waiting[stream]
        return chunk

    def describe(self) -> dict[str, Any]:
        """How it is; ``position``, ``lag`` are rows of all streams together."""
        return {
            "state": self.state,
            "reason": self.reason,
            "position": sum(place.seq for place in self._positions),
            "lag": sum(place.behind for place in self._positions),
            "behind_s": max((place.behind_s for place in self._positions), default=0.0),
            "rows": self.rows,
        }
