"""Whole platforms for tests, started as an operator does: see ``cluster.chaos.running``."""

from __future__ import annotations

import psutil

from cluster.chaos.running import Running, environment, free_port, kontor

__all__ = ["Running", "environment", "free_port", "gone", "kontor"]


def gone(process: psutil.Process) -> bool:
    """Whether a process has ended, even if nobody has asked how yet."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
