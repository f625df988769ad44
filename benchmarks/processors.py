"""Where the processor time of a platform goes, by part, as the operating system counts it.

Unlike rates, microseconds of processor time for one transfer hardly depend on what else the
machine is doing.
"""

from __future__ import annotations

import os

import psutil

_PARTS = (
    ("AccountActor", "account actors"),
    ("OrderBookActor", "book actors"),
    ("Projector", "projector"),
    ("Notifier", "notifier"),
    ("ServeReplica", "gateways"),
    ("haproxy", "haproxy"),
    ("postgres", "postgres"),
    ("redis-server", "redis"),
)


def _part(process: psutil.Process) -> str:
    title = " ".join(process.cmdline()[:1]) or process.name()
    for mark, part in _PARTS:
        if mark in title or mark in process.name():
            return part
    return "ray and the rest"


def processor_seconds(platform: int) -> dict[str, float]:
    """User and system seconds since their start, of all processes below the one with pid
    ``platform``, and of this one as ``load generator``."""
    own = psutil.Process(os.getpid())
    seconds: dict[str, float] = {}
    for process in (own, *psutil.Process(platform).children(recursive=True)):
        try:
            part = "load generator" if process == own else _part(process)
            times = process.cpu_times()
        except psutil.Error:
            continue
        seconds[part] = seconds.get(part, 0.0) + times.user + times.system
    return seconds


def per_item(before: dict[str, float], after: dict[str, float], items: int) -> dict[str, float]:
    """Microseconds of each part for one item, most first."""
    used = {part: after[part] - before.get(part, 0.0) for part in after}
    return {
        part: round(used[part] * 1e6 / max(1, items), 1)
        for part in sorted(used, key=lambda name: -used[name])
    }
