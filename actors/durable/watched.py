"""What a supervisor knows: actors and their answers, nodes, limits; and what it asks of its hosts.

``Hosts`` is the seam between the supervisor and Ray (``actors.durable.hosts``).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Protocol

import msgspec

from persistence.placement import StreamRow


class Answer(msgspec.Struct, frozen=True):
    """What an actor says when it is asked, or that it says nothing.

    ``state`` is a partition's own (``running``, ``recovering``, ``halted`` ...), or ``silent`` (no
    answer in time), ``away`` (Ray is starting it again), ``gone`` (it will never answer).
    ``waited`` tells of a process that was in reserve before.
    """

    state: str
    epoch: int = 0
    slots: int = 0
    pid: int = 0
    node: str = ""
    reason: str = ""
    made: str = ""
    waited: bool = False

    @property
    def answered(self) -> bool:
        """Whether the actor itself spoke."""
        return self.state not in {"silent", "away", "gone"}


class Node(msgspec.Struct, frozen=True):
    """A living node of the cluster."""

    node: str
    address: str
    name: str
    head: bool


class Hosts(Protocol):
    """Where actors run. Names are unique; none of these may block the event loop."""

    made: str
    """Tells how actors are made now: one that says otherwise is outdated."""

    async def names(self) -> list[str]:
        """All actors that exist."""

    async def nodes(self) -> list[Node]:
        """All living nodes."""

    async def start(self, name: str, row: StreamRow, node: str | None) -> None:
        """Begin to start an actor, on that node if possible."""

    async def ask(self, name: str, timeout_s: float) -> Answer:
        """Its condition."""

    async def stop(self, name: str, timeout_s: float) -> None:
        """Let it write its last checkpoint and end its loops."""

    async def kill(self, name: str, pid: int, node: str) -> None:
        """End it for good, whatever it does. ``pid`` is 0 for a process that is not known."""

    async def keep_spare(self, node: str) -> None:
        """Begin to start a process on the node that the next actor there can have at once."""


class Census:
    """How many partitions each node has: nodes are shared by the kinds that one process supervises.

    The first of the supervisors speaks of nodes for all of them.
    """

    def __init__(self) -> None:
        self._by_kind: dict[str, Counter[str]] = {}

    def join(self, kind: str) -> bool:
        """Take part; whether this is the first."""
        self._by_kind.setdefault(kind, Counter())
        return next(iter(self._by_kind)) == kind

    def count(self, kind: str, partitions: Counter[str]) -> None:
        """Note how many of a kind are on each node."""
        self._by_kind[kind] = partitions

    def total(self) -> Counter[str]:
        """Partitions of all kinds by node."""
        return sum(self._by_kind.values(), Counter())


class Limits(msgspec.Struct, frozen=True):
    """Times in seconds, and counts."""

    look_every_s: float = 0.5
    survey_every_s: float = 1.0
    ask_every_s: float = 1.0
    ask_timeout_s: float = 2.0
    missed_max: int = 3
    start_patience_s: float = 60.0
    stop_timeout_s: float = 10.0
    spread_after_s: float = 30.0
    replaced_at_once_max: int = 2
    again_after_s: float = 300.0
    start_delay_max_s: float = 30.0
    note_every_s: float = 10.0


class Event(msgspec.Struct, frozen=True):
    """Something that was found or done."""

    event: str
    what: str
    stream: str | None = None
    node: str | None = None


class Watched(msgspec.Struct):
    """An actor as the supervisor knows it."""

    name: str
    stream: str
    generation: int
    since: float
    node: str = ""
    answer: Answer = Answer("silent")
    answered: bool = False
    asked_at: float = float("-inf")
    missed: int = 0
    pid: int = 0
    strange: int = 0
    ending: bool = False
    ending_since: float = 0.0
    reported: str = ""
    asking: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether it takes commands, as far as it says."""
        return self.answer.state == "running"


def name_of(stream: str, generation: int) -> str:
    """The name of an actor: unique among all that a stream ever had."""
    return f"{stream}.{generation}"


def parse_name(name: str) -> tuple[str, int] | None:
    """Stream and generation of an actor's name; ``None`` for one that is not of this kind."""
    stream, dot, generation = name.rpartition(".")
    return (stream, int(generation)) if dot and generation.isdigit() else None
