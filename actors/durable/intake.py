"""What has come to a partition and waits to be decided, and who waits for the answers."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Container, Sequence
from typing import Any

from actors.durable.items import Batch, Confirmed, Incoming, Item, Request
from actors.durable.memory import Memory
from actors.durable.quarantine import Quarantine
from actors.durable.records import Shipment, Verdict
from actors.durable.turn import STALE
from domain.durable import Moved, Unavailable


class Interrupted(Exception):
    """The partition dropped its memory: the outcome of what was under way is unknown."""


def _resolver(future: asyncio.Future[list[Any]]) -> Callable[[list[Any]], None]:
    def resolve(replies: list[Any]) -> None:
        if not future.done():
            future.set_result(replies)

    return resolve


def _unless_stale(future: asyncio.Future[list[Any]]) -> Callable[[list[Any]], None]:
    def resolve(outcomes: list[Any]) -> None:
        if future.done():
            return
        if STALE in outcomes:
            future.set_exception(Interrupted("stale"))
        else:
            future.set_result(outcomes)

    return resolve


class Intake:
    """The queue of one partition; ``wake`` is set when something has come. Who is in
    ``quarantine`` is refused."""

    def __init__(self, wake: asyncio.Event, quarantine: Quarantine) -> None:
        self.items: deque[Item] = deque()
        self._wake = wake
        self._quarantine = quarantine
        self._waiting: dict[asyncio.Future[list[Any]], int] = {}
        """Who waits, and for how many replies: 0 where it is a shipment."""

    def commands(
        self, commands: Sequence[Any], work: Memory, departing: Container[int]
    ) -> Awaitable[list[Any]]:
        """Queue commands; their replies, in order, ``Unavailable`` after an interruption.

        Slots in ``departing`` are not owned any more, but nobody may be told yet.
        """
        future = self._future(len(commands))
        batch = Batch(len(commands), _resolver(future))
        machine, owned, items = work.machine, work.slots, self.items
        quarantine = self._quarantine
        for index, command in enumerate(commands):
            key = machine.key(command)
            slot = work.slot(key)
            if not owned[slot] and slot not in departing:
                batch.gone.add(slot)
                batch.answer(index, Moved(slot))
                continue
            if quarantine and quarantine.refuses(key, time.monotonic()):
                batch.answer(index, Unavailable("quarantined"))
                continue
            identities = machine.identities(command)
            items.append(Request(batch, index, key, slot, command, identities))
        self._wake.set()
        return future

    def shipment(self, shipment: Shipment[Any]) -> Awaitable[list[Any]]:
        """Queue messages; their outcomes, in order. Raises ``Interrupted``."""
        future = self._future(0)
        batch = Batch(len(shipment.messages), _unless_stale(future))
        for index, message in enumerate(shipment.messages):
            self.items.append(Incoming(batch, index, shipment.origin, shipment.low, message))
        self._wake.set()
        return future

    def confirm(self, outcomes: Sequence[tuple[int, Verdict]]) -> None:
        """Queue what others have answered to messages of ours."""
        self.items.extend(Confirmed(seq, outcome) for seq, outcome in outcomes)
        self._wake.set()

    def look_again(self, work: Memory) -> None:
        """Keys have got slots of their own: what waits for them belongs there from now on, lest
        it be decided here when these have left."""
        for item in self.items:
            if type(item) is Request:
                item.slot = work.slot(item.key)

    def interrupt(self) -> None:
        """Forget the queue; whoever waits learns that the outcome is unknown."""
        self.items.clear()
        waiting, self._waiting = self._waiting, {}
        for future, size in waiting.items():
            if future.done():
                continue
            if size:
                future.set_result([Unavailable("interrupted")] * size)
            else:
                future.set_exception(Interrupted())

    def _future(self, size: int) -> asyncio.Future[list[Any]]:
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._waiting[future] = size
        future.add_done_callback(self._answered)
        return future

    def _answered(self, future: asyncio.Future[list[Any]]) -> None:
        self._waiting.pop(future, None)


def interrupted(reason: str) -> Awaitable[list[Any]]:
    """The end of what has not begun."""
    future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
    future.set_exception(Interrupted(reason))
    return future


def at_once(replies: list[Any]) -> Awaitable[list[Any]]:
    """Replies that nobody has to wait for."""
    future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
    future.set_result(replies)
    return future
