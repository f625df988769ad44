"""How the partitions are: what Postgres says of them beside what they say themselves.

For pages, API and commands of operators. Asks each partition over its channel, without Ray, and
reads the slot map; many who look at the same time share one reading.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec

from actors.durable.channel import DESCRIBE, Channel, NoAnswer
from actors.durable.routing import channel_to
from persistence.database import Pool
from persistence.journal import SLOTS
from persistence.placement import StreamRow, owners, placement, under_way, wishes

T = TypeVar("T")

FRESH_S: Final = 0.8
ANSWER_TIMEOUT_S: Final = 1.0
RETIRED: Final = "retired"
NO_ANSWER: Final = "no answer"


class PartitionView(msgspec.Struct, frozen=True):
    """One stream and the partition that owns it. ``kind`` is that of its entities.

    ``slots``, ``arriving``, ``leaving``, ``pinned`` and ``epoch`` are from Postgres, the rest is
    what the partition said; all of that is zero or empty where it did not answer. ``retired``
    is a stream without slots, which needs no partition. Times are seconds, ``memory`` bytes,
    ``load`` commands a second, ``position``, ``lag`` and ``since_checkpoint`` journal rows.
    ``books`` are all its ledger accounts together by asset, in minor units: zero when right.
    """

    stream: str
    state: str
    slots: int
    arriving: int
    leaving: int
    pinned: list[str]
    epoch: int
    reason: str = ""
    entities: int = 0
    load: float = 0.0
    queue: int = 0
    parked: int = 0
    in_transit: int = 0
    position: int = 0
    lag: int = 0
    since_checkpoint: int = 0
    checkpoint_age_s: float = 0.0
    recoveries: int = 0
    recovery_seconds: float = 0.0
    memory: int = 0
    node: str = ""
    pid: int = 0
    started_at: float = 0.0
    kind: str = ""
    books: dict[str, int] = {}
    entity_sums: dict[str, int] = {}
    house: dict[str, dict[str, int]] = {}
    loads: list[tuple[int, float]] = []

    @property
    def answers(self) -> bool:
        """Whether it said something of itself."""
        return self.pid != 0


class Overview(msgspec.Struct, frozen=True):
    """All partitions at a moment; ``moving`` counts slots that are not where they are to be."""

    at: float
    partitions: list[PartitionView]
    moving: int


class SlotRun(msgspec.Struct, frozen=True):
    """Neighbouring slots with the same owner and the same way to go; ``target`` empty: none."""

    first: int
    last: int
    stream: str
    target: str = ""


class _Fresh(Generic[T]):
    """One reading for all who ask within a moment."""

    def __init__(self, read: Callable[[], Awaitable[T]]) -> None:
        self._read = read
        self._task: asyncio.Task[T] | None = None
        self._at = 0.0

    async def get(self) -> T:
        now = time.monotonic()
        task = self._task
        failed = task is not None and task.done() and (task.cancelled() or task.exception())
        if task is None or failed or (task.done() and now - self._at > FRESH_S):
            self._at = now
            task = self._task = asyncio.ensure_future(self._read())
        return await asyncio.shield(task)


class Operations:
    """Reads how the partitions of some kinds are, or of all."""

    def __init__(self, pool: Pool, kinds: Sequence[str]) -> None:
        self._pool = pool
        self._kinds = kinds
        self._channels: dict[str, Channel] = {}
        self._overview = _Fresh(self._read)
        self._slots = _Fresh(self._read_slots)

    def close(self) -> None:
        """Drop the connections to the partitions."""
        for channel in self._channels.values():
            channel.close()

    async def overview(self) -> Overview:
        """All partitions by kind, in the order of their numbers, pinned ones last."""
        return await self._overview.get()

    async def slots(self) -> dict[str, list[SlotRun]]:
        """Each kind's slot map, as runs of neighbours; slots from 4,096 on belong to a key each."""
        return await self._slots.get()

    async def _read(self) -> Overview:
        rows = [row for kind in self._kinds for row in await placement(self._pool, kind)]
        answers = await asyncio.gather(*(self._ask(row) for row in rows))
        views = [_view(row, answer) for row, answer in zip(rows, answers, strict=True)]
        moving = sum([await under_way(self._pool, kind) for kind in self._kinds])
        return Overview(time.time(), views, moving)

    async def _ask(self, row: StreamRow) -> dict[str, Any]:
        if not row.port or not row.wanted:
            return {}
        channel = self._channels.get(row.stream)
        if channel is None:
            channel = self._channels[row.stream] = channel_to(self._pool, row.stream)
        try:
            answer = await channel.request(DESCRIBE, b"", ANSWER_TIMEOUT_S)
        except (NoAnswer, OSError, LookupError) as error:
            return {"reason": str(error)}
        found: dict[str, Any] = msgspec.msgpack.decode(answer, strict=False)
        if found.get("epoch", row.epoch) < row.epoch:
            channel.close()  # that was an owner of before: look up who it is now
        return found

    async def _read_slots(self) -> dict[str, list[SlotRun]]:
        return {kind: await self._runs(kind) for kind in self._kinds}

    async def _runs(self, kind: str) -> list[SlotRun]:
        owned = await owners(self._pool, kind)
        going = await wishes(self._pool, kind)
        runs: list[SlotRun] = []
        for slot, stream in owned.items():
            target = going[slot][1] if slot in going else ""
            last = runs[-1] if runs else None
            same = last and (last.last, last.stream, last.target) == (slot - 1, stream, target)
            # A slot of a single key is no neighbour of those that many share.
            if last and same and slot != SLOTS:
                runs[-1] = SlotRun(last.first, slot, stream, target)
            else:
                runs.append(SlotRun(slot, slot, stream, target))
        return runs


def _view(row: StreamRow, answer: dict[str, Any]) -> PartitionView:
    about = {**answer, "memory": answer.get("rss", 0)}
    about["entities"] = answer.get("entities", 0) + answer.get("packed", 0)
    about["state"] = answer.get("state", NO_ANSWER if row.wanted else RETIRED)
    about |= {"stream": row.stream, "kind": row.kind, "slots": row.slots, "arriving": row.arriving}
    about |= {"leaving": row.leaving, "pinned": row.pinned, "epoch": row.epoch}
    return msgspec.convert(about, PartitionView, strict=False)
