"""The projector: from the committed journal to trades, candles, orders and fills.

One for the whole platform, beside the partitions and never in their way: it reads what they have
committed, at its own pace, behind a durable position in each stream. It may be killed anywhere, be
away for a day, or run twice by mistake; each row of the journal counts once. What is traded is
told by the journals of the books, what became of a customer's orders by that customer's own.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any, Final

import msgspec
import structlog

from actors.durable.records import Adopted, Moving
from domain.accounts import events as accounts
from domain.orders import ACCOUNTS, BOOKS, OrderStatus, Place
from domain.trading import events as books
from persistence.database import OUTAGES, Pool
from persistence.journal import Corrupt, to_datetime
from persistence.trading.projector import (
    Chunk,
    OrderLine,
    Overtaken,
    Position,
    Stored,
    begin_life,
    enrol,
    next_rows,
    positions,
    write,
)

log = structlog.get_logger(__name__)

KINDS: Final = (ACCOUNTS, BOOKS)
CHUNK_BYTES: Final = 4 * 1024 * 1024
"""About so much of the journal is read at once."""

_ROWS_MIN: Final = 4
_ROWS_MAX: Final = 500
_ENROL_EVERY_S: Final = 2.0
_LOOK_EVERY_S: Final = 1.0
_STUCK_S: Final = 5.0
_FIXED_ARRAY: Final = 0x90


class _Turn(msgspec.Struct, array_like=True, gc=False):
    """``actors.durable.records.TurnRecord`` with everything left as it is that is not read."""

    events: list[tuple[str, msgspec.Raw]]
    sent: msgspec.Raw
    received: msgspec.Raw
    acknowledged: msgspec.Raw
    moved: list[Moving] = []


class _Worked(msgspec.Struct, array_like=True, gc=False, tag=4):
    """``books.OrdersWorked``, of which only time and trades are wanted here."""

    id: msgspec.Raw
    customer: msgspec.Raw
    maker: msgspec.Raw
    taker: msgspec.Raw
    at: int
    actions: msgspec.Raw
    updates: msgspec.Raw
    trades: tuple[books.Trade, ...]


def _tag(event: type) -> int:
    tag = event.__struct_config__.tag  # type: ignore[attr-defined]
    assert isinstance(tag, int)
    return tag


_decode_turn: Final = msgspec.msgpack.Decoder(_Turn).decode
_BOOKS: Final[dict[int, Callable[[bytes], Any]]] = {
    _tag(books.OrdersWorked): msgspec.msgpack.Decoder(_Worked).decode,
    _tag(books.StatusChanged): msgspec.msgpack.Decoder(books.StatusChanged).decode,
}
_ACCOUNTS: Final[dict[int, Callable[[bytes], Any]]] = {
    _tag(event): msgspec.msgpack.Decoder(event).decode
    for event in (accounts.OrdersPlaced, accounts.OrdersWorked, accounts.OrdersSettled)
}


def _events(turn: _Turn, wanted: dict[int, Callable[[bytes], Any]]) -> Iterable[tuple[str, Any]]:
    """The events of a turn that are wanted; the others are not even decoded.

    An event is an array that begins with its tag, a small number.
    """
    for key, raw in turn.events:
        head = memoryview(raw)[:4]
        tag = head[1] if head[0] & 0xF0 == _FIXED_ARRAY else head[3]
        decode = wanted.get(tag)
        if decode is not None:
            yield key, decode(raw)


def gather(chunk: Chunk, row: Stored, turn: _Turn) -> None:
    """What a row says, into the chunk."""
    chunk.read(row)
    if row.stream.startswith(f"{BOOKS}/"):
        for symbol, event in _events(turn, _BOOKS):
            if event.trades:
                chunk.traded(symbol, event.at, event.trades)
        return
    for _, event in _events(turn, _ACCOUNTS):
        if type(event) is accounts.OrdersPlaced:
            _gather_placed(chunk, event)
        else:
            answer = type(event) is accounts.OrdersWorked
            chunk.updated(event.customer, event.symbol, event.at, event.updates, answer=answer)


def _gather_placed(chunk: Chunk, event: accounts.OrdersPlaced) -> None:
    at = to_datetime(event.at)
    number = 0
    for action in event.actions:
        if type(action) is not Place:
            continue
        chunk.placed(
            OrderLine(
                event.customer, action.ref, event.symbol, event.clients[number],
                int(action.side), int(action.type), int(action.time_in_force), action.price,
                action.quantity, action.trigger, action.display, action.budget,
                int(action.self_trade),
                to_datetime(action.expires_at) if action.expires_at else None,
                event.previous[number] if event.previous else "",
                int(OrderStatus.PENDING), 0, 0, 0, "", at, at,
                begin_life(OrderStatus.PENDING, at),
            )
        )  # fmt: skip
        number += 1


class Projector:
    """Reads on and on. ``run`` it as a task, or call ``step`` until it says 0.

    ``rest`` is how long it rests after a full chunk, in units of the time that the chunk took: a
    backlog is worked off without taking the processor away from those who trade.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        chunk_bytes: int = CHUNK_BYTES,
        poll_s: float = 0.25,
        rest: float = 1.0,
        kinds: Sequence[str] = KINDS,
    ) -> None:
        self.state = "starting"
        self.reason = ""
        self.rows = 0
        self._pool = pool
        self._chunk_bytes = chunk_bytes
        self._poll_s = poll_s
        self._rest = rest
        self._kinds = kinds
        self._limit = _ROWS_MIN
        self._more = False
        self._read: dict[str, int] = {}
        self._enrolled_at = float("-inf")
        self._looked_at = float("-inf")
        self._positions: list[Position] = []

    async def run(self) -> None:
        """Project until cancelled. Whatever fails is tried again; a row is never passed over."""
        while True:
            started = time.monotonic()
            try:
                await self.step()
                await self._look()
                self.state, self.reason = "running", ""
                took = time.monotonic() - started
                await asyncio.sleep(took * self._rest if self._more else self._poll_s)
            except Overtaken as error:
                log.warning("projector was overtaken", streams=str(error))
                await asyncio.sleep(self._poll_s)
            except OUTAGES as error:
                self.state, self.reason = "waiting", f"{type(error).__name__}: {error}"
                await asyncio.sleep(self._poll_s)
            except Exception as error:
                self.state, self.reason = "stuck", f"{type(error).__name__}: {error}"
                log.exception("projector is stuck")
                self._limit = _ROWS_MIN  # what waits meanwhile may be of another size
                await asyncio.sleep(_STUCK_S)

    async def _look(self) -> None:
        """See now and then how much is left."""
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_EVERY_S:
            self._positions, self._looked_at = await positions(self._pool), now

    async def step(self) -> int:
        """Project one chunk; how many rows it had."""
        now = time.monotonic()
        if now - self._enrolled_at >= _ENROL_EVERY_S:
            await enrol(self._pool, self._kinds)
            self._read = {place.stream: place.seq for place in await positions(self._pool)}
            self._enrolled_at = now
        rows = await next_rows(self._pool, self._kinds, self._limit)
        self._more = False
        if not rows:
            return 0
        self._more = max(Counter(row.stream for row in rows).values()) == self._limit
        size = sum(len(row.entries) for row in rows)
        fitting = self._chunk_bytes * len(rows) // (size + 1)
        self._limit = min(_ROWS_MAX, max(_ROWS_MIN, fitting))
        chunk = await asyncio.to_thread(self._gather, rows)
        if not chunk.ranges:
            raise Corrupt("Streams wait for each other.")
        await write(self._pool, chunk)
        for stream, (_, last, _) in chunk.ranges.items():
            self._read[stream] = last
        count = sum(last - before for before, last, _ in chunk.ranges.values())
        self.rows += count
        return count

    def _gather(self, rows: Sequence[Stored]) -> Chunk:
        """Read rows in an order in which an entity that has moved is not read before it left."""
        chunk = Chunk()
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
                    gather(chunk, row, turn)
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
