"""Partitions over Postgres whose messages can be held up, and what is seen of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any

from actors.accounts import KIND
from actors.durable.channel import NoAnswer
from actors.durable.options import Options
from actors.durable.partition import Partition
from domain.durable import Unavailable
from persistence.database import Pool
from persistence.journal import read_journal, streams
from persistence.placement import under_way
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
        self.left: list[asyncio.Future[Any]] = []
        deliver = self.local._deliver

        async def watched(stream: str, payload: bytes) -> bytes:
            if stream in self.closed:
                raise NoAnswer("closed")
            outcomes = await deliver(stream, payload)
            self.shipments.append((stream, payload))
            if stream in self.deaf:
                raise NoAnswer("deaf")
            return outcomes

        nudge = self.local._nudge

        async def believed(stream: str) -> bool:
            """Slots set out for a partition that is up: here for any."""
            await nudge(stream)
            return True

        self.local._deliver = watched  # type: ignore[method-assign]
        self.local._nudge = believed  # type: ignore[method-assign]

    async def start(self, *streams: str) -> None:
        """Start partitions and wait until they have recovered."""
        for stream in streams:
            # One that cannot read its rows tries again for ever.
            async with asyncio.timeout(_READY_S):
                partition = await self.local.start(stream)
            assert partition.state == "running", (partition.state, partition.reason)

    def no_more_checkpoints(self) -> None:
        """What happens from now on is in the tail of the journal only."""
        for partition in self.partitions.values():
            partition.options = Options(checkpoint_interval_s=1e9)

    async def crash(self) -> None:
        """End all partitions at once, with what they have in memory and on its way."""
        for stream in list(self.partitions):
            await self.local.kill(stream)

    async def moved(self) -> None:
        """Wait until every slot is where it is wanted."""
        async with asyncio.timeout(_SETTLE_S):
            while await under_way(self.pool, KIND):
                for partition in self.partitions.values():
                    partition.nudge()
                await asyncio.sleep(0.02)
        await self.local.slots.load()

    async def say(self, command: Any) -> Any:
        """Ask until there is an answer, and note both."""
        while True:
            (reply,) = await self.ask(command)
            if not isinstance(reply, Unavailable):
                self.asked.append((command, reply))
                return reply
            await asyncio.sleep(0.01)

    async def quiet(self) -> None:
        """Wait until nothing is on its way and everything is written."""
        async with asyncio.timeout(_SETTLE_S):
            for partition in self.partitions.values():
                while any(map(_busy, self.partitions.values())):
                    partition.tick()
                    await asyncio.sleep(0.02)

    async def checkpointed(self) -> None:
        """Wait until the checkpoints have everything."""
        await self.quiet()
        async with asyncio.timeout(_SETTLE_S):
            while not all(p.scribe.saved for p in self.partitions.values()):
                for partition in self.partitions.values():
                    partition.tick()
                await asyncio.sleep(0.02)

    async def states(self, adopting: Iterable[str] = ()) -> dict[str, Any]:
        """What each partition knows, from its snapshots and what it has in memory.

        When those that are ``adopting`` do so is up to the clock.
        """
        seen: dict[str, Any] = {}
        for stream, partition in self.partitions.items():
            work = partition._work
            rows = await self.pool.fetch("SELECT key, state FROM snapshots WHERE kind = $1", KIND)
            entities = {
                row["key"]: self.codec.decode_entity(row["state"])
                for row in rows
                if self.owner(row["key"]) == stream
            }
            entities.update((key, entity.state) for key, entity in work.entities.items())
            seen[stream] = {
                "partition": plain(work.partition),
                "entities": {
                    key: plain(state) for key, state in sorted(entities.items()) if state.accounts
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
                record = self.codec.decode_turn(row.entries)
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


def _busy(partition: Partition) -> bool:
    about = partition.describe()
    return bool(about["queue"] or about["in_transit"] or about["lag"])


def balances(states: dict[str, Any]) -> dict[str, int]:
    """The posted amount of each account."""
    return {
        number: account["posted"]
        for part in states.values()
        for state in part["entities"].values()
        for number, account in state["accounts"].items()
    }


def count_types(rows: list[dict[str, Any]]) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """How many events, messages and moves of each type are in decoded journal rows."""
    events: Counter[str] = Counter()
    messages: Counter[str] = Counter()
    moves: Counter[str] = Counter()
    for row in rows:
        events.update(event["="] for _, event in row["record"]["events"])
        messages.update(sent["body"]["="] for sent in row["record"]["sent"])
        moves.update(move["="] for move in row["record"]["moved"])
    return events, messages, moves
