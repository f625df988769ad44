"""When a canary is rolled back by itself: what its requests of the last minute must not be.

A rule over counts and a clock; it touches nothing. Noise must not roll anything back, so it says
nothing before there were enough requests, nothing of differences that nobody would feel, and of
latency only what has been so for a while.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from persistence.releases import Comparison, Side
from serve_apps.canary import Measured

WINDOW_S: Final = 60.0
ENOUGH_REQUESTS: Final = 50
"""So many requests in the window are needed before a rate of errors means something."""
ENOUGH_FOR_LATENCY: Final = 200
"""So many of each version before its p95 does: ten of them are then slower than it."""
FELT_S: Final = 0.005
"""A p95 that is longer by less than this rolls nothing back, however small the other is."""
SLOW_FOR_S: Final = 15.0
"""So long must it have been too slow at every look."""
UNWELL_FOR_S: Final = 30.0


class LastMinute:
    """Both versions over the last minute, from totals since the canary began."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, Measured]] = deque()

    def take(self, totals: Measured) -> Comparison:
        """Take the totals of this moment; those of before begin anew if they were lost."""
        now = self._clock()
        if self._seen and _fell(totals, self._seen[-1][1]):
            self._seen.clear()
        self._seen.append((now, totals))
        while now - self._seen[0][0] > WINDOW_S:
            self._seen.popleft()
        return totals.since(self._seen[0][1]).comparison


def _fell(totals: Measured, before: Measured) -> bool:
    """Whether counts are smaller than they were: Redis was emptied."""
    return any(
        now.get(name, 0) < count
        for now, then in zip(totals, before, strict=True)
        for name, count in then.items()
    )


class Rule:
    """For one canary: not more errors, not slower than so many times, not unwell for long."""

    def __init__(
        self,
        error_rate_max: float | None,
        latency_ratio_max: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._error_rate_max = error_rate_max
        self._latency_ratio_max = latency_ratio_max
        self._clock = clock
        self._minute = LastMinute(clock)
        self._slow_since: float | None = None
        self._unwell_since: float | None = None

    def verdict(self, totals: Measured, condition: str) -> str:
        """Why the canary is to be rolled back, or nothing. ``condition`` is Serve's word on it."""
        lately = self._minute.take(totals)
        return (
            self._of_errors(lately.canary) or self._of_latency(lately) or self._of_health(condition)
        )

    def _of_errors(self, canary: Side) -> str:
        most = self._error_rate_max
        if most is None or canary.requests < ENOUGH_REQUESTS or canary.error_rate <= most:
            return ""
        return (
            f"{canary.error_rate:.1f} % of its answers in the last minute were errors, beyond"
            f" {most:g} %."
        )

    def _of_latency(self, lately: Comparison) -> str:
        most = self._latency_ratio_max
        if most is None or not too_slow(lately, most):
            self._slow_since = None
            return ""
        now = self._clock()
        if self._slow_since is None:
            self._slow_since = now
        if now - self._slow_since < SLOW_FOR_S:
            return ""
        canary, stable = lately.canary.p95_s, lately.stable.p95_s
        return (
            f"Its p95 of the last minute was {canary * 1_000:.1f} ms, {canary / stable:.1f} times"
            f" the stable version's {stable * 1_000:.1f} ms, beyond {most:g} times."
        )

    def _of_health(self, condition: str) -> str:
        if self._error_rate_max is None and self._latency_ratio_max is None:
            return ""
        if condition == "RUNNING":
            self._unwell_since = None
            return ""
        now = self._clock()
        if self._unwell_since is None:
            self._unwell_since = now
        if now - self._unwell_since <= UNWELL_FOR_S:
            return ""
        return f"Its replicas have been {condition.lower()} for {UNWELL_FOR_S:.0f} s."


def too_slow(lately: Comparison, ratio_max: float) -> bool:
    """Whether enough requests of both say that the canary's take longer than they may."""
    canary, stable = lately.canary, lately.stable
    if min(canary.requests, stable.requests) < ENOUGH_FOR_LATENCY:
        return False
    longer = canary.p95_s - stable.p95_s
    return canary.p95_s > ratio_max * stable.p95_s and longer >= FELT_S
