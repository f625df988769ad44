"""Partitions over Postgres whose messages can be held up, and what is seen of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any

from actors.accounts import KIND
from actors.books import BooksCodec
from actors.durable.channel import NoAnswer
from actors.durable.local import LocalPartitions
from actors.durable.options import Options
from actors.durable.partition import Partition
from domain.durable import Unavailable
from domain.orders import ACCOUNTS, BOOKS
from domain.trading.machine import BooksMachine
from persistence.database import Pool
from persistence.journal import read_journal, streams
from persistence.placement import under_way
from persistence.trading.projection import BooksProjection
from tests.golden.recording import plain
from tests.persistence.site import Site

_SETTLE_S = 10
_READY_S = 5


class GoldenSite(Site):
    """Partitions that say what they sent each other and what they were asked.

    ``closed`` are streams that no message reaches, ``deaf`` those that take messages and whose
    answers are lost.
    """

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.closed: set[str] = set()
        self.deaf: set[str] = set()
        self.shipments: list[tuple[str, bytes]] = []
        self.asked: list[tuple[Any, Any]] = []
        self.kinds: list[str] = []
        self.left: list[asyncio.Future[Any]] = []
        self.books = LocalPartitions(
            pool,
            BOOKS,
            machine=BooksMachine(),
            codec=BooksCodec(),
            projection=BooksProjection(),
            clock=self._clock,
            options=Options(checkpoint_interval_s=0.2),
        )
        self.books.joined(self.local)
        self._watch(self.local)
        self._watch(self.books)
        nudge = self.local._nudge

        async def believed(stream: str) -> bool:
            """Slots set out for a partition that is up: here for any."""
            await nudge(stream)
            return True

        self.local._nudge = believed  # type: ignore[method-assign]

    def _watch(self, local: LocalPartitions) -> None:
        """See what the partitions of a kind send."""
        deliver = local._deliver

        async def watched(stream: str, payload: bytes) -> bytes:
            if stream in self.closed:
                raise NoAnswer("closed")
            outcomes = await deliver(stream, payload)
            self.shipments.append((stream, payload))
            if stream in self.deaf:
                raise NoAnswer("deaf")
            return outcomes

        local._deliver = watched  # type: ignore[method-assign]

    def kind(self, stream: str) -> LocalPartitions:
        """The partitions of the kind that a stream is of."""
        return self.books if kind_of(stream) == BOOKS else self.local

    def running(self) -> dict[str, Partition]:
        """All partitions that run, by stream."""
        return {**self.local.partitions, **self.books.partitions}

    async def start(self, *streams: str) -> None:
        """Start partitions and wait until they have recovered."""
        for stream in streams:
            # One that cannot read its rows tries again for ever.
            async with asyncio.timeout(_READY_S):
                partition = await self.kind(stream).start(stream)
            assert partition.state == "running", (partition.state, partition.reason)

    def no_more_checkpoints(self) -> None:
        """What happens from now on is in the tail of the journal only."""
        for partition in self.running().values():
            partition.options = partition._rhythm._options = Options(checkpoint_interval_s=1e9)

    async def crash(self) -> None:
        """End all partitions at once, with what they have in memory and on its way."""
        for stream in self.running():
            await self.kind(stream).kill(stream)

    async def stop(self) -> None:
        """End all partitions in order."""
        await self.local.stop()
        await self.books.stop()

    async def moved(self) -> None:
        """Wait until every slot is where it is wanted."""
        async with asyncio.timeout(_SETTLE_S):
            while await under_way(self.pool, KIND):
                for partition in self.partitions.values():
                    partition.nudge()
                await asyncio.sleep(0.02)
        await self.local.slots.load()

    async def put(self, kind: str, command: Any) -> Any:
        """One command at the partition of a kind that it is for."""
        if kind == ACCOUNTS:
            return (await self.ask(command))[0]
        return (await self.books.owner(command).request([command]))[0]

    async def say(self, command: Any, kind: str = ACCOUNTS) -> Any:
        """Ask until there is an answer, and note both."""
        while True:
            reply = await self.put(kind, command)
            if not isinstance(reply, Unavailable):
                self.asked.append((command, reply))
                self.kinds.append(kind)
                return reply
            await asyncio.sleep(0.01)

    async def quiet(self) -> None:
        """Wait until nothing is on its way and everything is written."""
        async with asyncio.timeout(_SETTLE_S):
            while any(map(_busy, self.running().values())):
                for partition in self.running().values():
                    partition.tick()
                await asyncio.sleep(0.02)

    async def checkpointed(self) -> None:
        """Wait until the checkpoints have everything."""
        await self.quiet()
        async with asyncio.timeout(_SETTLE_S):
            while not all(p.scribe.saved for p in self.running().values()):
                for partition in self.running().values():
                    partition.tick()
                await asyncio.sleep(0.02)

    async def states(self, adopting: Iterable[str] = ()) -> dict[str, Any]:
        """What each partition knows, from its snapshots and what it has in memory.

        When those that are ``adopting`` do so is up to the clock.
        """
        seen: dict[str, Any] = {}
        for stream, partition in self.running().items():
            local, kind, work = self.kind(stream), kind_of(stream), partition._work
            rows = await self.pool.fetch("SELECT key, state FROM snapshots WHERE kind = $1", kind)
            entities = {
                row["key"]: local._codec.decode_entity(row["state"])
                for row in rows
                if local.slots.owner(row["key"]) == stream
            }
            entities.update((key, entity.state) for key, entity in work.entities.items())
            seen[stream] = {
                "partition": plain(work.partition),
                "entities": {
                    key: plain(state if kind == ACCOUNTS else state.snapshot())
                    for key, state in sorted(entities.items())
                    if kind == BOOKS or state.accounts
                },
            }
        for stream in adopting:
            seen[stream]["partition"]["at"] = 0
        return seen

    async def journal(self) -> list[dict[str, Any]]:
        """All rows of the journal, decoded."""
        shown = []
        for _, stream, _ in await streams(self.pool):
            for row in await read_journal(self.pool, stream, 0, 100_000):
                record = self.kind(stream)._codec.decode_turn(row.entries)
                shown.append(
                    {
                        "stream": stream,
                        "seq": row.seq,
                        "epoch": row.epoch,
                        "at": row.at,
                        "hash": row.hash.hex(),
                        "record": plain(record),
                    }
                )
        return shown


def kind_of(stream: str) -> str:
    """The kind of entities that a stream is of."""
    return stream.partition("/")[0]


def _busy(partition: Partition) -> bool:
    about = partition.describe()
    return bool(about["queue"] or about["open"] or about["in_transit"] or about["lag"])


def balances(states: dict[str, Any]) -> dict[str, int]:
    """The posted amount of each account, and what there is of each asset in each brokerage."""
    found: dict[str, int] = {}
    for stream, part in states.items():
        if kind_of(stream) != ACCOUNTS:
            continue
        for customer, state in part["entities"].items():
            for number, account in state["accounts"].items():
                found[number] = account["posted"]
            if state.get("brokerage") is not None:
                for asset, balance in state["brokerage"]["balances"].items():
                    found[f"{customer} {asset}"] = balance["total"]
    return found


def count_types(rows: list[dict[str, Any]]) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """How many events, messages and moves of each type are in decoded journal rows.

    Those of books are called ``books.X``.
    """
    events: Counter[str] = Counter()
    messages: Counter[str] = Counter()
    moves: Counter[str] = Counter()
    for row in rows:
        prefix = "books." if kind_of(row["stream"]) == BOOKS else ""
        events.update(prefix + event["="] for _, event in row["record"]["events"])
        messages.update(sent["body"]["="] for sent in row["record"]["sent"])
        moves.update(move["="] for move in row["record"]["moved"])
    return events, messages, moves
