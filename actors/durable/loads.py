"""How busy each slot of a partition is, as far as the last seconds tell."""

from __future__ import annotations

from typing import Final

WINDOW_S: Final = 10.0


class Loads:
    """Counts by slot over a window; rates are those of the last whole one."""

    def __init__(self) -> None:
        self.total = 0.0
        """Commands per second in the last window."""
        self._counts: dict[int, int] = {}
        self._busy: dict[int, float] = {}
        self._since: float | None = None

    def count(self, slot: int) -> None:
        """One more command for a slot."""
        self._counts[slot] = self._counts.get(slot, 0) + 1

    def turn_over(self, now: float) -> None:
        """Begin a new window when the present one is over; ``now`` in seconds."""
        if self._since is None:
            self._since = now
        elapsed = now - self._since
        if elapsed >= WINDOW_S:
            self._busy = {slot: count / elapsed for slot, count in self._counts.items()}
            self.total = sum(self._busy.values())
            self._counts = {}
            self._since = now

    def rates(self) -> list[tuple[int, float]]:
        """Commands per second by slot, where there were any."""
        return [(slot, round(rate, 2)) for slot, rate in sorted(self._busy.items())]
