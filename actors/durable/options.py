"""What a partition is given and bound by, and what it counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from persistence.database import Pool, Standing
from persistence.journal import Statement

Publisher = Callable[[int, list[tuple[str, Any]], list[Any]], None]
"""Takes the time, the events by entity, and the news of a committed turn; must not wait."""


class Projection(Protocol):
    """A context's own tables, written in the turn."""

    async def known(
        self, pool: Pool | Standing, ids: Sequence[bytes]
    ) -> dict[bytes, tuple[bytes, Any]]:
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

    A checkpoint is due after ``checkpoint_interval_s``, but not before 30 times as long as the
    last one took, unless ``checkpoint_interval_max_s`` or ``checkpoint_events_max`` are over.
    ``leave_timeout_s`` is how long callers of slots that are to move may have to wait for what
    is on its way before the move is given up for now; ``unsettled_max`` how many messages may
    have been sent since the oldest that has no outcome. ``memory_bytes_max`` is what entities may
    take in memory before idle ones are dropped; every ``rest_interval_s`` (as often as a checkpoint
    may be, where it is 0) those that nobody has asked for lately are packed.
    """

    checkpoint_interval_s: float = 5.0
    checkpoint_interval_max_s: float = 40.0
    checkpoint_events_max: int = 500_000
    leave_timeout_s: float = 1.0
    leave_again_s: float = 2.0
    unsettled_max: int = 250_000
    turn_items_max: int = 10_000
    inbox_items_max: int = 100_000
    memory_bytes_max: int = 256_000_000
    rest_interval_s: float = 0.0


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
