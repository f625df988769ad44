"""When a partition takes a checkpoint."""

from __future__ import annotations

from typing import Final

from actors.durable.options import Options

_FRESH_S: Final = 1.0
_REST: Final = 30


class Rhythm:
    """Often enough that a recovery is short, and seldom enough that it is a small part of the work.

    Times are in seconds of one clock.
    """

    def __init__(self, options: Options) -> None:
        self.begun_at = 0.0
        self.hurry = False
        """Whether somebody waits for the next one."""
        self._options = options
        self._took_s = 0.0
        self._events = 0

    def wrote(self, events: int) -> None:
        """So many events more would have to be replayed."""
        self._events += events

    def due(self, now: float) -> bool:
        """Whether it is time for a checkpoint, if there is anything to store."""
        if self.hurry:
            return True
        options, waited_s = self._options, now - self.begun_at
        if waited_s < options.checkpoint_interval_s:
            return False
        rest_s = min(options.checkpoint_interval_max_s, self._took_s * _REST)
        return waited_s >= rest_s or self._events >= options.checkpoint_events_max

    def fresh(self, now: float) -> bool:
        """Whether the last one is so new that little has changed since."""
        return now - self.begun_at <= _FRESH_S

    def begin(self, now: float) -> None:
        """A checkpoint is being taken."""
        self.begun_at, self.hurry, self._events = now, False, 0

    def end(self, now: float) -> None:
        """It is stored."""
        self._took_s = now - self.begun_at
