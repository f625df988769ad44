"""Keeping an entity that the rules cannot decide about from stopping all others of its partition.

A decision that raises is a bug: memory may be half changed, so the partition drops it and reads
the journal back. Whoever asked asks again, and without an end to that nobody of the partition
would be served any more.
"""

from __future__ import annotations

from typing import Final

FAILURES_MAX: Final = 2
"""So many recoveries an entity may cause before its commands are refused."""
REFUSED_S: Final = 60.0
"""So long they are, at first; twice as long after each further failure, up to an hour."""
_REFUSED_MAX_S: Final = 3_600.0


class Quarantine:
    """Entities whose commands made a decision raise, by how often. Times are a monotonic clock's.

    Only commands are refused: a message that raises must be decided some day, in its order.
    """

    def __init__(self) -> None:
        self._failures: dict[str, int] = {}
        self._until: dict[str, float] = {}

    def failed(self, key: str, now: float) -> None:
        """A command of this entity made a decision raise."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        if failures >= FAILURES_MAX:
            doubled = REFUSED_S * 2.0 ** min(failures - FAILURES_MAX, 10)
            self._until[key] = now + min(doubled, _REFUSED_MAX_S)

    def refuses(self, key: str, now: float) -> bool:
        """Whether the entity's commands are refused for now."""
        return self._until.get(key, now) > now

    def __bool__(self) -> bool:
        return bool(self._until)

    def describe(self, now: float) -> str:
        """A line for operators; "" when nobody is refused."""
        refused = sorted(key for key, until in self._until.items() if until > now)
        return f"refuses commands of {', '.join(refused)}: decisions failed" if refused else ""
