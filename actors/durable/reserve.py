"""Processes in reserve: how many each node has, and when the next is started.

A process of Ray's takes about a second of a processor to start, several on a busy machine, and
those whose partition has died wait for it. So each node keeps some that nobody needs yet. Ray hands
them out by itself, whoever's actor begins there, and does not say how many are left; but each
actor says whether its process had waited for it. From that it is known what is missing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection
from typing import Final

SPARES: Final = 2
"""On each node: two actors may die at once. 58 MB each."""
_FIRST_S: Final = 3.0
_AFTER_S: Final = 1.0
_BETWEEN_S: Final = 2.0
_UNDER_WAY_S: Final = 8.0

waited = False
"""Whether this process was in reserve before it was given an actor (see ``cluster.worker``)."""


class Reserve:
    """What is missing on each node; shared by all who start actors in one process."""

    def __init__(self, spares: int = SPARES, clock: Callable[[], float] = time.monotonic) -> None:
        self._spares = spares
        self._clock = clock
        self._missing: dict[str, int] = {}
        self._due: dict[str, float] = {}
        self._started: dict[str, deque[float]] = {}

    def begun(self, node: str, *, had_waited: bool) -> None:
        """An actor has begun on a node. One whose process had not waited found none in reserve."""
        now = self._clock()
        first = node not in self._missing
        missing = self._missing.get(node, 0)
        if had_waited:
            missing = min(self._spares, missing + 1)
        else:
            missing = max(missing, self._spares - self._under_way(node, now))
        self._missing[node] = missing
        # Whoever has just begun needs the processor more.
        self._due[node] = now + (_FIRST_S if first else _AFTER_S)

    def _under_way(self, node: str, now: float) -> int:
        """How many were started a moment ago, and may not have been there to be found."""
        return sum(now - at < _UNDER_WAY_S for at in self._started.get(node, ()))

    def due(self, nodes: Collection[str]) -> list[str]:
        """The nodes among these on which one is to be started now, one after the other."""
        now = self._clock()
        found = [node for node in nodes if self._missing.get(node, 0) and now >= self._due[node]]
        for node in found:
            self._missing[node] -= 1
            self._due[node] = now + _BETWEEN_S
            self._started.setdefault(node, deque(maxlen=self._spares)).append(now)
        return found
