"""What a partition has to decide, and what comes of it: the parts of a turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

import msgspec

from actors.durable.records import Received, Sent, TurnRecord, Verdict


class Batch:
    """Requests that came together and are answered together, in their order."""

    __slots__ = ("_left", "done", "gone", "replies")

    def __init__(self, size: int, done: Callable[[list[Any]], None]) -> None:
        self.replies: list[Any] = [None] * size
        self.done = done
        self.gone: set[int] = set()
        """Slots of which something in here was already told that it has moved: what comes after
        must not overtake it, even when the slot has come back meanwhile."""
        self._left = size

    def answer(self, index: int, reply: Any) -> None:
        """Fill in one reply; the last one completes the batch."""
        self.replies[index] = reply
        self._left -= 1
        if not self._left:
            self.done(self.replies)


# Made for every command, and never part of a cycle: the collector need not look at them.


@final
class Request(msgspec.Struct, gc=False):
    """A command and where its reply goes."""

    batch: Batch
    index: int
    key: str
    slot: int
    command: Any
    identities: Sequence[Any]


@final
class Incoming(msgspec.Struct, gc=False):
    """A message from another partition and where its outcome goes."""

    batch: Batch
    index: int
    origin: str
    low: int
    message: Sent[Any]


@final
class Confirmed(msgspec.Struct, gc=False):
    """What another partition answered to a message of ours."""

    seq: int
    outcome: Verdict


Item = Request | Incoming | Confirmed


class Entity(msgspec.Struct, gc=False):
    """A state in memory; ``dirty`` until a checkpoint has it, ``used`` is the last checkpoint
    round in which it was touched. In an open turn, ``before`` is what it held before, and when
    it was due. ``changed`` is another number after each change."""

    state: Any
    slot: int
    dirty: bool = False
    used: int = 0
    before: tuple[dict[str, int], int] | None = None
    changed: int = 0


class Turn:
    """What has been decided and is not written yet.

    ``answers`` are told once it is; ``early`` may be told at once (see ``Decision.durable``).
    ``touched`` are the entities that it changes; ``timers`` are key and new time of those whose
    time has changed; ``news`` is for those who follow what is published.
    """

    __slots__ = (
        "answers",
        "at",
        "early",
        "news",
        "received",
        "record",
        "remembered",
        "settled",
        "size",
        "timers",
        "touched",
    )

    def __init__(self, at: int) -> None:
        self.at = at
        self.record: TurnRecord[Any, Any] = TurnRecord([], [], [], [])
        self.received: dict[str, Received] = {}
        self.answers: list[tuple[Batch, int, Any]] = []
        self.early: list[tuple[Batch, int, Any]] = []
        self.remembered: list[tuple[bytes, bytes, Any]] = []
        self.settled: list[Sent[Any]] = []
        self.touched: list[tuple[str, Entity]] = []
        self.timers: list[tuple[str, int]] = []
        self.news: list[Any] = []
        self.size = 0

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        record = self.record
        return not (
            record.events
            or record.sent
            or self.received
            or record.acknowledged
            or self.remembered
            or record.moved
        )
